"""`save_weights` of our Keras models: each tensor is there under its name in checkpoints, and loads like one."""

import shutil

import numpy as np
import pytest

import loadstone
from loadstone.checkpoint.open import open_checkpoint
from loadstone.errors import CheckpointError
from loadstone.source import resolve
from loadstone.testing.cases import CASES
from tests.oracle import load

SOME = (
    "llama-causal-lm-tied",
    "gpt2-causal-lm",
    "bert-masked-lm",
    "roberta-masked-lm",
    "distilbert-base",
    "electra-masked-lm",
    "vit-image-classification",
    "resnet-image-classification",
    "olmo2-causal-lm",
    "gemma3_text-causal-lm",
)


def saved(case, folder, **how):
    """Return a model whose weights lie in a folder as Keras saves them."""
    row = CASES[case]
    model = getattr(loadstone, f"TF{row.class_name}").from_pretrained(
        load.folder(case), **row.model_arguments, **how
    )
    model.save_weights(folder / "model.weights.h5")
    shutil.copy(load.folder(case) / "config.json", folder / "config.json")
    return model


@pytest.mark.parametrize("case", SOME)
def test_names_are_those_of_checkpoints(case, tmp_path):
    model = saved(case, tmp_path)
    backend = loadstone.backend.get_backend("tensorflow")
    snapshot = resolve(tmp_path)
    found = open_checkpoint(snapshot).tensors
    assert set(backend.parameters(model)) == set(found)
    for name, info in found.items():
        held = backend.read(model, name)
        assert (held.dtype, held.shape) == (info.dtype, info.shape), name
        assert snapshot.read_range(info.file, info.offset, info.nbytes) == held.data.tobytes(), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_loads_and_converts(tmp_path, dtype):
    model = saved("bert-masked-lm", tmp_path, dtype=dtype)
    back = loadstone.TFBertForMaskedLM.from_pretrained(tmp_path, dtype=dtype)
    ids = np.array([[3, 5, 7]])
    assert np.array_equal(back(ids).logits, model(ids).logits) and not back.load_report.names("unused")
    done = loadstone.convert(tmp_path, tmp_path / "there")
    assert set(done.files) == {"model.safetensors", "config.json"}
    model.save_pretrained(tmp_path, format="h5" if dtype == "float32" else "bin")
    assert (tmp_path / "model.weights.h5").exists()


def test_a_layer_of_somebody_elses_is_an_error(tmp_path):
    import keras

    other = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization()])
    other.save_weights(tmp_path / "model.weights.h5")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="a layer that is none of loadstone's") as error:
        loadstone.TFBertModel.from_pretrained(tmp_path)
    assert "batch_normalization" in str(error.value) and "4 variables" in str(error.value)
