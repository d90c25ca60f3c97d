"""An architecture of one's own that no plugin brings, and what has to hold of its classes in each framework."""

from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loadstone
from loadstone.architectures import Architecture, Head, Tie
from loadstone.backend import get_backend
from loadstone.backend.registered import unregister
from loadstone.config import Config
from loadstone.errors import ArchitectureError

ROWS, WIDTH = 13, 4


class PebbleConfig(Config):
    """Configuration of Pebble."""

    model_type = "pebble"

    vocab_size: int = ROWS
    hidden_size: int = WIDTH


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PebbleSpec:
    """What the models of every framework read."""

    vocab_size: int
    hidden_size: int


PEBBLE = Architecture(
    model_type="pebble",
    family="pebble",
    config=PebbleConfig,
    spec=lambda config: PebbleSpec(vocab_size=config.vocab_size, hidden_size=config.hidden_size),
    heads=(
        Head(task="", class_name="PebbleModel", prefix=""),
        Head(
            task="CausalLM",
            class_name="PebbleForCausalLM",
            prefix="model",
            new=(("lm_head.weight", "lm_head.bias"),),
            ties=(Tie(name="lm_head.weight", to="model.tokens.weight"),),
            output="lm_head",
        ),
    ),
    embedding="tokens",
)


@contextmanager
def registered(classes: Any) -> Iterator[None]:
    """Let loadstone know the architecture and its classes for a while."""
    loadstone.register(PEBBLE, classes)
    try:
        yield
    finally:
        unregister("pebble")


def check(backend: str, base: Any, causal: Any, folder: Path) -> None:
    """Load a checkpoint with classes of one's own by every door, save and load again, and look what is left after."""
    prefix = loadstone.plugins.class_prefix_of(backend)
    read = get_backend(backend).read
    classes = {"": base, "CausalLM": causal}
    with registered({backend: classes}):
        config = loadstone.AutoConfig.for_model("pebble", tie_word_embeddings=False)
        model = loadstone.AutoModelForCausalLM.from_config(config, backend=backend, seed=1)
        assert type(model) is causal and type(model.base_model) is base
        assert model.architecture_and_head() == (PEBBLE, PEBBLE.heads[1])
        model.save_pretrained(folder)
        assert json.loads((folder / "config.json").read_text())["architectures"] == ["PebbleForCausalLM"]
        doors = (
            loadstone.AutoModelForCausalLM.from_pretrained(folder, backend=backend),
            causal.from_pretrained(folder),
            getattr(loadstone, f"{prefix}PebbleForCausalLM").from_pretrained(folder),
            getattr(loadstone, f"{prefix}AutoModelForCausalLM").from_pretrained(folder, backend=backend),
        )
        for again in doors:
            assert type(again) is causal and type(again.config) is PebbleConfig
            assert not again.load_report.names("new")
            for name in get_backend(backend).parameters(model):
                np.testing.assert_array_equal(read(again, name).numpy(), read(model, name).numpy())
        assert loadstone.plan(folder, backend=backend).model_class == causal.__name__
        found = loadstone.AutoModel.from_pretrained(folder, backend=backend)
        assert type(found) is base and found.load_report.names("loaded") == ["tokens.weight"]
        head = causal.from_pretrained(_of_base(base, folder / "base"))
        assert sorted(head.load_report.names("new")) == ["lm_head.bias", "lm_head.weight"]
        assert pickle.loads(pickle.dumps(causal)) is causal
    with pytest.raises(AttributeError):
        getattr(loadstone, f"{prefix}PebbleForCausalLM")
    with pytest.raises(loadstone.ConfigError, match="unknown model type 'pebble'"):
        causal.from_pretrained(folder)
    with registered({}), pytest.raises(ArchitectureError, match="no models of the family 'pebble'") as caught:
        loadstone.AutoModel.from_pretrained(folder, backend=backend)
    assert f"loadstone.register(the architecture, {{'{backend}': {prefix}PebbleModel}})" in str(caught.value)


def _of_base(base: Any, folder: Path) -> Path:
    base(PebbleConfig(tie_word_embeddings=False)).save_pretrained(folder)
    return folder


def check_elsewhere(backend: str, folder: Path) -> None:
    """Look at what a process says that has not registered the classes."""
    script = f"import loadstone; loadstone.AutoModel.from_pretrained({str(folder)!r}, backend={backend!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "ConfigError: unknown model type 'pebble'" in done.stderr
    assert "import the module that calls loadstone.register" in done.stderr
