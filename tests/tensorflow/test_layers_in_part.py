"""Models of which some layers alone are loaded: the others are absent, and say so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import loadstone
from loadstone import TFLlamaForCausalLM
from loadstone.errors import ArgumentError, PlacementError
from loadstone_tensorflow.blocks.away import stays_on_disk
from tests.oracle import load

LLAMA = "llama-causal-lm"
IDS = np.random.default_rng(0).integers(6, 67, (2, 9))


def part(**arguments: Any) -> Any:
    return TFLlamaForCausalLM.from_pretrained(load.folder(LLAMA), **{"layers": range(1), **arguments})


def watched(model: Any) -> list[list[Any]]:
    """Have the states gathered that each layer gives."""
    seen: list[list[Any]] = [[] for _ in model.model.layers_]
    for layer, states in zip(model.model.layers_, seen, strict=True):

        def call(*args: Any, plain: Any = layer.call, states: list[Any] = states) -> Any:
            ran = plain(*args)
            states.append(ran[0])
            return ran

        layer.call = call
    return seen


@pytest.fixture(scope="module")
def first_state() -> Any:
    """What the first layer of the whole model gives."""
    whole = TFLlamaForCausalLM.from_pretrained(load.folder(LLAMA))
    states = watched(whole)
    whole(IDS)
    return states[0][0]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"layers": None, "device_map": {"": "cpu", "model.layers.1": None}},
        {"device_map": "disk"},
        {"read": "copy", "wait": False},
    ],
    ids=str,
)
def test_what_is_absent_raises_where_its_block_would_have_run(
    arguments: dict[str, Any], first_state: Any
) -> None:
    model = part(**arguments)
    found = watched(model)
    for _ in range(2):
        with pytest.raises(PlacementError, match="left out of the load cannot run") as caught:
            model(IDS)
        assert "model.layers.1." in str(caught.value)
    assert len(found[0]) == 2 and not found[1], "what comes before it runs"
    np.testing.assert_array_equal(found[0][0], first_state)
    assert [name for name, value in model.hf_device_map.items() if value is None] == ["model.layers.1"]


def test_the_report_tells_what_is_absent() -> None:
    model, whole = part(), TFLlamaForCausalLM.from_pretrained(load.folder(LLAMA))
    absent = {away.stored for away in stays_on_disk(model)}
    assert absent == set(model.load_report.names("absent"))
    assert len(absent) == len(whole.model.layers_[1].weights)
    assert all(name.startswith("model.layers.1.") for name in absent)
    size = sum(held.value.numpy().nbytes for held in whole.model.layers_[1].weights)
    assert model.load_report.nbytes == whole.load_report.nbytes - size
    assert "absent: model.layers.1" in repr(model.model.layers_[1].mlp.up_proj.weight)


def test_a_program_is_not_traced_over_what_is_absent() -> None:
    model = part()
    with pytest.raises(PlacementError, match="left out of the load cannot run"):
        tf.function(model, autograph=False)(tf.constant(IDS))
    with pytest.raises(PlacementError, match="left out of the load cannot run"):
        model.predict(IDS, verbose=0)


def test_what_needs_the_whole_model_says_so(tmp_path: Path) -> None:
    model = part()
    ones = [np.ones(held.shape) for held in model.weights]
    refused: dict[str, Callable[[], object]] = {
        "cannot generate": lambda: model.generate(IDS),
        "cannot be saved": lambda: model.save_pretrained(tmp_path / "saved"),
        "another framework": lambda: loadstone.to_backend(model, "tensorflow"),
        "no other vocabulary": lambda: model.resize_token_embeddings(99),
        "cannot be exported": lambda: model.export(tmp_path / "saved", verbose=False),
        "takes no other value": lambda: model.set_weights(ones),
        "cannot be trained": lambda: model(IDS, training=True),
    }
    for words, use in refused.items():
        with pytest.raises(ArgumentError, match=words):
            use()
    with pytest.raises(PlacementError, match="left out of the load"):
        model.get_weights()
    assert not list(tmp_path.iterdir())


def test_every_layer_named_is_the_whole_model() -> None:
    model = part(layers=range(2))
    assert not list(stays_on_disk(model)) and not model.load_report.names("absent")
