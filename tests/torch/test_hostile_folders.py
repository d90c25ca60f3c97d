"""Hostile folders loaded into PyTorch: few descriptors, little memory, names that would steer a terminal."""

import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest

import loadstone
from loadstone import AutoModelForCausalLM
from loadstone.errors import ArgumentError, MatchError, NoWeightsError
from tests.oracle.files import rewrite, tensors
from tests.torch.tiny import same, saved, state

EVIL = "\x1b[2J\x7f\x9b\r\n\u2028next: run this"


@pytest.mark.parametrize("read", ["map", "copy"])
def test_more_shards_than_descriptors(tmp_path, read):
    resource = pytest.importorskip("resource")
    model = loadstone.LlamaForCausalLM.from_pretrained(
        saved(tmp_path / "one", "LlamaForCausalLM", num_hidden_layers=20)
    )
    model.save_pretrained(tmp_path / "many", max_shard_size=100)
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 150
    limits, used = resource.getrlimit(resource.RLIMIT_NOFILE), len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, limits[1]))
    try:
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "many", read=read)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert same(state(model), state(again))
    assert len(os.listdir("/proc/self/fd")) == used


LITTLE = """
import json, resource, sys
import loadstone
from loadstone import AutoConfig, AutoModelForCausalLM
from loadstone.errors import OutOfMemoryError

small, large = sys.argv[1:]
AutoModelForCausalLM.from_pretrained(small, read="copy")
used = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), -1))
config = AutoConfig.from_pretrained(large)
for call in (
    lambda: AutoModelForCausalLM.from_pretrained(large, read="map"),
    lambda: AutoModelForCausalLM.from_pretrained(large, read="copy"),
    lambda: AutoModelForCausalLM.from_pretrained(large, dtype="float64"),
    lambda: AutoModelForCausalLM.from_config(config),
):
    try:
        call()
    except OutOfMemoryError as error:
        print(json.dumps(str(error)))
AutoModelForCausalLM.from_pretrained(small, read="copy")
"""


def test_memory_that_runs_out_is_told_with_what_was_asked(tmp_path):
    small = saved(tmp_path / "small", "LlamaForCausalLM")
    large = tmp_path / "large"
    large.mkdir()
    held = {name: value for name, value in tensors(small).items() if name != "lm_head.weight"}
    rewrite(large, held | {"model.embed_tokens.weight": np.zeros((1_000_000, 24), np.float32)})
    config = json.loads((small / "config.json").read_text())
    (large / "config.json").write_text(
        json.dumps(config | {"vocab_size": 1_000_000, "tie_word_embeddings": True})
    )
    done = subprocess.run(
        [sys.executable, "-c", LITTLE, str(small), str(large)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(messages) == 4, done.stdout
    assert all("MB (96,0" in message for message in messages), messages


def test_names_are_spelt_out_in_warnings_reports_and_errors(folder, caplog):
    rewrite(folder, tensors(folder) | {EVIL: np.zeros(3, np.float32)})
    with caplog.at_level(logging.WARNING, "loadstone"):
        model = AutoModelForCausalLM.from_pretrained(folder)
    texts = [*caplog.messages, str(model.load_report), str(loadstone.load.story.plan(folder))]
    assert len(caplog.messages) == 1
    with pytest.raises(MatchError) as caught:
        AutoModelForCausalLM.from_pretrained(folder, strict=True)
    held = tensors(folder)
    rewrite(
        folder,
        {(f"model.norm{EVIL[0]}.weight" if n == "model.norm.weight" else n): v for n, v in held.items()},
    )
    with pytest.raises(MatchError, match="did you mean") as meant:
        AutoModelForCausalLM.from_pretrained(folder)
    for text in (*texts, str(caught.value), str(meant.value)):
        assert all(character.isprintable() or character == "\n" for character in text), text
        assert r"\x1b" in text and not any(line.startswith("next: run this") for line in text.splitlines())


def test_what_callers_of_transformers_catch(folder):
    with pytest.raises(RuntimeError, match="do not fit together"):
        AutoModelForCausalLM.from_pretrained(folder, hidden_size=48)
    os.remove(folder / "model.safetensors")
    with pytest.raises(OSError, match="no weights") as caught:
        AutoModelForCausalLM.from_pretrained(folder)
    assert isinstance(caught.value, NoWeightsError)
    with pytest.raises(ArgumentError, match="this is nothing"):
        AutoModelForCausalLM.from_pretrained(None)
