"""Settling how many labels there are where a config.json contradicts itself: a stored classifier knows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

from loadstone.backend import Parameter
from loadstone.checkpoint.index import TensorIndex
from loadstone.config import Config


def settle_labels(
    config: Config, index: TensorIndex, parameters: Callable[[Config], Mapping[str, Parameter]]
) -> tuple[str, ...]:
    """Give a configuration the number of labels that the stored classifier has.

    `num_labels` holds against the names in `id2label`, as in transformers, unless the checkpoint stores a classifier that
    has as many labels as there are names.

    Args:
        config: It is changed.
        index: What the checkpoint has.
        parameters: Returns what a model of a configuration would have, by name.

    Returns:
        What is to be told of it: one sentence, or none where the configuration is clear or the model has no labels.
    """
    named, number = config.contradicting_labels(), config.num_labels
    if not named:
        return ()
    other = copy.deepcopy(config)
    other.num_labels = named
    ours, theirs = parameters(config), parameters(other)
    classifier = [name for name in ours if name in theirs and ours[name].shape != theirs[name].shape]
    stored = [name for name in classifier if name in index.tensors]
    if not classifier:
        return ()
    said = f"config.json says num_labels={number} and names {named} labels in id2label"
    if stored and all(index.tensors[name].shape == theirs[name].shape for name in stored):
        config.num_labels = named
        return (f"{said}; the stored classifier has {named}, which were taken",)
    return (f"{said}; {number} were taken, and the names left out",)
