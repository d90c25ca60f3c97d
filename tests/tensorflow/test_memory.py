"""What a load and a call do to memory: parameters lie where the engine put them, are never copied, and never written to."""

import gc
import hashlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import loadstone
from loadstone.dtypes import to_numpy
from loadstone_tensorflow.backend import TensorFlowBackend
from tests.oracle import load
from tests.oracle.memory import MB, NARROW, WIDE, host_tensor, mapped, measured_each
from tests.tensorflow.memory_probe import pointers

LARGEST = WIDE["vocab_size"] * WIDE["hidden_size"] * 4
LOADS = (("map", "float32"), ("copy", "float32"), ("copy", "bfloat16"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 164 MB that we saved."""
    config = loadstone.LlamaConfig(**WIDE)
    folder = tmp_path_factory.mktemp("saved")
    loadstone.TFLlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def probes(saved: Path) -> list[dict[str, Any]]:
    """What a process that loads it found, in each way."""
    return measured_each("tests.tensorflow.memory_probe", str(saved), *map("-".join, LOADS))


@pytest.fixture(params=range(len(LOADS)), ids=map("-".join, LOADS))
def probe(request: pytest.FixtureRequest, probes: list[dict[str, Any]]) -> dict[str, Any]:
    """What it found by mapping, by copying, or by casting."""
    how, dtype = LOADS[request.param]
    return {"how": how, "dtype": dtype, **probes[request.param]}


def test_a_load_takes_no_more_than_the_model(probe: dict[str, Any]) -> None:
    assert probe["aligned"]
    if probe["how"] == "map":
        assert probe["in the file"] and (probe["read"], probe["mapped"]) == (0, probe["model"])
        assert probe["loading"] < 32 * MB
    else:
        assert not probe["in the file"] and probe["mapped"] == 0
        assert probe["model"] * 0.98 < probe["loading"] < probe["model"] * 1.02 + 64 * MB


@pytest.mark.parametrize("call", ["call", "tf.function", "generate"])
def test_a_call_copies_no_parameters(probe: dict[str, Any], call: str) -> None:
    result = probe["calls"][call]
    assert result["kept"]
    # TensorFlow multiplies by a bfloat16 matrix through a float32 copy of it, one matrix at a time.
    copied = LARGEST if probe["dtype"] == "bfloat16" else 0
    assert result["growth"] < copied + 16 * MB
    assert result["left"] < 48 * MB  # the traced program


@pytest.fixture(scope="module")
def norm() -> Any:
    """A model of one parameter and an embedding."""
    config = loadstone.LlamaConfig(**NARROW)
    return TensorFlowBackend().build(loadstone.TFLlamaModel, config, dtype="float32")


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int64"])
def test_put_aliases_what_is_aligned_and_copies_what_is_not(norm: Any, dtype: str) -> None:
    backend = TensorFlowBackend()
    values = np.arange(4096).astype(to_numpy(dtype))
    aligned, misaligned = host_tensor(values, 0), host_tensor(values, values.itemsize)
    backend.resize(norm, "norm.weight", values.shape)
    backend.put(norm, "norm.weight", aligned, backend.device("cpu"))
    assert backend.read(norm, "norm.weight").address == aligned.address
    backend.put(norm, "norm.weight", misaligned, backend.device("cpu"))
    held = backend.read(norm, "norm.weight")
    assert held.address != misaligned.address and held.dtype == dtype
    assert held.data.tobytes() == values.tobytes()


def test_put_copies_what_must_not_be_written_to(norm: Any) -> None:
    backend, values = TensorFlowBackend(), host_tensor(np.ones(512, np.float32), 0)
    values.data.flags.writeable = False
    backend.resize(norm, "norm.weight", values.shape)
    backend.put(norm, "norm.weight", values, backend.device("cpu"))
    assert backend.read(norm, "norm.weight").address != values.address


@pytest.mark.parametrize("shape", [(0,), (), (0, 3), (1,)])
def test_put_of_tensors_without_size(norm: Any, shape: tuple[int, ...]) -> None:
    backend, values = TensorFlowBackend(), np.full(shape, 3.5, np.float32)
    for offset in (0, 4):
        backend.resize(norm, "norm.weight", values.shape)
        backend.put(norm, "norm.weight", host_tensor(values, offset), backend.device("cpu"))
        held = backend.read(norm, "norm.weight")
        assert held.shape == shape and held.numpy().tobytes() == values.tobytes()


def test_a_second_put_keeps_the_variable_and_takes_the_memory(norm: Any) -> None:
    backend, device = TensorFlowBackend(), TensorFlowBackend().device("cpu")
    backend.resize(norm, "norm.weight", (64,))
    backend.put(norm, "norm.weight", host_tensor(np.zeros(64, np.float32), 0), device)
    variable, other = norm.norm.weight.value, host_tensor(np.ones(64, np.float32), 0)
    backend.put(norm, "norm.weight", other, device)
    assert norm.norm.weight.value is variable
    assert backend.read(norm, "norm.weight").address == other.address


def test_writing_to_a_variable_leaves_the_buffer(norm: Any) -> None:
    backend, values = TensorFlowBackend(), host_tensor(np.ones(512, np.float32), 0)
    backend.resize(norm, "norm.weight", values.shape)
    backend.put(norm, "norm.weight", values, backend.device("cpu"))
    for _ in range(2):
        norm.norm.weight.value.assign_add(tf.ones(512))
    assert (values.numpy() == 1).all()
    assert (backend.read(norm, "norm.weight").numpy() == 3).all()


@pytest.mark.parametrize("compiled", [True, False])
def test_training_a_mapped_model_leaves_the_file_and_a_second_load(tmp_path: Path, compiled: bool) -> None:
    case = "bert-sequence-classification-single-label"
    make = loadstone.TFBertForSequenceClassification.from_pretrained
    make(load.folder(case)).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    model, bystander = make(tmp_path, read="map"), make(tmp_path, read="map")
    ranges = mapped(file)
    inside = [any(a <= at < b for a, b in ranges) for at in pointers(model).values()]
    assert inside.count(True) > 30  # all but the few whose size is no multiple of 64 bytes
    held = [weight.numpy() for weight in bystander.weights]
    ids = np.random.default_rng(0).integers(6, 67, (4, 8))
    model.compile(keras.optimizers.Adam(0.1), jit_compile=compiled)
    model.fit({"input_ids": ids, "labels": ids[:, 0] % 3}, epochs=2, verbose=0)
    assert any((weight.numpy() != value).any() for weight, value in zip(model.weights, held, strict=True))
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before
    for other in (bystander, make(tmp_path, read="map")):
        for weight, value in zip(other.weights, held, strict=True):
            np.testing.assert_array_equal(weight.numpy(), value)


def test_memory_outlives_what_it_came_from() -> None:
    folder = load.folder("llama-causal-lm")
    values = {v.path: v.value for v in loadstone.TFLlamaForCausalLM.from_pretrained(folder).weights}
    gc.collect()
    for weight in loadstone.TFLlamaForCausalLM.from_pretrained(folder).weights:
        np.testing.assert_array_equal(values[weight.path].numpy(), weight.numpy())


def test_half_precision_is_held_as_it_lies(tmp_path: Path) -> None:
    make = loadstone.TFLlamaForCausalLM.from_pretrained
    make(load.folder("llama-causal-lm"), dtype="bfloat16").save_pretrained(tmp_path)
    model = make(tmp_path)
    # Of a file that we saved, tensors are aligned whose size is a multiple of 64 bytes.
    assert model.dtype == "bfloat16" and model.load_report.bytes_mapped > 0
    assert all(pointer % 64 == 0 for pointer in pointers(model).values())
