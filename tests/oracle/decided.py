"""What a load decides beside its plan, one list for every backend: saves that come meanwhile, adapters, dtypes, types, code."""

from __future__ import annotations

import collections
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
import pytest

import loadstone.read.files
from loadstone.backend import get_backend
from loadstone.checkpoint import disk, switch, write
from loadstone.checkpoint.layout import StoredTensor
from loadstone.errors import (
    ArgumentError,
    ChangedFileError,
    CheckpointError,
    ConfigError,
    LoadstoneError,
    MatchError,
)
from loadstone.load import from_pretrained, plan
from loadstone.read.tensor import HostTensor
from tests.oracle.files import WEIGHTS, copied, edit_config, rewrite, tensors

SIZES = {
    "vocab_size": 11,
    "hidden_size": 4,
    "intermediate_size": 6,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
EMBEDDING = "model.embed_tokens.weight"


def llama(value: float) -> dict[str, np.ndarray]:
    """Return the tensors of a Llama, each number of which is the value."""
    shapes = {EMBEDDING: (11, 4), "model.norm.weight": (4,), "lm_head.weight": (11, 4)}
    layer = {"self_attn.q_proj": (4, 4), "self_attn.k_proj": (2, 4), "self_attn.v_proj": (2, 4)}
    layer |= {"self_attn.o_proj": (4, 4), "mlp.gate_proj": (6, 4), "mlp.up_proj": (6, 4), "mlp.down_proj": (4, 6)}
    layer |= {"input_layernorm": (4,), "post_attention_layernorm": (4,)}
    shapes |= {f"model.layers.0.{name}.weight": shape for name, shape in layer.items()}
    return {name: np.full(shape, value, np.float32) for name, shape in shapes.items()}


def stored(name: str, array: np.ndarray) -> StoredTensor:
    """Return what a backend hands over to save an array."""

    def read() -> HostTensor:
        data = array.reshape(-1).view(np.uint8)
        return HostTensor(name=name, dtype=array.dtype.name, shape=array.shape, data=data)

    return StoredTensor(name=name, dtype=array.dtype.name, shape=array.shape, read=read)


def save(folder: Path, number: int, size: str = "1GB") -> None:
    """Save the checkpoint of a number: it stands in the weights, config.json and generation_config.json."""
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "eos_token_id": number} | SIZES
    write.save_checkpoint(
        folder,
        [stored(name, array) for name, array in llama(number).items()],
        config_json=json.dumps(config),
        other_files={"generation_config.json": json.dumps({"max_new_tokens": number})},
        max_shard_size=size,
    )


class Moments:
    """The moments at which a load opens, lists or looks at something in a folder; at one of them something happens."""

    def __init__(self) -> None:
        self.folder, self.at, self.action, self.passed = "", -1, lambda: None, 0
        sys.addaudithook(self.audit)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder and event in ("open", "os.scandir", "os.listdir"):
            self.pass_by(arguments[0])

    def pass_by(self, path: object) -> None:
        if self.folder and isinstance(path, str | Path) and str(path).startswith(self.folder):
            self.passed += 1
            if self.passed == self.at:
                folder, self.folder = self.folder, ""  # what it does itself is no moment of the load
                self.action()
                self.folder = folder

    def during(self, load: Callable[[], Any], folder: Path, at: int, action: Callable[[], Any]) -> Any:
        """Load, and act at a moment."""
        self.folder, self.at, self.action, self.passed = str(folder), at, action, 0
        try:
            return load()
        finally:
            self.folder = ""


MOMENTS = Moments()


class Unsynced:
    """The `os` module for saves that wait for no disk."""

    def __getattr__(self, name: str) -> Any:
        return (lambda *arguments: None) if name == "fsync" else getattr(os, name)


def switched(folder: Path) -> None:
    """Make the switch of a save that is ready, and leave it half-done."""
    [staging] = folder.glob("loadstone-save-*")
    entry = json.loads((staging / switch.JOURNAL).read_text())["entry"]
    disk.rename(staging / entry, folder / entry)


def overwritten(folder: Path, new: Path) -> None:
    """Save as other tools do: into the files that are there, one after the other."""
    for file in sorted(new.iterdir()):
        shutil.copyfile(file, folder / file.name)


class DecidedSuite:
    """Subclass it and name the backend."""

    backend: ClassVar[str]

    # Saves that come while a load is under way

    @pytest.fixture(scope="class")
    @classmethod
    def saves(cls, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Callable[[Path], Any]]]:
        """Kind -> the folder before the save, and what the save does."""
        root = tmp_path_factory.mktemp("saves")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(disk, "os", Unsynced())
            save(root / "old", 1)
            save(root / "shards", 1, "200")
            save(root / "new", 2)
            for kind in ("ready", "half"):
                copied(root / "old", root / kind)
            patch.setattr(write, "complete", lambda *arguments: None)
            save(root / "ready", 2, "200")
            save(root / "half", 2)
        switched(root / "half")
        return {
            "whole": (root / "old", lambda folder: save(folder, 2)),
            "other entry": (root / "shards", lambda folder: save(folder, 2)),
            "switch alone": (root / "ready", switched),
            "tidying": (root / "half", switch.recover),
            "in place": (root / "old", lambda folder: overwritten(folder, root / "new")),
        }

    @pytest.mark.parametrize("kind", ["whole", "other entry", "switch alone", "tidying", "in place"])
    def test_a_save_at_any_moment_of_a_load(
        self, kind: str, saves: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is loaded is of one save, config.json and generation_config.json too, or it is an error."""
        monkeypatch.setattr(disk, "os", Unsynced())
        real = loadstone.read.files.identity
        monkeypatch.setattr(
            loadstone.read.files, "identity", lambda path: (MOMENTS.pass_by(path), real(path))[1]
        )
        before, action = saves[kind]
        found: collections.Counter[Any] = collections.Counter()
        at, done = 0, False
        while not done:
            at += 1
            folder = copied(before, tmp_path / str(at))
            try:
                model = MOMENTS.during(lambda f=folder: self.load(f), folder, at, lambda f=folder: action(f))
            except ChangedFileError as error:
                found[type(error).__name__] += 1
                assert "next: load again" in str(error)
            else:
                found[self.numbers(model)] += 1
            done = at > MOMENTS.passed
        assert at > 15
        assert found.keys() <= {(1, 1, 1), (2, 2, 2), "ChangedFileError"}
        assert found[2, 2, 2] >= 5, "early enough, the new one is loaded"
        assert kind == "tidying" or found[1, 1, 1] >= 1

    def load(self, folder: Path, **arguments: Any) -> Any:
        return from_pretrained(folder, task="CausalLM", backend=self.backend, **arguments)

    def numbers(self, model: Any) -> tuple[int, int, int]:
        embedding = get_backend(self.backend).read(model, EMBEDDING).numpy()
        assert (embedding == embedding.flat[0]).all()
        return model.config.eos_token_id, int(embedding.flat[0]), model.generation_config.max_new_tokens
