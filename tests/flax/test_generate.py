"""Generation is one compiled program, and a cache of reserved slots gives what a growing one gives."""

import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.monitoring
import numpy as np
import pytest

import loadstone
from loadstone_flax.generation import _continue
from tests.oracle import load
from tests.oracle.generate import CASE, PROMPT, GenerateSuite

pytestmark = pytest.mark.usefixtures("compile_little")
COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture(scope="module")
def model() -> Any:
    return loadstone.FlaxLlamaForCausalLM.from_pretrained(load.folder(CASE))


class TestGenerate(GenerateSuite):
    backend = "flax"
    tokens = "int32"


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """One entry for each program that jax has compiled since."""
    events: list[str] = []

    def listen(event: str, duration: float, **more: Any) -> None:
        if event == COMPILED:
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    jax.monitoring.unregister_event_duration_listener(listen)


def test_a_second_call_of_the_same_shape_compiles_nothing(model: Any, compiled: list[str]) -> None:
    ids, mask = PROMPT["input_ids"], PROMPT["attention_mask"]
    first = np.asarray(model.generate(ids, attention_mask=mask, max_new_tokens=9))
    assert first.shape == (2, ids.shape[1] + 9)
    programs = len(compiled)
    assert 0 < programs <= 3
    for other in (ids, ids[::-1], np.flip(ids, 1)):
        model.generate(other, attention_mask=mask, max_new_tokens=9)
    for end in first[0, -9:].tolist():  # sequences of every length
        model.generate(ids, attention_mask=mask, max_new_tokens=9, eos_token_id=end)
    assert len(compiled) == programs


def test_a_second_forward_of_the_same_shape_compiles_nothing(model: Any, compiled: list[str]) -> None:
    model(np.full((3, 5), 7))
    assert len(compiled) == 1
    model(np.full((3, 5), 8))
    model(np.full((3, 5), 8, np.int32), None)
    assert len(compiled) == 1


def test_another_model_of_the_same_kind_compiles_nothing(model: Any, compiled: list[str]) -> None:
    model(np.full((1, 6), 7))
    programs = len(compiled)
    other = loadstone.FlaxLlamaForCausalLM.from_pretrained(load.folder(CASE))
    other(np.full((1, 6), 7))
    assert len(compiled) == programs


def test_sampling_compiles_two_programs_and_each_once(model: Any, compiled: list[str]) -> None:
    ids, arguments = PROMPT["input_ids"], {"max_new_tokens": 7, "do_sample": True, "temperature": 2.0}
    first = np.asarray(model.generate(ids, seed=3, **arguments))
    programs = len(compiled)
    assert 0 < programs <= 3
    np.testing.assert_array_equal(model.generate(ids, seed=3, **arguments), first)
    assert (np.asarray(model.generate(ids, seed=4, top_k=5, **arguments)) != first).any()
    assert len(compiled) == programs


def test_it_writes_with_the_parameters_given(model: Any) -> None:
    params = jax.tree.map(lambda value: value * 0.5, model.params)
    params["lm_head.weight"] *= -1  # the most likely token becomes the least
    ids = PROMPT["input_ids"]
    read_whole = {"attention_mask": np.ones_like(ids), "max_new_tokens": 1}
    written = model.generate(ids, params=params, **read_whole)
    np.testing.assert_array_equal(written[:, -1], model(ids, params=params).logits[:, -1].argmax(-1))
    assert (written != model.generate(ids, **read_whole)).any()


def test_reserved_slots_give_what_a_growing_cache_gives(model: Any, compiled: list[str]) -> None:
    ids = load.run(CASE, "plain").inputs["input_ids"]
    expected = np.asarray(model(ids).logits)
    past = model(ids[:, :4]).past_key_values.reserve(ids.shape[1] - 4)
    pieces = [model(ids[:, 4:5], past_key_values=past)]
    programs = len(compiled)
    for position in range(5, ids.shape[1]):
        pieces.append(model(ids[:, position, None], past_key_values=pieces[-1].past_key_values))
    assert len(compiled) == programs
    np.testing.assert_allclose(
        np.concatenate([piece.logits for piece in pieces], axis=1), expected[:, 4:], atol=1e-4
    )
    assert int(pieces[-1].past_key_values.get_seq_length()) == ids.shape[1]


def test_a_token_too_many_is_seen(model: Any) -> None:
    past = model(PROMPT["input_ids"]).past_key_values.reserve(1)
    output = model(PROMPT["input_ids"][:, :1], past_key_values=past)
    assert np.isfinite(output.logits).all()
    output = model(PROMPT["input_ids"][:, :1], past_key_values=output.past_key_values)
    assert np.isnan(output.logits).all()


def test_a_cache_that_was_passed_in_is_left_as_it_was(model: Any) -> None:
    past = model(PROMPT["input_ids"]).past_key_values
    length = past.get_seq_length()
    first = model(PROMPT["input_ids"][:, :1], past_key_values=past)
    assert past.get_seq_length() == length and first.past_key_values.get_seq_length() == length + 1


def test_a_model_in_training_writes_as_one_in_use() -> None:
    fresh = loadstone.FlaxGPT2LMHeadModel(
        loadstone.GPT2Config(vocab_size=40, n_positions=32, n_embd=24, n_layer=2, n_head=3)
    )
    assert fresh.training
    ids = np.array([[5, 6, 7]])
    written = fresh.generate(ids, max_new_tokens=4)
    assert fresh.training
    fresh.eval()
    np.testing.assert_array_equal(fresh.generate(ids, max_new_tokens=4), written)


def test_float32_is_multiplied_as_float32(model: Any) -> None:
    """Accelerators round to fewer bits, where they are not told otherwise."""

    def precisions(program: Any) -> set[str]:
        text = program.as_text()
        return set(re.findall(r"precision = \[(\w+), (\w+)\]", text))

    ids = PROMPT["input_ids"].astype(np.int32)
    forward = jax.jit(lambda params: model(ids, params=params).logits).lower(model.params)
    written = _continue.lower(
        model, ids, ids * 0 + 1, np.array([2], np.int32), np.int32(0), new_tokens=2, use_cache=True
    )
    assert precisions(forward) == precisions(written) == {("HIGHEST", "HIGHEST")}
    with jax.default_matmul_precision("default"):
        asked = jax.jit(lambda params: model(ids, params=params).logits).lower(model.params)
    assert precisions(asked) <= {("DEFAULT", "DEFAULT")}
