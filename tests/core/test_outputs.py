"""What a model returns has one value by attribute and by key."""

import copy
import pickle

import pytest

from loadstone.model.outputs import ModelOutput


def test_an_attribute_that_is_set_is_the_item_and_the_other_way_round() -> None:
    output = ModelOutput(logits=1, hidden_states=(2,))
    output.logits = 3
    assert (output["logits"], output[0], output.to_tuple()) == (3, 3, (3, (2,)))
    output["logits"] = 4
    assert output.logits == output[0] == 4
    output.loss = 5
    assert output["loss"] == 5 and list(output) == ["logits", "hidden_states", "loss"]
    for again in (copy.copy(output), copy.deepcopy(output), pickle.loads(pickle.dumps(output))):
        assert again == output and again.loss == 5


def test_none_is_absent() -> None:
    output = ModelOutput(logits=1, loss=2)
    output.loss = None
    assert output.loss is None and "loss" not in output and output.to_tuple() == (1,)
    output.attentions = None
    assert len(output) == 1
    del output.logits
    assert output.logits is None and not output
    with pytest.raises(AttributeError, match="no field 'logits'"):
        del output.logits


def test_a_name_of_the_callers_own_is_a_field_too() -> None:
    output = ModelOutput(logits=1)
    output.reward = 2
    assert output["reward"] == output.reward == output[1] == 2
    with pytest.raises(AttributeError, match="did you mean logits"):
        _ = output.logit
