"""What a load and every documented call do to memory: parameters lie where the engine put them, and are never copied."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import loadstone
from loadstone_flax.backend import FlaxBackend
from loadstone_flax.generation import _continue
from tests.oracle import load
from tests.oracle.memory import MB, NARROW, WIDE, host_tensor, measured

CALLS = (
    "call",
    "call with params",
    "generate",
    "jax.jit over nnx.split",
    "nnx.jit without updates",
    "jax.jit over params",
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 164 MB that we saved."""
    config = loadstone.LlamaConfig(**WIDE)
    folder = tmp_path_factory.mktemp("saved")
    loadstone.FlaxLlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["map", "copy"])
def probe(request: pytest.FixtureRequest, saved: Path) -> dict[str, Any]:
    """What a process that loads it found, by mapping or by copying."""
    return {"how": request.param, **measured("tests.flax.memory_probe", str(saved), request.param)}


def test_a_load_takes_no_more_than_the_model(probe: dict[str, Any]) -> None:
    assert probe["aligned"]
    if probe["how"] == "map":
        assert probe["in the file"] and (probe["read"], probe["mapped"]) == (0, probe["model"])
        assert probe["loading"] < 32 * MB
    else:
        assert not probe["in the file"] and (probe["read"], probe["mapped"]) == (probe["model"], 0)
        assert probe["model"] * 0.98 < probe["loading"] < probe["model"] * 1.02 + 64 * MB


@pytest.mark.parametrize("call", CALLS)
def test_a_call_copies_no_parameters(probe: dict[str, Any], call: str) -> None:
    result = probe["calls"][call]
    assert result["kept"]
    assert result["growth"] < 16 * MB
    assert result["left"] < 48 * MB  # the compiled program


def test_half_precision_is_not_copied_to_float32(saved: Path) -> None:
    """XLA on the CPU likes to convert all of a weight, for a single row or before a loop."""
    model = loadstone.FlaxLlamaForCausalLM.from_pretrained(saved, dtype="bfloat16")
    size = sum(value.nbytes for value in model.params.values())
    ids = np.full((1, 4), 7, np.int32)
    one_token = jax.jit(lambda params: model(ids[:, :1], params=params).logits).lower(model.params)
    generation = _continue.lower(
        model, ids, ids, np.array([2], np.int32), np.int32(0), new_tokens=3, use_cache=True
    )
    for program in (one_token, generation):
        assert program.compile().memory_analysis().temp_size_in_bytes < 0.1 * size


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_put_aliases_what_is_aligned_and_copies_what_is_not(dtype: str) -> None:
    backend = FlaxBackend()
    model = backend.build(loadstone.FlaxLlamaModel, loadstone.LlamaConfig(**NARROW), dtype="float32")
    values = np.arange(4096).astype(jnp.dtype(dtype))
    aligned, misaligned = host_tensor(values, 0), host_tensor(values, values.itemsize)
    backend.resize(model, "norm.weight", values.shape)
    backend.put(model, "norm.weight", aligned, backend.device(None))
    assert model.norm.weight[...].unsafe_buffer_pointer() == aligned.address
    assert backend.read(model, "norm.weight").address == aligned.address
    backend.put(model, "norm.weight", misaligned, backend.device(None))
    assert model.norm.weight[...].unsafe_buffer_pointer() != misaligned.address
    assert backend.read(model, "norm.weight").data.tobytes() == values.tobytes()


@pytest.mark.parametrize("shape", [(0,), (), (0, 3), (1,)])
def test_put_of_tensors_without_size(shape: tuple[int, ...]) -> None:
    backend = FlaxBackend()
    model = backend.build(loadstone.FlaxLlamaModel, loadstone.LlamaConfig(**NARROW), dtype="float32")
    values = np.full(shape, 3.5, np.float32)
    for offset in (0, 4):
        backend.resize(model, "norm.weight", values.shape)
        backend.put(model, "norm.weight", host_tensor(values, offset), backend.device(None))
        held = backend.read(model, "norm.weight")
        assert held.shape == shape and held.numpy().tobytes() == values.tobytes()


def test_a_checkpoint_that_lies_misaligned_is_read_once(tmp_path: Path) -> None:
    source = load.folder("llama-causal-lm")
    content = (source / "model.safetensors").read_bytes()
    header = int.from_bytes(content[:8], "little")
    shift = 8 + (-header % 64)  # the data then begins 16 bytes behind a multiple of 64
    longer = (header + shift).to_bytes(8, "little") + content[8 : 8 + header] + b" " * shift
    (tmp_path / "model.safetensors").write_bytes(longer + content[8 + header :])
    (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())

    model = loadstone.FlaxLlamaForCausalLM.from_pretrained(tmp_path)
    expected = loadstone.FlaxLlamaForCausalLM.from_pretrained(source).params
    assert model.load_report.bytes_read == sum(value.nbytes for value in model.params.values())
    for name, value in model.params.items():
        assert value.unsafe_buffer_pointer() % 64 == 0
        np.testing.assert_array_equal(value, expected[name])


def test_memory_outlives_what_it_came_from() -> None:
    folder = load.folder("llama-causal-lm")
    params = loadstone.FlaxLlamaForCausalLM.from_pretrained(folder).params
    again = loadstone.FlaxLlamaForCausalLM.from_pretrained(folder).params
    for name, value in params.items():
        np.testing.assert_array_equal(value, again[name])


def test_placing_on_another_device() -> None:
    folder = load.folder("llama-causal-lm")
    wanted = jax.devices()[1]
    model = loadstone.FlaxLlamaForCausalLM.from_pretrained(folder, device_map=wanted)
    assert model.device == wanted and model.load_report.device == "cpu:1"
    named = loadstone.FlaxLlamaForCausalLM.from_pretrained(folder, device_map="cpu:1")
    assert named.device == wanted
    logits = model(np.array([[7, 8, 9]])).logits
    assert logits.devices() == {wanted}
    default = loadstone.FlaxLlamaForCausalLM.from_pretrained(folder, device_map="cpu")
    assert default.device == jax.devices()[0]
    np.testing.assert_array_equal(logits, default(np.array([[7, 8, 9]])).logits)
