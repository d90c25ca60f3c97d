"""What a model can only do with parameters that are in memory."""

from __future__ import annotations

from loadstone.errors import ArgumentError
from loadstone_tensorflow.blocks.away import cannot_be_trained, stays_on_disk
from loadstone_tensorflow.framework import keras


def check_trains(model: keras.Model) -> None:
    """Raise an ArgumentError if what stays on disk is to be trained: what comes and goes keeps no change."""
    if names := [held.stored for held in stays_on_disk(model) if held.trainable and not held.comes_once]:
        raise cannot_be_trained(names)


def check_takes_values(model: keras.Model) -> None:
    """Raise an ArgumentError if not every parameter has memory of its own that a value can go into."""
    model.wait()
    if (away := next(stays_on_disk(model), None)) is not None:
        raise ArgumentError(
            f"this {type(model).__name__} is not all in memory, and takes no other values",
            found=repr(away),
            hint="load it without a device_map first",
        )


def check_exports(model: keras.Model) -> None:
    """Raise an ArgumentError if not every parameter has memory of its own: a program of TensorFlow's reads no checkpoint."""
    model.wait()
    if (away := next(stays_on_disk(model), None)) is not None:
        raise ArgumentError(
            f"this {type(model).__name__} is not all in memory, and cannot be exported",
            found=repr(away),
            hint="load it without a device_map first",
        )
