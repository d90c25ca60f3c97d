"""These tests run as where JAX is the only framework: no other can be imported in their process.

The host counts as two devices, so that placement can be tested anywhere.
"""

import os
import sys
from collections.abc import Iterator

import pytest

from tests.xla import DIRECT, told

OTHERS = ("torch", "tensorflow", "keras", "transformers")

if loaded := [name for name in OTHERS if sys.modules.get(name) is not None]:
    raise pytest.UsageError(
        f"tests/flax runs in a process of its own; {', '.join(loaded)} is already imported"
    )
sys.modules.update(dict.fromkeys(OTHERS))

os.environ.setdefault("JAX_PLATFORMS", "cpu")
told("--xla_force_host_platform_device_count=2", DIRECT)
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = (
    "0"  # they would be written into each of thousands of programs
)


@pytest.fixture
def compile_little() -> Iterator[None]:
    """Have the compiler optimise nothing: for programs on tiny models, each used once or twice."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
