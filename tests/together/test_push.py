"""What each backend pushes to a Hub on loopback: the same files, which any backend loads by the repository's id."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import torch  # isort: skip  # first: TensorFlow before it crashes the process

from typing import Any

import flax  # noqa: F401
import jax  # noqa: F401
import keras  # noqa: F401
import pytest
import tensorflow  # noqa: F401
from loopback_store import GOOD_TOKEN

from loadstone import AutoModelForCausalLM
from loadstone.backend import get_backend
from tests.oracle import load

torch.set_num_threads(1)

FOLDER = "llama-causal-lm-tied"
BACKENDS = ("torch", "flax", "tensorflow")


def values(model: Any) -> dict[str, bytes]:
    backend = get_backend(model.backend_name)
    return {name: backend.read(model, name).data.tobytes() for name in backend.parameters(model)}


@pytest.mark.parametrize("size", ["5GB", "20KB"])
def test_every_backend_pushes_the_same_files(hub: Any, size: str) -> None:
    pushed, expected = {}, None
    for backend in BACKENDS:
        model = AutoModelForCausalLM.from_pretrained(load.folder(FOLDER), backend=backend)
        expected = values(model)
        commit = model.push_to_hub(f"org/{backend}", token=GOOD_TOKEN, max_shard_size=size)
        files = hub.repositories[f"org/{backend}"].commits[commit.oid]
        pushed[backend] = {name: file.content.sha256 for name, file in files.items()}
    assert pushed["flax"] == pushed["tensorflow"] == pushed["torch"]
    assert ("model.safetensors" in pushed["torch"]) is (size == "5GB")
    for writer, reader in zip(BACKENDS, ("flax", "tensorflow", "torch"), strict=True):
        loaded = AutoModelForCausalLM.from_pretrained(f"org/{writer}", backend=reader)
        assert values(loaded) == expected
