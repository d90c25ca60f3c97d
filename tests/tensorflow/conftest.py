"""These tests run in a process where no framework but TensorFlow can be imported."""

import importlib.abc
import os
import sys
from collections.abc import Sequence
from types import ModuleType

import pytest

os.environ.setdefault(
    "TF_CPP_MIN_LOG_LEVEL", "2"
)  # its notes on the processor would drown the tests' own words
OTHERS = frozenset({"torch", "jax", "jaxlib", "flax", "transformers"})


class Blocked(importlib.abc.MetaPathFinder):
    """Finds the other frameworks absent."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name.partition(".")[0] in OTHERS:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked by tests/tensorflow)", name=name)


found = sorted(OTHERS & set(sys.modules))
if found:
    raise pytest.UsageError(
        f"{', '.join(found)} is imported already: run tests/tensorflow in a process of its own"
    )
sys.meta_path.insert(0, Blocked())
