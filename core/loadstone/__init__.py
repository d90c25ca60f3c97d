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
    "LoadstoneError": "loadstone.errors",
    "plan": "loadstone.load.story",
    "to_backend": "loadstone.model.convert",
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
    # `from loadstone import plugins` asks here first; what begins small is a module, or in `_HOMES`.
    try:
        found = _found(name)
    except AttributeError as error:
        # An import statement asks through this function of Python's, and says nothing of an AttributeError's hint.
        imported = sys._getframe(1).f_code.co_name == "_handle_fromlist"
        if imported and (name in _NEIGHBOURS or name[0].isupper()):
            raise ImportError(str(error), name=__name__) from error
        raise
    globals()[name] = found
    return found


def _found(name: str) -> Any:
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _NEIGHBOURS or not name[0].isupper():
        hint = f"; {_NEIGHBOURS[name]}" if name in _NEIGHBOURS else ""
        raise AttributeError(f"module 'loadstone' has no attribute {name!r}{hint}")
    from loadstone.auto import lookup

    return lookup(name)


def __dir__() -> list[str]:
    from loadstone.auto import public_names

    return sorted({*globals(), *_HOMES, *public_names()})
