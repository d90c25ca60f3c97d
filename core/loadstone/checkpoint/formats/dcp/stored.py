"""One tensor of a `.distcp` file: `torch.save` wrote it, and others before and after it."""

from __future__ import annotations

import dataclasses

from loadstone.checkpoint.formats.dcp.metadata import Item
from loadstone.checkpoint.formats.pickle.fault import Place
from loadstone.checkpoint.formats.pickle.files import info_of
from loadstone.checkpoint.formats.pickle.places import of_archive
from loadstone.checkpoint.formats.pickle.stream import Read
from loadstone.checkpoint.formats.pickle.values import Tensor, told
from loadstone.checkpoint.index import TensorInfo
from loadstone.errors import shown
from loadstone.source import Snapshot

HEAD, TAIL = 1024, 2048
"""Bytes at the start of an archive of one tensor in which its description lies, and at its end, the directory."""


def stored_tensor(snapshot: Snapshot, item: Item) -> TensorInfo:
    """Say where the numbers of a tensor lie, and that it is what the description says.

    Raises:
        CheckpointError: If it is not, or the file is damaged.
        SourceError: If it cannot be read.
    """
    place, file = Place(file=item.file, where=snapshot.location), snapshot.file(item.file)
    if item.offset + item.length > file.size:
        place.fail(
            "is shorter than the tensors that lie in it",
            key=item.name,
            expected=f"{item.offset + item.length:,} bytes",
            found=f"{file.size:,} bytes",
        )

    read = _reader(snapshot, item)
    if read(0, min(item.length, 4)) != b"PK\x03\x04":
        place.fail(
            "holds a tensor that torch.save did not write",
            key=item.name,
            hint="save it again with torch.distributed.checkpoint.save and its own writer",
        )
    contents = of_archive(read, item.length, place, far=file.path is None, tail=min(TAIL, item.length))
    if not isinstance(contents.root, Tensor):
        place.fail("holds something else than a tensor", key=item.name, found=told(contents.root))
    info = info_of(item.name, contents.root, contents, place)
    if (info.dtype, info.shape) != (item.dtype, item.shape):
        place.fail(
            "holds another tensor than its description says",
            key=item.name,
            expected=f"{item.dtype} {shown(list(item.shape))}",
            found=f"{info.dtype} {shown(list(info.shape))}",
        )
    return dataclasses.replace(info, offset=info.offset + item.offset)


def _reader(snapshot: Snapshot, item: Item) -> Read:
    """Return what gives bytes of one item; its two ends are read once, and what lies in them is not asked for again."""
    start, length = item.offset, item.length
    if length <= HEAD + TAIL:
        head, tail = snapshot.read_range(item.file, start, length), b""
    else:
        head = snapshot.read_range(item.file, start, HEAD)
        tail = snapshot.read_range(item.file, start + length - TAIL, TAIL)

    def read(offset: int, size: int) -> bytes:
        if offset + size <= len(head):
            return head[offset : offset + size]
        if (inside := offset - (length - len(tail))) >= 0:
            return tail[inside : inside + size]
        return snapshot.read_range(item.file, start + offset, size)

    return read
