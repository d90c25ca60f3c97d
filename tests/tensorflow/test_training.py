"""`fit`, `evaluate` and what is frozen: with a compiled loss, with the model's own, and on several devices."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import loadstone
from loadstone.errors import ArgumentError
from tests.oracle import load
from tests.tensorflow.small import CLASSES, IDS, classifier, decoder, shallow


def test_fit_with_a_compiled_loss_lowers_it() -> None:
    keras.utils.set_random_seed(0)
    model = classifier()
    layer = model.spec.layers[0]
    assert layer.feed_forward.dropout and layer.attention.dropout
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss=loss, metrics=["accuracy"])
    before, _ = model.evaluate(IDS, CLASSES, verbose=0)
    model.fit(IDS, CLASSES, epochs=12, batch_size=4, verbose=0)
    after, accuracy = model.evaluate(IDS, CLASSES, verbose=0)
    assert after < 0.5 * before and accuracy > 0.8


def test_fit_on_labels_among_the_inputs_lowers_the_models_own_loss() -> None:
    keras.utils.set_random_seed(0)
    model = decoder()
    model.compile(keras.optimizers.Adam(3e-3), jit_compile=False)
    inputs = {"input_ids": IDS, "attention_mask": np.ones_like(IDS), "labels": IDS}
    before = float(model(inputs).loss)
    history = model.fit(inputs, epochs=4, batch_size=6, verbose=0).history
    assert float(model(inputs).loss) < 0.7 * before
    assert history["loss"][0] == pytest.approx(before, rel=0.2)


def test_dropout_acts_in_training_alone() -> None:
    model = classifier()
    calm = model(IDS).logits
    np.testing.assert_array_equal(model(IDS, training=False).logits, calm)
    first, second = (model(IDS, training=True).logits.numpy() for _ in range(2))
    assert (first != second).any() and (first != calm.numpy()).any()


def test_frozen_parts_stay() -> None:
    model = shallow()
    model.bert.trainable = False
    assert [v.path for v in model.trainable_weights] == ["classifier/weight", "classifier/bias"]
    assert model.num_parameters(only_trainable=True) == 3 * 32 + 3
    before = {v.path: v.numpy() for v in model.weights}
    model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    model.fit({"input_ids": IDS, "labels": CLASSES}, verbose=0)
    moved = {v.path for v in model.weights if (v.numpy() != before[v.path]).any()}
    assert moved == {"classifier/weight", "classifier/bias"}


def test_batch_statistics_follow_in_training() -> None:
    model = loadstone.TFResNetForImageClassification.from_pretrained(
        load.folder("resnet-image-classification")
    )
    images = load.run("resnet-image-classification", "plain").inputs["pixel_values"]
    norm = model.resnet.embedder.embedder.normalization
    trained = {v.path for v in model.trainable_weights}
    assert not any("running" in path or "tracked" in path for path in trained)
    held, counted = norm.running_mean.numpy(), int(norm.num_batches_tracked.numpy())
    seen = norm.num_batches_tracked.dtype, model.num_parameters(), model.count_params()
    assert seen[0] == "int64" and seen[1] < seen[2]
    model(images)
    np.testing.assert_array_equal(norm.running_mean.numpy(), held)
    model(images, training=True)
    assert (norm.running_mean.numpy() != held).all()
    assert int(norm.num_batches_tracked.numpy()) == counted + 1


# Targets


def same_training(*ways: Any) -> None:
    """Assert that models trained in several ways end with the same weights, and that these have moved."""
    models = []
    for way in ways:
        model = shallow(attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
        model.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"], jit_compile=False)
        history = way(model).history
        assert history["loss"] and max(history["accuracy"]) > 0
        models.append(model)
    fresh = shallow()
    for weight, start in zip(models[0].weights, fresh.weights, strict=True):
        assert (weight.numpy() != start.numpy()).any() or "key/bias" in weight.path, weight.path
    for other in models[1:]:
        for one, two in zip(models[0].weights, other.weights, strict=True):
            np.testing.assert_allclose(one.numpy(), two.numpy(), atol=1e-5)


def test_targets_are_labels_where_no_loss_is_compiled() -> None:
    batches = tf.data.Dataset.from_tensor_slices(({"input_ids": IDS}, CLASSES)).batch(6)
    arguments = {"batch_size": 6, "verbose": 0, "shuffle": False}
    same_training(
        lambda model: model.fit({"input_ids": IDS, "labels": CLASSES}, **arguments),
        lambda model: model.fit({"input_ids": IDS}, CLASSES, **arguments),
        lambda model: model.fit(IDS, CLASSES, **arguments),
        lambda model: model.fit([IDS, np.ones_like(IDS)], CLASSES, **arguments),
        lambda model: model.fit({"input_ids": IDS}, {"labels": CLASSES}, **arguments),
        lambda model: model.fit(batches, verbose=0),
    )


def test_losses_of_each_field_and_of_other_names() -> None:
    def loss() -> Any:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    model = loadstone.TFBertForQuestionAnswering.from_pretrained(load.folder("bert-question-answering"))
    starts, ends = IDS[:, 0] % 9, IDS[:, 1] % 9
    inputs = {"input_ids": IDS, "start_positions": starts, "end_positions": ends}
    expected = float(model(inputs).loss)
    model.compile("sgd", loss=[loss(), loss()])
    both = model.evaluate(IDS, (starts, ends), verbose=0)
    assert both[0] / 2 == pytest.approx(expected, rel=1e-4)
    named = classifier()
    named.compile("sgd", loss=loss())
    found = named.evaluate(IDS, CLASSES, verbose=0)
    named.compile("sgd", loss={"labels": loss()})
    assert named.evaluate(IDS, {"labels": CLASSES}, verbose=0) == pytest.approx(found, rel=1e-5)
    assert found == pytest.approx(float(named({"input_ids": IDS, "labels": CLASSES}).loss), rel=1e-4)


def test_what_would_have_no_effect_is_an_error() -> None:
    model, inputs = classifier(), {"input_ids": IDS, "labels": CLASSES}
    model.compile("sgd")
    with pytest.raises(ArgumentError, match="weighs no samples"):
        model.evaluate(IDS, CLASSES, sample_weight=np.zeros(12), verbose=0)
    with pytest.raises(ArgumentError, match="given twice"):
        model.evaluate(inputs, CLASSES[::-1], verbose=0)
    with pytest.raises(ValueError, match="No loss to compute"):
        model.evaluate({"input_ids": IDS}, verbose=0)


def test_a_frozen_batch_norm_infers() -> None:
    case = "resnet-image-classification"
    model = loadstone.TFResNetForImageClassification.from_pretrained(load.folder(case))
    images = load.run(case, "plain").inputs["pixel_values"]
    expected = model(images).logits
    model.trainable = False
    np.testing.assert_array_equal(model(images, training=True).logits, expected)
    np.testing.assert_array_equal(model(images).logits, expected)


# Several devices


@pytest.fixture(scope="module")
def strategy() -> Iterator[tf.distribute.Strategy]:
    """The only strategy of the process that trains: two of them take each other's collectives for their own."""
    yield tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def test_a_strategys_model_has_its_variables_and_trains(strategy: tf.distribute.Strategy) -> None:
    keras.utils.set_random_seed(0)
    alone = shallow()
    with strategy.scope():
        model = shallow()
        model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    for weight, other in zip(model.weights, alone.weights, strict=True):
        copies = strategy.experimental_local_results(weight.value)
        assert [copy.device[-5:] for copy in copies] == ["CPU:0", "CPU:1"]
        for copy in copies:
            np.testing.assert_array_equal(copy.numpy(), other.numpy())
    logits = strategy.run(lambda: model(tf.constant(IDS)).logits)
    for replica in strategy.experimental_local_results(logits):
        np.testing.assert_allclose(replica, alone(IDS).logits, atol=2e-5)
    inputs = {"input_ids": IDS, "labels": CLASSES}
    before = float(alone(inputs).loss)
    model.fit(inputs, epochs=8, batch_size=6, verbose=0)
    held = [strategy.experimental_local_results(weight.value) for weight in model.weights]
    for first, second in held:
        np.testing.assert_array_equal(first.numpy(), second.numpy())
    assert float(model(inputs).loss) < before


def test_a_strategys_model_trains_with_a_compiled_loss(strategy: tf.distribute.Strategy) -> None:
    with strategy.scope():
        model = shallow()
        model.compile(
            keras.optimizers.SGD(0.1),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,
        )
    model.bert.embeddings.trainable = False  # TensorFlow's collectives of sparse gradients race on the CPU
    before, _ = model.evaluate(IDS, CLASSES, batch_size=6, verbose=0)
    assert before == pytest.approx(float(shallow()({"input_ids": IDS, "labels": CLASSES}).loss), rel=1e-4)
    model.fit(IDS, CLASSES, epochs=8, batch_size=6, verbose=0)
    assert model.evaluate(IDS, CLASSES, batch_size=6, verbose=0)[0] < before


def test_a_strategys_replicas_compute_again_too(strategy: tf.distribute.Strategy) -> None:
    calm = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    with strategy.scope():
        model = shallow(**calm)
        # TensorFlow's collectives of sparse gradients race on the CPU.
        model.bert.embeddings.trainable = False
        model.gradient_checkpointing_enable()
        model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    alone = shallow(**calm)
    alone.bert.embeddings.trainable = False
    alone.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    for trained in (model, alone):
        trained.fit({"input_ids": IDS, "labels": CLASSES}, batch_size=12, verbose=0, shuffle=False)
    for one, other in zip(model.weights, alone.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5, err_msg=one.path)
