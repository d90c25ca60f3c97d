"""Model classes that have no code of their own are made from what describes them."""

import dataclasses
import pickle
import sys
import types

import pytest

from loadstone.architectures import Head
from loadstone.architectures.llama import ARCHITECTURES
from loadstone.model.classes import add_classes

LLAMA, MISTRAL = ARCHITECTURES[:2]


class Base:
    """The decoder without a head: token ids to hidden states."""


class ForCausalLM:
    """A decoder with a head that scores the next token."""


class Bare:
    """Scores."""


@pytest.fixture
def module(monkeypatch):
    """A module that holds one written class, as a backend's family does."""
    made = types.ModuleType("family_of_a_test")
    made.TFLlamaModel = type("TFLlamaModel", (Base,), {"__module__": made.__name__, "__doc__": Base.__doc__})
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def test_a_class_is_as_if_it_had_been_written(module):
    add_classes(vars(module), (LLAMA, MISTRAL), {"CausalLM": ForCausalLM}, prefix="TF")
    made = module.TFMistralForCausalLM
    assert (made.__name__, made.__qualname__, made.__module__) == (
        "TFMistralForCausalLM",
        "TFMistralForCausalLM",
        "family_of_a_test",
    )
    assert made.__doc__ == "Mistral with a head that scores the next token."
    assert pickle.loads(pickle.dumps(made)) is made
    assert type(pickle.loads(pickle.dumps(made()))) is made


def test_the_first_architecture_is_the_parent_of_the_others(module):
    written = module.TFLlamaModel
    add_classes(vars(module), (LLAMA, MISTRAL), {"CausalLM": ForCausalLM}, prefix="TF")
    assert module.TFLlamaModel is written
    assert module.TFMistralModel.__bases__ == (written,)
    assert module.TFMistralModel.__doc__ == "Mistral without a head: token ids to hidden states."
    assert module.TFLlamaForCausalLM.__bases__ == (ForCausalLM,)
    assert module.TFMistralForCausalLM.__bases__ == (module.TFLlamaForCausalLM,)


def test_a_written_class_stays(module):
    module.TFMistralModel = written = type("TFMistralModel", (), {})
    add_classes(vars(module), (LLAMA, MISTRAL), {}, prefix="TF")
    assert module.TFMistralModel is written


def test_a_head_with_nothing_to_be_made_from_is_left_out(module):
    add_classes(vars(module), (LLAMA, MISTRAL), {"CausalLM": ForCausalLM}, prefix="TF")
    assert {name for name in vars(module) if name.startswith("TF")} == {
        "TFLlamaModel",
        "TFLlamaForCausalLM",
        "TFMistralModel",
        "TFMistralForCausalLM",
    }


def test_every_class_of_somebody_elses_architecture_is_told(module):
    heads = (
        Head(task="", class_name="OddModel", prefix=""),
        Head(task="Odd", class_name="OddForOdd", prefix="m"),
    )
    odd = dataclasses.replace(MISTRAL, model_type="odd", heads=heads)
    add_classes(vars(module), (odd,), {"": Base, "Odd": Bare})
    assert module.OddModel.__doc__ == "Odd without a head: token ids to hidden states."
    assert module.OddForOdd.__doc__ == "Odd: Scores."
