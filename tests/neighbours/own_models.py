"""Repositories whose code stands on transformers, shaped as published custom models are; names and code are ours.

Each is a dict of texts: what its files hold, and `config.json`'s values under CONFIG.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

CONFIG = "config.json"


def _repository(
    model_type: str, auto_map: dict[str, str], code: dict[str, str], **fields: Any
) -> dict[str, Any]:
    return {**code, CONFIG: {"model_type": model_type, "auto_map": auto_map, **fields}}


DECODER = _repository(
    "turning-own",
    {
        "AutoConfig": "configuration_turning.TurningConfig",
        "AutoModel": "modeling_turning.TurningModel",
        "AutoModelForCausalLM": "modeling_turning.TurningForCausalLM",
    },
    {
        "configuration_turning.py": """
from transformers import PretrainedConfig


class TurningConfig(PretrainedConfig):
    model_type = "turning-own"

    def __init__(self, vocab_size=13, hidden_size=8, num_hidden_layers=2, tie_word_embeddings=True, **kwargs):
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, num_hidden_layers
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)
""",
        "modeling_turning.py": """
import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_turning import TurningConfig


class Turning(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.register_buffer("inv_freq", 100 ** (-torch.arange(0, size, 2).float() / size), persistent=False)

    def forward(self, x):
        angles = torch.arange(x.shape[1])[:, None] * self.inv_freq
        one, other = x.chunk(2, -1)
        return torch.cat((one * angles.cos() - other * angles.sin(), one * angles.sin() + other * angles.cos()), -1)


class TurningBlock(nn.Module):
    def __init__(self, config, rate):
        super().__init__()
        self.rate = rate
        self.turning = Turning(config.hidden_size)
        self.mix = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)

    def forward(self, x):
        return x + self.rate * self.norm(self.mix(self.turning(x)).cumsum(1))


class TurningPreTrainedModel(PreTrainedModel):
    config_class = TurningConfig
    base_model_prefix = "model"
    _no_split_modules = ["TurningBlock"]
    _keys_to_ignore_on_load_unexpected = [r"rotary\\.\\d+"]
    _keys_to_ignore_on_load_missing = ["scale"]
    _keep_in_fp32_modules_strict = ["norm"]
    _keep_in_fp32_modules = ["mix"]

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            module.weight.data.fill_(0.25)


class TurningModel(TurningPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        rates = [rate.item() for rate in torch.linspace(1, 0.5, config.num_hidden_layers)]
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(TurningBlock(config, rate) for rate in rates)
        self.scale = nn.Parameter(torch.full((3,), 2.5))
        self.post_init()

    def get_input_embeddings(self):
        return self.embed

    def forward(self, input_ids):
        x = self.embed(input_ids)
        for block in self.blocks:
            x = block(x)
        return x * self.scale.sum()


class TurningForCausalLM(TurningPreTrainedModel, GenerationMixin):
    _tied_weights_keys = {"lm_head.weight": "model.embed.weight"}

    def __init__(self, config):
        super().__init__(config)
        self.model = TurningModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.embed

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids, **kwargs):
        return CausalLMOutputWithPast(logits=self.lm_head(self.model(input_ids)))
""",
    },
    architectures=["TurningForCausalLM"],
)

ENCODER = _repository(
    "plain-encoder-own",
    {"AutoConfig": "encoder.PlainConfig", "AutoModel": "encoder.PlainEncoder"},
    {
        "encoder.py": """
import os

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

HERE = os.path.dirname(os.path.abspath(__file__))


class PlainConfig(PretrainedConfig):
    model_type = "plain-encoder-own"

    def __init__(self, vocab_size=13, hidden_size=6, **kwargs):
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        super().__init__(**kwargs)


class PlainEncoder(PreTrainedModel):
    config_class = PlainConfig

    def __init__(self, config, add_pooling=True):
        super().__init__(config)
        with open(os.path.join(HERE, "factors.txt")) as lines:
            factors = [float(line) for line in lines]
        self.pooled = add_pooling
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.register_buffer("position_ids", torch.arange(20).expand(1, -1), persistent=False)
        self.register_buffer("buckets", torch.zeros(4, dtype=torch.long))
        self.register_buffer("factors", torch.tensor(factors), persistent=False)
        self.out = nn.Sequential(nn.Linear(config.hidden_size, 3), nn.LayerNorm(3))

    def forward(self, input_ids):
        x = self.words(input_ids) + self.position_ids[:, : input_ids.shape[1], None]
        return BaseModelOutput(last_hidden_state=self.out(x) * self.factors.sum() + self.buckets.sum())
""",
        "factors.txt": "0.5\n0.25\n",
    },
    architectures=["PlainEncoder"],
)

COMPOSED = _repository(
    "composed-own",
    {"AutoConfig": "configuration.ComposedConfig", "AutoModel": "modeling.ComposedModel"},
    {
        "configuration.py": """
from transformers import PretrainedConfig


class SightConfig(PretrainedConfig):
    model_type = "composed-own-sight"

    def __init__(self, width=5, **kwargs):
        self.width = width
        super().__init__(**kwargs)


class ComposedConfig(PretrainedConfig):
    model_type = "composed-own"
    sub_configs = {"sight_config": SightConfig}

    def __init__(self, sight_config=None, hidden_size=4, **kwargs):
        self.sight_config = SightConfig(**sight_config) if isinstance(sight_config, dict) else sight_config or SightConfig()
        self.hidden_size = hidden_size
        super().__init__(**kwargs)
""",
        "modeling.py": """
from torch import nn
from transformers import PreTrainedModel

from .configuration import ComposedConfig, SightConfig
from .inner import joined


class SightModel(PreTrainedModel):
    config_class = SightConfig

    def __init__(self, config):
        super().__init__(config)
        self.look = nn.Linear(3, config.width)
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, nn.Linear) and module.weight.abs().max().item() > 1:
            raise ValueError("a layer that begins too far out")

    def forward(self, pixels):
        return self.look(pixels)


class ComposedModel(PreTrainedModel):
    config_class = ComposedConfig

    def __init__(self, config):
        super().__init__(config)
        self.sight = SightModel(config.sight_config)
        self.join = nn.Linear(config.sight_config.width, config.hidden_size)
        self.post_init()

    @classmethod
    def from_pretrained(cls, *names, **arguments):
        model = super().from_pretrained(*names, **arguments)
        model.finished = True
        return model

    def forward(self, pixels):
        return joined(self.join, self.sight(pixels))
""",
        "inner/__init__.py": "from .joining import joined\n",
        "inner/joining.py": "def joined(one, other):\n    return one(other)\n",
    },
    sight_config={"width": 7, "model_type": "composed-own-sight"},
)

IMAGES = _repository(
    "bottle-own",
    {
        "AutoConfig": "configuration_bottle.BottleConfig",
        "AutoModelForImageClassification": "modeling_bottle.BottleForImageClassification",
    },
    {
        "configuration_bottle.py": """
from transformers import PretrainedConfig


class BottleConfig(PretrainedConfig):
    model_type = "bottle-own"

    def __init__(self, layers=(1, 1, 1, 1), stem_width=8, stem_type="deep", avg_down=True, **kwargs):
        if stem_type not in ("", "deep", "deep-tiered"):
            raise ValueError(f"unknown stem {stem_type}")
        self.layers, self.stem_width, self.stem_type, self.avg_down = list(layers), stem_width, stem_type, avg_down
        super().__init__(**kwargs)
""",
        "modeling_bottle.py": """
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput

from .configuration_bottle import BottleConfig
from .network import network


class BottleForImageClassification(PreTrainedModel):
    config_class = BottleConfig
    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        self.model = network(config)
        self.post_init()

    def forward(self, pixel_values, labels=None):
        logits = self.model(pixel_values)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)
""",
    },
    architectures=["BottleForImageClassification"],
    num_labels=3,
)
"""The guide's own case: a ResNet-D around a network that is not transformers'; NETWORKS says which."""

NETWORKS = {
    "ours": """
import torch
from torch import nn


class Bottleneck(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        nn.init.zeros_(self.bn3.weight)
        pool = nn.AvgPool2d(2, stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.downsample = nn.Sequential(pool, nn.Conv2d(before, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width))

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        return (self.bn3(self.conv3(y)) + self.downsample(x)).relu()


def network(config):
    w, stages, before = config.stem_width, [], 64
    stem = [nn.Conv2d(3, w, 3, 2, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU(), nn.Conv2d(w, 64, 3, 1, 1, bias=False)]
    for number, depth in enumerate(config.layers):
        for index in range(depth):
            stages.append(Bottleneck(before, 8 * 2**number, 2 if number and not index else 1))
            before = 32 * 2**number
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, config.num_labels)]
    return nn.Sequential(*stem, nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1), *stages, *end)
""",
    "timm": """
from timm.models.resnet import Bottleneck, ResNet


def network(config):
    return ResNet(
        Bottleneck,
        config.layers,
        num_classes=config.num_labels,
        stem_width=config.stem_width,
        stem_type=config.stem_type,
        avg_down=config.avg_down,
    )
""",
}


def write(
    folder: Path,
    repository: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor] | None = None,
    **fields: Any,
) -> Path:
    """Write a repository into a folder, its configuration changed by fields, and return the folder."""
    for name, text in repository.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        told = json.dumps(text | fields) if name == CONFIG else text
        (folder / name).write_text(told, encoding="utf-8")
    if weights is not None:
        save_file(
            {name: value.contiguous().clone() for name, value in weights.items()},
            folder / "model.safetensors",
        )
    return folder


def drawn(model: torch.nn.Module, seed: int = 1) -> dict[str, torch.Tensor]:
    """Return a value for each tensor that a checkpoint of a model holds; the second name of a tied one is left out."""
    generator, seen, found = torch.Generator().manual_seed(seed), set(), {}
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) in seen:
            continue
        seen.add(id(value))
        if value.is_floating_point():
            found[name] = torch.rand(value.shape, generator=generator) + 0.1
        else:
            found[name] = torch.randint(1, 90, value.shape, generator=generator, dtype=value.dtype)
    return found
