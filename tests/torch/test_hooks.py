"""Every module at a checkpoint's path is called: what a user hooks there is seen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import loadstone
from loadstone.testing import Case
from loadstone.testing.cases import CASES
from tests.oracle import load

# Lists of modules, and what only holds others: nothing computes there, in transformers neither.
HOLDERS = {"cls": nn.Module}

# What layers and stacks are made of, by the names that users of transformers hook.
HOOKED = {
    "llama": ("layers.0", "layers.0.self_attn", "layers.0.self_attn.q_proj", "layers.0.mlp", "norm"),
    "gemma2": ("layers.0.pre_feedforward_layernorm", "layers.1.post_feedforward_layernorm"),
    "qwen3": ("layers.0.self_attn.q_norm", "layers.0.self_attn.k_norm", "rotary_emb"),
    "gpt2": ("wte", "wpe", "drop", "h.0", "h.0.attn", "h.0.attn.resid_dropout", "h.0.mlp.dropout", "ln_f"),
    "bert": (
        *("embeddings", "embeddings.dropout", "encoder", "encoder.layer.0", "encoder.layer.0.attention"),
        *("encoder.layer.0.attention.self", "encoder.layer.0.attention.output", "encoder.layer.0.output"),
        *("encoder.layer.0.intermediate", "encoder.layer.0.output.dropout", "pooler"),
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


def fired(model: nn.Module, inputs: dict[str, Any]) -> set[str]:
    """Return the paths of the modules whose forward hooks a forward pass calls."""
    called: set[str] = set()
    for path, module in model.named_modules():
        module.register_forward_hook(lambda *_, path=path: called.add(path))
    model(**inputs)
    return called


@pytest.mark.parametrize("case", classes(), ids=lambda case: case.class_name)
def test_every_module_that_holds_parameters_is_called(case: Case) -> None:
    model = loaded(case)
    silent = {path for path, module in model.named_modules() if next(module.parameters(), None) is not None}
    silent -= fired(model, inputs_of(case))
    computes = {
        path
        for path in silent
        if not isinstance(model.get_submodule(path), nn.ModuleList)
        and HOLDERS.get(path) is not type(model.get_submodule(path))
    }
    assert not computes


@pytest.mark.parametrize("model_type", HOOKED)
def test_the_names_that_users_hook_are_there(model_type: str) -> None:
    case = next(case for case in CASES.values() if case.name == f"{model_type}-base")
    called = fired(loaded(case), inputs_of(case))
    assert called.issuperset(HOOKED[model_type])


def loaded(case: Case) -> Any:
    options = dict(case.model_arguments or {})
    return getattr(loadstone, case.class_name).from_pretrained(load.folder(case), **options)


def inputs_of(case: Case) -> dict[str, Any]:
    arrays = load.run(case, "plain").inputs
    return {name: torch.from_numpy(a.copy()) if a.ndim else a.item() for name, a in arrays.items()}
