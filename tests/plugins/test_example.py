"""A third party's plugin, installed and used: found by its metadata, with the rights that our own backends have."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))

from install import EXAMPLE, install, run, told

V, C = 11, 6


@pytest.fixture
def site(tmp_path):
    """Return a folder in which the example plugin is installed."""
    install(tmp_path / "site", "loadstone-example", EXAMPLE)
    return tmp_path / "site"


@pytest.fixture
def checkpoint(tmp_path):
    """Return a checkpoint of Echo, and its tensors; its head is tied."""
    drawn = np.random.default_rng(0)
    tensors = {
        "model.tokens.weight": drawn.standard_normal((V, C), np.float32),
        "model.norm.weight": drawn.standard_normal(C, np.float32),
    }
    folder = tmp_path / "echo"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    values = {"model_type": "echo", "architectures": ["EchoForCausalLM"], "vocab_size": V, "hidden_size": C}
    (folder / "config.json").write_text(json.dumps(values))
    return folder, tensors


def expected(tensors, ids):
    """Return Echo's logits."""
    x = tensors["model.tokens.weight"][ids]
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * tensors["model.norm.weight"]
    return x @ tensors["model.tokens.weight"].T


USE = """
import json, sys
import loadstone
from loadstone import AutoConfig, AutoModelForCausalLM

folder, out, backend, ids = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
model = AutoModelForCausalLM.from_pretrained(folder, backend=backend)
if backend == "torch":
    import torch
    ids = torch.tensor(ids)
logits = model(ids).logits
print(json.dumps(logits.tolist()))
print(type(model).__name__, type(model.config).__name__, *sorted(model.load_report.names("tied")))
print(model.load_report.bytes_mapped)
model.save_pretrained(out)
print(sorted(sys.modules.keys() & {"torch", "jax", "tensorflow"}))
"""


@pytest.mark.parametrize(("backend", "prefix"), [("plain", "Plain"), ("torch", "")])
def test_it_loads_computes_and_saves(site, checkpoint, tmp_path, backend, prefix):
    folder, tensors = checkpoint
    ids = [[1, 2, 10], [0, 3, 3]]
    logits, names, mapped, frameworks = told(USE, site, folder, tmp_path / "out", backend, json.dumps(ids))
    assert np.allclose(json.loads(logits), expected(tensors, ids), atol=1e-5)
    assert names == f"{prefix}EchoForCausalLM EchoConfig lm_head.weight"
    assert int(mapped) == sum(tensor.nbytes for tensor in tensors.values()), "its memory is the file's"
    assert frameworks == ("['torch']" if backend == "torch" else "[]")
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert {name: array.tobytes() for name, array in saved.items()} == {
        n: a.tobytes() for n, a in tensors.items()
    }
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == ["EchoForCausalLM"]


NAMES = """
import sys
import loadstone
from loadstone import EchoConfig, PlainAutoModelForCausalLM, PlainEchoForCausalLM, PlainEchoModel
print(EchoConfig(vocab_size=3).vocab_size, PlainEchoModel.__name__, PlainAutoModelForCausalLM.backend)
print({"EchoModel", "PlainEchoForCausalLM", "TFEchoModel", "PlainAutoModel", "EchoConfig"} <= set(dir(loadstone)))
model = PlainEchoForCausalLM.from_pretrained(sys.argv[1], dtype="bfloat16")
print(model.load_report)
fresh = PlainAutoModelForCausalLM.from_config(EchoConfig(vocab_size=5, hidden_size=4, tie_word_embeddings=False), seed=3)
print(fresh.training, fresh["lm_head.weight"].shape, fresh["model.norm.weight"].tolist())
print("torch" in sys.modules)
"""


def test_its_names_are_public(site, checkpoint):
    lines = told(NAMES, site, checkpoint[0])
    assert lines[:2] == ["3 PlainEchoModel plain", "True"]
    report = "\n".join(lines[2:-2])
    assert "PlainEchoForCausalLM (plain)" in report and "bfloat16" in report and "tied" in report
    assert lines[-2:] == ["True (5, 4) [1.0, 1.0, 1.0, 1.0]", "False"]


def test_core_judges_its_checkpoints_as_ours(site, checkpoint):
    folder, tensors = checkpoint
    save_file({"model.tokens.weight": tensors["model.tokens.weight"]}, folder / "model.safetensors")
    script = "import sys, loadstone; loadstone.plan(sys.argv[1], backend='plain')"
    done = run(script, site, folder, check=False)
    assert "MatchError: the checkpoint and EchoForCausalLM do not fit together" in done.stderr
    assert "model.norm.weight: missing, expected shape [6]" in done.stderr


def test_without_it_the_model_type_is_unknown(tmp_path, checkpoint):
    (tmp_path / "empty").mkdir()
    script = "import sys, loadstone; loadstone.plan(sys.argv[1])"
    done = run(script, tmp_path / "empty", checkpoint[0], check=False)
    assert "ConfigError: unknown model type 'echo'" in done.stderr
    assert "a plugin that adds the model type" in done.stderr


def test_a_backend_without_its_classes_says_so(site, checkpoint):
    script = (
        "import sys, loadstone; loadstone.AutoModelForCausalLM.from_pretrained(sys.argv[1], backend='plain')"
    )
    folder = checkpoint[0]
    sizes = {"n_embd": 8, "n_head": 2, "n_layer": 1, "vocab_size": 5}
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", **sizes}))
    done = run(script, site, folder, check=False)
    assert "ArchitectureError: Plain numpy has no models of the family 'gpt2' yet" in done.stderr
    assert "loadstone_example.models.gpt2" in done.stderr


def test_loadstone_plugins_shows_it(site):
    script = (
        "from loadstone.cli import main; import sys; sys.argv = ['loadstone', 'plugins', '--json']; main()"
    )
    found = {p["claim"]: p for p in json.loads(run(script, site).stdout)["plugins"]}
    assert found["backend.plain"]["distribution"] == "loadstone-example 1.0"
    assert {found[claim]["state"] for claim in ("backend.plain", "architecture.echo")} == {"loaded"}
    assert {found[claim]["problem"] for claim in ("backend.plain", "architecture.echo")} == {""}
    assert (found["backend.plain"]["prefix"], found["backend.plain"]["priority"]) == ("Plain", 1)
