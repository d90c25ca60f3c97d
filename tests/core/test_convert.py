"""Checkpoints written in another format: every tensor bit for bit, every key and file, and old or new whenever it is killed."""

import functools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from checkpoint_files import arrays, names_in, save, shared
from test_save_killed import Interrupted, killed_before

import loadstone
from loadstone.architectures import architecture_of
from loadstone.checkpoint.open import open_checkpoint
from loadstone.checkpoint.settled import settle
from loadstone.cli.app import main
from loadstone.dtypes import to_numpy
from loadstone.errors import ArgumentError, ChangedFileError, ConfigError, SourceError
from loadstone.load.configuration import load_config
from loadstone.planning.spoken import as_checkpoint
from loadstone.save import disk
from loadstone.source import resolve
from loadstone.testing.cases import CASES
from tests import foreign
from tests.oracle import load

FORMATS = ("safetensors", "bin", "h5", "msgpack")
BERT = "bert-tiny-ticket-classifier-all-formats"


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "os", Interrupted(0, None))


def held(folder: Path, **asked: Any) -> dict[str, np.ndarray]:
    """Return every tensor of a checkpoint by its name in checkpoints, whatever the format, aliases too."""
    snapshot = settle(resolve(folder))
    index = open_checkpoint(snapshot, **asked)
    if index.dialect:
        index = as_checkpoint(index, architecture_of(load_config(folder)), where=folder)
    found = {}
    for name, info in index.tensors.items():
        data = np.frombuffer(
            snapshot.read_range(info.file, info.offset, info.end - info.offset), to_numpy(info.dtype)
        )
        strides = info.strides and [stride * data.itemsize for stride in info.strides]
        found[name] = (
            data.reshape(info.shape)
            if strides is None
            else np.lib.stride_tricks.as_strided(data, info.shape, strides)
        )
    return found | {name: found[stored] for name, stored in index.aliases.items()}


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert (array.dtype, array.shape) == (other[name].dtype, other[name].shape), name
        assert array.tobytes() == other[name].tobytes(), name


def test_every_model_in_every_format_that_it_can_have(tmp_path: Path) -> None:
    refused = set()
    for case, row in CASES.items():
        expected = held(load.folder(case))
        for format in FORMATS[1:]:
            folder = tmp_path / f"{case}-{format}"
            try:
                loadstone.convert(load.folder(case), folder, format=format)
            except ArgumentError as error:
                assert "transformers has no" in error.what
                refused.add((row.model_type, format))
                continue
            found = held(folder)
            told = {name for name in expected if name.endswith("num_batches_tracked")} - found.keys()
            assert not told or format in ("h5", "msgpack")
            # Of a base model TensorFlow's names have the prefix that it has below a head.
            bare = {name for name in expected if name not in found} - told
            found = {next((n for n in bare if name.endswith(f".{n}")), name): a for name, a in found.items()}
            assert_same({name: array for name, array in expected.items() if name not in told}, found)
            shutil.rmtree(folder)
    new = {
        "cohere2",
        "gemma2",
        "gemma3_text",
        "glm4",
        "granite",
        "ministral3",
        "olmo2",
        "olmo3",
        "qwen2",
        "qwen3",
    }
    new |= {"smollm3"}
    assert refused == {(one, format) for one in new for format in ("h5", "msgpack")} | {
        ("llama", "h5"),
        ("gemma", "h5"),
        ("camembert", "msgpack"),
    }


@pytest.mark.parametrize(("case", "file"), foreign.cases())
def test_names_and_axes_are_those_of_transformers_classes(case: str, file: str, tmp_path: Path) -> None:
    format = "h5" if file == foreign.H5 else "msgpack"
    loadstone.convert(load.folder(case), tmp_path, format=format)
    snapshot = resolve(tmp_path)
    found = open_checkpoint(snapshot).tensors
    expected = {
        path.split("/", 2)[2] if format == "h5" else path: a for path, a in foreign.arrays(case, file).items()
    }
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        info = found[path]
        assert info.shape == array.shape
        assert snapshot.read_range(info.file, info.offset, info.nbytes) == array.tobytes(), path
    if format == "h5":
        paths: set[str] = set()
        with h5py.File(tmp_path / file) as opened:
            opened.visititems(lambda path, one: paths.add(path) if isinstance(one, h5py.Dataset) else None)
            # HDF5 visits a tensor of two layers once.
            for layer in opened:
                opened[layer].visititems(
                    lambda path, one, layer=layer: (
                        paths.add(f"{layer}/{path}") if isinstance(one, h5py.Dataset) else None
                    )
                )
        assert paths == foreign.table()[case][file].keys()


@pytest.mark.parametrize("name", [BERT, "t5-chronos-dummy-all-formats"])
def test_there_and_back(name: str, tmp_path: Path) -> None:
    source = shared(name)
    expected = held(source, weights_format="safetensors")
    known = name == BERT
    for format in FORMATS if known else FORMATS[:2]:
        there = tmp_path / format
        loadstone.convert(source, there, format=format, max_shard_size="60KB", weights_format="safetensors")
        assert_same(expected, held(there))
        back = loadstone.convert(there, tmp_path / f"{format}-back")
        assert_same(expected, held(back.folder))
        for copied in ("config.json", "PROVENANCE.txt", "reference_io.npz"):
            assert (back.folder / copied).read_bytes() == (source / copied).read_bytes()
    if not known:
        with pytest.raises(ConfigError, match="t5"):
            loadstone.convert(source, tmp_path / "h5", format="h5")


@pytest.mark.parametrize("format", FORMATS)
def test_from_every_format_of_one_model(format: str, tmp_path: Path) -> None:
    asked = "pickle" if format == "bin" else format
    loadstone.convert(shared(BERT), tmp_path, weights_format=asked)
    expected = held(shared(BERT), weights_format="safetensors")
    found = held(tmp_path)
    assert {name: found[name] for name in expected}.keys() == expected.keys()
    assert_same(expected, {name: found[name] for name in expected})


def checkpoint(folder: Path, tensors: dict[str, np.ndarray] | None = None, **fields: Any) -> Path:
    """Write a checkpoint of a type that nobody knows, with a tokenizer and what else lies beside one."""
    config = json.dumps({"model_type": "stranger", "torch_dtype": "float32", "b": [1e-5], "a": {}} | fields)
    other = {"tokenizer.json": "{}", "generation_config.json": '{"eos_token_id": 2}'}
    metadata = {"made_by": "a test", "format": "pt"}
    save(folder, tensors or arrays(1), config=config, other_files=other, metadata=metadata)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling": 1}')
    (folder / "model.fp16.safetensors").write_text("of another variant")
    (folder / ".hidden").write_text("of a tool")
    return folder


def test_nothing_is_lost_on_the_way(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "source")
    expected = held(source)
    done = loadstone.convert(source, tmp_path / "bin", format="bin", max_shard_size="1KB")
    back = loadstone.convert(tmp_path / "bin", tmp_path / "back")
    assert_same(expected, held(tmp_path / "bin"))
    assert_same(expected, held(tmp_path / "back"))
    assert open_checkpoint(resolve(tmp_path / "back")).metadata["made_by"] == "a test"
    beside = {"config.json", "tokenizer.json", "generation_config.json", "1_Pooling/config.json"}
    assert set(back.files) == beside | {"model.safetensors"}
    assert {f for f in done.files if not f.startswith("pytorch_model")} == beside
    for name in beside:
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()
    assert (
        "made_by"
        not in open_checkpoint(
            resolve(loadstone.convert(source, tmp_path / "bare", format="bin", metadata={}).folder)
        ).metadata
    )


def test_floats_are_cast_and_config_json_says_so(tmp_path: Path) -> None:
    tensors = {"w": np.linspace(0, 1, 70, dtype=np.float32).reshape(7, 10), "ids": np.arange(3)}
    source = checkpoint(tmp_path / "source", tensors, text_config={"dtype": "float32", "x": 1})
    loadstone.convert(source, tmp_path / "half", dtype="bf16")
    found = held(tmp_path / "half")
    assert found["w"].tobytes() == tensors["w"].astype(to_numpy("bfloat16")).tobytes()
    assert found["ids"].tobytes() == tensors["ids"].tobytes()
    config = json.loads((tmp_path / "half" / "config.json").read_text())
    assert list(config) == list(json.loads((source / "config.json").read_text()))
    assert config["torch_dtype"] == config["text_config"]["dtype"] == "bfloat16"
    assert config["text_config"]["x"] == 1 and config["b"] == [1e-5]


def test_a_folder_may_be_converted_in_its_place(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "source", {"w": np.ones((4, 5), np.float32)})
    loadstone.convert(source, source, dtype="float16", max_shard_size="10B")
    assert held(source)["w"].dtype == np.float16
    assert (source / "generation_config.json").exists() and (source / "tokenizer.json").read_text() == "{}"
    with pytest.raises(SourceError, match="weights of another format"):
        loadstone.convert(source, source, format="bin")
    assert not any(name.startswith("pytorch_model") for name in names_in(source))


def test_tied_tensors_are_stored_as_a_load_expects_them(tmp_path: Path) -> None:
    torch_like = tmp_path / "bin"
    table = {"model.embed_tokens.weight": np.arange(12, dtype=np.float32).reshape(3, 4)}
    save(tmp_path / "one", table, config='{"model_type": "llama", "tie_word_embeddings": true}')
    index = open_checkpoint(resolve(tmp_path / "one"))
    assert not index.aliases
    from loadstone.checkpoint.formats.target import target_named
    from loadstone.save.write import save_checkpoint

    def tied(config: str) -> dict[str, str]:
        from checkpoint_files import stored

        shutil.rmtree(torch_like, ignore_errors=True)
        save_checkpoint(
            torch_like,
            [stored("lm_head.weight", table["model.embed_tokens.weight"])],
            config_json=config,
            target=target_named("bin"),
            aliases={"model.embed_tokens.weight": "lm_head.weight"},
        )
        assert len(held(torch_like)) == 2
        shutil.rmtree(tmp_path / "back", ignore_errors=True)
        loadstone.convert(torch_like, tmp_path / "back")
        found = open_checkpoint(resolve(tmp_path / "back"))
        assert len(held(tmp_path / "back")) == 2
        return dict(found.aliases)

    yes = '{"model_type": "llama", "tie_word_embeddings": true}'
    assert tied(yes) == {"lm_head.weight": "model.embed_tokens.weight"}
    assert tied(yes.replace("true", "false")) == {}
    assert tied('{"model_type": "stranger"}') == {}


def test_old_names_are_data(tmp_path: Path) -> None:
    source = load.folder("bert-base")
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
        for name, array in held(source).items()
    } | {"embeddings.position_ids": np.arange(32)[None]}
    save(tmp_path / "old", tensors, config=(source / "config.json").read_text())
    loadstone.convert(tmp_path / "old", tmp_path / "bin", format="bin")
    assert_same(tensors, held(tmp_path / "bin"))
    done = loadstone.convert(tmp_path / "old", tmp_path / "flax", format="msgpack")
    assert any("position_ids" in note for note in done.notes)
    assert_same(held(source), held(tmp_path / "flax"))
    gpt2 = load.folder("gpt2-causal-lm")
    bare = {name.removeprefix("transformer."): array for name, array in held(gpt2).items()}
    save(tmp_path / "bare", bare, config=(gpt2 / "config.json").read_text())
    loadstone.convert(tmp_path / "bare", tmp_path / "h5", format="h5")
    assert_same(held(gpt2), held(tmp_path / "h5"))


def refused(source: Path, tmp_path: Path, match: str, **arguments: Any) -> None:
    with pytest.raises(ArgumentError, match=match):
        loadstone.convert(source, tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_what_a_format_cannot_hold_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    bert = load.folder("bert-base")
    source = checkpoint(tmp_path / "source")
    refused(source, tmp_path, "cannot be cast", dtype="int8")
    refused(source, tmp_path, "quantised", dtype="float16")
    refused(source, tmp_path, "layout='torch'", layout="torch", format="bin")
    refused(bert, tmp_path, "h5 cannot hold", format="h5", dtype="bfloat16")
    refused(load.folder("llama-causal-lm"), tmp_path, "no TensorFlow classes of llama", format="h5")
    refused(bert, tmp_path, "msgpack cannot hold", format="msgpack", metadata={"made_by": "a test"})
    refused(bert, tmp_path, "max_shard_size", max_shard_size="none")
    tied = held(load.folder("gpt2-causal-lm"))
    tied["lm_head.weight"] = tied["transformer.wte.weight"]
    config = (load.folder("gpt2-causal-lm") / "config.json").read_text()
    save(tmp_path / "twice", tied, config=config)
    refused(tmp_path / "twice", tmp_path, "cannot hold these tensors", format="h5")


def test_a_source_that_changes_meanwhile_is_an_error_and_the_destination_stays(
    tmp_path: Path, monkeypatch: Any
) -> None:
    source = checkpoint(tmp_path / "source")
    loadstone.convert(source, tmp_path / "new", format="bin")
    before = held(tmp_path / "new")
    other = checkpoint(tmp_path / "other", arrays(2))
    real = disk.sync_folder

    def saved_anew(path: Path) -> None:
        os.replace(other / "model.safetensors", source / "model.safetensors") if other.exists() else None
        shutil.rmtree(other, ignore_errors=True)
        real(path)

    monkeypatch.setattr(disk, "sync_folder", saved_anew)
    with pytest.raises(ChangedFileError):
        loadstone.convert(source, tmp_path / "new", format="bin")
    assert_same(before, held(tmp_path / "new"))
    assert not any(name.startswith("loadstone-save") for name in names_in(tmp_path / "new"))


def content(folder: Path) -> tuple[Any, ...]:
    """Return all that a folder's checkpoint holds, seen as a load sees it."""
    snapshot = settle(resolve(folder))
    texts = [snapshot.read_text(name) for name in ("config.json", "1_Pooling/config.json", "tokenizer.json")]
    return {name: array.tobytes() for name, array in held(folder).items()}, *texts


@pytest.mark.parametrize(
    ("format", "before", "after"),
    [("bin", "1GB", "100B"), ("h5", "100B", "1GB")],
)
def test_killed_anywhere_it_leaves_the_old_or_the_new(
    format: str, before: str, after: str, tmp_path: Path
) -> None:
    config = json.loads((load.folder("bert-base") / "config.json").read_text())

    def source(number: int) -> Path:
        folder = tmp_path / f"source-{number}"
        shapes = {
            "embeddings.word_embeddings": (8, 4),
            "pooler.dense": (6, 5),
            "encoder.layer.0.output.dense": (3, 9),
        }
        tensors = {f"{name}.weight": np.full(shape, number, np.float32) for name, shape in shapes.items()}
        save(folder, tensors, config=json.dumps(config | {"n": number}))
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(str(number))
        (folder / "tokenizer.json").write_text(str(number))
        return folder

    first, second = source(1), source(2)
    loadstone.convert(first, tmp_path / "old", format=format, max_shard_size=before)
    old, states, call = content(tmp_path / "old"), [], 0
    loadstone.convert(second, tmp_path / "whole", format=format, max_shard_size=after)
    new, died = content(tmp_path / "whole"), True
    while died:
        call += 1
        folder = tmp_path / f"killed-{call}"
        shutil.copytree(tmp_path / "old", folder)
        died = killed_before(
            call,
            functools.partial(loadstone.convert, second, folder, format=format, max_shard_size=after),
        )
        found = content(folder)
        assert found in (old, new), f"killed before call {call}"
        states.append(found == new)
        loadstone.convert(first, folder, format=format, max_shard_size=before)
        assert content(folder) == old
        assert names_in(folder) == names_in(tmp_path / "old")
        shutil.rmtree(folder)
    assert states == sorted(states) and not states[0] and states[-1]
    assert states.count(False) > 10 and states.count(True) > 2


@pytest.mark.parametrize("size", [40, 100, 1000])
def test_arrays_that_flax_cuts_into_pieces(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = load.folder("gpt2-causal-lm")
    monkeypatch.setattr("loadstone.checkpoint.formats.msgpack.writer.MAX_CHUNK", size)
    loadstone.convert(source, tmp_path / "pieces", format="msgpack")
    cut = [i for i in open_checkpoint(resolve(tmp_path / "pieces")).tensors.values() if i.chunks]
    assert len(cut) > 5 and max(len(info.chunks or ()) for info in cut) > 3
    for dtype in (None, "bfloat16"):
        there, straight = tmp_path / f"there-{dtype}", tmp_path / f"straight-{dtype}"
        loadstone.convert(tmp_path / "pieces", there, dtype=dtype)
        loadstone.convert(source, straight, dtype=dtype)
        assert_same(held(straight), held(there))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = checkpoint(tmp_path / "source", {"w": np.ones((4, 5), np.float32)})
    words = ["convert", str(source), str(tmp_path / "new"), "--format", "bin", "--dtype", "bf16", "--json"]
    with pytest.raises(SystemExit) as done:
        main(words)
    told = json.loads(capsys.readouterr().out)
    assert not done.value.code
    assert told["tensors"] == 1 and told["nbytes"] == 40 and "pytorch_model.bin" in told["files"]
    with pytest.raises(SystemExit) as done:
        main([*words[:2], str(tmp_path / "none"), "--format", "h5"])
    assert done.value.code == 1 and not (tmp_path / "none").exists()


def test_heads_that_transformers_classes_cannot_have_are_told(tmp_path: Path) -> None:
    told = {}
    for case in ("llama-causal-lm", "mistral-causal-lm", "gemma-causal-lm"):
        config = load_config(load.folder(case))
        assert config.head_dim * config.num_attention_heads != config.hidden_size
        done = loadstone.convert(load.folder(case), tmp_path / case, format="msgpack")
        told[case] = [note for note in done.notes if "head_dim" in note]
    assert not told.pop("gemma-causal-lm")  # whose class follows it
    assert all("Flax classes cannot load it" in note for [note] in told.values())
