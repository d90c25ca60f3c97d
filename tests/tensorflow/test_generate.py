"""Generation is one compiled function for all shapes, and every way to it writes the same tokens."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import loadstone
from loadstone.errors import ArgumentError
from loadstone_tensorflow.generation import Cache
from tests.oracle import load
from tests.oracle.generate import CASE, PROMPT, GenerateSuite


@pytest.fixture(scope="module")
def model() -> Any:
    return loadstone.TFLlamaForCausalLM.from_pretrained(load.folder(CASE))


def traces(model: Any) -> dict[str, int]:
    """How often each compiled function was traced."""
    compiled = model.generator._compiled
    return {name: function.experimental_get_tracing_count() for name, function in compiled.items()}


class TestGenerate(GenerateSuite):
    backend = "tensorflow"


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
    written = changed.generate(ids, attention_mask=np.ones_like(ids), max_new_tokens=1)
    np.testing.assert_array_equal(written[:, -1], tf.argmax(changed(ids).logits[:, -1], axis=-1))
    assert traces(changed)["_loop_with_cache"] == 1


class Shifted(keras.layers.Layer):
    """Somebody's own layer around one of the model's."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def call(self, x: Any) -> Any:
        return tf.roll(self.inner(x), 1, axis=-1)


def test_a_layer_that_somebody_replaces_is_seen_by_what_is_compiled() -> None:
    model = loadstone.TFLlamaForCausalLM.from_pretrained(load.folder(CASE))
    ids = PROMPT["input_ids"]
    before = model.generate(ids, max_new_tokens=1)[:, -1]
    model.lm_head = Shifted(model.lm_head)
    np.testing.assert_array_equal(model.generate(ids, max_new_tokens=1)[:, -1], before + 1)


@pytest.mark.parametrize("shape", [(2, 6), (None, None)])
def test_inside_a_function_of_the_users(model: Any, shape: tuple[int | None, ...]) -> None:
    ids = PROMPT["input_ids"][:, -6:]
    signature = [tf.TensorSpec(shape, tf.int32)]
    function = tf.function(lambda ids: model.generate(ids, max_new_tokens=4), signature, autograph=False)
    np.testing.assert_array_equal(
        function(ids.astype(np.int32)),
        model.generate(ids, attention_mask=np.ones_like(ids), max_new_tokens=4),
    )
    drawn = tf.function(
        lambda ids: model.generate(ids, max_new_tokens=4, do_sample=True), signature, autograph=False
    )
    with pytest.raises(ArgumentError, match="only the likeliest token can be taken"):
        drawn(ids.astype(np.int32))
    if shape[1] is None:
        with pytest.raises(ArgumentError, match="pass max_new_tokens="):
            tf.function(model.generate, signature, autograph=False)(ids.astype(np.int32))


def test_a_resized_vocabulary_is_compiled_anew() -> None:
    model = loadstone.TFLlamaForCausalLM.from_pretrained(load.folder(CASE))
    ids = PROMPT["input_ids"]
    expected = model.generate(ids, max_new_tokens=2)
    model.resize_token_embeddings(40)
    few = np.minimum(ids, 39)
    assert model(few).logits.shape[-1] == 40
    assert int(tf.reduce_max(model.generate(few, max_new_tokens=2))) < 40
    assert expected.shape == (2, ids.shape[1] + 2)
