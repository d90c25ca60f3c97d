"""Settling how many labels there are where a config.json contradicts itself: a stored classifier knows."""

from __future__ import annotations

from collections.abc import Mapping

from loadstone.backend import Parameter
from loadstone.checkpoint.index import TensorIndex


def names_hold(
    ours: Mapping[str, Parameter], theirs: Mapping[str, Parameter], index: TensorIndex
) -> bool | None:
    """Return whether there are as many labels as `id2label` has names, and not `num_labels`; None of a model without labels.

    `num_labels` holds, as in transformers, unless the checkpoint stores a classifier that has as many labels as there are
    names.

    Args:
        ours: What the model has with as many labels as `num_labels` says, by name.
        theirs: What it has with as many as there are names.
        index: What the checkpoint has.
    """
    classifier = [name for name in ours if name in theirs and ours[name].shape != theirs[name].shape]
    stored = [name for name in classifier if name in index.tensors]
    if not classifier:
        return None
    return bool(stored) and all(index.tensors[name].shape == theirs[name].shape for name in stored)
