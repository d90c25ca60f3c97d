"""These tests run as where JAX is the only framework: no other can be imported in their process.

The host counts as two devices, so that placement can be tested anywhere.
"""

import os
import sys
from collections.abc import Iterator

import pytest

OTHERS = ("torch", "tensorflow", "keras", "transformers")

if loaded := [name for name in OTHERS if sys.modules.get(name) is not None]:
    raise pytest.UsageError(
        f"tests/flax runs in a process of its own; {', '.join(loaded)} is already imported"
    )
sys.modules.update(dict.fromkeys(OTHERS))

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tiny programs, most of them used once: cut into parts to be compiled at once, they would take a fifth longer, and what
# makes loops of fusions through MLIR twice as long as what makes them directly.
QUICK = "--xla_cpu_parallel_codegen_split_count=1 --xla_cpu_use_fusion_emitters=false"
FLAGS = f"--xla_force_host_platform_device_count=2 {QUICK}"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
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
