"""Saving: each tensor streams once from where it lives into new files, which then take the old ones' place.

What a kill at any point leaves behind, and why it loads, is told in `loadstone.checkpoint.settled`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loadstone.checkpoint.formats.names import BLANK, GENERATION, SHA256, is_weights, weight_names
from loadstone.checkpoint.settled import CONFIG, JOURNAL, Switch, is_staging
from loadstone.errors import ArgumentError, BackendError, LoadstoneError, SourceError
from loadstone.save import disk
from loadstone.save.layout import Shard, StoredTensor, lay_out
from loadstone.save.switch import complete, discard, has_switched, make_folders, new_staging, recover
from loadstone.source import safe_name

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

_BLOCK = 8 * 1024 * 1024
"""Bytes of a tensor that are summed and written at a time."""

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

    Returns:
        The files written: those of weights, then the index if there is one, then the others.

    Raises:
        ArgumentError: If a name, the size or a text cannot be used.
        SourceError: If the disk is full or refuses; the message says which checkpoint the folder then holds.

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
    shards = lay_out(tensors, max_shard_size=max_shard_size, variant=variant)
    texts = _checked_texts({CONFIG: config_json, **(other_files or {})}, variant=variant)
    held = {key: text for key, text in (metadata or {}).items() if key not in BLANK} | {"format": "pt"}
    entry = shards[0].file if len(shards) == 1 else weight_names(variant)[1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with disk.locked(folder):
            recover(folder)
            staging = new_staging(folder)
            with _undone_on_error(staging, entry):
                switch = _stage(staging, shards, texts, held, entry=entry, variant=variant, progress=progress)
                complete(folder, staging, switch)
    except LoadstoneError:
        raise
    except OSError as error:
        raise _refused(folder, error) from error
    return [folder / name for name in switch.files]


def _checked_texts(texts: Mapping[str, str | bytes], *, variant: str | None) -> dict[str, bytes]:
    for name in texts:
        if (
            safe_name(name, where="other_files") != name
            or is_weights(name, variant)
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


def _stage(
    staging: Path,
    shards: Sequence[Shard],
    texts: Mapping[str, bytes],
    metadata: Mapping[str, str],
    *,
    entry: str,
    variant: str | None,
    progress: Progress | None,
) -> Switch:
    """Write everything into the staging folder, the journal last, and wait until it has reached the disk."""
    blank = {**metadata, **BLANK}
    sums = {shard.file: _write_data(staging / shard.file, shard, blank, progress) for shard in shards}
    generation = _generation(
        {**sums, **{name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}}
    )
    for shard in shards:
        known = {GENERATION: generation, SHA256: sums[shard.file]}
        disk.overwrite_start(staging / shard.file, shard.header({**metadata, **known}))
    files = dict(texts)
    if entry not in sums:
        files = {entry: _index(shards, generation)} | files
    switch = Switch(generation=generation, entry=entry, files=(*sums, *files), variant=variant)
    for name, text in files.items():
        folders = make_folders(staging, name)
        disk.write_new(staging / name, [text], sync=True)
        for folder in folders:
            disk.sync_folder(folder)
    journal = staging / f"{JOURNAL}.part"
    disk.write_new(journal, [switch.to_json().encode("utf-8")], sync=True)
    disk.rename(journal, staging / JOURNAL)
    disk.sync_folder(staging)
    disk.sync_folder(staging.parent)
    return switch


def _write_data(path: Path, shard: Shard, blank: Mapping[str, str], progress: Progress | None) -> str:
    """Write one file with a blank header and all its data; return the SHA-256 of that."""
    digest = hashlib.sha256()
    disk.write_new(path, _summed(shard, shard.header(blank), digest, progress), sync=False)
    return digest.hexdigest()


def _summed(
    shard: Shard, header: bytes, digest: Hash, progress: Progress | None
) -> Iterator[bytes | memoryview]:
    digest.update(header)
    yield header
    for tensor in shard.tensors:
        for block in _blocks(tensor):
            digest.update(block)
            yield block
            if progress is not None:
                progress(len(block))
            del block  # or it would hold this tensor's memory while the next one is read


def _blocks(tensor: StoredTensor) -> Iterator[memoryview]:
    host = tensor.read()
    if (host.dtype, host.shape, len(host.data)) != (tensor.dtype, tensor.shape, tensor.nbytes):
        raise BackendError(
            "a backend gave back another tensor than it announced",
            where=f"tensor {tensor.name!r}",
            expected=f"{tensor.dtype} {list(tensor.shape)}, {tensor.nbytes:,} bytes",
            found=f"{host.dtype} {list(host.shape)}, {len(host.data):,} bytes",
            hint="report it to the author of the backend",
        )
    data = host.data.data
    for start in range(0, tensor.nbytes, _BLOCK):
        yield data[start : start + _BLOCK]


def _generation(sums: Mapping[str, str]) -> str:
    """Return the id of a checkpoint: a digest of the names and sums of its files."""
    lines = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    return hashlib.sha256(lines.encode("utf-8")).hexdigest()[: len(BLANK[GENERATION])]


def _index(shards: Sequence[Shard], generation: str) -> bytes:
    places = {tensor.name: shard.file for shard in shards for tensor in shard.tensors}
    size = sum(tensor.nbytes for shard in shards for tensor in shard.tensors)
    index = {"metadata": {"total_size": size, GENERATION: generation}, "weight_map": places}
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
