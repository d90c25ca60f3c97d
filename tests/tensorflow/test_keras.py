"""The models are ordinary Keras models: they train, freeze, compile, export and save as any other."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.common import global_state

import loadstone
from loadstone.errors import ArgumentError, BackendError, PlacementError
from loadstone_tensorflow.backend import TensorFlowBackend
from tests.oracle import load

CLASSIFIER = "bert-sequence-classification-single-label"
IDS = np.random.default_rng(0).integers(6, 67, (12, 9))
CLASSES = IDS[:, 0] % 3


def classifier(**arguments: Any) -> Any:
    return loadstone.TFBertForSequenceClassification.from_pretrained(load.folder(CLASSIFIER), **arguments)


def decoder(**arguments: Any) -> Any:
    return loadstone.TFLlamaForCausalLM.from_pretrained(load.folder("llama-causal-lm"), **arguments)


# Training


def test_fit_with_a_compiled_loss_lowers_it() -> None:
    keras.utils.set_random_seed(0)
    model = classifier()
    assert model.spec.hidden_dropout and model.spec.attention_dropout
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


def test_fit_without_any_loss_says_so() -> None:
    model = classifier()
    model.compile("sgd", jit_compile=False)
    with pytest.raises(ValueError, match="No loss to compute"):
        model.fit(IDS, CLASSES, verbose=0)


def test_dropout_acts_in_training_alone() -> None:
    model = classifier()
    calm = model(IDS).logits
    np.testing.assert_array_equal(model(IDS, training=False).logits, calm)
    first, second = (model(IDS, training=True).logits.numpy() for _ in range(2))
    assert (first != second).any() and (first != calm.numpy()).any()


def test_frozen_parts_stay() -> None:
    model = classifier()
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


# Facts


def test_summary_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    model = classifier()
    model.summary()
    shown = capsys.readouterr().out
    assert "bert" in shown and "classifier" in shown and "18,875" in shown
    assert model.count_params() == model.num_parameters() == 18875
    tables = (67 + 29 + 3) * 32
    assert model.num_parameters(exclude_embeddings=True) == 18875 - tables


def test_tied_parameters_count_once() -> None:
    model = loadstone.TFBertForMaskedLM.from_pretrained(load.folder("bert-masked-lm"))
    table = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is table
    assert sum(weight is table for weight in model.weights) == 1
    assert model.count_params() == model.num_parameters()


def test_what_a_model_says_of_itself() -> None:
    model = classifier(dtype="bfloat16")
    assert (model.device, model.dtype, model.compute_dtype) == ("CPU:0", "bfloat16", "bfloat16")
    assert model.base_model is model.bert and model.bert.base_model is model.bert
    assert model.get_output_embeddings() is None
    assert model(IDS).logits.dtype == tf.bfloat16
    names = [v.path for v in model.weights]
    assert "bert/encoder/layer/0/attention/output/dense/weight" in names
    assert len(set(names)) == len(names)


def test_reserved_words_take_an_underscore_that_names_do_not_show() -> None:
    model = decoder()
    assert "model.layers.0.mlp.up_proj.weight" in TensorFlowBackend().parameters(model)
    assert model.model.layers_[0].mlp.up_proj.weight.path == "model/layers/0/mlp/up_proj/weight"


def test_a_class_called_with_a_configuration_draws_weights() -> None:
    config = loadstone.BertConfig(
        vocab_size=19, hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=12
    )
    model = loadstone.TFBertModel(config, add_pooling_layer=False)
    same = loadstone.TFBertModel(config, add_pooling_layer=False)
    assert model.pooler is None and model.dtype == "float32"
    for weight, other in zip(model.weights, same.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), other.numpy())
    assert float(tf.math.reduce_std(model.embeddings.word_embeddings.weight)) > 0.01
    assert loadstone.TFBertModel(config, dtype="bfloat16").dtype == "bfloat16"


# Calls


def test_every_way_to_pass_inputs_is_the_same() -> None:
    model, mask = classifier(), np.ones_like(IDS)
    mask[:, 7:] = 0
    expected = model(input_ids=tf.constant(IDS), attention_mask=tf.constant(mask)).logits
    for output in (
        model(IDS, mask),
        model((IDS, mask)),
        model({"input_ids": IDS, "attention_mask": mask}),
        model({"input_ids": IDS}, attention_mask=mask),
        model(IDS.tolist(), attention_mask=mask.tolist()),
        model(tf.constant(IDS, tf.int32), tf.constant(mask, tf.int32)),
        model(keras.Variable(IDS, dtype="int32"), mask),
    ):
        np.testing.assert_array_equal(output.logits, expected)
    np.testing.assert_array_equal(model(IDS, mask, return_dict=False)[0], expected)


@pytest.mark.parametrize("inputs", [{"input_id": IDS}, {"input_ids": IDS, "output_attention": True}])
def test_an_unknown_input_is_an_error(inputs: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ArgumentError)):
        classifier()(**inputs)


def test_too_many_inputs_are_an_error() -> None:
    with pytest.raises(ArgumentError, match="positional"):
        decoder()(IDS, np.ones_like(IDS), IDS)


def test_outputs_hold_only_what_is_there() -> None:
    model = classifier()
    assert list(model(IDS)) == ["logits"]
    assert list(model(IDS, labels=CLASSES, output_hidden_states=True)) == ["loss", "logits", "hidden_states"]
    flat = keras.tree.flatten(model(IDS, labels=CLASSES))
    assert len(flat) == 2 and all(tf.is_tensor(leaf) for leaf in flat)
    doubled = keras.tree.map_structure(lambda leaf: 2 * leaf, model(IDS))
    np.testing.assert_array_equal(doubled.logits, 2 * model(IDS).logits)


def test_a_function_is_compiled_once_per_shape() -> None:
    model = decoder()
    function = tf.function(model)
    for ids in (IDS, IDS[::-1], IDS[:4], IDS[4:8], IDS):
        output = function(tf.constant(ids))
        np.testing.assert_allclose(output.logits, model(ids).logits, atol=2e-5)
        assert len(output.past_key_values) == 2
    assert function.experimental_get_tracing_count() == 2


def test_a_mixed_policy_computes_in_half_and_keeps_full_parameters() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed, half = classifier(dtype="float32"), classifier(dtype="bfloat16")
    finally:
        keras.config.set_dtype_policy("float32")
    assert {v.dtype for v in mixed.weights} == {"float32"}
    assert mixed(IDS).logits.dtype == tf.bfloat16
    assert {v.dtype for v in half.weights} == {"bfloat16"} and half.compute_dtype == "bfloat16"


def test_a_model_is_a_part_of_a_functional_one() -> None:
    model = classifier()
    ids = keras.Input((None,), dtype="int64")
    whole = keras.Model(ids, keras.layers.Dense(2)(model(ids).logits))
    assert whole(IDS).shape == (12, 2)
    np.testing.assert_array_equal(
        keras.Model(ids, model(ids).logits).predict(IDS, verbose=0), model.predict(IDS, verbose=0)["logits"]
    )


# Files


@pytest.mark.parametrize("make", [classifier, decoder])
def test_an_export_serves_the_same(make: Any, tmp_path: Path) -> None:
    model, mask = make(), np.ones_like(IDS)
    mask[:, 6:] = 0
    model.export(tmp_path, verbose=False)
    artifact = tf.saved_model.load(tmp_path)
    for rows, tokens in ((12, 9), (2, 7)):
        inputs = {"input_ids": IDS[:rows, :tokens], "attention_mask": mask[:rows, :tokens]}
        served = artifact.serve({name: tf.constant(array, tf.int32) for name, array in inputs.items()})
        assert list(served) == ["logits"]
        np.testing.assert_allclose(served["logits"], model(inputs).logits, atol=2e-5)


def test_an_export_takes_a_signature(tmp_path: Path) -> None:
    model = decoder()
    model.export(tmp_path, verbose=False, input_signature=[tf.TensorSpec((None, 9), tf.int64)])
    artifact = tf.saved_model.load(tmp_path)
    served = artifact.serve(tf.constant(IDS))
    np.testing.assert_allclose(served["logits"], model(IDS).logits, atol=2e-5)


def _altered(model: Any) -> Any:
    for weight in model.weights:
        weight.assign(weight * 0)
    return model


def test_weights_go_round_on_models_that_were_never_called(tmp_path: Path) -> None:
    make = loadstone.TFBertForMaskedLM.from_pretrained
    model = make(load.folder("bert-masked-lm"))
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = _altered(make(load.folder("bert-masked-lm")))
    loaded.load_weights(tmp_path / "model.weights.h5")
    for weight, other in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), other.numpy())
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight


def test_a_keras_file_goes_round(tmp_path: Path) -> None:
    model = classifier()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(
        tmp_path / "model.keras", custom_objects={type(model).__name__: type(model)}
    )
    np.testing.assert_array_equal(loaded(IDS).logits, model(IDS).logits)
    assert loaded.config == model.config


def test_saving_gives_the_files_back(tmp_path: Path) -> None:
    model = decoder()
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="30KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    again = loadstone.TFAutoModelForCausalLM.from_pretrained(tmp_path / "many")
    again.save_pretrained(tmp_path / "two")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_a_checkpoint_is_loaded_into_a_model_that_exists(tmp_path: Path) -> None:
    from loadstone.modeling_utils import load_sharded_checkpoint

    source = decoder()
    source.save_pretrained(tmp_path, max_shard_size="30KB")
    model = _altered(decoder())
    function = tf.function(lambda ids: model(ids).logits)
    assert not function(tf.constant(IDS)).numpy().any()
    missing, unexpected = load_sharded_checkpoint(model, tmp_path)
    assert not missing and not unexpected
    np.testing.assert_allclose(function(tf.constant(IDS)), source(IDS).logits, atol=2e-5)


# What Keras remembers


@pytest.mark.parametrize("attribute", ["extra", "_extra"])
def test_a_layer_that_a_user_adds_is_trained_too(attribute: str) -> None:
    model = classifier()
    before = len(model.trainable_variables)
    dense = keras.layers.Dense(2)
    dense.build((None, 3))
    setattr(model.bert.encoder.layer[0], attribute, dense)
    assert len(model.trainable_variables) == before + 2


def test_nothing_is_left_without_a_value_and_nothing_in_keras_lists() -> None:
    model = decoder()
    assert all(weight._value is not None for weight in model.variables)
    assert not global_state.get_global_attribute("uninitialized_variables", [])
    with keras.StatelessScope():
        keras.Variable("zeros", shape=(2,))
    with keras.StatelessScope():
        np.testing.assert_array_equal(model(IDS).logits.shape, (12, 9, 67))


def test_a_deleted_model_is_gone() -> None:
    model = decoder()
    model(IDS)
    model.generate(IDS, max_new_tokens=1)
    watched = [weakref.ref(model), weakref.ref(model.weights[0].value)]
    del model
    gc.collect()
    assert [reference() for reference in watched] == [None, None]


def test_a_parameter_without_a_value_computes_nothing() -> None:
    backend = TensorFlowBackend()
    config = loadstone.LlamaConfig(
        vocab_size=9, hidden_size=4, intermediate_size=6, num_hidden_layers=1, num_attention_heads=1
    )
    model = backend.build(loadstone.TFLlamaModel, config, dtype="float32")
    with pytest.raises(BackendError, match=r"11 parameter\(s\) have no value") as raised:
        backend.finish(model, training=False)
    assert "layers.0.mlp.up_proj.weight" in raised.value.problems
    with pytest.raises(TypeError):
        model(np.zeros((1, 2), np.int32))


# Devices


@pytest.mark.parametrize("name", ["CPU:1", "cpu:1", "/CPU:1", "/device:CPU:1"])
def test_a_device_by_name(name: str) -> None:
    model = classifier(device_map=name)
    assert model.device == model.load_report.device == "CPU:1"
    assert {weight.value.device[-5:] for weight in model.weights} == {"CPU:1"}
    np.testing.assert_array_equal(model(IDS).logits, classifier(device_map="cpu")(IDS).logits)


def test_a_device_that_is_not_there() -> None:
    for name in ("GPU:7", "CPU:2", "toaster"):
        with pytest.raises(PlacementError):
            classifier(device_map=name)


@pytest.fixture
def strategy() -> Iterator[tf.distribute.Strategy]:
    yield tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def test_a_strategys_model_has_its_variables_and_trains(strategy: tf.distribute.Strategy) -> None:
    keras.utils.set_random_seed(0)
    alone = classifier()
    with strategy.scope():
        model = classifier()
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
