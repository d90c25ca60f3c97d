"""Tiny models with every number drawn, saved where a test wants them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import loadstone

LLAMA: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
BERT: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "num_labels": 3,
}


def model_of(class_name: str, *, seed: int = 1, **fields: Any) -> Any:
    """Return a model of a class, in inference mode, each of its parameters drawn: norms about 1, biases about 0."""
    cls = getattr(loadstone, class_name)
    sizes = LLAMA if class_name.startswith("Llama") else BERT
    options = {name: fields.pop(name) for name in ("add_pooling_layer",) if name in fields}
    config = loadstone.AutoConfig.for_model("llama" if sizes is LLAMA else "bert", **sizes | fields)
    model = cls.from_config(config, **options).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            parameter.copy_(centre + 0.3 * drawn)
    return model


def saved(folder: Path, class_name: str, **fields: Any) -> Path:
    """Save such a model, and return its folder."""
    model_of(class_name, **fields).save_pretrained(folder)
    return folder


IDS = torch.tensor([[1, 5, 9, 33, 2, 60], [1, 7, 7, 12, 40, 3]])
"""Two sequences of six tokens, none of them padding."""
