"""Whether a configuration can be that of a checkpoint at all, asked before a model is built from it.

A model is built from its configuration, so that a kilobyte of config.json decides what that costs. The files bound it: each
layer has a tensor, and each size is an axis of one.
"""

from __future__ import annotations

from loadstone.architectures import Architecture, said_numbers
from loadstone.checkpoint.index import TensorIndex
from loadstone.config import Config
from loadstone.errors import MatchError, counted

COMMON_SIZE = 300_000
"""Up to this a size may be more than any axis of the files: a tensor may be absent, which the matching tells better."""


def refuse_oversized(
    config: Config,
    index: TensorIndex,
    *,
    architecture: Architecture,
    ignore_mismatched_sizes: bool,
    where: object,
) -> None:
    """Refuse a configuration of more layers than a checkpoint has tensors, or of sizes beyond all its shapes.

    Args:
        config: The configuration.
        index: What the checkpoint has.
        architecture: Names the keys that count layers, and those that hold sizes.
        ignore_mismatched_sizes: The caller wants drawn anew what has another size: only layers are counted.
        where: What to call the checkpoint in the error.

    Raises:
        MatchError: If it is larger than the checkpoint can be.
        ConfigError: If a size that follows from others cannot be.
    """
    problems = oversized(
        config, index, architecture=architecture, ignore_mismatched_sizes=ignore_mismatched_sizes
    )
    if problems:
        raise MatchError(
            "the configuration describes a larger model than the checkpoint holds",
            where=where,
            problems=problems,
            hint="correct config.json or the argument that changes it, or fetch the checkpoint again",
        )


def oversized(
    config: Config, index: TensorIndex, *, architecture: Architecture, ignore_mismatched_sizes: bool = False
) -> list[str]:
    """Return a line for each key by which a configuration is larger than a checkpoint can be."""
    config = config.get_text_config()
    tensors = len(index.names) + len(index.aliases)
    held = f"the checkpoint has {counted(tensors, 'tensor')}, fewer than layers"
    lines = [
        f"{key}={value}: {held}"
        for key, value, numbers in said_numbers(config, architecture.layers)
        if sum(numbers) > tensors
    ]
    if not ignore_mismatched_sizes:
        sizes = tuple(key for key in architecture.sizes if key not in architecture.layers)
        absent = (
            f" ({', '.join(sorted(set(index.absent.values()))[:3])} not looked at)" if index.absent else ""
        )
        longest = max((max(info.shape, default=1) for info in index.tensors.values()), default=0)
        lines += [
            f"{key}={value}: no stored tensor has an axis of more than {longest:,}{absent}"
            for key, value, numbers in said_numbers(config, sizes)
            if max(numbers, default=0) > max(longest, COMMON_SIZE)
        ]
    return lines
