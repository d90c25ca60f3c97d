"""Tiny models with every number drawn, saved where a test wants them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import loadstone
from tests.oracle.files import SIZES

LLAMA: dict[str, Any] = SIZES["llama"] | {
    "num_hidden_layers": 3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
BERT = SIZES["bert"]


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


def state(model: Any) -> dict[str, torch.Tensor]:
    """Return a copy of a model's state dict."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Return whether two state dicts hold the same names, dtypes and bits."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )
