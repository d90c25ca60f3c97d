"""The name under which transformers' guide imports `load_sharded_checkpoint`."""

from __future__ import annotations

from typing import NamedTuple

from loadstone.backend import Model
from loadstone.load.into import load_into
from loadstone.source import Name

__all__ = ["load_sharded_checkpoint"]


class IncompatibleKeys(NamedTuple):
    """What `torch.nn.Module.load_state_dict` returns, in every framework."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load_sharded_checkpoint(
    model: Model,
    folder: Name,
    strict: bool = True,
    prefer_safe: bool = True,
    *,
    weights_format: str | None = None,
) -> IncompatibleKeys:
    """Load a checkpoint into a model that exists, in place; its dtype and device stay.

    Args:
        model: A model of any backend.
        folder: Holds the weights in one file, or in shards with their index.
        strict: Raise where a parameter has no tensor or a tensor no parameter; else leave such parameters as they are.
        prefer_safe: False takes pickles (`pytorch_model.bin`) alone.
        weights_format: As in `from_pretrained`.

    Returns:
        The keys that were missing and unexpected.

    Raises:
        MatchError: If `strict` and something does not fit, or a shape differs.
        CheckpointError: If the files are damaged.
    """
    missing, unexpected = load_into(
        model,
        folder,
        strict=strict,
        use_safetensors=None if prefer_safe else False,
        weights_format=weights_format,
    )
    return IncompatibleKeys(missing, unexpected)
