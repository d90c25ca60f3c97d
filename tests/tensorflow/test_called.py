"""Every layer at a checkpoint's path is called: what a user puts there is used."""

from __future__ import annotations

from typing import Any

import pytest

import loadstone
from loadstone.testing import Case
from loadstone.testing.cases import CASES
from loadstone_tensorflow.layers import Layer
from loadstone_tensorflow.modeling import named_layers, named_parameters
from tests.oracle import load

# What only holds others: nothing computes there, in transformers neither.
HOLDERS = {"cls"}

# What layers and stacks are made of, by the names of transformers' modules; what holds nothing is no layer here.
CALLED = {
    "llama": ("layers.0", "layers.0.self_attn", "layers.0.self_attn.q_proj", "layers.0.mlp", "norm"),
    "gemma2": ("layers.0.pre_feedforward_layernorm", "layers.1.post_feedforward_layernorm"),
    "qwen3": ("layers.0.self_attn.q_norm", "layers.0.self_attn.k_norm", "rotary_emb"),
    "gpt2": ("wte", "wpe", "h.0", "h.0.attn", "h.0.mlp", "ln_f"),
    "bert": (
        *("embeddings", "encoder", "encoder.layer.0", "encoder.layer.0.attention"),
        *("encoder.layer.0.attention.self", "encoder.layer.0.attention.output", "encoder.layer.0.output"),
        *("encoder.layer.0.intermediate", "pooler"),
    ),
    "distilbert": ("embeddings", "transformer", "transformer.layer.0.attention", "transformer.layer.0.ffn"),
    "vit": (
        *("embeddings", "embeddings.patch_embeddings", "encoder", "encoder.layer.0.attention.attention"),
        *("encoder.layer.0.attention.output", "encoder.layer.0.intermediate", "layernorm", "pooler"),
    ),
}


def classes() -> list[Case]:
    """Return one case of each class."""
    return list({case.class_name: case for case in reversed(CASES.values())}.values())


def called(model: Any, case: Case, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the paths of the layers that a forward pass calls."""
    seen: set[int] = set()
    plain = Layer.__call__

    def call(layer: Layer, *args: Any, **kwargs: Any) -> Any:
        seen.add(id(layer))
        return plain(layer, *args, **kwargs)

    monkeypatch.setattr(Layer, "__call__", call)
    arrays = load.run(case, "plain").inputs
    model(**{name: array if array.ndim else array.item() for name, array in arrays.items()})
    return {path for path, layer in named_layers(model) if id(layer) in seen}


def loaded(case: Case) -> Any:
    options = dict(case.model_arguments or {})
    return getattr(loadstone, f"TF{case.class_name}").from_pretrained(load.folder(case), **options)


@pytest.mark.parametrize("case", classes(), ids=lambda case: case.class_name)
def test_every_layer_that_holds_parameters_is_called(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(case)
    holds = {
        path
        for path, layer in named_layers(model)
        if isinstance(layer, Layer) and next(named_parameters(layer), None) is not None
    }
    assert holds - called(model, case, monkeypatch) <= HOLDERS


@pytest.mark.parametrize("model_type", CALLED)
def test_the_layers_of_transformers_are_there(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(case for case in CASES.values() if case.name == f"{model_type}-base")
    assert called(loaded(case), case, monkeypatch).issuperset(CALLED[model_type])
