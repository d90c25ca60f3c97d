"""Parameters in another arrangement than their checkpoint's: loaded, told, saved and loaded again, in three frameworks."""

import functools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))

from install import install, run, told

BACKENDS = ("torch", "flax", "tensorflow")
V, C, I, E, K, LAYERS = 11, 6, 5, 3, 4, 2

SHOW = """
import json, sys
import numpy as np
from loadstone import AutoModel
from loadstone.backend import get_backend

folder, out, backend, dtype = sys.argv[1:5]
model = AutoModel.from_pretrained(folder, backend=backend, dtype=dtype, read=sys.argv[5])
read = get_backend(backend).read
held = {name: read(model, name).numpy() for name in get_backend(backend).parameters(model)}
np.savez(out + ".npz", **{name: array.astype("float32") for name, array in held.items()})
print(json.dumps(model.load_report.to_dict()))
print(json.dumps(str(model.load_report)))
model.save_pretrained(out)
AutoModel.from_pretrained(out, backend=backend)
if backend == "torch":
    import torch
    states = model(torch.tensor([[1, 2, 3]])).last_hidden_state.detach().float().numpy()
else:
    states = model(np.array([[1, 2, 3]])).last_hidden_state
print(float(np.asarray(states).astype("float64").sum()))
"""
LOAD = """
import sys
from loadstone import AutoModel

for folder in sys.argv[1:]:
    try:
        AutoModel.from_pretrained(folder, backend="torch")
    except Exception as error:
        print(type(error).__name__, error, end="\\f")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return a folder in which the plugin is installed."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, "loadstone-patchwork", {"architecture.patchwork": "loadstone_patchwork.plugin"})
    return folder


def tensors():
    """Return what a checkpoint of Patchwork stores."""
    drawn = np.random.default_rng(0)
    found = {"tokens.weight": (V, C)}
    for layer in range(LAYERS):
        found |= {f"layers.{layer}.experts.{e}.up.weight": (I, C) for e in range(E)}
        found[f"layers.{layer}.attention.qkv.weight"] = (C + 2 * K, C)
    return {name: drawn.standard_normal(shape, np.float32) for name, shape in found.items()}


def write(folder, held):
    """Write a checkpoint."""
    folder.mkdir()
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "patchwork", "dtype": "float32"}))
    return folder


@pytest.fixture(scope="module")
def shown(site, tmp_path_factory):
    """Return what a backend makes of a checkpoint: its report, the report's text, a sum of states; and where it saved."""
    folder = write(tmp_path_factory.mktemp("stored") / "patchwork", tensors())

    @functools.cache
    def show(backend, dtype):
        out = tmp_path_factory.mktemp("saved") / "patchwork"
        return *map(json.loads, told(SHOW, site, folder, out, backend, dtype, "auto")), out

    return show


def arranged(stored):
    """Return what the model's parameters must be."""
    found = {"tokens.weight": stored["tokens.weight"]}
    for layer in range(LAYERS):
        at = f"layers.{layer}."
        found[f"{at}experts.up"] = np.stack([stored[f"{at}experts.{e}.up.weight"].T for e in range(E)])
        parts = np.split(stored[f"{at}attention.qkv.weight"], [C, C + K])
        found |= {f"{at}attention.{name}.weight": part for name, part in zip("qkv", parts, strict=True)}
    return found


@pytest.mark.parametrize(
    ("backend", "dtype"),
    [*((backend, "float32") for backend in BACKENDS), ("torch", "bfloat16"), ("flax", "bfloat16")],
)
def test_there_and_back(shown, backend, dtype):
    stored = tensors()
    report, text, _, out = shown(backend, dtype)
    with np.load(f"{out}.npz") as held:
        found = dict(held)
    expected = arranged(stored)
    assert found.keys() == expected.keys()
    import ml_dtypes

    kept = np.float32 if dtype == "float32" else ml_dtypes.bfloat16
    for name, values in expected.items():
        assert found[name].tobytes() == values.astype(kept).astype(np.float32).tobytes(), name
    saved = load_file(out / "model.safetensors")
    assert saved.keys() == stored.keys()
    for name, values in stored.items():
        assert saved[name].tobytes() == values.astype(kept).tobytes(), name
    state = "loaded" if dtype == "float32" else "cast"
    assert {entry["state"] for entry in report["parameters"].values()} == {state}
    assert {entry["state"] for entry in report["stored"].values()} == {"used"}
    assert report["bytes_read"] + report["bytes_mapped"] == sum(values.nbytes for values in stored.values())
    assert "of 3 tensors" in text and "a part of layers.0.attention.qkv.weight" in text


def test_three_frameworks_compute_the_same(shown):
    sums = [shown(backend, "float32")[2] for backend in BACKENDS]
    assert sums[0] and sums == pytest.approx([sums[0]] * 3, rel=1e-5)


FAULTS = [
    (
        lambda held: held.pop("layers.1.experts.2.up.weight"),
        "layers.1.experts.up: expected shape [3, 6, 5]",
    ),
    (
        lambda held: held.pop("layers.1.experts.1.up.weight"),
        "layers.1.experts.up: expected shape [3, 6, 5]",
    ),
    (lambda held: held.pop("layers.0.attention.qkv.weight"), "layers.0.attention.q.weight: missing"),
    (
        lambda held: held.update({"layers.0.attention.qkv.weight": np.ones((C + K, C), np.float32)}),
        "layers.0.attention.qkv.weight: expected 14 along axis 0",
    ),
    (
        lambda held: held.update({"layers.0.experts.1.up.weight": np.ones((I, C), np.float16)}),
        "expected one dtype",
    ),
    (
        lambda held: held.update({"layers.0.experts.1.up.weight": np.ones((I, C + 1), np.float32)}),
        "layers.0.experts.0.up.weight to layers.0.experts.2.up.weight",
    ),
]


def test_what_does_not_fit_is_told(site, tmp_path):
    folders = []
    for number, (change, _) in enumerate(FAULTS):
        stored = tensors()
        change(stored)
        folders.append(write(tmp_path / str(number), stored))
    found = run(LOAD, site, *folders).stdout.split("\f")[:-1]
    for message, (_, expected) in zip(found, FAULTS, strict=True):
        assert message.startswith("MatchError") and expected in message


def test_a_tensor_of_the_parameters_own_name_is_taken(site, tmp_path):
    stored = tensors()
    moved = arranged(stored)["layers.0.experts.up"]
    for expert in range(E):
        del stored[f"layers.0.experts.{expert}.up.weight"]
    stored["layers.0.experts.up"] = moved
    out = tmp_path / "saved"
    run(SHOW, site, write(tmp_path / "patchwork", stored), out, "torch", "float32", "auto")
    assert load_file(out / "model.safetensors").keys() == tensors().keys()
