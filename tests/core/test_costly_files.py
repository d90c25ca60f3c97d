"""Small files that could cost much, and names that lead elsewhere: an error, or the checkpoint, within 3 s and 200 MB.

Each runs in a process of its own, whose time and whose largest memory are what is measured.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import arrays, raw, save

from loadstone.checkpoint.open import open_checkpoint
from loadstone.errors import SourceError
from loadstone.source import local, resolve

SECONDS, BYTES = 3.0, 200_000_000
"""What an error may cost, the interpreter's own memory included."""

PROGRAM = """
import json, sys, time
from loadstone.errors import LoadstoneError
from loadstone import AutoConfig
from loadstone.checkpoint.open import open_checkpoint
from loadstone.checkpoint.settled import settle
from loadstone.generate.settings import GenerationConfig
from loadstone.cli.inspect import inspect
from loadstone.source import resolve

def measured(folder, call):
    with open("/proc/self/clear_refs", "w") as stream:
        stream.write("5")  # the largest memory so far is forgotten
    started = time.process_time()  # the machine may have other work
    try:
        found, error = repr(eval(call, globals() | {"folder": folder}))[:2000], ""
    except LoadstoneError as caught:
        found, error = "", f"{type(caught).__name__}: {caught}"
    seconds = time.process_time() - started
    lines = open("/proc/self/status").read().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return {"call": call, "folder": folder, "found": found, "error": error, "seconds": seconds, "peak": peak}

print(json.dumps([measured(*one) for one in json.load(sys.stdin)]))
"""

CONFIG = "AutoConfig.from_pretrained(folder)"
WEIGHTS = "len(open_checkpoint(settle(resolve(folder))))"
GENERATION = (
    "GenerationConfig.from_json(settle(resolve(folder)).read_text('generation_config.json'), where=folder)"
)
INSPECTION = "[problem.what for problem in inspect(folder).problems]"
INDEX = "model.safetensors.index.json"
SIZE = 31_000_000


def run(*asked: tuple[Path, str]) -> list[dict[str, str]]:
    """Return what each call on a folder gives, and its error, once all are known to have cost little."""
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        input=json.dumps([[str(folder), call] for folder, call in asked]),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.returncode == 0, process.stderr
    facts = json.loads(process.stdout)
    for one in facts:
        assert one["seconds"] < SECONDS and one["peak"] < BYTES, one
    return facts


def folders(root: Path, contents: dict[str, str | bytes], file: str) -> dict[str, Path]:
    """Return a folder for each content of one file."""
    for number, content in enumerate(contents.values()):
        (root / str(number)).mkdir()
        (root / str(number) / file).write_bytes(content.encode() if isinstance(content, str) else content)
    return {kind: root / str(number) for number, kind in enumerate(contents)}


def repeated(start: str, part: str, end: str, size: int = SIZE) -> str:
    """Return a text of about `size` characters, most of them one part repeated."""
    return start + part * ((size - len(start) - len(end)) // len(part)) + end


SETTINGS = {
    "lists": repeated('{"a": [[]', ",[]", "]}"),
    "longer than any text": repeated('{"a": [[]', ",[]", "]}", 99_000_000),
    "numbers": repeated('{"a": [1.5', ",1.5", "]}"),
    "keys": '{"model_type": "llama"' + "".join(f',"{i}":1' for i in range(2_500_000)) + "}",
    "objects in objects": '{"a":' * 900 + "1" + "}" * 900,
    "lists in lists": '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
    "digits": '{"model_type": "llama", "vocab_size": ' + "9" * 5_000 + "}",
    "nothing": "",
    "spaces": " " * SIZE,
}


@pytest.mark.parametrize(("file", "call"), [("config.json", CONFIG), ("generation_config.json", GENERATION)])
def test_settings(tmp_path, file, call):
    made = folders(tmp_path, SETTINGS, file)
    for kind, facts in zip(made, run(*((folder, call) for folder in made.values())), strict=True):
        error, expected = facts["error"], "SourceError" if kind == "longer than any text" else "ConfigError"
        assert error.startswith(f"{expected}: ") and str(made[kind]) in error, (kind, error)


PLACES = {
    "a million shards": ({}, {f"{i}": f"{i}.safetensors" for i in range(1_000_000)}),
    "as many shards as tensors": ({}, {f"t{i}": f"{i}.safetensors" for i in range(199_000)}),
    "as many tensors as there may be": (
        {},
        {f"model.layers.{i}.mlp.gate_proj.weight": "model-00001.safetensors" for i in range(299_000)},
    ),
}
INDICES = {kind: json.dumps({"metadata": m, "weight_map": places}) for kind, (m, places) in PLACES.items()}
INDICES |= {
    kind: f'{{"metadata": {{"a": {metadata}}}, "weight_map": {{"a": "b.safetensors"}}}}'
    for kind, metadata in (
        ("objects in objects", '{"a":' * 900 + "1" + "}" * 900),
        ("lists in lists", "[" * 100_000 + "]" * 100_000),
        ("digits", "9" * 5_000),
    )
}


def test_indices(tmp_path):
    made = folders(tmp_path, INDICES, INDEX)
    for kind, facts in zip(made, run(*((folder, WEIGHTS) for folder in made.values())), strict=True):
        error = facts["error"]
        assert error.startswith("CheckpointError: ") and INDEX in error and str(made[kind]) in error, (
            kind,
            error,
        )
        if kind == "as many tensors as there may be":
            assert "is not there; the index places 299,000 tensors in it" in error


HEADERS = {
    "lists": repeated('{"a":[[]', ",[]", "]}", 24_900_000),
    "numbers": repeated('{"a":[1.5', ",1.5", "]}", 24_900_000),
    "small numbers": repeated('{"a":[1', ",1", "]}", 24_900_000),
    "texts": repeated('{"a":["b"', ',"b"', "]}", 24_900_000),
    "digits": '{"a":{"dtype":"F32","shape":[' + "9" * 5_000 + '],"data_offsets":[0,4]}}',
    "lists in lists": '{"a":' + "[" * 900 + "]" * 900 + "}",
}


def test_headers(tmp_path):
    made = folders(
        tmp_path, {kind: raw(text, bytes(4)) for kind, text in HEADERS.items()}, "model.safetensors"
    )
    for kind, facts in zip(made, run(*((folder, WEIGHTS) for folder in made.values())), strict=True):
        assert facts["error"].startswith("CheckpointError: model.safetensors "), (kind, facts)


def test_good_files_at_the_limits_are_read(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "llama", "more": [1] * 390_000, "nested": [[[[[[[[[1]]]]]]]]]})
    )
    save(tmp_path, {"a": np.zeros(3, np.float32)}, config=(tmp_path / "config.json").read_text())
    config, weights = run((tmp_path, CONFIG), (tmp_path, WEIGHTS))
    assert config["found"].startswith("LlamaConfig") and weights["found"] == "1"


def test_links_to_folders_beside_a_good_checkpoint(tmp_path):
    asked = []
    for number, target in enumerate(("/", "/proc", "/dev", "..", ".", "itself")):
        folder = tmp_path / str(number)
        save(folder, arrays(), config='{"model_type": "llama"}')
        (folder / "itself").symlink_to(target)
        (folder / "one").symlink_to("other")
        (folder / "other").symlink_to("one")
        asked += [(folder, INSPECTION), (folder, WEIGHTS)]
    assert [facts["found"] for facts in run(*asked)] == ["[]", str(len(arrays()))] * 6


def test_links_to_what_is_no_file(tmp_path):
    asked = []
    os.mkfifo(tmp_path / "pipe")
    targets = ["/dev/zero", "/dev/random", "/dev/stdin", "/proc/kmsg", "/proc/kcore", "/proc/self/mem", "/"]
    for target in [*targets, tmp_path / "pipe", "config.json", "gone"]:
        for file, call in (("config.json", CONFIG), ("model.safetensors", WEIGHTS), (INDEX, WEIGHTS)):
            asked.append((tmp_path / str(len(asked)), call))
            asked[-1][0].mkdir()
            (asked[-1][0] / file).symlink_to(target)
    for facts in run(*asked):
        assert facts["folder"] in facts["error"] and "  next: " in facts["error"], facts


def test_a_pipe_that_takes_the_place_of_a_listed_file(tmp_path):
    save(tmp_path, arrays())
    snapshot = resolve(tmp_path)
    (tmp_path / "config.json").unlink()
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(SourceError, match=r"'config\.json' is no file with a content of its own"):
        snapshot.read_text("config.json")


def test_a_folder_of_more_files_than_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "MAX_LISTED", 5)
    for number in range(20):
        (tmp_path / f"a{number}").touch()
    save(tmp_path, arrays(), max_shard_size=1200)
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_text("onnx")
    snapshot = resolve(tmp_path)
    assert {"config.json", "model.safetensors.index.json"} < set(snapshot.files)
    assert len([name for name in snapshot.files if not name.endswith(local.kinds())]) <= 5
    assert len(open_checkpoint(snapshot)) == len(arrays())
    assert snapshot.read_text("onnx/model.onnx") == "onnx"
    for name in ("gone", "../checkpoint", "/etc/passwd", "a" * 300, "a/" * 3000, "a\0b", ""):
        assert not snapshot.has(name)
