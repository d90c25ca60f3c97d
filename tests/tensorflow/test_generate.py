"""Generation is one compiled function for all shapes, and every way to it writes the same tokens."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import loadstone
from loadstone.errors import ArgumentError
from loadstone_tensorflow.generation import Cache
from tests.oracle import load

CASE = "llama-causal-lm"
PROMPT = load.run(CASE, "generate_left").inputs


@pytest.fixture(scope="module")
def model() -> Any:
    return loadstone.TFLlamaForCausalLM.from_pretrained(load.folder(CASE))


def traces(model: Any) -> dict[str, int]:
    """How often each compiled function was traced."""
    compiled = model.generator._compiled
    return {name: function.experimental_get_tracing_count() for name, function in compiled.items()}


class Recorder:
    """A streamer that keeps what it gets."""

    def __init__(self) -> None:
        self.tokens: list[np.ndarray] = []
        self.ended = False

    def put(self, value: np.ndarray) -> None:
        self.tokens.append(np.asarray(value))

    def end(self) -> None:
        self.ended = True


def test_nothing_is_traced_twice_whatever_the_shapes(model: Any) -> None:
    ids, mask = PROMPT["input_ids"], PROMPT["attention_mask"]
    for new in (3, 9):
        for rows in (1, 2):
            written = model.generate(ids[:rows], attention_mask=mask[:rows], max_new_tokens=new)
            assert written.shape == (rows, ids.shape[1] + new)
    model.generate(ids[:, 3:], max_new_tokens=4, eos_token_id=[7, 8])
    assert traces(model)["_loop_with_cache"] == 1
    for new in (3, 5):
        model.generate(ids[:, :new], max_new_tokens=new, do_sample=True, seed=0)
    counts = traces(model)
    assert (counts["_start"], counts["_step"]) == (1, 1)


@pytest.mark.parametrize("run", ["generate", "generate_left", "generate_eos"])
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("streamed", [True, False])
def test_every_way_writes_what_transformers_writes(
    model: Any, run: str, use_cache: bool, streamed: bool
) -> None:
    recorded = load.run(CASE, run)
    inputs = dict(recorded.inputs)
    arguments: dict[str, Any] = {"max_new_tokens": 12, "use_cache": use_cache}
    if "eos_token_id" in inputs:
        arguments["eos_token_id"] = inputs.pop("eos_token_id").tolist()
    streamer = Recorder() if streamed else None
    written = model.generate(**inputs, **arguments, streamer=streamer)
    np.testing.assert_array_equal(written, recorded.outputs["sequences"])
    assert written.dtype == tf.int64  # as the prompt's
    if streamer is not None:
        assert streamer.ended
        prompt, *new = streamer.tokens
        np.testing.assert_array_equal(np.concatenate([prompt, np.stack(new, axis=1)], axis=1), written)


def test_sampling_is_repeatable_and_knows_no_cache(model: Any) -> None:
    arguments = {"max_new_tokens": 10, "do_sample": True, "temperature": 2.0}
    first = model.generate(PROMPT["input_ids"], seed=3, **arguments).numpy()
    np.testing.assert_array_equal(model.generate(PROMPT["input_ids"], seed=3, **arguments), first)
    uncached = model.generate(PROMPT["input_ids"], seed=3, use_cache=False, **arguments)
    np.testing.assert_array_equal(uncached, first)
    assert (model.generate(PROMPT["input_ids"], seed=4, **arguments).numpy() != first).any()


def test_lists_and_short_types_will_do(model: Any) -> None:
    ids = PROMPT["input_ids"]
    expected = model.generate(ids, max_new_tokens=4).numpy()
    np.testing.assert_array_equal(model.generate(ids.tolist(), max_new_tokens=4), expected)
    np.testing.assert_array_equal(
        model.generate(inputs=tf.constant(ids, tf.int32), max_new_tokens=4), expected
    )


def test_slots_give_what_a_growing_cache_gives(model: Any) -> None:
    ids = tf.constant(load.run(CASE, "plain").inputs["input_ids"])
    tokens = ids.shape[1]
    expected = model(ids).logits
    past = model(ids[:, :4], use_cache=True).past_key_values
    behind = ((0, 0), (0, 0), (0, tokens - 4), (0, 0))
    slots = tf.nest.map_structure(lambda held: tf.pad(held, behind), past)
    pieces = []
    for position in range(4, tokens):
        cache = Cache(slots, filled=position)
        output = model(ids[:, position, None], past_key_values=cache, use_cache=True)
        slots = output.past_key_values
        pieces.append(output.logits)
    np.testing.assert_allclose(tf.concat(pieces, axis=1), expected[:, 4:], atol=2e-5)


def test_what_a_call_returns_is_left_as_it_was(model: Any) -> None:
    past = model(PROMPT["input_ids"]).past_key_values
    length, first = past[0][0].shape[2], past[0][0].numpy()
    longer = model(PROMPT["input_ids"][:, :1], past_key_values=past).past_key_values
    assert (past[0][0].shape[2], longer[0][0].shape[2]) == (length, length + 1)
    np.testing.assert_array_equal(past[0][0], first)


@pytest.fixture
def changed(model: Any) -> Iterator[Any]:
    """The model with other weights, for one test."""
    held = [weight.numpy() for weight in model.weights]
    for weight in model.weights:
        weight.assign(weight * 0.5)
    yield model
    for weight, value in zip(model.weights, held, strict=True):
        weight.assign(value)


def test_changed_weights_are_seen_by_what_is_compiled(changed: Any) -> None:
    ids = PROMPT["input_ids"]
    written = changed.generate(ids, max_new_tokens=1)
    np.testing.assert_array_equal(written[:, -1], tf.argmax(changed(ids).logits[:, -1], axis=-1))
    assert traces(changed)["_loop_with_cache"] == 1


def test_a_resized_vocabulary_is_compiled_anew() -> None:
    model = loadstone.TFLlamaForCausalLM.from_pretrained(load.folder(CASE))
    ids = PROMPT["input_ids"]
    expected = model.generate(ids, max_new_tokens=2)
    model.resize_token_embeddings(40)
    few = np.minimum(ids, 39)
    assert model(few).logits.shape[-1] == 40
    assert int(tf.reduce_max(model.generate(few, max_new_tokens=2))) < 40
    assert expected.shape == (2, ids.shape[1] + 2)


def test_arguments_that_make_no_sense(model: Any) -> None:
    with pytest.raises(ArgumentError, match="input_ids"):
        model.generate()
    with pytest.raises(ArgumentError, match="max_new_token"):
        model.generate(PROMPT["input_ids"], max_new_token=3)
    with pytest.raises(ArgumentError, match="cannot generate"):
        model.model.generate(PROMPT["input_ids"])
