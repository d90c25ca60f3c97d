"""Every fault injected into a good checkpoint is caught before a model comes back; the good set raises no alarm."""

import json
import logging
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).parent))

from tiny import WEIGHTS, edit_config, rewrite, saved, tensors

import loadstone
from loadstone import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification
from loadstone.architectures import find_head
from loadstone.backend import get_backend
from loadstone.errors import CheckpointError, ConfigError, LoadstoneError, MatchError
from tests.oracle import load
from tests.oracle.resave4 import NOT_IN_4

torch.set_num_threads(1)

INDEX = "model.safetensors.index.json"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "checkpoints"
CLASSES = {
    "llama": AutoModelForCausalLM,
    "tied": AutoModelForCausalLM,
    "bert": AutoModelForSequenceClassification,
}
SHARDED = ("ours", "foreign", "real")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Name -> the folder of a good checkpoint; nobody writes into them."""
    root = tmp_path_factory.mktemp("good")
    good = {
        "llama": saved(root / "llama", "LlamaForCausalLM"),
        "tied": saved(root / "tied", "LlamaForCausalLM", tie_word_embeddings=True),
        "bert": saved(root / "bert", "BertForSequenceClassification"),
        "ours": root / "ours",
    }
    AutoModelForCausalLM.from_pretrained(good["llama"]).save_pretrained(good["ours"], max_shard_size="12KB")
    return good


@pytest.fixture(params=list(CLASSES))
def case(request, good, tmp_path):
    """A copy of a good checkpoint of one file, and the class that loads it."""
    return copied(good[request.param], tmp_path / "copy"), CLASSES[request.param]


@pytest.fixture(params=SHARDED)
def sharded(request, good, tmp_path):
    """A copy of a good sharded checkpoint: saved by us, written by the safetensors library, and a real one."""
    if request.param == "real":
        if not (SHARED / "llama-tinystories-656k-sharded").is_dir():
            pytest.skip("the real checkpoint is not beside the project")
        return copied(SHARED / "llama-tinystories-656k-sharded", tmp_path / "copy")
    if request.param == "ours":
        return copied(good["ours"], tmp_path / "copy")
    folder = copied(good["llama"], tmp_path / "copy")
    held = tensors(folder)
    (folder / WEIGHTS).unlink()
    names = list(held)
    places = {}
    for number in range(3):
        file = f"model-{number + 1:05d}-of-00003.safetensors"
        rewrite(folder, {name: held[name] for name in names[number::3]}, file)
        places |= dict.fromkeys(names[number::3], file)
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return folder


def copied(source, target):
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    target.chmod(0o755)
    return target


@pytest.fixture(autouse=True)
def nothing_read(monkeypatch):
    """Make reading tensors an error of the test, unless it takes this away."""

    def fill(*arguments):
        raise AssertionError("tensors were about to be read")

    monkeypatch.setattr("loadstone.load.fill", fill)
    return monkeypatch


def refused(folder, cls=AutoModelForCausalLM, *, error=LoadstoneError, **arguments):
    """Return the message with which a load is refused before it reads anything, or "" if it would have gone on."""
    try:
        cls.from_pretrained(folder, **arguments)
    except error as caught:
        message = str(caught)
        assert "next: " in message and len(message.splitlines()) <= 15, message
        return message
    except AssertionError:
        return ""
    return ""


def undetected(folder, cls, damage, *, must_name=True, **arguments):
    """Return the tensors whose damage goes unnoticed: `damage(held, name)` changes the dict of tensors."""
    held, missed = tensors(folder), []
    for name in held:
        broken = dict(held)
        damage(broken, name)
        rewrite(folder, broken)
        message = refused(folder, cls, error=MatchError, **arguments)
        told = message or "nothing"
        if not message or (must_name and name not in told and _folded(name) not in told):
            missed.append((name, told))
    rewrite(folder, held)
    assert not refused(folder, cls, **arguments), "and the good one is taken again"
    return missed


def _folded(name):
    return "".join(name.rpartition(".")[0])


# One tensor


def test_any_tensor_that_is_dropped(case):
    assert undetected(*case, lambda held, name: held.pop(name)) == []


def test_any_tensor_that_is_renamed(case):
    def rename(held, name):
        held[f"{name}.old"] = held.pop(name)

    assert undetected(*case, rename) == []


def test_any_tensor_with_a_letter_lost_is_suggested(case):
    def misspell(held, name):
        held[name[:-1]] = held.pop(name)

    folder, cls = case
    held = tensors(folder)
    for name in list(held)[:3]:
        broken = dict(held)
        misspell(broken, name)
        rewrite(folder, broken)
        assert f"did you mean {name[:-1]}?" in refused(folder, cls)


@pytest.mark.parametrize("strict", [None, False])
def test_any_tensor_of_another_shape(case, strict):
    def cut(held, name):
        held[name] = held[name][:-1].copy()

    assert undetected(*case, cut, strict=strict) == []


def test_any_matrix_that_is_flattened_or_transposed(case):
    def transpose(held, name):
        square = len(set(held[name].shape)) < 2
        held[name] = held[name].reshape(-1, 1).copy() if square else held[name].T.copy()

    assert undetected(*case, transpose) == []


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.bool_])
@pytest.mark.parametrize("asked", [None, "stored"])
def test_any_tensor_of_whole_numbers(case, dtype, asked):
    def truncate(held, name):
        held[name] = held[name].astype(dtype)

    assert undetected(*case, truncate, dtype=asked) == []


def test_any_tensor_twice_under_two_names(case):
    """Under its own name and under that of the base model without a prefix."""

    def double(held, name):
        held[f"{name}.copy"] = held[name]

    folder, cls = case
    assert undetected(folder, cls, double, strict=True) == []


def test_a_head_that_is_lost_is_reported_where_it_may_be(good, tmp_path):
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
        assert set(loadstone.plan(folder, task="SequenceClassification").names("new")) == group
        for one in group:
            rewrite(folder, {name: value for name, value in held.items() if name != one})
            assert f"{one}: missing" in refused(folder, AutoModelForSequenceClassification)


def test_a_lost_head_of_a_language_model_is_never_drawn_in_silence(good, tmp_path):
    folder = copied(good["llama"], tmp_path / "copy")
    held = tensors(folder)
    held.pop("lm_head.weight")
    rewrite(folder, held)
    for architectures in (["LlamaForCausalLM"], None):
        edit_config(folder, architectures=architectures)
        assert "lm_head.weight: missing" in refused(folder)
    edit_config(folder, architectures=["LlamaModel"])
    assert loadstone.plan(folder, task="CausalLM").names("new") == ["lm_head.weight"]


def test_a_denied_tie(good, tmp_path):
    folder = copied(good["tied"], tmp_path / "copy")
    edit_config(folder, tie_word_embeddings=False)
    assert "lm_head.weight: missing" in refused(folder)
    held = tensors(folder)
    rewrite(folder, {n.replace("model.embed_tokens", "lm_head"): value for n, value in held.items()})
    message = refused(folder)
    assert "model.embed_tokens.weight: missing" in message and "tie_word_embeddings=false" in message


# Quantised


def test_a_quantised_configuration(case):
    folder, cls = case
    edit_config(folder, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    assert "quantised by 'bitsandbytes'" in refused(folder, cls)


def test_eight_bit_floats_with_a_scale(case):
    """The safetensors library has no numpy dtype for them: the bytes are put under their code by hand."""
    folder, cls = case
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
        message = refused(folder, cls, dtype=asked)
        assert f"{name}: float8_e4m3fn with a scale beside it ({name}_scale_inv) is quantised" in message


# The configuration


@pytest.mark.parametrize("change", [-1, +1])
def test_a_layer_more_or_fewer(case, change):
    folder, cls = case
    layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
    edit_config(folder, num_hidden_layers=layers + change)
    message = refused(folder, cls)
    assert ("missing" if change > 0 else "tensors, the configuration has no room for it") in message


@pytest.mark.parametrize("factor", [0, 2, "text", 1.5, -1])
def test_any_size_that_is_wrong(case, factor):
    folder, cls = case
    values = json.loads((folder / "config.json").read_text())
    sizes = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_key_value_heads"]
    sizes += (
        ["max_position_embeddings", "type_vocab_size"] if cls is AutoModelForSequenceClassification else []
    )
    missed = []
    for name in sizes:
        if name in values:
            edit_config(folder, **{name: values[name] * factor if factor != "text" else str(values[name])})
            if not refused(folder, cls):
                missed.append(name)
            edit_config(folder, **{name: values[name]})
    assert missed == []
    assert not refused(folder, cls)


@pytest.mark.parametrize("flag", ["attention_bias", "mlp_bias"])
def test_biases_that_the_configuration_denies_or_promises(tmp_path, flag, nothing_read):
    nothing_read.undo()
    with_biases = saved(tmp_path / "with", "LlamaForCausalLM", **{flag: True})
    without = saved(tmp_path / "without", "LlamaForCausalLM")
    nothing_read.setattr("loadstone.load.fill", lambda *a: pytest.fail("read"))
    edit_config(with_biases, **{flag: False})
    edit_config(without, **{flag: True})
    assert "bias: surplus, the configuration has no room for it" in refused(with_biases)
    assert "bias: missing" in refused(without)


def test_labels_that_do_not_fit(good, tmp_path):
    folder = copied(good["bert"], tmp_path / "copy")
    edit_config(folder, id2label={"0": "a", "1": "b"})
    assert "classifier.weight: expected shape [2, 24], found [3, 24]" in refused(
        folder, AutoModelForSequenceClassification
    )


def test_another_models_configuration(good, tmp_path):
    folder = copied(good["llama"], tmp_path / "copy")
    shutil.copyfile(good["bert"] / "config.json", folder / "config.json")
    message = refused(folder, AutoModel)
    assert "this is BertForSequenceClassification" in message


# Files


def shards_of(folder):
    return sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))


def test_any_two_shards_exchanged(sharded):
    for first, second in pairwise(shards_of(sharded)):
        one, other = (sharded / first).read_bytes(), (sharded / second).read_bytes()
        (sharded / first).write_bytes(other)
        (sharded / second).write_bytes(one)
        assert "are exchanged" in refused(sharded, error=CheckpointError)
        (sharded / first).write_bytes(one)
        (sharded / second).write_bytes(other)
    assert not refused(sharded)


def test_any_shard_cut_at_any_length(sharded):
    for name in shards_of(sharded):
        data = (sharded / name).read_bytes()
        header = 8 + int.from_bytes(data[:8], "little")
        for length in (0, 1, 7, 8, 9, header - 1, header, header + 1, len(data) // 2, len(data) - 1):
            (sharded / name).write_bytes(data[:length])
            assert name in refused(sharded, error=CheckpointError), length
        (sharded / name).write_bytes(data)
    assert not refused(sharded)


@pytest.mark.parametrize("change", [-9, -1, 1, 8, 2**40])
def test_any_header_of_another_length(sharded, change):
    for name in shards_of(sharded):
        data = (sharded / name).read_bytes()
        length = int.from_bytes(data[:8], "little") + change
        (sharded / name).write_bytes(length.to_bytes(8, "little") + data[8:])
        assert name in refused(sharded, error=CheckpointError)
        (sharded / name).write_bytes(data)


def test_any_byte_of_a_header_that_is_flipped(good, tmp_path):
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
        if not refused(folder) and at not in metadata and not padding:
            missed.append((at, data[at - 10 : at + 10]))
    assert missed == []


def test_one_tensor_in_two_shards(sharded):
    first, second, *_ = shards_of(sharded)
    one, other = load_file(sharded / first), load_file(sharded / second)
    name = next(iter(one))
    rewrite(sharded, other | {name: one[name]}, second)
    message = refused(sharded, error=CheckpointError)
    assert f"{name!r} is stored in 2 shards: {first}, {second}" in message


def test_a_shard_that_is_absent(sharded):
    for name in shards_of(sharded):
        data = (sharded / name).read_bytes()
        (sharded / name).unlink()
        assert f"{name} is not there" in refused(sharded, error=CheckpointError)
        (sharded / name).write_bytes(data)


def test_a_shard_and_its_entries_that_are_absent(sharded):
    """The files agree with each other: only the model shows that something is missing."""
    for name in shards_of(sharded):
        index = (sharded / INDEX).read_text()
        parsed = json.loads(index)
        parsed["weight_map"] = {t: shard for t, shard in parsed["weight_map"].items() if shard != name}
        (sharded / INDEX).write_text(json.dumps(parsed))
        assert "missing" in refused(sharded, error=MatchError)
        (sharded / INDEX).write_text(index)


def test_a_config_that_is_damaged(case):
    folder, cls = case
    text = (folder / "config.json").read_text()
    for broken in ("", text[: len(text) // 2], "[]", "null", text.replace('"model_type"', '"kind"')):
        (folder / "config.json").write_text(broken)
        assert "config.json" in refused(folder, cls, error=ConfigError)


# While a load is running

RUNNING = """
import json, os, shutil, sys, traceback
from pathlib import Path
import torch
torch.set_num_threads(1)
from loadstone import AutoModelForCausalLM
from loadstone.errors import ChangedFileError, SourceError
import loadstone.load, loadstone.filling

good, work = Path(sys.argv[1]), Path(sys.argv[2])

def overwrite(file):
    with open(file, "r+b") as stream:
        data = bytearray(stream.read())
        data[-200:] = bytes(200)
        stream.seek(0)
        stream.write(data)

def zero_header(file):
    with open(file, "r+b") as stream:
        stream.write(bytes(64))

def truncate(file):
    os.truncate(file, 64)

def empty(file):
    os.truncate(file, 0)

def append(file):
    with open(file, "ab") as stream:
        stream.write(b"more")

def exchange(file):
    shutil.copyfile(file, file.with_suffix(".other"))
    os.replace(file.with_suffix(".other"), file)

def swap(file):
    other = next(f for f in sorted(file.parent.glob("*.safetensors")) if f != file)
    os.rename(file, file.with_suffix(".x")); os.rename(other, file); os.rename(file.with_suffix(".x"), other)

DAMAGE = {f.__name__: f for f in (overwrite, zero_header, truncate, empty, append, exchange, swap)}
DAMAGE["remove"] = os.unlink

def hooked(moment, damage):
    done = []
    def once():
        if not done:
            done.append(damage())
    if moment == "planned":
        original = loadstone.load.prepare
        def prepare(*a):
            result = original(*a); once(); return result
        loadstone.load.prepare = prepare
    else:
        original = loadstone.filling.read_tensors
        def read_tensors(*a, **k):
            if moment == "opened": once()
            for tensor in original(*a, **k):
                yield tensor
                if moment == "first": once()
            if moment == "last": once()
        loadstone.filling.read_tensors = read_tensors

def attempt(moment, kind, read, tied, dtype):
    folder = work / f"{moment}-{kind}-{read}-{tied}-{dtype}"
    shutil.copytree(good / ("both" if tied else "sharded"), folder, copy_function=shutil.copyfile)
    file = sorted(folder.glob("*.safetensors"))[-1]
    hooked(moment, lambda: DAMAGE[kind](file))
    try:
        AutoModelForCausalLM.from_pretrained(folder, read=read, dtype=dtype)
    except (ChangedFileError, SourceError) as error:
        assert len(str(error).splitlines()) <= 15 and "next: " in str(error)
        return type(error).__name__
    except BaseException:
        return traceback.format_exc()
    return "nothing"

results = {}
for case in json.loads(sys.argv[3]):
    name = "-".join(map(str, case))
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.write(write_end, attempt(*case).encode()[:4000])
        os._exit(0)
    os.close(write_end)
    told = b""
    while part := os.read(read_end, 65536):
        told += part
    status = os.waitpid(child, 0)[1]
    results[name] = told.decode() if status == 0 else f"died of {status}"
print(json.dumps(results))
"""

KINDS = ("overwrite", "zero_header", "truncate", "empty", "append", "exchange", "swap", "remove")
MOMENTS = ("planned", "opened", "first", "last")
WAYS = (("map", False, "float32"), ("map", True, "float32"), ("copy", False, "bfloat16"))
"""How tensors are read; whether both halves of a tie are stored and compared; the dtype, cast where it is not the file's."""
CASES = [
    (moment, kind, *way)
    for moment in MOMENTS
    for kind in KINDS
    for way in WAYS
    if not (way[1] and kind == "swap")  # of one file
]


@pytest.fixture(scope="module")
def running(good, tmp_path_factory):
    """Case -> what came of a load while whose files were changed, each in a process of its own."""
    root = tmp_path_factory.mktemp("running")
    copied(good["ours"], root / "sharded")
    held = tensors(good["tied"])
    copied(good["tied"], root / "both")
    rewrite(root / "both", held | {"lm_head.weight": held["model.embed_tokens.weight"]})
    (root / "work").mkdir()
    command = [sys.executable, "-c", RUNNING, root, root / "work", json.dumps(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_files_that_change_under_a_running_load(running, moment, kind):
    results = {name: told for name, told in running.items() if name.startswith(f"{moment}-{kind}-")}
    assert results
    expected = {"ChangedFileError", "SourceError"} if kind == "remove" else {"ChangedFileError"}
    assert {name: told for name, told in results.items() if told not in expected} == {}


# The good set


def alarms(folder, cls, caplog, **arguments):
    """Load, and return what a user would have to worry about."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="loadstone"):
        model = cls.from_pretrained(folder, **arguments)
    report = model.load_report
    return model, {
        "warnings": [record.message for record in caplog.records],
        "new": report.names("new"),
        "unused": report.names("unused"),
        "unexplained": [s.name for s in report.plan.stored.values() if s.state == "ignored" and not s.why],
    }


NO_ALARM = {"warnings": [], "new": [], "unused": [], "unexplained": []}


def class_of(row):
    return get_backend("torch").model_class(*find_head(row.class_name))


SAVED_BY_BOTH = [
    row for family in ("llama", "bert") for row in load.cases(family) if row.name not in NOT_IN_4
]


@pytest.mark.parametrize("row", SAVED_BY_BOTH, ids=lambda row: row.name)
def test_what_either_transformers_saved_raises_no_alarm(row, caplog, nothing_read):
    nothing_read.undo()
    states = []
    for folder in (load.folder(row), load.saved_by_transformers4(row)):
        model, found = alarms(folder, class_of(row), caplog, **row.model_arguments)
        assert found == NO_ALARM, folder
        assert model.load_report.names("ignored") == []
        states.append({name: value.numpy().tobytes() for name, value in model.state_dict().items()})
    assert states[0] == states[1]


REAL = {
    "llama-tinystories-656k": AutoModelForCausalLM,
    "llama-tinystories-656k-sharded": AutoModelForCausalLM,
    "bert-tiny-ticket-classifier": AutoModelForSequenceClassification,
    "bert-tiny-ticket-classifier-all-formats": AutoModelForSequenceClassification,
}


@pytest.mark.parametrize("name", REAL)
def test_real_checkpoints_raise_no_alarm(name, caplog, nothing_read):
    nothing_read.undo()
    if not (SHARED / name).is_dir():
        pytest.skip(f"{name} is not beside the project")
    assert alarms(SHARED / name, REAL[name], caplog)[1] == NO_ALARM


def test_our_own_checkpoints_raise_no_alarm(good, caplog, nothing_read):
    nothing_read.undo()
    for name, folder in good.items():
        assert alarms(folder, CLASSES.get(name, AutoModelForCausalLM), caplog)[1] == NO_ALARM
    demo = Path(loadstone.__file__).parent / "demo_checkpoint"
    assert alarms(demo, AutoModelForCausalLM, caplog)[1] == NO_ALARM
