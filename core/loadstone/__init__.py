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

import sys
from typing import Any

__version__ = "0.1.0"

# Public names that are written down somewhere; all others belong to an architecture.
_HOMES = {
    "AutoConfig": "loadstone.auto",
    "Config": "loadstone.config",
    "GenerationConfig": "loadstone.generate.settings",
    "LoadReport": "loadstone.load.report",
    "Conversion": "loadstone.save.convert",
    "convert": "loadstone.save.convert",
    "plan": "loadstone.load.story",
    "register": "loadstone.backend.registered",
    "to_backend": "loadstone.model.convert",
    "ArchitectureError": "loadstone.errors",
    "ArgumentError": "loadstone.errors",
    "BackendError": "loadstone.errors",
    "ChangedFileError": "loadstone.errors",
    "CheckpointError": "loadstone.errors",
    "ConfigError": "loadstone.errors",
    "LoadstoneError": "loadstone.errors",
    "MatchError": "loadstone.errors",
    "MissingFrameworkError": "loadstone.errors",
    "NoConfigError": "loadstone.errors",
    "NoWeightsError": "loadstone.errors",
    "OutOfMemoryError": "loadstone.errors",
    "PlacementError": "loadstone.errors",
    "PluginError": "loadstone.errors",
    "SourceError": "loadstone.errors",
    "UntrustedCodeError": "loadstone.errors",
}

# Names that neighbours have and that are looked for here; where they are, and what they take of ours.
_NEIGHBOURS = {
    "AutoTokenizer": "tokenizers are transformers' or the tokenizers package's: from transformers import AutoTokenizer",
    "AutoProcessor": "processors are transformers': from transformers import AutoProcessor",
    "AutoImageProcessor": "image processors are transformers': from transformers import AutoImageProcessor",
    "pipeline": "pipelines are transformers': pipeline(task, model=model, tokenizer=tokenizer) takes a model of ours",
    "Trainer": "training is the framework's; transformers' Trainer takes a model of ours",
    "TrainingArguments": "training is the framework's; transformers' Trainer takes a model of ours",
    "BitsAndBytesConfig": "quantising is not there yet; dtype='bfloat16' takes half the memory of float32",
    "from_pretrained": "it is a method: AutoModel.from_pretrained",
}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return _without_a_framework()
    # `from loadstone import plugins` asks here first: what begins small is a module, or in `_HOMES`.
    from loadstone.load.collector import paused_collector

    try:
        with paused_collector():
            found = _found(name)
    except AttributeError as error:
        # An import statement asks through this function of Python's, and says nothing of an AttributeError's hint.
        imported = sys._getframe(1).f_code.co_name == "_handle_fromlist"
        if imported and not _is_module(name):
            raise ImportError(str(error), name=__name__) from error
        raise
    globals()[name] = found
    return found


def _found(name: str) -> Any:
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name[0].isupper() and name not in _NEIGHBOURS:
        from loadstone.auto import lookup

        return lookup(name, *_HOMES)
    hint = _NEIGHBOURS.get(name)
    if hint is None and not name.startswith("_"):
        from loadstone.errors import nearest

        hint = nearest(name, _HOMES)
    raise AttributeError(f"module 'loadstone' has no attribute {name!r}{f'; {hint}' if hint else ''}")


def _is_module(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(f"{__name__}.{name}") is not None


def _without_a_framework() -> list[str]:
    """Return what `from loadstone import *` brings: all but the model classes, which import their framework."""
    from loadstone import _names

    autos = (f"AutoModelFor{task}" if task else "AutoModel" for task in _names.TASKS)
    return sorted({*_HOMES, *autos, *_names.CONFIGS})


def __dir__() -> list[str]:
    from loadstone.auto import public_names

    own = (name for name in globals() if name.startswith("__"))
    return sorted({"__all__", *own, *_HOMES, *public_names()})
