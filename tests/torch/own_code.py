"""Small repositories with code of their own, on loadstone's bases: written where a test wants them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

CONFIGURATION = """
from loadstone import Config


class TinyConfig(Config):
    model_type = "tiny-own"
    hidden_size: int = 4
    vocab_size: int = 11
"""

MODELING = """
import torch
from torch import nn

from loadstone.outputs import ModelOutput
from loadstone_torch.modeling import PreTrainedModel

from .configuration_tiny import TinyConfig
from .parts.gate import Gate


class TinyPreTrainedModel(PreTrainedModel):
    config_class = TinyConfig
    base_model_prefix = "model"


class TinyModel(TinyPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.table = nn.Embedding(config.vocab_size, config.hidden_size)
        self.gate = Gate(config.hidden_size)
        self.register_buffer("ages", torch.arange(3), persistent=True)
        self.register_buffer("slopes", torch.linspace(0, 1, config.hidden_size), persistent=False)
        self.post_init()

    def forward(self, input_ids):
        return self.gate(self.table(input_ids)) + self.slopes


class TinyForCausalLM(TinyPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = TinyModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids):
        return ModelOutput(logits=self.lm_head(self.model(input_ids)))
"""

GATE = """
from torch import nn

from ..sizes import twice


class Gate(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.up = nn.Linear(size, twice(size))
        self.down = nn.Linear(twice(size), size)

    def forward(self, x):
        return self.down(self.up(x).relu())
"""

SIZES = "def twice(size):\n    return 2 * size\n"

FILES = {
    "configuration_tiny.py": CONFIGURATION,
    "modeling_tiny.py": MODELING,
    "parts/gate.py": GATE,
    "sizes.py": SIZES,
}

AUTO_MAP = {
    "AutoConfig": "configuration_tiny.TinyConfig",
    "AutoModel": "modeling_tiny.TinyModel",
    "AutoModelForCausalLM": "modeling_tiny.TinyForCausalLM",
}


def tensors(seed: int = 1, size: int = 4, vocabulary: int = 11) -> dict[str, torch.Tensor]:
    """Return what a checkpoint of `TinyForCausalLM` holds."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "model.table.weight": (vocabulary, size),
        "model.gate.up.weight": (2 * size, size),
        "model.gate.up.bias": (2 * size,),
        "model.gate.down.weight": (size, 2 * size),
        "model.gate.down.bias": (size,),
        "lm_head.weight": (vocabulary, size),
    }
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return drawn | {"model.ages": torch.tensor([7, 5, 3])}


def files(config: Mapping[str, Any] | None = None, code: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return name -> text of a repository, weights left out."""
    values = {
        "model_type": "tiny-own",
        "architectures": ["TinyForCausalLM"],
        "hidden_size": 4,
        "vocab_size": 11,
    }
    told = {**values, "auto_map": AUTO_MAP, **(config or {})}
    return {**FILES, **(code or {}), "config.json": json.dumps(told)}


def write(folder: Path, texts: Mapping[str, str], weights: Mapping[str, torch.Tensor] | None = None) -> Path:
    """Write a repository into a folder, and return it."""
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    save_file(tensors() if weights is None else dict(weights), folder / "model.safetensors")
    return folder
