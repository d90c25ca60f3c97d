"""Models that could be saved and not loaded again: an error before a byte is written, which says what to do."""

import keras
import numpy as np
import pytest

from loadstone import AutoConfig, TFLlamaForCausalLM
from loadstone.errors import ArgumentError, MatchError
from loadstone.load.into import load_into
from loadstone_tensorflow.layers import Linear

SIZES = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}


def fresh():
    return TFLlamaForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES, **HEADS), seed=1)


def refused(model, folder):
    """Return the error of a save, of which nothing is left."""
    with pytest.raises(ArgumentError) as caught:
        model.save_pretrained(folder)
    assert not folder.exists()
    return caught.value


def ups(model):
    return [layer.mlp.up_proj for layer in model.model.layers_]


def tied_by_hand():
    model = fresh()
    one, other = ups(model)
    other._untrack_variable(other.weight)
    other.weight = one.weight
    return model


def test_parameters_that_somebody_tied_are_both_named(tmp_path):
    error = refused(tied_by_hand(), tmp_path / "out")
    assert error.problems == ("model.layers.1.mlp.up_proj.weight is model.layers.0.mlp.up_proj.weight",)
    assert "state_dict=" in error.hint


def test_a_checkpoint_with_two_values_does_not_go_into_one_parameter(tmp_path):
    fresh().save_pretrained(tmp_path)
    model = tied_by_hand()
    before = [np.array(weight) for weight in model.weights]
    with pytest.raises(MatchError, match="two parameters tied"):
        load_into(model, tmp_path, strict=True)
    assert all(map(np.array_equal, before, map(np.array, model.weights)))


def test_a_layer_of_ours_that_the_class_has_not_is_named(tmp_path):
    model = fresh()
    model.model.extra = Linear(2, 2)
    for name in ("weight", "bias"):
        parameter = getattr(model.model.extra, name)
        parameter.assign(np.zeros(parameter.shape))
    assert "model.extra.weight: only the model has it" in refused(model, tmp_path / "out").problems


def test_a_layer_of_kerass_is_named(tmp_path):
    model = fresh()
    model.model.extra = keras.layers.Dense(2)
    model.model.extra.build((1, 2))
    assert len(refused(model, tmp_path / "out").problems) == 2
