"""The models are ordinary Keras models: they train, freeze, compile, export and save as any other."""

import copy
import gc
import pickle
import weakref
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
from tests.tensorflow.small import CLASSES, CLASSIFIER, IDS, classifier, decoder

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
    model = loadstone.TFBertModel(config, add_pooling_layer=False, seed=1)
    same = loadstone.TFBertModel(config, add_pooling_layer=False, seed=1)
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
        model([IDS, mask]),
        model({"input_ids": IDS, "attention_mask": mask}),
        model({"input_ids": IDS}, attention_mask=mask),
        model(IDS.tolist(), attention_mask=mask.tolist()),
        model(tf.constant(IDS, tf.int32), tf.constant(mask, tf.int32)),
        model(keras.Variable(IDS, dtype="int32"), mask),
    ):
        np.testing.assert_array_equal(output.logits, expected)
    np.testing.assert_array_equal(model(IDS, mask, return_dict=False)[0], expected)


class PassesOn(loadstone.TFBertForSequenceClassification):  # type: ignore[misc,name-defined]
    """A subclass whose `forward` names no input."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs)


def test_a_subclass_that_names_no_inputs_has_its_parents() -> None:
    model = PassesOn.from_pretrained(load.folder(CLASSIFIER))
    np.testing.assert_array_equal(model(IDS, np.ones_like(IDS)).logits, classifier()(IDS).logits)


@pytest.mark.parametrize("case", ["bert-base", "distilbert-base", "gpt2-base"])
@pytest.mark.parametrize("compiled", [True, False])
def test_more_tokens_than_positions_are_an_error(case: str, compiled: bool) -> None:
    model = loadstone.TFAutoModel.from_pretrained(load.folder(case))
    call = tf.function(model, jit_compile=compiled, autograph=False)
    with pytest.raises(ArgumentError, match="no positions for so many tokens"):
        call(tf.ones((1, model.spec.embeddings.positions + 1), tf.int32))


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
        if model.spec.embeddings.types:
            inputs["token_type_ids"] = IDS[:rows, :tokens] % 3
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
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(IDS).logits, model(IDS).logits)
    assert type(loaded) is type(model) and loaded.config == model.config


def test_a_keras_file_keeps_settings_and_policy(tmp_path: Path) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = decoder(dtype="float32")
    finally:
        keras.config.set_dtype_policy("float32")
    model.generation_config.max_new_tokens = 3
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert (loaded.variable_dtype, loaded.compute_dtype) == ("float32", "bfloat16")
    np.testing.assert_array_equal(loaded.generate(IDS), model.generate(IDS))
    assert loaded.generate(IDS).shape == (12, 12)


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"]
)
def test_copies_are_models_of_their_own(again: Any) -> None:
    model = decoder()
    copied = again(model)
    np.testing.assert_array_equal(copied(IDS).logits, model(IDS).logits)
    _altered(copied)
    assert model(IDS).logits.numpy().any()


@pytest.mark.parametrize("make", [classifier, decoder])
def test_a_tensorflow_checkpoint_holds_every_weight(make: Any, tmp_path: Path) -> None:
    model = make()
    path = tf.train.Checkpoint(model=model).save(str(tmp_path / "step"))
    loaded = _altered(make())
    tf.train.Checkpoint(model=loaded).restore(path).assert_consumed()
    for weight, other in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(other.numpy(), weight.numpy(), err_msg=weight.path)


class WithAHead(loadstone.TFBertForSequenceClassification):  # type: ignore[misc,name-defined]
    """A model that somebody gave a layer of Keras's."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.extra = keras.layers.Dense(4)
        self.extra.build((None, 3))


def test_layers_that_no_checkpoint_names_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"kernel(.|\n)*keras\.Model of your own"):
        WithAHead.from_pretrained(load.folder(CLASSIFIER))
    model = classifier()
    model.extra = keras.layers.Dense(4)
    model.save_pretrained(tmp_path / "unbuilt")
    model.extra.build((None, 3))
    with pytest.raises(ArgumentError, match="not its own"):
        model.save_pretrained(tmp_path / "built")


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
