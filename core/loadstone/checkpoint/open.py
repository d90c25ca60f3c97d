"""From a snapshot's files to one index of all tensors. Only headers are read, so a repository far away will do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from loadstone.checkpoint.formats import (
    Format,
    format_named,
    formats,
    formats_asked,
    no_weights,
    none_of_format,
    not_of_format,
    refuse_contested,
)
from loadstone.checkpoint.index import TensorIndex, TensorInfo
from loadstone.dtypes import DTYPES
from loadstone.errors import ArgumentError, CheckpointError, counted
from loadstone.plugins import Claim, answerable, is_first_party
from loadstone.source import Snapshot


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The weights that a snapshot holds, before anything of them is read.

    Attributes:
        format: How they are written.
        claim: Who brings the format.
        entry: The file from which to start: the one file of weights, or what describes the others.
    """

    format: Format
    claim: Claim
    entry: str


def open_checkpoint(
    snapshot: Snapshot,
    *,
    variant: str | None = None,
    use_safetensors: bool | None = None,
    from_pt: bool = False,
    weights_format: str | None = None,
    weights_file: str | None = None,
) -> TensorIndex:
    """Find the weights in a snapshot, check them from their headers alone, and index their tensors.

    loadstone's own formats are taken before those that plugins bring, the safer one first. Files that an index does not
    name are not looked at.

    Args:
        snapshot: The files of a checkpoint, settled (`loadstone.checkpoint.settled.settle`) where a save may be under way.
        variant: Part of the weights' names, e.g. "fp16".
        use_safetensors: True takes no other format; False takes pickles alone.
        from_pt: Take safetensors and pickles alone.
        weights_format: The format to read, by name; None: the first that is there.
        weights_file: The file from which to start, of a format whose files may have any name.

    Raises:
        CheckpointError: If there are no weights that can be read, or something about them is wrong; problems
            of an index and its shards are all named at once.
        ArgumentError: If two arguments ask for different formats.
        SourceError: If a file cannot be read.
        PluginError: If the format is a plugin's, which fails, or two plugins claim it.

    Example:
        >>> from loadstone.source import resolve
        >>> index = open_checkpoint(resolve("hf-internal-testing/tiny-random-gpt2"))  # doctest: +SKIP
        >>> index.tensors["transformer.wte.weight"].shape  # doctest: +SKIP
        (1024, 32)
    """
    weights = find_weights(
        snapshot,
        variant=variant,
        use_safetensors=use_safetensors,
        from_pt=from_pt,
        weights_format=weights_format,
        weights_file=weights_file,
    )
    with answerable(weights.claim, f"fails to read {weights.entry}"):
        index = weights.format.read_index(snapshot, weights.entry)
        if not is_first_party(weights.claim):
            _check_index(index, snapshot, weights)
        weights.format.check(path for file in index.files if (path := snapshot.file(file).path) is not None)
    return index


def check_files(
    snapshot: Snapshot,
    paths: Iterable[Path],
    *,
    variant: str | None = None,
    use_safetensors: bool | None = None,
    from_pt: bool = False,
    weights_format: str | None = None,
    weights_file: str | None = None,
) -> None:
    """Hold files of weights that have been fetched against a second opinion, where their format has one.

    Raises:
        CheckpointError: If a file is refused.
        PluginError: If the format is a plugin's, which fails.
    """
    weights = find_weights(
        snapshot,
        variant=variant,
        use_safetensors=use_safetensors,
        from_pt=from_pt,
        weights_format=weights_format,
        weights_file=weights_file,
    )
    with answerable(weights.claim, "fails to check its files"):
        weights.format.check(paths)


def find_weights(
    snapshot: Snapshot,
    *,
    variant: str | None = None,
    use_safetensors: bool | None = None,
    from_pt: bool = False,
    weights_format: str | None = None,
    weights_file: str | None = None,
) -> Weights:
    """Return the weights from which to start.

    Raises:
        CheckpointError: If there are none; it says what there is.
        ArgumentError: If two arguments ask for different formats.
        PluginError: If no plugin brings the format that was asked for, or several bring the one that is there.
    """
    alone = formats_asked(use_safetensors, from_pt)
    asked = "from_pt" if from_pt and use_safetensors is None else "use_safetensors"
    if alone and weights_format and weights_format.partition("@")[0] not in alone:
        raise ArgumentError(
            f"{asked} and weights_format disagree",
            found=f"{asked}={from_pt if use_safetensors is None else use_safetensors} and weights_format={weights_format!r}",
            hint=f"leave {asked} out",
        )
    if weights_format is not None:
        return _of_format(weights_format, snapshot, variant, weights_file)
    wanted: list[str] = []
    for claim, format in formats(use_safetensors=use_safetensors, from_pt=from_pt):
        names, entry = _entry(claim, format, snapshot, variant)
        if entry is not None:
            return Weights(format=format, claim=claim, entry=entry)
        wanted += names[:2]
    if alone is None:
        refuse_contested(snapshot.files, variant)
    raise no_weights(snapshot.files, wanted, variant=variant, where=snapshot.location, asked=asked)


def _of_format(name: str, snapshot: Snapshot, variant: str | None, file: str | None) -> Weights:
    """Return the weights of one format, from the file on that the caller names. Raises as `find_weights` does."""
    claim, format = format_named(name)
    if file is None:
        names, entry = _entry(claim, format, snapshot, variant)
    else:
        names, entry = (file,), file
        with answerable(claim, "fails to name its files"):
            if not format.is_weights(file, variant):
                raise not_of_format(name, file, variant, where=snapshot.location)
        entry = file if snapshot.has(file) else None
    if entry is None:
        raise none_of_format(name, snapshot.files, names, where=snapshot.location)
    return Weights(format=format, claim=claim, entry=entry)


def _entry(
    claim: Claim, format: Format, snapshot: Snapshot, variant: str | None
) -> tuple[tuple[str, ...], str | None]:
    """Return the files from which a load of a format may start, and the first of them that is there."""
    with answerable(claim, "fails to name its files"):
        names = format.weight_names(variant)
    return names, next((name for name in names if snapshot.has(name)), None)


def _check_index(index: TensorIndex, snapshot: Snapshot, weights: Weights) -> None:
    """Hold the index that a plugin made against what there is: a tensor must lie in its file, and fill its span.

    Raises:
        CheckpointError: If it does not; all problems are named at once.
    """
    problems = [line for name, info in index.tensors.items() for line in _faults(name, info, index, snapshot)]
    problems += [
        f"{name!r} stands for {stored!r}, which is not stored"
        for name, stored in index.aliases.items()
        if stored not in index.tensors
    ]
    if problems:
        raise CheckpointError(
            f"the index of {weights.entry} does not fit its files",
            where=f"{weights.entry} in {snapshot.location}, read by {weights.claim}",
            expected="each tensor once, inside its file, its bytes those of its shape and dtype",
            found=counted(len(problems), "problem"),
            problems=problems,
            hint="fetch the files again; if it stays so, report it to the author of the plugin",
        )


def _faults(name: str, info: TensorInfo, index: TensorIndex, snapshot: Snapshot) -> Iterator[str]:
    if info.name != name:
        yield f"{name!r} is described as {info.name!r}"
    elif info.file not in index.files:
        yield f"{name!r} lies in {info.file!r}, which is none of the index's files"
    elif info.dtype not in DTYPES:
        yield f"{name!r} has the unknown dtype {info.dtype!r}"
    elif min(info.shape, default=0) < 0 or not info.fills:
        yield f"{name!r}: {info.nbytes} bytes for {info.kind} {list(info.shape)}"
    elif info.encoding is not None:
        lies = info.packing or info.strides or info.pieces or info.chunks
        if lies or DTYPES[info.dtype].bits % 8 or info.encoding.axis >= max(1, len(info.shape)):
            yield f"{name!r}: an encoding that does not fit {info.kind} {list(info.shape)}"
    elif info.offset < 0 or info.end > snapshot.file(info.file).size:
        size = snapshot.file(info.file).size
        yield f"{name!r}: bytes {info.offset:,} to {info.end:,} of {info.file}, which has {size:,}"
