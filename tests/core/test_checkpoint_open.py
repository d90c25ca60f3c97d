"""Which files are opened, what is read of them, and what the index says."""

import json
import threading

import numpy as np
import pytest
from checkpoint_files import Loaded, arrays, entry, load, names_in, raw, save, write_foreign

from loadstone.checkpoint.digest import verify
from loadstone.checkpoint.formats import safetensors
from loadstone.checkpoint.open import open_checkpoint
from loadstone.errors import CheckpointError
from loadstone.source import resolve

NAME = "org/name"


def one(name):
    """Return the bytes of a file that holds one tensor of that name."""
    return raw({name: entry([2], 0, 8)}, bytes(8))


def index_of(places):
    return json.dumps({"weight_map": places}).encode()


def opened(folder, files, **arguments):
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return open_checkpoint(resolve(folder), **arguments)


def test_one_file_comes_before_shards(tmp_path):
    files = {
        "model.safetensors": one("single"),
        "model.safetensors.index.json": index_of({"sharded": "model-00001-of-00001.safetensors"}),
        "model-00001-of-00001.safetensors": one("sharded"),
    }
    assert set(opened(tmp_path, files).tensors) == {"single"}


@pytest.mark.parametrize("index", ["model.safetensors.index.fp16.json", "model.fp16.safetensors.index.json"])
def test_variants(tmp_path, index):
    files = {"model.safetensors": one("plain"), index: index_of({"shard": "some.safetensors"})}
    files["some.safetensors"] = one("shard")
    assert set(opened(tmp_path, files, variant="fp16").tensors) == {"shard"}
    assert set(opened(tmp_path, {"model.fp16.safetensors": one("half")}, variant="fp16").tensors) == {"half"}
    assert set(opened(tmp_path, {}).tensors) == {"plain"}


def test_an_alias_names_a_stored_tensor_and_is_not_stored(tmp_path):
    metadata = {"format": "pt", "tied": "stored", "stored": "other", "note": "nothing of that name"}
    header = {"__metadata__": metadata, "stored": entry([2], 0, 8), "other": entry([2], 8, 16)}
    index = opened(tmp_path, {"model.safetensors": raw(header, bytes(16))})
    assert index.aliases == {"tied": "stored"}
    assert index.metadata == {"format": "pt", "stored": "other", "note": "nothing of that name"}


def test_the_format_is_no_alias(tmp_path):
    header = {"__metadata__": {"format": "pt"}, "pt": entry([2], 0, 8)}
    index = opened(tmp_path, {"model.safetensors": raw(header, bytes(8))})
    assert (index.aliases, index.metadata) == ({}, {"format": "pt"})


def test_an_alias_may_name_a_tensor_of_another_shard(tmp_path):
    files = {
        "model.safetensors.index.json": index_of({"a": "1.safetensors", "b": "2.safetensors"}),
        "1.safetensors": raw({"__metadata__": {"tied": "b"}, "a": entry([2], 0, 8)}, bytes(8)),
        "2.safetensors": one("b"),
    }
    assert opened(tmp_path, files).aliases == {"tied": "b"}


def test_tensors_are_indexed_in_the_order_of_files_and_offsets(tmp_path):
    write_foreign(tmp_path / "a", arrays(), shards=3, config="{}", generation_config=None)
    index = open_checkpoint(resolve(tmp_path / "a"))
    places = [(info.file, info.offset, info.nbytes) for info in index.tensors.values()]
    assert places == sorted(places)
    assert list(index.files) == sorted({file for file, _, _ in places})
    assert index.nbytes == sum(array.nbytes for array in arrays().values())


def test_a_file_below_another_folder_may_be_a_shard(tmp_path):
    (tmp_path / "parts").mkdir()
    files = {
        "model.safetensors.index.json": index_of({"a": "./parts//1.safetensors"}),
        "parts/1.safetensors": one("a"),
    }
    assert opened(tmp_path, files).files == ("parts/1.safetensors",)


def test_local_files_also_pass_the_safetensors_library(tmp_path, monkeypatch):
    """Should the library refuse what our parser lets pass, its word counts."""
    too_wide = raw({"a": entry([2], 0, 8)}, bytes(8))
    assert len(opened(tmp_path, {"model.safetensors": too_wide})) == 1
    monkeypatch.setattr(safetensors, "read_header", lambda *a, **k: ([], {}))
    with pytest.raises(CheckpointError, match=r"model\.safetensors is refused by the safetensors library"):
        opened(tmp_path, {"model.safetensors": too_wide[:-1]})


def test_a_repository_is_opened_from_headers_alone(hub, tmp_path):
    tensors = {f"layer.{i}.weight": np.full(500_000, i, np.float32) for i in range(4)}
    write_foreign(tmp_path / "a", tensors, shards=4, config="{}", generation_config=None)
    hub.add_repo(NAME, {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()})
    local, remote = open_checkpoint(resolve(tmp_path / "a")), open_checkpoint(resolve(NAME))
    assert remote == local
    shards = [name for name in names_in(tmp_path / "a") if name.startswith("model-")]
    assert len(shards) == 4
    for shard in shards:
        assert hub.bytes_sent(shard) <= 300_000, "2 MB each"
        assert len(hub.log("GET", shard, site="cdn")) == 1, "one request holds length and header"
    assert not [path for path in (hub.home / "hub").rglob("*") if path.stat().st_size > 100_000]


def test_headers_of_a_repository_are_asked_for_side_by_side(hub, tmp_path, monkeypatch):
    write_foreign(tmp_path / "a", arrays(), shards=3, config="{}", generation_config=None)
    hub.add_repo(NAME, {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()})
    threads, together, read_header = set(), threading.Barrier(3, timeout=20), safetensors.read_header

    def watched(*arguments, **options):
        threads.add(threading.current_thread().name)
        together.wait()
        return read_header(*arguments, **options)

    monkeypatch.setattr(safetensors, "read_header", watched)
    index = open_checkpoint(resolve(NAME))
    assert set(index.tensors) == set(arrays())
    assert len(index.files) == len(threads) == 3
    assert all(name.startswith("loadstone-headers") for name in threads)


def test_damage_in_a_repository_is_found_from_headers(hub, tmp_path):
    save(tmp_path / "a", arrays(), max_shard_size=1200)
    files = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    first, second, *_ = sorted(name for name in files if name.startswith("model-"))
    files[first], files[second] = files[second], files[first][:-1]
    hub.add_repo(NAME, files)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(resolve(NAME))
    for fact in (NAME, second, "ends early", first):
        assert fact in str(caught.value)


@pytest.mark.parametrize("size", ["1GB", 1200])
def test_verify_finds_a_flipped_bit_in_what_we_saved(tmp_path, size):
    save(tmp_path / "a", arrays(), max_shard_size=size)
    snapshot = resolve(tmp_path / "a")
    index = open_checkpoint(snapshot)
    found = verify(snapshot, index)
    assert (found.intact, found.problems, found.unknown) == (index.files, (), ())
    info = index.tensors["model.layers.0.weight"]
    flip(tmp_path / "a" / info.file, info.offset + 3)
    assert load(tmp_path / "a") != Loaded.of(arrays(), '{"model_type": "llama"}')
    found = verify(snapshot, open_checkpoint(resolve(tmp_path / "a")))
    assert set(found.intact) == set(index.files) - {info.file}
    [problem] = found.problems
    assert problem.startswith(f"{info.file} has changed: the save gave SHA-256 ")


def test_verify_finds_a_header_that_was_edited_into_another_valid_one(tmp_path):
    save(tmp_path / "a", arrays())
    file = tmp_path / "a" / "model.safetensors"
    data = file.read_bytes()
    assert data.count(b'"dtype":"BF16"') == 1
    file.write_bytes(data.replace(b'"dtype":"BF16"', b'"dtype":"F16" '))
    snapshot = resolve(tmp_path / "a")
    index = open_checkpoint(snapshot)
    assert index.tensors["model.layers.0.weight"].dtype == "float16"
    assert len(verify(snapshot, index).problems) == 1


def test_verify_uses_the_sums_of_the_hub_and_of_its_cache(hub, tmp_path):
    write_foreign(
        tmp_path / "a", {"w": np.zeros(300_000, np.float32)}, shards=1, config="{}", generation_config=None
    )
    hub.add_repo(NAME, {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()})
    snapshot = resolve(NAME)
    assert verify(snapshot, open_checkpoint(snapshot)).intact == ("model.safetensors",)
    [cached] = (hub.home / "hub").rglob("snapshots/*/model.safetensors")
    folder = resolve(cached.parent)
    assert verify(folder, open_checkpoint(folder)).intact == ("model.safetensors",)
    flip(cached.resolve(), 1_000_000)
    for damaged in (resolve(NAME), folder):
        [problem] = verify(damaged, open_checkpoint(damaged)).problems
        assert "the Hub gave SHA-256" in problem


def test_verify_says_where_no_sum_is_known(tmp_path):
    write_foreign(tmp_path / "a", arrays(), shards=1, config="{}", generation_config=None)
    snapshot = resolve(tmp_path / "a")
    found = verify(snapshot, open_checkpoint(snapshot))
    assert (found.intact, found.problems, found.unknown) == ((), (), ("model.safetensors",))


def flip(path, offset):
    with open(path, "r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))
