"""How tensors are divided among the files that we write: pure, and the same whichever backend the tensors come from."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping

from loadstone.checkpoint.formats.target import PREFERRED
from loadstone.checkpoint.formats.writer import Shard, StoredTensor, Writer
from loadstone.errors import ArgumentError

DEFAULT_SIZE = "5GB"
"""`max_shard_size` where the caller says none."""

MAX_SHARD_TENSORS = 100_000
"""Tensors that we put into one file; its header then stays well below what the parser accepts."""

_UNITS = {"": 1, "B": 1} | {f"{unit}B": 1000**power for power, unit in enumerate("KMGT", 1)}
_UNITS |= {f"{unit}IB": 1024**power for power, unit in enumerate("KMGT", 1)}


def lay_out(
    tensors: Iterable[StoredTensor],
    *,
    max_shard_size: int | str,
    variant: str | None,
    writer: Writer = PREFERRED.writer,
    aliases: Mapping[str, str] | None = None,
) -> list[Shard]:
    """Divide tensors among files, in name order, each filled until the next tensor would be too much.

    Args:
        tensors: What to save, in any order.
        max_shard_size: Bytes of tensors that a file may hold, as a number or a text such as "5GB"; a tensor
            that is larger has a file for itself.
        variant: Part of the file names, e.g. "fp16".
        writer: How the files are written.
        aliases: Further name -> the tensor that it is too.

    Returns:
        One shard, or as many as are needed, each with the name that its file will have.

    Raises:
        ArgumentError: If a tensor's name is none, or is there twice, or the size cannot be understood.
    """
    limit = parse_size(max_shard_size)
    if writer.whole:
        limit = _of_one_file(tensors := list(tensors), limit)
    groups: list[list[StoredTensor]] = [[]]
    filled = 0
    for tensor in _in_name_order(tensors, writer):
        too_much = filled + tensor.nbytes > limit or len(groups[-1]) == MAX_SHARD_TENSORS
        if groups[-1] and too_much:
            groups.append([])
            filled = 0
        groups[-1].append(tensor)
        filled += tensor.nbytes
    names = writer.file_names(len(groups), variant=variant)
    if len(groups) > 1 and writer.one_file_aliases:
        aliases = {}
    return [
        Shard(file=name, tensors=writer.ordered(group), aliases=_within(group, aliases or {}))
        for name, group in zip(names, groups, strict=True)
    ]


def _of_one_file(tensors: Iterable[StoredTensor], limit: int) -> int:
    """Return a limit that all tensors keep together; one that the caller set lower cannot be kept."""
    total = sum(tensor.nbytes for tensor in tensors)
    if total > limit != parse_size(DEFAULT_SIZE):
        raise ArgumentError(
            "the format has one file for all of a model",
            expected=f"max_shard_size of {total:,} bytes or more, or none",
            found=f"{limit:,}",
        )
    return max(limit, total)


def _within(tensors: Iterable[StoredTensor], aliases: Mapping[str, str]) -> dict[str, str]:
    """Return the aliases of some tensors."""
    own = {tensor.name for tensor in tensors} if aliases else set()
    return {name: stored for name, stored in aliases.items() if stored in own}


def _in_name_order(tensors: Iterable[StoredTensor], writer: Writer) -> list[StoredTensor]:
    ordered = sorted(tensors, key=lambda tensor: tensor.name)
    names = [tensor.name for tensor in ordered]
    wrong = [name for name, following in itertools.pairwise(names) if name == following]
    wrong += [name for name in names if name in writer.reserved]
    if wrong:
        raise ArgumentError(
            f"a tensor cannot be saved as {wrong[0]!r}",
            expected=f"names that occur once{''.join(f'; `{name}` is reserved' for name in writer.reserved)}",
        )
    return ordered


def parse_size(size: int | str) -> int:
    """Return a number of bytes given as a number or a text.

    Raises:
        ArgumentError: If it is neither, or not positive.

    Example:
        >>> parse_size("5GB"), parse_size("1GiB"), parse_size(300)
        (5000000000, 1073741824, 300)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(size))
    unit = _UNITS.get(match[2].upper()) if match else None
    number = int(float(match[1]) * unit) if match and unit else 0
    if number <= 0:
        raise ArgumentError(
            f"max_shard_size={size!r} is not a size",
            expected='a positive number of bytes, or a text such as "5GB", "500MB" or "1GiB"',
            hint="leave it out for 5GB",
        )
    return number
