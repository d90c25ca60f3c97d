"""Models that could be saved and not loaded again: an error before a byte is written, which says what to do."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from loadstone import AutoConfig, FlaxLlamaForCausalLM
from loadstone.errors import ArgumentError, MatchError
from loadstone.load.into import load_into

SIZES = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}


def fresh(**fields):
    return FlaxLlamaForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES, **HEADS, **fields), seed=1)


def refused(model, folder):
    """Return the error of a save, of which nothing is left."""
    with pytest.raises(ArgumentError) as caught:
        model.save_pretrained(folder)
    assert not folder.exists()
    return caught.value


def test_lora_is_refused_and_what_was_before_can_be_saved(tmp_path):
    model = fresh()
    values = dict(model.params)
    attention = model.model.layers[0].self_attn
    attention.q_proj = nnx.LoRA(8, 2, 8, base_module=attention.q_proj, rngs=nnx.Rngs(0))
    error = refused(model, tmp_path / "out")
    assert "model.layers.0.self_attn.q_proj.lora_a: only the model has it" in error.problems
    assert "model.layers.0.self_attn.q_proj.weight: only the class has it" in error.problems
    assert "state_dict=" in error.hint
    model.save_pretrained(tmp_path / "out", state_dict=values)
    again = FlaxLlamaForCausalLM.from_pretrained(tmp_path / "out")
    assert {n: a.tobytes() for n, a in again.params.items()} == {n: a.tobytes() for n, a in values.items()}


@pytest.mark.parametrize("where", ["a dict", "a layer"])
def test_arrays_that_have_no_name_in_checkpoints_are_named(tmp_path, where):
    model = fresh()
    if where == "a dict":
        model.model.extra = nnx.data({"scale": nnx.Param(jnp.ones(3))})
    else:
        model.model.extra = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    assert any("model.extra." in problem for problem in refused(model, tmp_path / "out").problems)


def test_dropout_in_training_is_no_difference(tmp_path):
    model = fresh(attention_dropout=0.1)
    model.train()
    model.save_pretrained(tmp_path)
    assert FlaxLlamaForCausalLM.from_pretrained(tmp_path).params.keys() == model.params.keys()


def tied_by_hand():
    model = fresh()
    one, other = (model.model.layers[i].mlp.up_proj for i in (0, 1))
    other.weight = one.weight
    return model


def test_parameters_that_somebody_tied_are_both_named(tmp_path):
    error = refused(tied_by_hand(), tmp_path / "out")
    assert error.problems == ("model.layers.1.mlp.up_proj.weight is model.layers.0.mlp.up_proj.weight",)


def test_a_checkpoint_with_two_values_does_not_go_into_one_parameter(tmp_path):
    fresh().save_pretrained(tmp_path)
    model = tied_by_hand()
    before = {name: np.array(array) for name, array in model.params.items()}
    with pytest.raises(MatchError, match="two parameters tied"):
        load_into(model, tmp_path, strict=True)
    assert all(np.array_equal(before[name], array) for name, array in model.params.items())


def test_a_value_that_is_no_array_is_named(tmp_path):
    model = fresh()
    with pytest.raises(ArgumentError, match=r"lm_head\.weight: list"):
        model.save_pretrained(tmp_path / "out", state_dict={**model.params, "lm_head.weight": [1.0]})
    assert not (tmp_path / "out").exists()
