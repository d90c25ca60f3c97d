"""How XLA makes the programs of tests: on tiny models, most of them used once, and a hundred times slower to make than to run."""

import os

DIRECT = "--xla_cpu_parallel_codegen_split_count=1 --xla_cpu_use_fusion_emitters=false"
"""In one part, which saves a fifth of the time, and without MLIR, which saves half."""
UNOPTIMISED = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
"""As they are written; not where memory is measured."""


def told(*flags: str) -> None:
    """Add flags for the frameworks that this process imports."""
    os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *flags)).strip()
