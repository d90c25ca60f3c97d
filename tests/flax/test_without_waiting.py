"""Models that run while they are read: `wait=False`; and parts of models that are never read: `layers=`."""

import copy
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import loadstone
from loadstone import FlaxLlamaForCausalLM
from loadstone.backend import get_backend
from loadstone.errors import ArgumentError, ChangedFileError, PlacementError
from loadstone.read import arriving
from loadstone_flax.blocks import away
from loadstone_flax.blocks.away import Away
from loadstone_flax.blocks.run import Block
from loadstone_flax.layers import named_parameters
from tests.oracle import load

pytestmark = pytest.mark.usefixtures("compile_little")

IDS = np.random.default_rng(0).integers(6, 67, (2, 9))
TIED, UNTIED = "llama-causal-lm-tied", "llama-causal-lm"
PART = {"": "cpu", "model.layers.1": "disk"}


def early(case: str | Path = UNTIED, **arguments: Any) -> Any:
    folder = load.folder(case) if isinstance(case, str) else case
    return FlaxLlamaForCausalLM.from_pretrained(folder, **{"wait": False, "read": "copy", **arguments})


def left(model: nnx.Module) -> list[str]:
    return [name for name, value in named_parameters(model) if isinstance(value.get_raw_value(), Away)]


def same(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(isinstance(a, jax.Array) and (a == b).all() for a, b in pairs)


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
    text = model.generate(IDS, max_new_tokens=4)
    np.testing.assert_array_equal(text, waited.generate(IDS, max_new_tokens=4))
    model.wait()
    assert left(model) == left(waited) and model.calls == waited.calls
    assert model.load_report.progress.done and model.load_report.on_its_way is None
    assert model.load_report.bytes_read == waited.load_report.bytes_read
    assert model.lm_head.weight is model.model.embed_tokens.weight
    np.testing.assert_array_equal(model(IDS).logits, waited(IDS).logits)  # the same program
    assert bool(arguments) or same(model.params, waited.params)


def test_blocks_run_as_they_come_and_a_word_comes_before_the_last_byte(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen, ran, plain = early(), [], threading.Event(), away._program
    expected = FlaxLlamaForCausalLM.from_pretrained(load.folder(UNTIED))(IDS).logits

    def program(module: Any, *args: Any, **kwargs: Any) -> Any:
        output = jax.block_until_ready(plain(module, *args, **kwargs))
        if isinstance(module, Block):
            ran.set()
        return output

    monkeypatch.setattr(away, "_program", program)
    assert model.load_report.progress.fraction == 0 and len(left(model)) == len(dict(named_parameters(model)))
    assert "still being read: lm_head.weight" in repr(model.lm_head.weight)
    thread = threading.Thread(target=lambda: seen.append(model(IDS).logits))
    thread.start()
    gate.open(1)
    assert ran.wait(60), "the first block runs, and what comes after it is not there"
    assert thread.is_alive() and 0 < model.load_report.progress.fraction < 0.8
    assert {name.split(".")[2] for name in left(model) if "layers" in name} == {"1"}
    gate.open(3)
    thread.join(60)
    assert np.abs(seen[0] - expected).max() < 1e-5
    blocks = ["model.layers.0.input_layernorm", "model.layers.1.input_layernorm"]
    assert gate.seen == [*blocks, "model.norm", "lm_head"]
    assert left(model) == ["model.embed_tokens.weight"] and not model.load_report.progress.done
    gate.open()
    model.wait()
    assert not left(model) and not model.calls
    np.testing.assert_array_equal(model(IDS).logits, expected)


USES = {
    "params": lambda model: model.params,
    "nnx.state": nnx.state,
    "nnx.split": lambda model: nnx.split(model)[1],
    "nnx.clone": lambda model: nnx.clone(model).params,
    "deepcopy": lambda model: copy.deepcopy(model).params,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)).params,
    "to_backend": lambda model: loadstone.to_backend(model, "flax").params,
    "a block's copy": lambda model: nnx.state(copy.deepcopy(model.model.layers[0])),
    "a copy of jax's": lambda model: jax.tree.map(lambda leaf: leaf, model).params,
    "values": lambda model: [jnp.asarray(model.lm_head.weight.get_value()), model.lm_head.weight * 2],
    "a gradient of inputs": lambda model: jax.grad(lambda x: model(inputs_embeds=x).logits.sum())(
        jnp.ones((1, 3, 32))
    ),
    "a program": lambda model: jax.jit(lambda ids: model(ids).logits)(IDS),
}


@pytest.mark.parametrize("use", USES)
def test_what_takes_the_model_whole_waits(use: str) -> None:
    model = early(TIED)
    pairs = zip(*(jax.tree.leaves(USES[use](m)) for m in (model, early(TIED, wait=True))), strict=True)
    for found, expected in pairs:
        assert isinstance(found, jax.Array)
        np.testing.assert_allclose(
            found, expected, rtol=1e-4 if "inputs" in use else 0
        )  # of blocks, not of one program
    model.wait()
    assert (
        all(isinstance(value, jax.Array) for value in jax.tree.leaves(nnx.state(model))) and not model.calls
    )


class Scaled(FlaxLlamaForCausalLM):
    """A model that holds a parameter itself, and no module of it does."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.scale = nnx.Param(jnp.full((), 3.0))

    def forward(self, input_ids: Any, **named: Any) -> Any:
        output = super().forward(input_ids, **named)
        output.logits = (-self.scale) * output.logits
        return output


def test_what_the_model_holds_itself_comes_too(tmp_path: Path) -> None:
    saved = Scaled.from_pretrained(load.folder(UNTIED))
    saved.save_pretrained(tmp_path)
    model = Scaled.from_pretrained(tmp_path, wait=False, read="copy")
    np.testing.assert_allclose(model(IDS).logits, saved(IDS).logits, atol=1e-5)


def test_saving_waits(tmp_path: Path) -> None:
    early().save_pretrained(tmp_path / "a")
    early(wait=True).save_pretrained(tmp_path / "b")
    for path in (tmp_path / "b").iterdir():
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()


def test_a_value_that_is_set_meanwhile_is_not_lost(gate: Gate) -> None:
    model = early()
    with pytest.raises(ArgumentError, match="takes no other value"):
        get_backend("flax").resize(model, "lm_head.weight", (3, 32))
    model.model.norm.weight.set_value(jnp.ones(32))
    gate.open()
    for _ in range(2):
        with pytest.raises(ArgumentError, match="takes no other value") as caught:
            model.wait()
    assert "model.norm.weight" in str(caught.value) and "model.wait()" in str(caught.value)


def test_a_fault_is_told_where_the_block_would_have_run_and_ever_after(tmp_path: Path, gate: Gate) -> None:
    folder = tmp_path / "own"
    FlaxLlamaForCausalLM.from_pretrained(load.folder(UNTIED)).save_pretrained(folder)
    model = early(folder)
    gate.open(1)
    assert jnp.asarray(model.model.layers[0].mlp.up_proj.weight.get_value()).shape
    file = folder / "model.safetensors"
    with open(file, "r+b") as stream:
        stream.truncate(os.path.getsize(file) - 1)
    gate.open()
    uses = (model, model, lambda ids: model.generate(ids, max_new_tokens=1), lambda ids: nnx.state(model))
    for use in (*uses, lambda ids: model.params, lambda ids: model.wait(), lambda ids: pickle.dumps(model)):
        with pytest.raises(ChangedFileError):
            use(IDS)
    assert isinstance(model.load_report.progress.fault, ChangedFileError)
    assert "still being read" in repr(model.lm_head.weight)


def test_what_was_left_out_does_not_run() -> None:
    model = FlaxLlamaForCausalLM.from_pretrained(load.folder(UNTIED), layers=range(1))
    assert left(model) and all(name.startswith("model.layers.1.") for name in left(model))
    assert "absent: model.layers.1" in repr(model.model.layers[1].mlp.up_proj.weight)
    with pytest.raises(PlacementError, match="left out of the load"):
        model(IDS)
    with pytest.raises(PlacementError, match="no values here"):
        jnp.asarray(model.params["model.layers.1.mlp.up_proj.weight"])
