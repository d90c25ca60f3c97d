"""Models that run while they are read: `wait=False`."""

import copy
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import loadstone
from loadstone import TFLlamaForCausalLM
from loadstone.errors import ChangedFileError
from loadstone.read import arriving
from loadstone_tensorflow.blocks.away import stays_on_disk
from tests.oracle import load

IDS = np.random.default_rng(0).integers(6, 67, (2, 9))
TIED = "llama-causal-lm-tied"
PART = {"": "CPU:0", "model.layers.1": "disk"}


def early(case: str | Path = "llama-causal-lm", **arguments: Any) -> Any:
    folder = load.folder(case) if isinstance(case, str) else case
    return TFLlamaForCausalLM.from_pretrained(folder, **{"wait": False, "read": "copy", **arguments})


def left(model: Any) -> list[str]:
    return [away.stored for away in stays_on_disk(model)]


class Gate:
    """Lets the tensors of one unit after the other through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        self.steps = threading.Semaphore(0)
        read = arriving.read_tensors

        def waiting(files: Any, requests: Any, **arguments: Any) -> Any:
            requests = list(requests)
            assert self.steps.acquire(timeout=30)
            self.seen.append(requests[0].name.rpartition(".")[0])
            yield from read(files, requests, **arguments)

        monkeypatch.setattr(arriving, "read_tensors", waiting)

    def open(self, number: int = 99) -> None:
        self.steps.release(number)


def ended() -> None:
    """Wait until nothing is read any more."""
    for thread in threading.enumerate():
        if thread.name == "loadstone-arriving":
            thread.join(30)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    ended()
    gate = Gate(monkeypatch)
    yield gate
    gate.open()
    ended()


@pytest.mark.parametrize("arguments", [{}, {"device_map": PART, "dtype": "bfloat16"}], ids=str)
def test_the_text_is_that_of_a_model_that_was_waited_for(arguments: dict[str, Any]) -> None:
    waited, model = early(TIED, **arguments, wait=True), early(TIED, **arguments)
    if arguments:
        one, other = (m(IDS).logits for m in (model, waited))
    else:
        one, other = (m.generate(IDS, max_new_tokens=4) for m in (model, waited))
    np.testing.assert_array_equal(one, other)
    model.wait()
    assert left(model) == left(waited)
    assert all((a.numpy() == b.numpy()).all() for a, b in zip(model.weights, waited.weights, strict=True))
    assert [layer.visit is None for layer in model.model.layers_] == [
        layer.visit is None for layer in waited.model.layers_
    ]
    assert model.load_report.progress.done and model.load_report.on_its_way is None
    assert model.load_report.bytes_read == waited.load_report.bytes_read


def test_blocks_run_as_they_come_in_the_order_of_running(gate: Gate) -> None:
    model, seen, ran = early(), [], threading.Event()
    expected = TFLlamaForCausalLM.from_pretrained(load.folder("llama-causal-lm"))(IDS).logits
    assert model.load_report.progress.fraction == 0 and len(left(model)) == len(model.weights)
    first = model.model.layers_[0].mlp
    plain = first.call
    first.call = lambda *args: (ran.set(), plain(*args))[1]
    thread = threading.Thread(target=lambda: seen.append(model(IDS).logits))
    thread.start()
    gate.open(1)
    assert ran.wait(30), "the first block runs, and what comes after it is not there"
    assert thread.is_alive() and 0 < model.load_report.progress.fraction < 0.8
    assert {name.split(".")[2] for name in left(model) if "layers" in name} <= {"1"}
    gate.open(3)
    thread.join(30)
    np.testing.assert_array_equal(seen[0], expected)
    assert left(model) == ["model.embed_tokens.weight"], "of the table of words some rows were read"
    assert [name for name in gate.seen if "layers" not in name] == ["model.norm", "lm_head"]
    gate.open()
    with tf.GradientTape() as tape:
        loss = model(IDS, labels=IDS).loss
    assert not left(model) and gate.seen[-1] == "model.embed_tokens"
    assert all(found is not None for found in tape.gradient(loss, model.trainable_weights))


@pytest.fixture(scope="module")
def text() -> Any:
    """What a model writes that was waited for."""
    return early(wait=True).generate(IDS, max_new_tokens=4)


@pytest.mark.parametrize("use_cache", [True, False])
def test_tokens_come_before_the_last_byte(gate: Gate, text: Any, use_cache: bool) -> None:
    model = early()
    gate.open(4)
    np.testing.assert_array_equal(model.generate(IDS, max_new_tokens=4, use_cache=use_cache), text)
    assert left(model) == ["model.embed_tokens.weight"] and not model.load_report.progress.done
    assert "model.embed_tokens" not in gate.seen


def test_what_is_left_may_come_in_the_middle_of_a_text(gate: Gate, text: Any) -> None:
    model = early()
    gate.open(4)

    class Opens:
        """Has the rest come after the first token."""

        def put(self, tokens: Any) -> None:
            if np.ndim(tokens) == 1:
                assert left(model) == [] or not model.generator._compiled
                gate.open()
                model.wait()

        def end(self) -> None:
            """Nothing is left to do."""

    np.testing.assert_array_equal(model.generate(IDS, max_new_tokens=4, streamer=Opens()), text)
    assert list(model.generator._compiled) == ["_step"], "all is there, and is compiled from then on"


def test_what_an_optimiser_holds_is_what_arrives() -> None:
    model, held = early(), None
    model.compile(keras.optimizers.SGD(0.1))
    held = list(model.trainable_weights)
    with tf.GradientTape() as tape:
        loss = model(IDS, labels=IDS, training=True).loss
    found = tape.gradient(loss, held)
    before = model.get_weights()
    model.optimizer.apply(found, held)
    assert all(one is other for one, other in zip(held, model.trainable_weights, strict=True))
    assert all((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize(
    "use",
    [
        lambda model: model,
        copy.deepcopy,
        lambda model: loadstone.to_backend(model, "tensorflow"),
        lambda model: model.set_weights([np.array(value) for value in model.get_weights()]) or model,
    ],
)
def test_what_takes_the_model_whole_waits(use: Any) -> None:
    found, expected = use(early(TIED)).get_weights(), early(TIED, wait=True).get_weights()
    assert all((a == b).all() for a, b in zip(found, expected, strict=True))


def test_a_fault_is_told_where_the_block_would_have_run_and_ever_after(tmp_path: Path, gate: Gate) -> None:
    folder = tmp_path / "own"
    TFLlamaForCausalLM.from_pretrained(load.folder("llama-causal-lm")).save_pretrained(folder)
    model, ran = early(folder), []
    plain = model.model.layers_[0].call
    model.model.layers_[0].call = lambda *args: (ran.append(0), plain(*args))[1]
    words = model.model.embed_tokens.weight
    thread = threading.Thread(target=words.arrived)
    thread.start()
    while words.stored not in model.load_report.on_its_way.arriving._wanted:
        time.sleep(0.001)
    gate.open(2)  # the first block, which the thread had begun with, and what is asked for
    thread.join(30)
    assert words.stored not in left(model)
    file = folder / "model.safetensors"
    with open(file, "r+b") as stream:
        stream.truncate(os.path.getsize(file) - 1)
    gate.open()
    for run in (model, model, lambda ids: model.generate(ids, max_new_tokens=1)):
        with pytest.raises(ChangedFileError):
            run(IDS)
    assert ran == [0, 0, 0], "what came before it runs"
    with pytest.raises(ChangedFileError):
        model.wait()
    assert isinstance(model.load_report.progress.fault, ChangedFileError)
