"""One file of pickled weights: which of its forms it has, and where each of its tensors lies."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from loadstone.checkpoint.formats.names import IMPOSTORS
from loadstone.checkpoint.formats.pickle.fault import Place
from loadstone.checkpoint.formats.pickle.places import Contents, of_archive, of_older_form
from loadstone.checkpoint.formats.pickle.state import state_of
from loadstone.checkpoint.formats.pickle.values import Tensor
from loadstone.checkpoint.index import TensorInfo
from loadstone.checkpoint.strides import View, row_by_row, span
from loadstone.errors import shown

if TYPE_CHECKING:
    from loadstone.source import Snapshot

MAX_WINDOWS = 1024
"""Blocks that a view may be made of: how often one number may stand in it, say."""

Header = tuple[list[TensorInfo], dict[str, str]]
"""The tensors of a file in the order in which they lie, and the texts beside them."""


def read_file(snapshot: Snapshot, file: str) -> Header:
    """Say where each tensor of a file lies; nothing in it is run and no tensor is read.

    Raises:
        CheckpointError: If the file is damaged, or asks for more than weights need.
        SourceError: If it cannot be read.
    """
    place, known = Place(file=file, where=snapshot.location), snapshot.file(file)
    read = functools.partial(snapshot.read_range, file)
    start = read(0, min(known.size, 64))
    if not start:
        place.fail("is empty", expected="what torch.save writes", hint="fetch or copy the file again")
    far = known.path is None
    if start.startswith(b"PK\x03\x04"):
        contents = of_archive(read, known.size, place, far=far)
    elif start.startswith(b"\x80"):
        contents = of_older_form(read, known.size, place, far=far)
    else:
        _refuse(start, place)
    tensors, texts = state_of(contents.root, place)
    infos = [info_of(name, tensor, contents, place) for name, tensor in tensors.items()]
    return sorted(infos, key=lambda info: (info.offset, info.nbytes)), {**texts, **contents.texts}


def _refuse(start: bytes, place: Place) -> None:
    for magic, name, hint in IMPOSTORS:
        if start.startswith(magic):
            place.fail(
                f"is {name} in place of weights", expected="what torch.save writes", found=name, hint=hint
            )
    if start[8:9] == b"{":
        place.fail(
            "is a safetensors file under another name",
            expected="what torch.save writes",
            hint="rename it, so that its name ends as theirs do",
        )
    place.fail(
        "is none of the files that torch.save writes",
        expected="a zip archive, or a pickle of protocol 2 or later",
        found=shown(start[:16]),
    )


def info_of(name: str, tensor: Tensor, contents: Contents, place: Place) -> TensorInfo:
    """Say where the numbers of a tensor lie.

    Raises:
        CheckpointError: If it is of no dtype that there is, larger than its storage, or lies over itself.
    """
    if tensor.dtype is None:
        place.fail(
            "holds a tensor of a dtype that there is no name for here",
            key=name,
            found=f"numbers of {tensor.itemsize} bytes each",
            hint="cast it before it is saved",
        )
    shape, strides, size = tensor.shape, tensor.strides, tensor.itemsize
    storage = tensor.storage
    start = tensor.first * size
    if start + span(shape, strides) * size > storage.count * storage.itemsize:
        place.fail(
            "holds a tensor that is larger than its storage",
            key=name,
            expected=f"at most {storage.count * storage.itemsize:,} bytes",
            found=f"shape {shown(list(shape))}, strides {shown(list(strides))}, from byte {start:,} on",
        )
    plain = row_by_row(shape, strides)
    if not plain:
        _check_strides(name, shape, strides, place)
    offset = contents.spans[storage.key] + storage.start * storage.itemsize + start
    return TensorInfo(
        name=name,
        dtype=tensor.dtype,
        shape=shape,
        file=place.file,
        offset=offset,
        nbytes=math.prod(shape) * size,
        strides=None if plain else strides,
    )


def _check_strides(name: str, shape: Sequence[int], strides: Sequence[int], place: Place) -> None:
    """Refuse a view whose numbers lie in no block: a row that begins within another, say."""
    view = View.of(shape, strides)
    if view is None or view.count(shape) > MAX_WINDOWS:
        place.fail(
            "holds a tensor whose numbers lie over one another, or in too many places",
            key=name,
            expected=f"rows apart from one another, in at most {MAX_WINDOWS:,} blocks",
            found=f"shape {shown(list(shape))}, strides {shown(list(strides))}",
            hint="save it again after .contiguous()",
        )
