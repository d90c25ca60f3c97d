"""These tests run as where TensorFlow is the only framework: no other can be imported in their process.

The host counts as two devices, so that placement and `tf.distribute` can be tested anywhere.
"""

import importlib.abc
import os
import sys
from collections.abc import Sequence
from types import ModuleType

import pytest

from tests.xla import UNOPTIMISED, told

OTHERS = frozenset({"torch", "jax", "jaxlib", "flax", "transformers"})


class Blocked(importlib.abc.MetaPathFinder):
    """Finds the other frameworks absent."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name.partition(".")[0] in OTHERS:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked by tests/tensorflow)", name=name)


if loaded := sorted(OTHERS & set(sys.modules)):
    raise pytest.UsageError(
        f"tests/tensorflow runs in a process of its own; {', '.join(loaded)} is already imported"
    )
sys.meta_path.insert(0, Blocked())

os.environ.setdefault(
    "TF_CPP_MIN_LOG_LEVEL", "2"
)  # its notes on the processor would drown what the tests say

told(UNOPTIMISED)

import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
