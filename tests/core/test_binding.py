"""A model class is bound to its architecture and head when it is made; its name decides nothing."""

import dataclasses
import pickle
import sys
import types

import pytest

from loadstone.architectures import Architecture, Head
from loadstone.backend.model import bind
from loadstone.config import Config
from loadstone.errors import ArchitectureError
from loadstone.model.classes import add_classes
from loadstone.pretrained import Pretrained


class RedConfig(Config):
    """Its configuration."""

    model_type = "red"


RED = Architecture(
    model_type="red",
    family="red",
    config=RedConfig,
    spec=lambda config: config,
    heads=(
        Head(task="", class_name="RedModel", prefix=""),
        Head(task="CausalLM", class_name="RedForCausalLM", prefix="model"),
    ),
    embedding="",
)
BLUE = dataclasses.replace(
    RED, model_type="blue", heads=(Head(task="CausalLM", class_name="BlueForCausalLM", prefix="model"),)
)


def written(name, *bases, module="a_family"):
    """Return a class as a class statement in a module makes it."""
    return type(name, bases or (Pretrained,), {"__module__": module, "backend_name": "torch"})


@pytest.fixture
def module(monkeypatch):
    """A family's module with both classes written out."""
    made = types.ModuleType("a_family")
    made.RedModel, made.RedForCausalLM = written("RedModel"), written("RedForCausalLM")
    monkeypatch.setitem(sys.modules, "a_family", made)
    add_classes(vars(made), (RED, BLUE))
    return made


def test_written_and_made_classes_are_bound(module):
    assert module.RedModel.architecture_and_head() == (RED, RED.heads[0])
    assert module.RedForCausalLM.architecture_and_head() == (RED, RED.heads[1])
    assert module.BlueForCausalLM.architecture_and_head() == (BLUE, BLUE.heads[0])
    assert module.BlueForCausalLM.__bases__ == (module.RedForCausalLM,)
    assert pickle.loads(pickle.dumps(module.BlueForCausalLM)) is module.BlueForCausalLM


def test_a_subclass_is_what_its_nearest_ancestor_is(module):
    class Mixin:
        pass

    for cls in (written("Mine", module.RedForCausalLM), written("BertModel", Mixin, module.RedForCausalLM)):
        assert cls.architecture_and_head() == (RED, RED.heads[1])
        assert cls.config_class is RedConfig


def test_a_strangers_class_of_the_same_name_is_none_of_ours(module):
    stranger = written("RedForCausalLM")  # of the same name and module
    with pytest.raises(ArchitectureError, match="no architecture has a class RedForCausalLM") as caught:
        stranger.architecture_and_head()
    assert caught.value.where == "a_family"
    assert not hasattr(stranger, "config_class")


def test_a_class_is_one_thing(module):
    with pytest.raises(
        ArchitectureError, match="RedModel cannot be 'BlueForCausalLM' of 'blue' too"
    ) as caught:
        bind(module.RedModel, BLUE, BLUE.heads[0])
    assert caught.value.hint == "derive a class from it: class BlueForCausalLM(RedModel)"
    assert module.RedModel.architecture_and_head()[0] is RED
    other = types.ModuleType("another_family")
    other.BlueForCausalLM = module.RedForCausalLM  # not derived from it: the very class under another name
    with pytest.raises(ArchitectureError):
        add_classes(vars(other), (BLUE,))


def test_an_architecture_may_be_described_again(module):
    again = dataclasses.replace(RED, ignored=("x",))
    add_classes(vars(module), (again,))
    assert module.RedModel.architecture_and_head()[0] is again
