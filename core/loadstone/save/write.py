"""Saving: each tensor streams once from where it lives into new files, which then take the old ones' place.

What a kill at any point leaves behind, and why it loads, is told in `loadstone.checkpoint.settled`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from loadstone.checkpoint.formats.names import BLANK, GENERATION, SHA256
from loadstone.checkpoint.formats.target import PREFERRED, Target
from loadstone.checkpoint.formats.writer import Block, Shard, StoredTensor, Writer
from loadstone.checkpoint.settled import CONFIG, JOURNAL, Switch, is_staging
from loadstone.errors import ArgumentError, LoadstoneError, SourceError, counted
from loadstone.save import disk
from loadstone.save.layout import lay_out
from loadstone.save.switch import complete, discard, has_switched, make_folders, new_staging, recover
from loadstone.source import safe_name

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

_WORTH_A_THREAD = 1024 * 1024
"""Bytes of a block from which on summing it takes longer than handing it over."""

Progress = Callable[[int], object]
"""Called with the bytes of tensors written since the last call."""


def save_checkpoint(
    folder: Path,
    tensors: Iterable[StoredTensor],
    *,
    config_json: str,
    other_files: Mapping[str, str | bytes] | None = None,
    metadata: Mapping[str, str] | None = None,
    max_shard_size: int | str = "5GB",
    variant: str | None = None,
    progress: Progress | None = None,
    target: Target = PREFERRED,
    aliases: Mapping[str, str] | None = None,
    copies: Mapping[str, Callable[[], Iterable[bytes]]] | None = None,
    before_switch: Callable[[], object] | None = None,
) -> list[Path]:
    """Write a checkpoint in the Hugging Face layout; whatever happens, the folder loads as the old or the new one.

    The files are the same, byte for byte, for equal arguments, in whatever order the tensors come. Files of the folder
    that belong to no checkpoint stay. The folder may be the one from which the tensors are mapped.

    Args:
        folder: Where; made where absent.
        tensors: What to save. Each is read once, one at a time.
        config_json: The text of config.json.
        other_files: Further small files that belong to the checkpoint: name -> content, of folders with `/`. Without a
            generation_config.json among them, the folder has none afterwards.
        metadata: Texts for `__metadata__`; `format: pt` is added, since transformers asks for it.
        max_shard_size: Bytes of tensors in a file, as a number or a text such as "5GB".
        variant: Part of the weights' names, e.g. "fp16".
        progress: Called with the number of bytes of tensors written since the last call.
        target: The format of the weights.
        aliases: Further name -> the tensor that it is too.
        copies: Files that come along, such as a tokenizer's: name -> what gives their bytes.
        before_switch: Called when all is written and nothing has taken another's place; an error in it leaves the old
            checkpoint.

    Returns:
        The files written: those of weights, then the index if there is one, then the others.

    Raises:
        ArgumentError: If a name, the size or a text cannot be used, or the format cannot hold what is to be saved.
        SourceError: If the disk is full or refuses; the message says which checkpoint the folder then holds. If the folder
            holds weights of another format that a load would take before these.

    Example:
        >>> import numpy as np
        >>> from loadstone.read.tensor import HostTensor
        >>> def read() -> HostTensor:
        ...     return HostTensor(name="w", dtype="float32", shape=(2,), data=np.ones(2, np.float32).view(np.uint8))
        >>> tensor = StoredTensor(name="w", dtype="float32", shape=(2,), read=read)
        >>> written = save_checkpoint(Path("saved"), [tensor], config_json="{}")  # doctest: +SKIP
        >>> written[-1].name  # doctest: +SKIP
        'config.json'
    """
    writer, tensors = target.writer, list(tensors)
    texts = _checked_texts({CONFIG: config_json, **(other_files or {})}, target, variant)
    held = {key: text for key, text in (metadata or {}).items() if key not in BLANK} | {"format": "pt"}
    refuse_unheld(target, tensors, held, variant=variant)
    shards = lay_out(tensors, max_shard_size=max_shard_size, variant=variant, writer=writer, aliases=aliases)
    entry = shards[0].file if len(shards) == 1 else writer.index_name(variant)
    others = {name: functools.partial(iter, [text]) for name, text in texts.items()} | dict(copies or {})
    job = _Job(shards, others, held, target, entry, variant)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with disk.locked(folder):
            recover(folder)
            target.refuse_shadowed(folder, variant)
            staging = new_staging(folder)
            with _undone_on_error(staging, entry):
                switch = _stage(staging, job, progress)
                if before_switch is not None:
                    before_switch()
                complete(folder, staging, switch)
    except LoadstoneError:
        raise
    except OSError as error:
        raise _refused(folder, error) from error
    return [folder / name for name in switch.files]


@dataclasses.dataclass(frozen=True, slots=True)
class _Job:
    """What is to be written: files of weights, other files, and how."""

    shards: Sequence[Shard]
    others: Mapping[str, Callable[[], Iterable[bytes]]]
    metadata: Mapping[str, str]
    target: Target
    entry: str
    variant: str | None


def refuse_unheld(
    target: Target, tensors: Sequence[StoredTensor], metadata: Mapping[str, str], *, variant: str | None
) -> None:
    """Refuse what a format cannot hold.

    Raises:
        ArgumentError: If there is any; all of it is named at once.
    """
    problems = list(target.writer.problems(tensors, metadata, variant=variant))
    if problems:
        raise ArgumentError(
            f"{target.name} cannot hold what is to be saved",
            found=counted(len(problems), "problem"),
            problems=problems,
            hint=target.hint,
        )


def _checked_texts(texts: Mapping[str, str | bytes], target: Target, variant: str | None) -> dict[str, bytes]:
    for name in texts:
        if (
            safe_name(name, where="other_files") != name
            or target.format.is_weights(name, variant)
            or is_staging(name)
            or name == JOURNAL
        ):
            raise ArgumentError(
                f"other_files cannot hold {name!r}",
                expected="names of files beside config.json and the weights",
            )
    return {name: text.encode("utf-8") if isinstance(text, str) else text for name, text in texts.items()}


@contextlib.contextmanager
def _undone_on_error(staging: Path, entry: str) -> Iterator[None]:
    """Remove the staging folder if anything goes wrong before the switch; after it, the next save tidies up."""
    try:
        yield
    except BaseException:
        if not has_switched(staging, entry):
            with contextlib.suppress(OSError):
                discard(staging)
        raise


def _stage(staging: Path, job: _Job, progress: Progress | None) -> Switch:
    """Write everything into the staging folder, the journal last, and wait until it has reached the disk."""
    writer, blank = job.target.writer, {**job.metadata, **BLANK}
    sums = {}
    for shard in job.shards:
        blocks = _told(writer.blocks(shard, blank), progress)
        sums[shard.file] = _write(staging / shard.file, blocks, sync=not writer.notes)
    others = {name: _write_below(staging, name, _plain(give())) for name, give in job.others.items()}
    generation = _generation({**sums, **others})
    for shard in job.shards if writer.notes else ():
        known = {GENERATION: generation, SHA256: sums[shard.file]}
        disk.overwrite_start(staging / shard.file, writer.start(shard, {**job.metadata, **known}))
    index = {}
    if job.entry not in sums:
        text = _index(job.shards, writer, generation if writer.notes else None)
        index = {job.entry: _write(staging / job.entry, [text], sync=True)}
    switch = Switch(
        generation=generation,
        entry=job.entry,
        files=(*sums, *index, *others),
        variant=job.variant,
        format=job.target.claim,
        sum="" if writer.notes else {**sums, **index}[job.entry],
    )
    journal = staging / f"{JOURNAL}.part"
    disk.write_new(journal, [switch.to_json().encode("utf-8")], sync=True)
    disk.rename(journal, staging / JOURNAL)
    disk.sync_folder(staging)
    disk.sync_folder(staging.parent)
    return switch


def _write_below(staging: Path, name: str, blocks: Iterable[Block]) -> str:
    """Write a file whose name may have folders in it."""
    folders = make_folders(staging, name)
    found = _write(staging / name, blocks, sync=True)
    for folder in folders:
        disk.sync_folder(folder)
    return found


def _write(path: Path, blocks: Iterable[Block], *, sync: bool) -> str:
    """Write one file; return the SHA-256 of what was written."""
    digest = hashlib.sha256()
    disk.write_new(path, _summed(blocks, digest), sync=sync)
    return digest.hexdigest()


def _summed(blocks: Iterable[Block], digest: Hash) -> Iterator[Block]:
    """Sum what passes; a large block on a thread, while it is written."""
    with ThreadPoolExecutor(1, thread_name_prefix="loadstone-sum") as pool:
        for block in blocks:
            if len(block) < _WORTH_A_THREAD:
                digest.update(block)
                yield block
            else:
                under_way = pool.submit(digest.update, block)
                yield block
                under_way.result()
                del under_way
            del block  # or it would hold this tensor's memory while the next one is read


def _plain(blocks: Iterable[bytes]) -> Iterator[Block]:
    yield from blocks


def _told(blocks: Iterable[Block], progress: Progress | None) -> Iterator[Block]:
    """Tell of the bytes of tensors, which come as views of their memory."""
    for block in blocks:
        number = len(block) if isinstance(block, memoryview) else 0
        yield block
        del block
        if progress is not None and number:
            progress(number)


def _generation(sums: Mapping[str, str]) -> str:
    """Return the id of a checkpoint: a digest of the names and sums of its files."""
    lines = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    return hashlib.sha256(lines.encode("utf-8")).hexdigest()[: len(BLANK[GENERATION])]


def _index(shards: Sequence[Shard], writer: Writer, generation: str | None) -> bytes:
    places = {writer.listed(name): shard.file for shard in shards for name in shard.names}
    size = sum(tensor.nbytes for shard in shards for tensor in shard.tensors)
    noted = {} if generation is None else {GENERATION: generation}
    index = {"metadata": {"total_size": size, **noted}, "weight_map": places}
    return (json.dumps(index, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8")


def _refused(folder: Path, error: OSError) -> SourceError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    failure = SourceError(
        f"the checkpoint could not be saved: {error.strerror or error}",
        where=error.filename or folder,
        found="a full disk" if full else None,
        hint=f"{'free space' if full else 'see to the disk'} and save again; what the folder held still loads, or the"
        " new checkpoint does if all of it was written already",
    )
    failure.errno = error.errno
    return failure
