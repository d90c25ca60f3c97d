"""Hard budgets: what a load reads, byte for byte, and how much memory it takes. Each load has a process of its own."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import checkpoints
from tests.benchmarks.checkpoints import Generated
from tests.benchmarks.run import MEASURE

MB = 1 << 20
FIXED = 32 * MB
"""What a load may take beside the model: staging buffers, the plan, what was imported on the way."""
HEADERS = 8 * MB
"""What may be read beside tensors: headers, configuration, modules imported on the way."""

BF16 = Generated(
    name="llama-100m",
    layers=6,
    hidden=768,
    intermediate=2560,
    heads=12,
    kv_heads=4,
    vocabulary=32000,
    shard=40 * MB,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A Llama of 96 million bfloat16 parameters in several shards."""
    return checkpoints.make(BF16, tmp_path_factory.mktemp("memory"))


def load(path: Path, **options: Any) -> dict[str, Any]:
    """Load in a fresh process and return what `measure` says of it."""
    command = [sys.executable, str(MEASURE), "loadstone_torch", str(path), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def tie(folder: Path, target: Path, *, equal: bool) -> Path:
    """Copy a checkpoint to one file whose configuration ties the head to the embedding, and which stores both."""
    from safetensors.torch import load_file, save_file

    tensors = {}
    for file in folder.glob("*.safetensors"):
        tensors |= load_file(file)
    head = tensors["model.embed_tokens.weight"].clone()
    tensors["lm_head.weight"] = head if equal else head + 1
    target.mkdir()
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
    (target / "config.json").write_text(json.dumps(config))
    return target


@pytest.fixture(scope="module")
def mapped(folder) -> dict[str, Any]:
    """What it costs to map the checkpoint, and to touch every byte of the model afterwards."""
    return load(folder)


def test_a_mapped_load_reads_no_byte_of_a_tensor(mapped):
    assert (mapped["bytes_read"], mapped["bytes_mapped"]) == (0, BF16.nbytes)
    assert mapped["asked_bytes"] < HEADERS


def test_a_mapped_model_takes_no_anonymous_memory_even_when_touched(mapped):
    assert mapped["peak_bytes"] < FIXED


@pytest.mark.parametrize(
    ("options", "factor"),
    [({"dtype": "float32"}, 2), ({"dtype": "float16"}, 1), ({"read": "copy"}, 1)],
    ids=str,
)
def test_a_load_that_reads_does_so_once_into_the_model_itself(folder, mapped, options, factor):
    cost = load(folder, **options)
    assert (cost["bytes_read"], cost["bytes_mapped"]) == (BF16.nbytes, 0)
    assert cost["asked_bytes"] < BF16.nbytes + HEADERS
    assert 0.9 * factor * BF16.nbytes < cost["peak_bytes"] < factor * BF16.nbytes + FIXED
    assert (cost["sum"] == mapped["sum"]) == ("dtype" not in options)


def test_a_tie_that_is_stored_twice_is_compared_in_a_fixed_buffer(folder, tmp_path):
    tied = tie(folder, tmp_path / "tied", equal=True)
    embedding = BF16.vocabulary * BF16.hidden * 2
    mapped, copied = load(tied, touch=False), load(tied, read="copy", touch=False)
    assert (mapped["bytes_read"], mapped["bytes_mapped"]) == (2 * embedding, BF16.nbytes - embedding)
    assert mapped["peak_bytes"] < FIXED
    assert copied["bytes_read"] == BF16.nbytes + embedding
    assert copied["peak_bytes"] < BF16.nbytes - embedding + FIXED


def test_two_values_for_a_tie_are_both_kept(folder, tmp_path):
    cost = load(tie(folder, tmp_path / "untied", equal=False), touch=False)
    assert cost["bytes_mapped"] == BF16.nbytes
    assert cost["bytes_read"] < 32 * MB  # one piece of each shows that they differ


def test_a_narrowing_load_takes_what_the_narrow_model_takes(tmp_path):
    wide = checkpoints.make(dataclasses.replace(BF16, name="llama-100m-fp32", code="F32"), tmp_path)
    cost = load(wide, dtype="bfloat16", touch=False)
    assert cost["bytes_read"] == 2 * BF16.nbytes
    assert 0.9 * BF16.nbytes < cost["peak_bytes"] < BF16.nbytes + FIXED
