"""What a load decides beside its plan, whatever the backend: saves that come meanwhile, adapters, dtypes, types, code."""

from __future__ import annotations

import ast
import collections
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
import pytest

import loadstone
import loadstone.load.decide
import loadstone.read.files
from loadstone import plugins
from loadstone.backend import get_backend
from loadstone.checkpoint.formats.writer import StoredTensor
from loadstone.checkpoint.settled import JOURNAL
from loadstone.errors import (
    ArgumentError,
    ChangedFileError,
    CheckpointError,
    ConfigError,
    LoadstoneError,
    MatchError,
)
from loadstone.load.story import from_pretrained, plan
from loadstone.read.tensor import HostTensor
from loadstone.save import disk, switch, write
from tests.oracle.files import copied, edit_config, rewrite, tensors

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
    layer |= {
        "self_attn.o_proj": (4, 4),
        "mlp.gate_proj": (6, 4),
        "mlp.up_proj": (6, 4),
        "mlp.down_proj": (4, 6),
    }
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
    entry = json.loads((staging / JOURNAL).read_text())["entry"]
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
        assert found.keys() <= {(1, 1, 1), (2, 2, 2), "ChangedFileError"}
        assert at > 15
        assert found[2, 2, 2] >= 5, "early enough, the new one is loaded"
        assert kind == "tidying" or found[1, 1, 1] >= 1

    def load(self, folder: Path, **arguments: Any) -> Any:
        return from_pretrained(folder, task="CausalLM", backend=self.backend, **arguments)

    def numbers(self, model: Any) -> tuple[int, int, int]:
        embedding = get_backend(self.backend).read(model, EMBEDDING).numpy()
        assert (embedding == embedding.flat[0]).all()
        return model.config.eos_token_id, int(embedding.flat[0]), model.generation_config.max_new_tokens

    def test_a_folder_that_changes_without_end(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Once more is tried, not for ever."""
        real, numbers = loadstone.load.decide._decide, iter(range(2, 9))

        def saved_meanwhile(*arguments: Any) -> Any:
            save(folder, next(numbers))
            return real(*arguments)

        monkeypatch.setattr(loadstone.load.decide, "_decide", saved_meanwhile)
        for load in (self.load, lambda f: plan(f, backend=self.backend)):
            with pytest.raises(ChangedFileError, match="saved anew while it was being loaded"):
                load(folder)
        assert next(numbers) == 6, "two attempts each"

    # Adapters

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A Llama of ones."""
        save(tmp_path / "llama", 1)
        return tmp_path / "llama"

    @pytest.mark.parametrize("weights", ["adapter_model.safetensors", "adapter_model.bin", None])
    def test_an_adapter_beside_whole_weights(self, folder: Path, weights: str | None) -> None:
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
        if weights:
            (folder / weights).write_bytes(b"")
        for load in (self.load, lambda f: plan(f, backend=self.backend)):
            with pytest.raises(CheckpointError, match="PEFT adapter lies beside") as caught:
                load(folder)
            assert "ignore_adapter=True" in str(caught.value) and "merge_and_unload" in str(caught.value)
        model = self.load(folder, ignore_adapter=True)
        assert self.numbers(model) == (1, 1, 1)
        assert any("adapter_config.json" in note and "left out" in note for note in model.load_report.notes)

    def test_an_adapters_weights_alone_belong_to_nobody(self, folder: Path, caplog: Any) -> None:
        (folder / "adapter_model.safetensors").write_bytes(b"")
        assert "adapter_model.safetensors: left out" in self.load(folder).load_report.notes[0]
        assert "adapter_model.safetensors: left out" in caplog.text

    # The dtype of a mixed file

    @pytest.mark.parametrize("first", ["float32", "bfloat16"])
    def test_a_mixed_file_has_the_dtype_of_its_first_float_tensor(
        self, folder: Path, first: str, caplog: Any
    ) -> None:
        """Of the first by name, as transformers takes it; what that narrows is told."""
        held = llama(1.0 + 2.0**-12)
        first_name = min(held)
        dtypes = dict.fromkeys(held, "bfloat16" if first == "float32" else "float32") | {first_name: first}
        as_dtype = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
        rewrite(folder, {name: array.astype(as_dtype[dtypes[name]]) for name, array in held.items()})
        backend, model = get_backend(self.backend), self.load(folder)
        assert {p.dtype for p in backend.parameters(model).values()} == {first}
        narrowed = [note for note in model.load_report.notes if "narrowed" in note]
        if first == "float32":
            assert (backend.read(model, first_name).numpy() == held[first_name]).all(), "nothing is lost"
            assert not narrowed and not caplog.records
        else:
            assert EMBEDDING in narrowed[0] and 'dtype="stored"' in narrowed[0]
            assert "narrowed" in caplog.text and "narrowed" in str(model.load_report)
            assert not self.load(folder, dtype="bfloat16").load_report.notes, "that was asked for"
            edit_config(folder, dtype="bfloat16")
            assert not self.load(folder).load_report.notes, "that too"

    # The model type

    def class_named(self, name: str) -> Any:
        return getattr(loadstone, plugins.class_prefix_of(self.backend) + name)

    def test_a_config_without_a_model_type(self, folder: Path) -> None:
        edit_config(folder, model_type=None)
        model = self.load(folder)
        assert self.numbers(model) == (1, 1, 1) and model.config.model_type == "llama"
        assert "it is 'llama' by its architectures, LlamaForCausalLM" in model.load_report.notes[0]
        edit_config(folder, architectures=["LlamaForChess"])
        assert "it is 'llama' by its architectures, LlamaForChess" in self.load(folder).load_report.notes[0]

        edit_config(folder, architectures=None)
        with pytest.raises(ConfigError, match="what kind of model") as caught:
            self.load(folder)
        assert 'model_type="bert"' in str(caught.value) and "BertModel" in str(caught.value)
        own = self.class_named("LlamaForCausalLM").from_pretrained(folder)
        assert self.numbers(own) == (1, 1, 1) and "by the class" in own.load_report.notes[0]
        named = plan(folder, model_class="LlamaForCausalLM", backend=self.backend)
        assert named.model_class == "LlamaForCausalLM" or named.model_class.endswith("LlamaForCausalLM")
        asked = self.load(folder, model_type="llama")
        assert self.numbers(asked) == (1, 1, 1) and not asked.load_report.notes

    def test_a_model_type_that_is_another_than_the_files(self, folder: Path, caplog: Any) -> None:
        """As in transformers the caller's counts, with a warning."""
        edit_config(folder, model_type="mine")
        model = self.load(folder, model_type="llama")
        assert self.numbers(model) == (1, 1, 1)
        assert "model_type='llama' goes before config.json's 'mine'" in caplog.text
        with pytest.raises(ConfigError, match="unknown model type 'lama'"):
            self.load(folder, model_type="lama")
        with pytest.raises(ArgumentError, match="model_type= is no text"):
            self.load(folder, model_type=5)
        with pytest.raises(ArgumentError, match="disagree"):
            self.load(folder, model_type="bert", config=model.config)

    # Code of a checkpoint's own

    CODE: ClassVar[dict[str, Any]] = {"auto_map": {"AutoModelForCausalLM": "mine.Mine"}}

    @pytest.mark.parametrize("trust", [None, False, True])
    def test_code_beside_a_type_that_is_known(self, folder: Path, trust: bool | None, caplog: Any) -> None:
        edit_config(folder, **self.CODE)
        (folder / "mine.py").write_text("raise SystemExit('it was run')")
        model = self.load(folder, trust_remote_code=trust)
        assert type(model) is self.class_named("LlamaForCausalLM")
        [note] = model.load_report.notes
        assert "AutoModelForCausalLM: 'mine.Mine'" in note and "something of its own" in note
        assert ("trust_remote_code=True runs nothing here" in note) == bool(trust)
        assert note in caplog.text and note in str(model.load_report)

    def test_code_of_a_tokenizer_is_no_models(self, folder: Path) -> None:
        edit_config(folder, auto_map={"AutoTokenizer": ["mine.Mine", None]})
        assert not self.load(folder, trust_remote_code=True).load_report.notes

    @pytest.mark.parametrize("trust", [None, True])
    @pytest.mark.parametrize(
        "change",
        [
            {"model_type": "mine"},
            {"model_type": None, "architectures": ["Mine"]},
            {"hidden_size": "4"},
            {"num_attention_heads": 3},
            {"num_hidden_layers": 2},
            {"hidden_act": "mine"},
        ],
        ids=str,
    )
    def test_errors_about_a_custom_checkpoint_name_its_code(
        self, folder: Path, change: dict[str, Any], trust: bool | None
    ) -> None:
        edit_config(folder, **self.CODE | change)
        with pytest.raises(LoadstoneError) as caught:
            self.load(folder, trust_remote_code=trust)
        assert "auto_map" in str(caught.value) and "mine.Mine" in str(caught.value)
        assert len(str(caught.value).splitlines()) <= 15

    def test_no_error_points_to_a_class_that_we_lack(self, folder: Path) -> None:
        edit_config(folder, architectures=["MineForCausalLM"], **self.CODE)
        rewrite(folder, {"mine.weight": np.zeros(3, np.float32)})
        with pytest.raises(MatchError) as caught:
            self.load(folder)
        assert "load that class" not in str(caught.value)
        assert "MineForCausalLM, a class that loadstone has not" in str(caught.value)

    # What is planned, counted and advised

    def test_a_plan_says_why_it_is_the_base_models(self, folder: Path) -> None:
        assert not plan(folder, backend=self.backend).notes
        edit_config(folder, architectures=["MineForCausalLM"])
        found = plan(folder, backend=self.backend)
        assert found.model_class == self.class_named("LlamaModel").__name__
        assert "MineForCausalLM is no class of 'llama' here" in str(found)

    def test_the_bar_counts_what_is_read_and_ends_at_its_total(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held = {name: array.astype(np.float16) for name, array in tensors(folder).items()}
        rewrite(folder, held | {"stranger": np.zeros(5, np.float16)})
        counted: dict[str, int] = {}

        @contextlib.contextmanager
        def bar(*, total: int, what: str) -> Iterator[Callable[[int], None]]:
            counted.update(total=total, passed=0)
            yield lambda number: counted.update(passed=counted["passed"] + number)

        monkeypatch.setattr("loadstone.load.supply.byte_bar", bar)
        for dtype, read in (("float32", "auto"), ("bfloat16", "auto"), ("float16", "copy")):
            report = self.load(folder, dtype=dtype, read=read).load_report
            assert counted["passed"] == counted["total"] == report.bytes_read > 0, dtype
        counted.clear()
        mapped = self.load(folder, dtype="float16", read="map").load_report
        assert counted.get("total", 0) == counted.get("passed", 0) == mapped.bytes_read

    @pytest.mark.parametrize(
        ("pattern", "wrapped"),
        [
            ("^module\\.", "module.{}"),
            ("^_orig_mod\\.", "_orig_mod.{}"),
            ("^base_model\\.model\\.", "base_model.model.{}"),
            ("^module\\._orig_mod\\.", "module._orig_mod.{}"),
        ],
    )
    def test_names_that_a_wrapper_left(self, folder: Path, pattern: str, wrapped: str) -> None:
        rewrite(folder, {wrapped.format(name): array for name, array in tensors(folder).items()})
        with pytest.raises(MatchError, match="wrapped the model that was saved: pass key_mapping=") as caught:
            self.load(folder)
        cure = ast.literal_eval(str(caught.value).rpartition("key_mapping=")[2])
        assert self.numbers(self.load(folder, key_mapping=cure)) == (1, 1, 1)
        assert cure == {pattern: ""} or wrapped.startswith("_orig")

    def test_names_that_were_wrapped_inside(self, folder: Path) -> None:
        held = {name.replace("layers.0.", "layers.0._orig_mod."): a for name, a in tensors(folder).items()}
        rewrite(folder, held)
        with pytest.raises(MatchError, match=r"torch.compile wrapped .* key_mapping=") as caught:
            self.load(folder)
        cure = ast.literal_eval(str(caught.value).rpartition("key_mapping=")[2])
        assert self.numbers(self.load(folder, key_mapping=cure)) == (1, 1, 1)

    def test_unwrapping_is_not_advised_where_it_does_not_help(self, folder: Path) -> None:
        rewrite(folder, {f"module.{name}.lora_A": array for name, array in tensors(folder).items()})
        with pytest.raises(MatchError) as caught:
            self.load(folder)
        assert "wrapped" not in str(caught.value)
