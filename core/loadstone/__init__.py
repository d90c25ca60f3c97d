"""Load Hugging Face checkpoints in PyTorch, TensorFlow (Keras 3) and Flax (nnx) with one call.

Example:
    ```python
    from loadstone import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained("org/name", dtype="auto", device_map="auto")
    ```

Names are looked up when they are first used, so that importing this package imports no framework: the Auto classes
(`AutoModelForCausalLM`, `FlaxAutoModel`, ...), configurations (`LlamaConfig`) and model classes (`LlamaForCausalLM` for PyTorch,
`TFLlamaForCausalLM`, `FlaxLlamaForCausalLM`).
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

# Public names that are written down somewhere; all others belong to an architecture.
_HOMES = {
    "AutoConfig": "loadstone.auto",
    "Config": "loadstone.config",
    "GenerationConfig": "loadstone.generation",
    "LoadReport": "loadstone.report",
    "LoadstoneError": "loadstone.errors",
    "plan": "loadstone.load",
    "to_backend": "loadstone.convert",
}


def __getattr__(name: str) -> Any:
    # `from loadstone import plugins` asks here first; what begins small is a module, or in `_HOMES`.
    if name not in _HOMES and not name[0].isupper():
        raise AttributeError(f"module 'loadstone' has no attribute {name!r}")
    import importlib

    if name in _HOMES:
        found = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        from loadstone.auto import lookup

        found = lookup(name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    from loadstone.auto import public_names

    return sorted({*globals(), *_HOMES, *public_names()})
