"""Every module at a checkpoint's path is called: what a user puts in its place computes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import loadstone
from loadstone.testing import Case
from loadstone.testing.cases import CASES
from loadstone_flax.layers import named_modules, named_parameters
from loadstone_flax.modeling import PreTrainedModel
from tests.oracle import load

# What only holds others: nothing computes there, in transformers neither, but for ELECTRA's summary.
HOLDERS = {"cls", "sequence_summary"}

# What layers and stacks are made of, by the names that users of transformers know.
KNOWN = {
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


def called(model: Any, inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the paths of the modules that a forward pass calls."""
    paths = {id(module): path[:-1] for path, module in named_modules(model)}
    found: set[str] = set()

    def noting(call: Any) -> Any:
        def noted(module: nnx.Module, *args: Any, **kwargs: Any) -> Any:
            found.add(paths[id(module)])
            return call(module, *args, **kwargs)

        return noted

    for kind in {type(module) for _, module in named_modules(model)}:
        method = "forward" if issubclass(kind, PreTrainedModel) else "__call__"
        if hasattr(kind, method):
            monkeypatch.setattr(kind, method, noting(getattr(kind, method)))
    jax.eval_shape(lambda: model.forward(**inputs))
    return found


@pytest.mark.parametrize("case", classes(), ids=lambda case: case.class_name)
def test_every_module_that_holds_parameters_is_called(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(case)
    silent = {
        path[:-1]
        for path, module in named_modules(model)
        if next(named_parameters(module), None) is not None and not isinstance(module, nnx.List)
    }
    assert not silent - called(model, inputs_of(case), monkeypatch) - HOLDERS


@pytest.mark.parametrize("model_type", KNOWN)
def test_the_names_that_users_know_are_there(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(case for case in CASES.values() if case.name == f"{model_type}-base")
    found = called(loaded(case), inputs_of(case), monkeypatch)
    assert found.issuperset(KNOWN[model_type])


def loaded(case: Case) -> Any:
    options = dict(case.model_arguments or {})
    return getattr(loadstone, f"Flax{case.class_name}").from_pretrained(load.folder(case), **options)


def inputs_of(case: Case) -> dict[str, Any]:
    arrays = load.run(case, "plain").inputs
    return {name: jnp.asarray(a) if a.ndim else a.item() for name, a in arrays.items()}
