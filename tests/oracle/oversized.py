"""The suite of configurations that are larger than their checkpoint: refused before a model is built, at no cost.

A backend's test module subclasses `OversizedSuite` and inherits the tests.
"""

import json
import time
import tracemalloc
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from safetensors.numpy import save_file

import loadstone
from loadstone.architectures import architecture_for
from loadstone.architectures.registry import built_in
from loadstone.backend import get_backend
from loadstone.cli import main
from loadstone.errors import ConfigError, LoadstoneError, MatchError, OutOfMemoryError
from loadstone.load.story import from_pretrained, plan
from tests.oracle.files import SIZES, copied, edit_config

TYPES = sorted(built_in())
SECONDS, BYTES = 3.0, 50_000_000
"""What an error may cost."""


def checkpoint(folder: Path, config: dict[str, Any]) -> Path:
    """Write a checkpoint of two small tensors; their names do not matter, they are never matched."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {"a.weight": np.zeros((8, 4), np.float32), "b": np.zeros(3, np.float32)},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class Cost:
    """Measures what runs inside it, and fails if that is much."""

    def __enter__(self) -> None:
        tracemalloc.start()
        self._started = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        seconds, peak = time.perf_counter() - self._started, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seconds < SECONDS and peak < BYTES, (seconds, peak)


def named(model_type: str) -> list[tuple[str, Any]]:
    """Return each key of a type by which its configuration can be too large, and such a value."""
    architecture = architecture_for(model_type)
    layers: list[tuple[str, Any]] = [
        (key, number) for key in architecture.layers for number in (3, 10**5, 10**9)
    ]
    sizes = [(key, 10**7) for key in architecture.sizes if key not in architecture.layers]
    return [
        (key, [value] * 4 if key in ("depths", "hidden_sizes") else value) for key, value in layers + sizes
    ]


class OversizedSuite:
    """Every key of every type, for one backend.

    Attributes:
        backend: Its name.
    """

    backend: ClassVar[str]

    @pytest.fixture
    def nothing_built(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make building a model an error of the test."""

        def build(*arguments: Any, **options: Any) -> None:
            raise AssertionError("a model was built")

        monkeypatch.setattr(type(get_backend(self.backend)), "build", build)

    @pytest.mark.parametrize("model_type", TYPES)
    @pytest.mark.usefixtures("nothing_built")
    def test_what_is_larger_than_the_files_is_refused_before_it_is_built(
        self, model_type: str, tmp_path: Path
    ) -> None:
        assert named(model_type)
        for key, value in named(model_type):
            folder = checkpoint(tmp_path, {"model_type": model_type, key: value})
            for ask in (from_pretrained, plan):
                with Cost(), pytest.raises((MatchError, ConfigError)) as caught:
                    ask(folder, task="", backend=self.backend)
                message = str(caught.value)
                assert f"{key}={value}" in message, message
                # The heads that divide a size of the same configuration are held against that.
                facts = ("the checkpoint has 2 tensors", "an axis of more than 8", "must be a multiple of")
                assert any(fact in message for fact in facts), message

    @pytest.mark.usefixtures("nothing_built")
    def test_a_key_is_named_as_the_file_spells_it(self, tmp_path: Path) -> None:
        folder = checkpoint(tmp_path, {"model_type": "gpt2", "num_hidden_layers": 10**6})
        with pytest.raises(MatchError, match="num_hidden_layers=1000000: the checkpoint has 2 tensors"):
            plan(folder, backend=self.backend)

    @pytest.mark.usefixtures("nothing_built")
    def test_an_argument_is_held_against_the_files_too(self, tmp_path: Path) -> None:
        folder = checkpoint(tmp_path, {"model_type": "llama"} | SIZES["llama"] | {"num_hidden_layers": 1})
        with pytest.raises(MatchError, match="num_hidden_layers=100000: "):
            plan(folder, task="", backend=self.backend, num_hidden_layers=100_000)
        with pytest.raises(MatchError, match="num_hidden_layers=100000: "):
            plan(
                folder,
                task="",
                backend=self.backend,
                num_hidden_layers=100_000,
                ignore_mismatched_sizes=True,
            )

    @pytest.mark.usefixtures("nothing_built")
    def test_a_billion_labels(self, tmp_path: Path) -> None:
        for key, value in (("num_labels", 10**9), ("num_labels", 10**30), ("head_dim", 10**30)):
            folder = checkpoint(tmp_path, {"model_type": "llama", key: value})
            with Cost(), pytest.raises(ConfigError, match=f"{key}: expected"):
                plan(folder, task="SequenceClassification", backend=self.backend)

    @pytest.mark.usefixtures("nothing_built")
    def test_the_command_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = checkpoint(tmp_path, {"model_type": "llama", "num_hidden_layers": 10**9})
        with Cost(), pytest.raises(SystemExit) as ended:
            main(["plan", str(folder), "--backend", self.backend])
        assert ended.value.code == 1
        assert "num_hidden_layers=1000000000: the checkpoint has 2 tensors" in capsys.readouterr().err

    def test_a_wrong_file_is_not_built_where_an_argument_corrects_it(self, tmp_path: Path) -> None:
        config = loadstone.AutoConfig.for_model("llama", **SIZES["llama"])
        found = get_backend(self.backend).model_class(
            architecture_for("llama"), architecture_for("llama").heads[1]
        )
        found.from_config(config).save_pretrained(tmp_path / "good")  # type: ignore[attr-defined]
        folder = copied(tmp_path / "good", tmp_path / "copy")
        edit_config(folder, num_hidden_layers=10**5)
        started = time.perf_counter()
        layers = SIZES["llama"]["num_hidden_layers"]
        model = from_pretrained(folder, task="CausalLM", backend=self.backend, num_hidden_layers=layers)
        assert model.config.num_hidden_layers == layers
        with pytest.raises(
            MatchError, match="surplus"
        ):  # and where it asks what the file's own would have had
            from_pretrained(folder, task="CausalLM", backend=self.backend, num_hidden_layers=layers - 1)
        assert time.perf_counter() - started < 2 * SECONDS

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({"num_hidden_layers": 10**9}, ConfigError),
            ({"num_hidden_layers": 10**6}, ConfigError),
            ({"vocab_size": 10**9}, ConfigError),
            ({"vocab_size": 10**7, "hidden_size": 10**7, "num_attention_heads": 1000}, OutOfMemoryError),
        ],
    )
    def test_without_a_checkpoint_it_is_our_error_too(
        self, fields: dict[str, Any], error: type[LoadstoneError]
    ) -> None:
        config = loadstone.AutoConfig.for_model("llama", **SIZES["llama"] | fields)
        with Cost(), pytest.raises(error) as caught:
            loadstone.AutoModel.from_config(config, backend=self.backend)
        if error is OutOfMemoryError:
            assert isinstance(caught.value, MemoryError)
            assert " TB (" in str(caught.value)
