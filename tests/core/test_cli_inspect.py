"""`loadstone inspect`: what it tells of good and damaged checkpoints, on disk and on the Hub, as text and as JSON."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import REAL_ONES, arrays, save, shared, write_foreign

import loadstone
from loadstone.architectures import model_types
from loadstone.checkpoint.formats.safetensors import FIRST_READ
from loadstone.cli import views

DEMO = Path(loadstone.__file__).parent / "demo_checkpoint"
NAME = "org/name"


# inspect


def test_inspect_tells_what_a_checkpoint_holds(call):
    code, out, err = call("inspect", DEMO)
    assert (code, err) == (0, "")
    assert "LlamaForCausalLM (llama)" in out
    assert "913.6 kB in 1 file: 29 tensors, 228,400 numbers" in out
    assert re.search(r"model\.safetensors +29 +", out)
    assert "model.layers.{0...2}" in out
    assert re.search(r"self_attn\.k_proj\.weight +3 +float32 +32 x 80 +30\.7 kB", out)
    assert "no problems found" in out
    assert not any(line.endswith(" ") for line in out.splitlines())


def test_inspect_imports_no_framework():
    program = f"""
import sys
from loadstone.cli import main
try:
    main(["inspect", {str(DEMO)!r}])
except SystemExit as ended:
    assert not ended.code
assert not {{"torch", "jax", "tensorflow", "keras"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_inspect_as_json_has_these_keys(call_json):
    found = call_json("inspect", DEMO)
    assert set(found) == {
        *("location", "commit", "model_type", "architectures", "nbytes", "elements", "dtypes", "files"),
        *("other_files", "tensors", "aliases", "metadata", "config", "problems", "notes", "verification"),
    }
    assert found["config"] == json.loads((DEMO / "config.json").read_text())
    assert found["model_type"] == "llama"
    assert (found["problems"], found["notes"], found["verification"]) == ([], [], None)
    assert found["nbytes"] == sum(tensor["nbytes"] for tensor in found["tensors"]) == 4 * found["elements"]
    [file] = found["files"]
    assert file == {
        "name": "model.safetensors",
        "nbytes": (DEMO / "model.safetensors").stat().st_size,
        "tensors": len(found["tensors"]),
        "state": "ok",
    }
    last = max(found["tensors"], key=lambda tensor: tensor["offset"])
    assert last["offset"] + last["nbytes"] == file["nbytes"]


@pytest.mark.parametrize("name", REAL_ONES)
def test_inspect_finds_nothing_wrong_with_a_good_checkpoint(call, call_json, name):
    found = call_json("inspect", shared(name))
    assert found["problems"] == []
    assert found["tensors"]
    assert bool(found["notes"]) is (found["model_type"] not in model_types())
    code, out, _ = call("inspect", shared(name))
    assert code == 0
    assert "no problems found" in out


def test_inspect_shows_an_alias(call_json):
    assert call_json("inspect", shared("llama-tinystories-656k"))["aliases"] == {
        "model.embed_tokens.weight": "lm_head.weight"
    }


def test_inspect_shows_a_screen_at_most_and_everything_when_asked(call, tmp_path):
    many = {
        f"{letter}{digit}.weight": np.zeros(4, np.float32)
        for letter in "abcdefghij"
        for digit in "pqrstuvwxy"
    }
    save(tmp_path, many)
    _, out, _ = call("inspect", tmp_path)
    assert len(out.splitlines()) <= views.PIPED_HEIGHT
    hidden = int(re.search(r"and (\d+) tensors more: --all", out)[1])
    assert hidden + sum(f"  {name} " in out for name in many) == len(many)
    _, out, _ = call("inspect", tmp_path, "--all")
    assert all(f"  {name} " in out for name in many)


def test_inspect_lists_every_problem_and_all_that_is_readable(call, call_json, tmp_path):
    folder = tmp_path / "checkpoint"
    paths = save(
        folder, arrays(), max_shard_size=600, config='{"model_type": "llama", "hidden_size": "wide"}'
    )
    shards = [path for path in paths if path.suffix == ".safetensors"]
    assert len(shards) >= 3
    shards[0].write_bytes(shards[0].read_bytes()[:-10])
    shards[1].unlink()

    found = call_json("inspect", folder, code=1)
    assert {file["name"]: file["state"] for file in found["files"]} == {
        path.name: {0: "damaged", 1: "absent"}.get(number, "ok") for number, path in enumerate(sorted(shards))
    }
    assert {tensor["file"] for tensor in found["tensors"]} == {path.name for path in sorted(shards)[2:]}
    problems = "\n".join(problem["what"] for problem in found["problems"])
    assert len(found["problems"]) == 3
    for said in (
        "hidden_size: expected int",
        f"{shards[1].name} is not there",
        f"{shards[0].name} ends early",
    ):
        assert said in problems

    code, out, _ = call("inspect", folder)
    assert code == 1
    assert out.rstrip().endswith("3 problems")
    assert re.search(rf"{shards[0].name} +damaged", out)


def test_inspect_lists_a_tensor_that_two_shards_hold_twice(call_json, tmp_path):
    write_foreign(tmp_path, arrays(), shards=2, config='{"model_type": "llama"}', generation_config=None)
    one, other = sorted(tmp_path.glob("*.safetensors"))
    other.write_bytes(one.read_bytes())
    found = call_json("inspect", tmp_path, code=1)
    names = [tensor["name"] for tensor in found["tensors"]]
    assert len(names) == 2 * len(set(names))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "there is no config.json"),
        ("{", "a configuration is not valid JSON"),
        ("{}", "config.json does not say what kind of model this is"),
    ],
)
def test_inspect_lists_the_tensors_whatever_config_json_is(call_json, tmp_path, config, said):
    save(tmp_path, arrays())
    (tmp_path / "config.json").unlink()
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    found = call_json("inspect", tmp_path, code=1)
    assert [problem["what"] for problem in found["problems"]] == [said]
    assert {tensor["name"] for tensor in found["tensors"]} == set(arrays())


def test_inspect_knows_what_it_cannot_read(call_json, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model.onnx").write_bytes(b"\x08")
    [problem] = call_json("inspect", tmp_path, code=1)["problems"]
    assert "ONNX" in problem["what"]
    assert problem["found"] == "model.onnx"


def test_inspect_notes_a_quantised_and_an_unknown_model(call_json, tmp_path):
    config = {"model_type": "lama", "quantization_config": {"quant_method": "gptq"}}
    save(tmp_path, arrays(), config=json.dumps(config))
    unknown, quantised = call_json("inspect", tmp_path)["notes"]
    assert "did you mean llama?" in unknown
    assert "gptq" in quantised


@pytest.mark.parametrize(
    "config",
    [
        '{"model_type": "llama", "architectures": 5, "text_config": [1], "hidden_size": {}, "vocab_size": null}',
        '{"model_type": ["llama"], "architectures": [null], "quantization_config": 4}',
        '{"model_type": "llama", "text_config": {"hidden_size": "\\u001b[2J"}}',
        "[]",
        "null",
    ],
)
def test_inspect_takes_nothing_in_config_json_for_granted(call, call_json, tmp_path, config):
    save(tmp_path, arrays(), config=config)
    assert len(call_json("inspect", tmp_path, code=1)["tensors"]) == len(arrays())
    code, out, err = call("inspect", tmp_path)
    assert (code, err) == (1, "")
    assert "model.embed.weight" in out
    assert "\x1b" not in out


def test_no_name_from_a_file_steers_the_terminal(call, tmp_path):
    config = {"model_type": "\x1b[31mllama", "architectures": ["\x1b]0;title\x07"]}
    save(tmp_path, {"\x1b[2J\rmodel.weight": np.zeros(4, np.float32)}, config=json.dumps(config))
    (tmp_path / "\x1b[2K.txt").write_text("")
    for command in ("inspect", "plan"):
        _, out, err = call(command, tmp_path)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", out + err)
    assert r"\x1b[2J\rmodel.weight" in call("inspect", tmp_path)[1]


# inspect --verify


def test_verify_finds_a_changed_byte(call, call_json, tmp_path):
    paths = save(tmp_path, arrays(), max_shard_size=1200)
    shards = [path.name for path in paths if path.suffix == ".safetensors"]
    good = call_json("inspect", tmp_path, "--verify")
    assert sorted(good["verification"]["intact"]) == sorted(shards)

    victim = tmp_path / shards[-1]
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    assert call_json("inspect", tmp_path)["problems"] == []
    bad = call_json("inspect", tmp_path, "--verify", code=1)
    assert [problem["what"].split()[0] for problem in bad["problems"]] == [victim.name]
    code, out, _ = call("inspect", tmp_path, "--verify")
    assert code == 1
    assert re.search(rf"{victim.name} +\d+ +[\d.]+ k?B +changed", out)


def test_verify_says_where_no_sum_is_known(call_json, tmp_path):
    write_foreign(tmp_path, arrays(), shards=1, config='{"model_type": "llama"}', generation_config=None)
    found = call_json("inspect", tmp_path, "--verify")
    assert found["verification"] == {"intact": [], "problems": [], "unknown": ["model.safetensors"]}


# Repositories on the Hub


@pytest.fixture
def large(hub, tmp_path):
    """Put a checkpoint of 2 MB into a repository, on a branch of its own too, and return its size in bytes."""
    folder = tmp_path / "large"
    hidden, words, wide = 16, 32_000, 32
    config = loadstone.AutoConfig.for_model(
        "llama",
        hidden_size=hidden,
        intermediate_size=wide,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_hidden_layers=1,
        vocab_size=words,
    )
    shapes = {"embed_tokens": (words, hidden), "norm": (hidden,)}
    shapes |= {f"layers.0.self_attn.{name}_proj": (hidden, hidden) for name in "qkvo"}
    shapes |= {f"layers.0.mlp.{name}_proj": (wide, hidden) for name in ("gate", "up")}
    shapes |= {"layers.0.mlp.down_proj": (hidden, wide)}
    shapes |= {f"layers.0.{name}_layernorm": (hidden,) for name in ("input", "post_attention")}
    tensors = {f"{name}.weight": np.ones(shape, np.float32) for name, shape in shapes.items()}
    save(folder, tensors, config=config.to_json_string())
    hub.add_repo(NAME, folder=folder)
    hub.commit(NAME, {"config.json": b"{}"}, branch="broken")
    return (folder / "model.safetensors").stat().st_size


def fetched_weights(hub):
    files = (path for path in (hub.home / "hub").rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in files if path.stat().st_size > 100_000]


@pytest.mark.parametrize("command", ["inspect", "plan"])
def test_a_repository_is_looked_at_through_headers_alone(hub, large, call_json, command):
    if command == "plan":
        pytest.importorskip("torch")
    found = call_json(command, NAME)
    assert found["commit"] == hub.repositories[NAME].branches["main"]
    assert 0 < hub.bytes_sent("model.safetensors") <= FIRST_READ < large
    assert fetched_weights(hub) == []


def test_a_revision_of_a_repository(hub, large, call_json):
    found = call_json("inspect", NAME, "--revision", "broken", code=1)
    assert found["config"] == {}


def test_verify_sums_what_the_hub_published(hub, large, call, call_json):
    found = call_json("inspect", NAME, "--verify")
    assert found["verification"]["intact"] == ["model.safetensors"]
    [weights] = fetched_weights(hub)
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    code, out, _ = call("inspect", NAME, "--verify", "--local-files-only")
    assert code == 1
    assert "the Hub gave SHA-256" in out


def test_local_files_only_opens_no_connection(hub, large, call):
    code, out, err = call("inspect", NAME, "--local-files-only")
    assert (code, out) == (1, "")
    assert "holds nothing of" in err
    assert hub.requests == []


def test_the_cache_goes_where_it_is_told(hub, large, call, tmp_path):
    assert call("inspect", NAME, "--cache-dir", tmp_path / "elsewhere")[0] == 0
    assert list((tmp_path / "elsewhere").rglob("config.json"))
    assert call("inspect", NAME, "--cache-dir", tmp_path / "elsewhere", "--local-files-only")[0] == 1
