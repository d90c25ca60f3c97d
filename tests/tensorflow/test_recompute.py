"""Gradient checkpointing: layers are computed again in the backward pass, and the gradients are the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import loadstone
from loadstone.errors import ArgumentError
from loadstone_tensorflow.blocks.layer import Layer
from loadstone_tensorflow.blocks.run import Block, Context, run_blocks
from loadstone_tensorflow.layers import Dropout, without_memory
from tests.oracle import load
from tests.oracle.blocks import BLOCKS, HIDDEN, arrays
from tests.tensorflow.small import CLASSES, IDS, classifier, decoder
from tests.tensorflow.test_blocks import context_of, filled

CALM = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}


def gradients(model: Any, inputs: dict[str, Any], *, compiled: Any = None) -> list[np.ndarray]:
    """Return the gradients of the loss in training, of each weight that has one."""

    def compute() -> list[Any]:
        with tf.GradientTape() as tape:
            loss = model(**inputs, training=True).loss
        return tape.gradient(loss, [v.value for v in model.trainable_weights])

    found = compute() if compiled is None else tf.function(compute, jit_compile=compiled, autograph=False)()
    return [tf.convert_to_tensor(gradient).numpy() for gradient in found]


@contextlib.contextmanager
def watched() -> Iterator[list[tuple[Block, tf.Tensor]]]:
    """Gather each call of a block and what it computed."""
    calls: list[tuple[Block, tf.Tensor]] = []
    plain = Block.__call__

    def call(block: Block, *args: Any, **kwargs: Any) -> Any:
        returned = plain(block, *args, **kwargs)
        calls.append((block, returned[0]))
        return returned

    Block.__call__ = call  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        del Block.__call__


@pytest.fixture(scope="module", params=["bert", "llama", "vit"])
def case(request: pytest.FixtureRequest) -> tuple[Any, dict[str, Any], list[np.ndarray]]:
    """A model that computes its layers again, what it is called with, and the gradients without computing again."""
    if request.param == "bert":
        model, inputs = classifier(**CALM), {"input_ids": IDS, "labels": CLASSES}
    elif request.param == "llama":
        model, inputs = decoder(), {"input_ids": IDS, "labels": IDS}
    else:
        vit = "vit-image-classification"
        images = load.run(vit, "plain").inputs["pixel_values"]
        model = loadstone.TFViTForImageClassification.from_pretrained(load.folder(vit), **CALM)
        inputs = {"pixel_values": images, "labels": np.zeros(len(images), np.int64)}
    expected = gradients(model, inputs)
    model.gradient_checkpointing_enable()
    return model, inputs, expected


@pytest.mark.parametrize("compiled", [None, False, True], ids=["eager", "graph", "xla"])
def test_gradients_are_the_same(case: tuple[Any, dict[str, Any], list[np.ndarray]], compiled: Any) -> None:
    model, inputs, expected = case
    with watched() as calls:
        found = gradients(model, inputs, compiled=compiled)
    layers = model.spec.num_layers
    blocks = [block for block, _ in calls]
    assert len(blocks) == 2 * layers and blocks[layers:] == blocks[:layers][::-1]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_what_is_dropped_is_the_same_both_times() -> None:
    model = classifier(attention_probs_dropout_prob=0.4, hidden_dropout_prob=0.4)
    model.gradient_checkpointing_enable()
    outputs = []
    for _ in range(2):
        with watched() as calls:
            gradients(model, {"input_ids": IDS, "labels": CLASSES})
        first, again = calls[: model.spec.num_layers], calls[model.spec.num_layers :]
        for (block, computed), (same, recomputed) in zip(first, again[::-1], strict=True):
            assert block is same
            np.testing.assert_allclose(recomputed, computed, atol=1e-5)
        outputs.append(first[0][1].numpy())
    assert (outputs[0] != outputs[1]).any()


def test_dropout_drops_as_often_when_it_is_drawn_twice() -> None:
    class Drops(Block):
        def call(self, x: tf.Tensor, context: Context) -> tuple[tf.Tensor, None]:
            return Dropout(0.25)(Dropout(0.25)(x, context.training), context.training), None

    block = Drops()
    block.gradient_checkpointing = True
    x, context = tf.ones((1, 100, 400)), Context(training=True)
    dropped, *_ = run_blocks([block], x, [context], keep_states=False)
    assert float(tf.reduce_mean(tf.cast(dropped == 0, tf.float32))) == pytest.approx(1 - 0.75**2, abs=0.01)


def test_a_graph_keeps_less() -> None:
    def operations(model: Any) -> int:
        ids = tf.constant(IDS)

        @tf.function(autograph=False)
        def compute() -> Any:
            with tf.GradientTape() as tape:
                loss = model(ids, labels=ids, training=True).loss
            return tape.gradient(loss, model.trainable_weights[0].value)

        graph = compute.get_concrete_function().graph
        return sum(operation.type == "Softmax" for operation in graph.get_operations())

    model = decoder()
    plain = operations(model)
    model.gradient_checkpointing_enable()
    assert operations(model) == plain + model.spec.num_layers


def test_only_training_without_a_cache_computes_again() -> None:
    model = decoder()
    assert not model.is_gradient_checkpointing and model.supports_gradient_checkpointing
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing and model.model.is_gradient_checkpointing
    assert model(IDS).past_key_values is not None
    assert "past_key_values" not in model(IDS, training=True)
    tokens = model.generate(IDS, max_new_tokens=2)
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing
    assert model(IDS, training=True).past_key_values is not None
    np.testing.assert_array_equal(model.generate(IDS, max_new_tokens=2), tokens)


def test_attention_weights_are_there_and_train_too() -> None:
    model = decoder()

    def run() -> tuple[Any, list[np.ndarray]]:
        variables = [v.value for v in model.trainable_weights if "q_proj" in v.path]
        with tf.GradientTape() as tape:
            output = model(IDS, training=True, output_attentions=True, use_cache=False)
            loss = tf.add_n([tf.reduce_sum(tf.square(weights)) for weights in output.attentions])
        return output.attentions, [gradient.numpy() for gradient in tape.gradient(loss, variables)]

    attentions, expected = run()
    model.gradient_checkpointing_enable()
    again, found = run()
    for one, other in zip((*again, *found), (*attentions, *expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_gradients_reach_an_encoders_states_and_a_bias() -> None:
    block = BLOCKS["cross-layer"]
    with without_memory("float32"):
        layer = filled(Layer(block.spec, block.names, HIDDEN), arrays("cross-layer")["weight"])
    x, context = context_of("cross-layer", training=True)
    tokens, heads = x.shape[1], block.spec.attention.num_heads
    bias = tf.random.stateless_normal((1, heads, tokens, tokens), seed=(0, 0))

    def run() -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            tape.watch((x, context.memory, bias))
            y, *_ = run_blocks([layer], x, [context._replace(bias=bias)], keep_states=False)
            loss = tf.reduce_sum(y**3)
        return [g.numpy() for g in tape.gradient(loss, (x, context.memory, bias))]

    expected = run()
    assert all(np.abs(gradient).max() > 1e-4 for gradient in expected)
    layer.gradient_checkpointing = True
    for one, other in zip(run(), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("compiled", ["auto", False])
def test_fit_trains_the_same(compiled: Any) -> None:
    traced, trained = [], []
    for again in (False, True):
        model = classifier(**CALM)
        if again:
            model.gradient_checkpointing_enable()
        model.compile(keras.optimizers.SGD(0.1), jit_compile=compiled)
        with watched() as calls:
            model.fit({"input_ids": IDS, "labels": CLASSES}, batch_size=6, verbose=0, shuffle=False)
        traced.append([sum(block is one for block, _ in calls) for one in model.blocks()])
        trained.append(model.weights)
    assert all(traced[0]) and traced[0] != traced[1], traced
    for one, other in zip(*trained, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5)


def test_turning_it_on_drops_what_is_compiled() -> None:
    model = classifier(**CALM)
    model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    arguments = {"batch_size": 12, "verbose": 0}
    model.fit({"input_ids": IDS, "labels": CLASSES}, **arguments)
    model.gradient_checkpointing_enable(every_n_layers=2)
    with watched() as calls:
        model.fit({"input_ids": IDS, "labels": CLASSES}, **arguments)
    counts = [sum(block is one for block, _ in calls) for one in model.blocks()]
    assert counts[0] == 2 * counts[1] > 0


def test_what_cannot_be_is_an_error() -> None:
    resnet = loadstone.TFResNetForImageClassification.from_pretrained(
        load.folder("resnet-image-classification")
    )
    assert not resnet.supports_gradient_checkpointing
    with pytest.raises(ArgumentError, match="no layers that could be computed again"):
        resnet.gradient_checkpointing_enable()
    with pytest.raises(ArgumentError, match="every_n_layers"):
        classifier().gradient_checkpointing_enable(every_n_layers=0)
