"""The fault suites: every fault injected into a good checkpoint is caught before a model comes back.

`FaultSuite` is what core catches, in the same way for every backend: it runs once, on a plain one. `OwnFaultSuite` is what
each backend's own reading and filling has a part in: a backend's test module subclasses it.
"""

import itertools
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from safetensors.numpy import load_file

import loadstone
from loadstone.architectures import find_head
from loadstone.backend import get_backend
from loadstone.errors import CheckpointError, ConfigError, LoadstoneError, MatchError
from loadstone.load.story import from_pretrained
from loadstone.testing.cases import CASES
from tests.oracle import load
from tests.oracle.files import SIZES, WEIGHTS, copied, edit_config, rewrite, tensors
from tests.oracle.real import CHECKPOINTS, needs_checkpoints
from tests.oracle.resave4 import NOT_IN_4

INDEX = "model.safetensors.index.json"
TASKS = {"llama": "CausalLM", "tied": "CausalLM", "bert": "SequenceClassification"}
"""Good checkpoint of one file -> the task that it is loaded for."""
RUNNING = Path(__file__).with_name("change_while_loading.py")
KINDS = ("overwrite", "zero_header", "truncate", "empty", "append", "exchange", "swap", "remove")
MOMENTS = ("planned", "opened", "first", "last")
WAYS = (("map", False, "float32"), ("map", True, "float32"), ("copy", False, "bfloat16"))
"""How tensors are read; whether both halves of a tie are stored and compared; the dtype, cast where it is not the file's."""
SAVED_BY_BOTH = [
    case.name for case in CASES.values() if case.family in ("llama", "bert") and case.name not in NOT_IN_4
]
REAL = {
    "llama-tinystories-656k": "CausalLM",
    "llama-tinystories-656k-sharded": "CausalLM",
    "bert-tiny-ticket-classifier": "SequenceClassification",
    "bert-tiny-ticket-classifier-all-formats": "SequenceClassification",
}
NO_ALARM: dict[str, list[str]] = {"warnings": [], "new": [], "unused": [], "unexplained": []}


def shards_of(folder: Path) -> list[str]:
    """Return the names of a sharded checkpoint's files."""
    return sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))


def _folded(name: str) -> str:
    return "".join(name.rpartition(".")[0])


class Faulty:
    """Good checkpoints for one backend, which a test may damage.

    Attributes:
        backend: Its name.
    """

    backend: ClassVar[str]

    @classmethod
    def saved(cls, folder: Path, kind: str, **fields: Any) -> Path:
        """Save a tiny model of fresh weights, a Llama with its output layer or a BERT that classifies."""
        config = loadstone.AutoConfig.for_model(kind, **SIZES[kind] | fields)
        found = find_head("LlamaForCausalLM" if kind == "llama" else "BertForSequenceClassification")
        assert found is not None
        model_class: Any = get_backend(cls.backend).model_class(*found)
        model_class.from_config(config).save_pretrained(folder)
        return folder

    @pytest.fixture(scope="class")
    @classmethod
    def good(cls, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
        """Name -> the folder of a good checkpoint; nobody writes into them."""
        root = tmp_path_factory.mktemp("good")
        good = {
            "llama": cls.saved(root / "llama", "llama"),
            "tied": cls.saved(root / "tied", "llama", tie_word_embeddings=True),
            "bert": cls.saved(root / "bert", "bert"),
            "ours": root / "ours",
        }
        from_pretrained(good["llama"], task="CausalLM", backend=cls.backend).save_pretrained(
            good["ours"], max_shard_size="12KB"
        )
        return good

    @pytest.fixture(params=list(TASKS))
    def single(self, request: Any, good: dict[str, Path], tmp_path: Path) -> tuple[Path, str]:
        """A copy of a good checkpoint of one file, and the task that it is for."""
        return copied(good[request.param], tmp_path / "copy"), TASKS[request.param]

    @pytest.fixture(params=("ours", "foreign", pytest.param("real", marks=needs_checkpoints)))
    def sharded(self, request: Any, good: dict[str, Path], tmp_path: Path) -> Path:
        """A copy of a good sharded checkpoint: saved by us, written by the safetensors library, and a real one."""
        if request.param == "real":
            return copied(CHECKPOINTS / "llama-tinystories-656k-sharded", tmp_path / "copy")
        if request.param == "ours":
            return copied(good["ours"], tmp_path / "copy")
        folder = copied(good["llama"], tmp_path / "copy")
        held = tensors(folder)
        (folder / WEIGHTS).unlink()
        names = list(held)
        places: dict[str, str] = {}
        for number in range(3):
            file = f"model-{number + 1:05d}-of-00003.safetensors"
            rewrite(folder, {name: held[name] for name in names[number::3]}, file)
            places |= dict.fromkeys(names[number::3], file)
        (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
        return folder

    @pytest.fixture(autouse=True)
    def nothing_read(self, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
        """Make reading tensors an error of the test, unless it takes this away."""

        def fill(*arguments: Any) -> Any:
            raise AssertionError("tensors were about to be read")

        monkeypatch.setattr("loadstone.load.story.fill", fill)
        return monkeypatch

    def refused(
        self,
        folder: Path,
        task: str = "CausalLM",
        *,
        error: type[LoadstoneError] = LoadstoneError,
        **arguments: Any,
    ) -> str:
        """Return the message with which a load is refused before it reads anything, or "" if it would have gone on."""
        try:
            from_pretrained(folder, task=task, backend=self.backend, **arguments)
        except error as caught:
            message = str(caught)
            assert "next: " in message and len(message.splitlines()) <= 15, message
            return message
        except AssertionError:
            return ""
        return ""

    def undetected(self, folder: Path, task: str, damage: Any, **arguments: Any) -> list[tuple[str, str]]:
        """Return the tensors whose damage goes unnoticed: `damage(held, name)` changes the dict of tensors."""
        held, missed = tensors(folder), []
        for name in held:
            broken = dict(held)
            damage(broken, name)
            rewrite(folder, broken)
            told = self.refused(folder, task, error=MatchError, **arguments)
            if name not in told and (not told or _folded(name) not in told):
                missed.append((name, told))
        rewrite(folder, held)
        assert not self.refused(folder, task, **arguments), "and the good one is taken again"
        return missed


class FaultSuite(Faulty):
    """What is caught from headers, configurations and names, before anything is read."""

    def test_any_tensor_that_is_dropped(self, single: Any) -> None:
        assert self.undetected(*single, lambda held, name: held.pop(name)) == []

    def test_any_tensor_that_is_renamed(self, single: Any) -> None:
        def rename(held: Any, name: str) -> None:
            held[f"{name}.old"] = held.pop(name)

        assert self.undetected(*single, rename) == []

    def test_any_tensor_with_a_letter_lost_is_suggested(self, single: Any) -> None:
        def misspell(held: Any, name: str) -> None:
            held[name[:-1]] = held.pop(name)

        folder, task = single
        held = tensors(folder)
        for name in list(held)[:3]:
            broken = dict(held)
            misspell(broken, name)
            rewrite(folder, broken)
            assert f"did you mean {name[:-1]}?" in self.refused(folder, task)

    @pytest.mark.parametrize("strict", [None, False])
    def test_any_tensor_of_another_shape(self, single: Any, strict: Any) -> None:
        def cut(held: Any, name: str) -> None:
            held[name] = held[name][:-1].copy()

        assert self.undetected(*single, cut, strict=strict) == []

    def test_any_matrix_that_is_flattened_or_transposed(self, single: Any) -> None:
        def transpose(held: Any, name: str) -> None:
            square = len(set(held[name].shape)) < 2
            held[name] = held[name].reshape(-1, 1).copy() if square else held[name].T.copy()

        assert self.undetected(*single, transpose) == []

    @pytest.mark.parametrize(
        ("dtype", "asked"), [(np.int8, None), (np.int8, "stored"), (np.int64, "stored"), (np.bool_, None)]
    )
    def test_any_tensor_of_whole_numbers(self, single: Any, dtype: Any, asked: Any) -> None:
        def truncate(held: Any, name: str) -> None:
            held[name] = held[name].astype(dtype)

        assert self.undetected(*single, truncate, dtype=asked) == []

    def test_any_tensor_twice_under_two_names(self, single: Any) -> None:
        """Under its own name and under that of the base model without a prefix."""

        def double(held: Any, name: str) -> None:
            held[f"{name}.copy"] = held[name]

        folder, task = single
        assert self.undetected(folder, task, double, strict=True) == []

    def test_a_head_that_is_lost_is_reported_where_it_may_be(self, good: Any, tmp_path: Any) -> None:
        """Without a word on what was saved, whole heads are drawn afresh and said to be; anything less is an error."""
        folder = copied(good["bert"], tmp_path / "copy")
        edit_config(folder, architectures=None)
        held = tensors(folder)
        groups = [
            {"classifier.weight", "classifier.bias"},
            {"bert.pooler.dense.weight", "bert.pooler.dense.bias"},
        ]
        for group in groups:
            rewrite(folder, {name: value for name, value in held.items() if name not in group})
            assert (
                set(loadstone.plan(folder, backend=self.backend, task="SequenceClassification").names("new"))
                == group
            )
            for one in group:
                rewrite(folder, {name: value for name, value in held.items() if name != one})
                assert f"{one}: missing" in self.refused(folder, "SequenceClassification")

    def test_a_lost_head_of_a_language_model_is_never_drawn_in_silence(
        self, good: Any, tmp_path: Any
    ) -> None:
        folder = copied(good["llama"], tmp_path / "copy")
        held = tensors(folder)
        held.pop("lm_head.weight")
        rewrite(folder, held)
        for architectures in (["LlamaForCausalLM"], None):
            edit_config(folder, architectures=architectures)
            assert "lm_head.weight: missing" in self.refused(folder)
        edit_config(folder, architectures=["LlamaModel"])
        assert loadstone.plan(folder, backend=self.backend, task="CausalLM").names("new") == [
            "lm_head.weight"
        ]

    def test_a_denied_tie(self, good: Any, tmp_path: Any) -> None:
        folder = copied(good["tied"], tmp_path / "copy")
        edit_config(folder, tie_word_embeddings=False)
        assert "lm_head.weight: missing" in self.refused(folder)
        held = tensors(folder)
        rewrite(folder, {n.replace("model.embed_tokens", "lm_head"): value for n, value in held.items()})
        message = self.refused(folder)
        assert "model.embed_tokens.weight: missing" in message and "tie_word_embeddings=false" in message

    def test_a_quantised_configuration(self, single: Any) -> None:
        folder, task = single
        edit_config(folder, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
        assert "quantised by 'bitsandbytes'" in self.refused(folder, task)

    def test_eight_bit_floats_with_a_scale(self, single: Any) -> None:
        """The safetensors library has no numpy dtype for them: the bytes are put under their code by hand."""
        folder, task = single
        held = tensors(folder)
        name = next(n for n in held if n.endswith(("query.weight", "q_proj.weight")))
        held[name] = held[name].astype(np.int8)
        held[f"{name}_scale_inv"] = np.ones(1, np.float32)
        rewrite(folder, held)
        data = (folder / WEIGHTS).read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        header[name]["dtype"] = "F8_E4M3"
        text = json.dumps(header).encode()
        (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
        for asked in (None, "stored", "float32", "bfloat16"):
            message = self.refused(folder, task, dtype=asked)
            assert f"{name}: float8_e4m3fn with a scale beside it ({name}_scale_inv) is quantised" in message

    @pytest.mark.parametrize("change", [-1, +1])
    def test_a_layer_more_or_fewer(self, single: Any, change: Any) -> None:
        folder, task = single
        layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
        edit_config(folder, num_hidden_layers=layers + change)
        message = self.refused(folder, task)
        assert ("missing" if change > 0 else "tensors, the configuration has no room for it") in message

    @pytest.mark.parametrize("factor", [0, 2, "text", 1.5, -1])
    def test_any_size_that_is_wrong(self, single: Any, factor: Any) -> None:
        folder, task = single
        values = json.loads((folder / "config.json").read_text())
        sizes = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_key_value_heads"]
        sizes += ["max_position_embeddings", "type_vocab_size"] if task == "SequenceClassification" else []
        missed = []
        for name in sizes:
            if name in values:
                edit_config(
                    folder, **{name: values[name] * factor if factor != "text" else str(values[name])}
                )
                if not self.refused(folder, task):
                    missed.append(name)
                edit_config(folder, **{name: values[name]})
        assert missed == []
        assert not self.refused(folder, task)

    @pytest.mark.parametrize("flag", ["attention_bias", "mlp_bias"])
    def test_biases_that_the_configuration_denies_or_promises(
        self, tmp_path: Any, flag: Any, nothing_read: Any
    ) -> None:
        nothing_read.undo()
        with_biases = self.saved(tmp_path / "with", "llama", **{flag: True})
        without = self.saved(tmp_path / "without", "llama")
        nothing_read.setattr(
            "loadstone.load.story.fill", lambda *a: (_ for _ in ()).throw(AssertionError("read"))
        )
        edit_config(with_biases, **{flag: False})
        edit_config(without, **{flag: True})
        assert "bias: surplus, the configuration has no room for it" in self.refused(with_biases)
        assert "bias: missing" in self.refused(without)

    def test_labels_that_do_not_fit(self, good: Any, tmp_path: Any) -> None:
        folder = copied(good["bert"], tmp_path / "copy")
        edit_config(folder, id2label={"0": "a", "1": "b"})
        assert "classifier.weight: expected shape [2, 24], found [3, 24]" in self.refused(
            folder, "SequenceClassification"
        )

    def test_another_models_configuration(self, good: Any, tmp_path: Any) -> None:
        folder = copied(good["llama"], tmp_path / "copy")
        shutil.copyfile(good["bert"] / "config.json", folder / "config.json")
        message = self.refused(folder, "")
        assert "this is BertForSequenceClassification" in message

    def test_any_two_shards_exchanged(self, sharded: Any) -> None:
        for first, second in itertools.pairwise(shards_of(sharded)):
            one, other = (sharded / first).read_bytes(), (sharded / second).read_bytes()
            (sharded / first).write_bytes(other)
            (sharded / second).write_bytes(one)
            assert "are exchanged" in self.refused(sharded, error=CheckpointError)
            (sharded / first).write_bytes(one)
            (sharded / second).write_bytes(other)
        assert not self.refused(sharded)

    def test_any_shard_cut_at_any_length(self, sharded: Any) -> None:
        for name in shards_of(sharded):
            data = (sharded / name).read_bytes()
            header = 8 + int.from_bytes(data[:8], "little")
            for length in (0, 1, 7, 8, 9, header - 1, header, header + 1, len(data) // 2, len(data) - 1):
                (sharded / name).write_bytes(data[:length])
                assert name in self.refused(sharded, error=CheckpointError), length
            (sharded / name).write_bytes(data)
        assert not self.refused(sharded)

    @pytest.mark.parametrize("change", [-9, -1, 1, 8, 2**40])
    def test_any_header_of_another_length(self, sharded: Any, change: Any) -> None:
        for name in shards_of(sharded):
            data = (sharded / name).read_bytes()
            length = int.from_bytes(data[:8], "little") + change
            (sharded / name).write_bytes(length.to_bytes(8, "little") + data[8:])
            assert name in self.refused(sharded, error=CheckpointError)
            (sharded / name).write_bytes(data)

    def test_any_byte_of_a_header_that_is_flipped(self, good: Any, tmp_path: Any) -> None:
        """A header that still parses must say something else and not fit, or have changed in its metadata alone."""
        folder = copied(good["tied"], tmp_path / "copy")
        data = (folder / WEIGHTS).read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        metadata = range(data.index(b'"__metadata__"'), data.index(b"}", data.index(b'"__metadata__"')))
        drawn = np.random.default_rng(0)
        missed = []
        for at in drawn.choice(end, 150, replace=False).tolist():
            flipped = data[at] ^ (1 << int(drawn.integers(8)))
            (folder / WEIGHTS).write_bytes(data[:at] + bytes([flipped]) + data[at + 1 :])
            padding = data[at : at + 1] == b" " and flipped in b" \t\n\r"
            if not self.refused(folder) and at not in metadata and not padding:
                missed.append((at, data[at - 10 : at + 10]))
        assert missed == []

    def test_one_tensor_in_two_shards(self, sharded: Any) -> None:
        first, second, *_ = shards_of(sharded)
        one, other = load_file(sharded / first), load_file(sharded / second)
        name = next(iter(one))
        rewrite(sharded, other | {name: one[name]}, second)
        message = self.refused(sharded, error=CheckpointError)
        assert f"{name!r} is stored in 2 shards: {first}, {second}" in message

    def test_a_shard_that_is_absent(self, sharded: Any) -> None:
        for name in shards_of(sharded):
            data = (sharded / name).read_bytes()
            (sharded / name).unlink()
            assert f"{name} is not there" in self.refused(sharded, error=CheckpointError)
            (sharded / name).write_bytes(data)

    def test_a_shard_and_its_entries_that_are_absent(self, sharded: Any) -> None:
        """The files agree with each other: only the model shows that something is missing."""
        for name in shards_of(sharded):
            index = (sharded / INDEX).read_text()
            parsed = json.loads(index)
            parsed["weight_map"] = {t: shard for t, shard in parsed["weight_map"].items() if shard != name}
            (sharded / INDEX).write_text(json.dumps(parsed))
            assert "missing" in self.refused(sharded, error=MatchError)
            (sharded / INDEX).write_text(index)

    def test_a_config_that_is_damaged(self, single: Any) -> None:
        folder, task = single
        text = (folder / "config.json").read_text()
        nameless = text.replace('"model_type"', '"kind"').replace('"architectures"', '"classes"')
        for broken in ("", text[: len(text) // 2], "[]", "null", nameless):
            (folder / "config.json").write_text(broken)
            assert "config.json" in self.refused(folder, task, error=ConfigError)


class OwnFaultSuite(Faulty):
    """What happens while a load is running, and what must not be an alarm."""

    # While a load is running

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, good: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
        """Case -> the error of a load whose files were changed; in a process of its own, as it can be ended by it."""
        root = tmp_path_factory.mktemp("running")
        copied(good["ours"], root / "sharded")
        held = tensors(good["tied"])
        copied(good["tied"], root / "both")
        rewrite(root / "both", held | {"lm_head.weight": held["model.embed_tokens.weight"]})
        (root / "work").mkdir()
        ways = itertools.product(MOMENTS, KINDS, WAYS)
        cases = [(moment, kind, *way) for moment, kind, way in ways if not (way[1] and kind == "swap")]
        command = [sys.executable, RUNNING, cls.backend, root, root / "work", json.dumps(cases)]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        told = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
        assert done.returncode == 0, f"after {list(told)}: {done.stderr[-3000:]}"
        assert len(told) == len(cases)
        return told

    @pytest.mark.parametrize("moment", MOMENTS)
    @pytest.mark.parametrize("kind", KINDS)
    def test_files_that_change_under_a_running_load(
        self, running: dict[str, str], moment: str, kind: str
    ) -> None:
        found = {error for name, error in running.items() if name.startswith(f"{moment}-{kind}-")}
        assert found
        assert found <= ({"ChangedFileError", "SourceError"} if kind == "remove" else {"ChangedFileError"})

    # The good set

    def alarms(self, folder: Path, caplog: pytest.LogCaptureFixture, load_it: Any, **arguments: Any) -> Any:
        """Load, and return the model and what a user would have to worry about."""
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="loadstone"):
            model = load_it(folder, **arguments)
        report = model.load_report
        return model, {
            "warnings": [record.message for record in caplog.records],
            "new": report.names("new"),
            "unused": report.names("unused"),
            "unexplained": [
                s.name for s in report.plan.stored.values() if s.state == "ignored" and not s.why
            ],
        }

    @pytest.mark.parametrize("name", SAVED_BY_BOTH)
    def test_what_either_transformers_saved_raises_no_alarm(
        self, name: str, caplog: Any, nothing_read: pytest.MonkeyPatch
    ) -> None:
        nothing_read.undo()
        row, backend = CASES[name], get_backend(self.backend)
        found = find_head(row.class_name)
        assert found is not None
        model_class: Any = backend.model_class(*found)
        states = []
        for folder in (load.folder(row), load.saved_by_transformers4(row)):
            model, alarms = self.alarms(folder, caplog, model_class.from_pretrained, **row.model_arguments)
            assert alarms == NO_ALARM, folder
            assert model.load_report.names("ignored") == []
            states.append({n: backend.read(model, n).numpy().tobytes() for n in backend.parameters(model)})
        assert states[0] == states[1]

    @needs_checkpoints
    @pytest.mark.parametrize("name", REAL)
    def test_real_checkpoints_raise_no_alarm(
        self, name: str, caplog: Any, nothing_read: pytest.MonkeyPatch
    ) -> None:
        nothing_read.undo()
        assert (
            self.alarms(CHECKPOINTS / name, caplog, from_pretrained, task=REAL[name], backend=self.backend)[1]
            == NO_ALARM
        )

    def test_our_own_checkpoints_raise_no_alarm(
        self, good: dict[str, Path], caplog: Any, nothing_read: pytest.MonkeyPatch
    ) -> None:
        nothing_read.undo()
        demo = Path(loadstone.__file__).parent / "demo_checkpoint"
        for name, folder in {**good, "demo": demo}.items():
            task = TASKS.get(name, "CausalLM")
            found = self.alarms(folder, caplog, from_pretrained, task=task, backend=self.backend)[1]
            assert found == NO_ALARM, name
