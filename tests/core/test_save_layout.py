"""The files that a save writes: what lies where, the same for everybody, and equal when read back."""

import gc
import hashlib
import json
import os
import weakref

import numpy as np
import pytest
from checkpoint_files import Loaded, arrays, load, names_in, save, stored, write_foreign
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from loadstone.checkpoint.formats.writer import StoredTensor
from loadstone.checkpoint.open import open_checkpoint
from loadstone.dtypes import DTYPES, nbytes, to_numpy
from loadstone.errors import ArgumentError, BackendError, SourceError
from loadstone.read.tensor import HostTensor
from loadstone.save.layout import lay_out, parse_size
from loadstone.save.write import save_checkpoint
from loadstone.source import resolve

CONFIG = '{"model_type": "llama"}'
WHOLE_BYTES = sorted(name for name, dtype in DTYPES.items() if dtype.bits % 8 == 0)

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda n: n != "__metadata__"
)
shapes = st.lists(st.integers(0, 9), max_size=4).map(tuple)
tensor_sets = st.dictionaries(names, st.tuples(st.sampled_from(WHOLE_BYTES), shapes), max_size=8)


def draw(contents, seed):
    rng = np.random.default_rng(seed)
    made = {}
    for name, (dtype, shape) in contents.items():
        data = rng.integers(0, 2 if dtype == "bool" else 256, nbytes(dtype, shape), dtype=np.uint8)
        made[name] = HostTensor(name=name, dtype=dtype, shape=shape, data=data)
    return made


@settings(max_examples=60, deadline=None)
@given(contents=tensor_sets, seed=st.integers(0, 99), limit=st.sampled_from([1, 100, 1000, 10**9]))
def test_what_is_saved_is_what_is_loaded(tmp_path_factory, contents, seed, limit):
    folder = tmp_path_factory.mktemp("saved") / "a"
    tensors = draw(contents, seed)
    files = save_checkpoint(
        folder,
        [
            StoredTensor(name=t.name, dtype=t.dtype, shape=t.shape, read=lambda t=t: t)
            for t in tensors.values()
        ],
        config_json=CONFIG,
        max_shard_size=limit,
    )
    found = load(folder)
    assert found.tensors == {name: (t.dtype, t.shape, t.data.tobytes()) for name, t in tensors.items()}
    assert found.config == CONFIG
    index = open_checkpoint(resolve(folder))
    for info in index.tensors.values():
        alignment = 64 if info.nbytes % 64 == 0 else DTYPES[info.dtype].itemsize
        assert info.offset % alignment == 0
    for file in files:
        if file.suffix == ".safetensors":
            assert_library_agrees(file, tensors)


def assert_library_agrees(file, tensors):
    """Compare names, shapes, dtypes and, where numpy can hold them, values with the safetensors library's."""
    with safe_open(file, framework="numpy") as opened:
        for name in opened.keys():  # noqa: SIM118  (no mapping)
            expected = tensors[name]
            found = opened.get_slice(name)
            assert (found.get_dtype(), tuple(found.get_shape())) == (
                DTYPES[expected.dtype].code,
                expected.shape,
            )
            if to_numpy(expected.dtype).isbuiltin == 1 and expected.nbytes:
                assert opened.get_tensor(name).tobytes() == expected.data.tobytes()


def test_aligned_tensors_come_first_in_name_order_and_the_odd_ones_last(tmp_path):
    [file, _] = save(tmp_path / "a", arrays())
    index = open_checkpoint(resolve(tmp_path / "a"))
    order = [
        name
        for name, info in sorted(index.tensors.items(), key=lambda item: (item[1].offset, item[1].nbytes))
    ]
    sizes = [index.tensors[name].nbytes for name in order]
    assert order[:5] == sorted(order[:5]) and all(size % 64 == 0 for size in sizes[:5])
    assert order[5:] == ["model.scale", "model.layers.10.bias", "model.mask", "model.odd"]
    header = int.from_bytes(file.read_bytes()[:8], "little")
    assert (8 + header) % 64 == 0


def test_the_header_says_format_pt_and_keeps_what_it_held(tmp_path):
    save(
        tmp_path / "a",
        arrays(),
        metadata={"note": "kept", "format": "tf", "loadstone.sha256": "of another file"},
    )
    with safe_open(tmp_path / "a" / "model.safetensors", framework="numpy") as opened:
        metadata = opened.metadata()
    assert metadata["format"] == "pt" and metadata["note"] == "kept"
    assert len(metadata["loadstone.generation"]) == 32 and len(metadata["loadstone.sha256"]) == 64
    assert open_checkpoint(resolve(tmp_path / "a")).metadata == {"format": "pt", "note": "kept"}


def test_shards_are_named_and_indexed_as_transformers_does(tmp_path):
    files = save(tmp_path / "a", arrays(), max_shard_size=1000)
    assert [file.name for file in files] == [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
        "model.safetensors.index.json",
        "config.json",
    ]
    index = json.loads(files[3].read_text())
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in arrays().values())
    assert set(index["weight_map"]) == set(arrays())
    for file in files[:3]:
        with safe_open(file, framework="numpy") as opened:
            held = set(opened.keys())
            sizes = [arrays()[name].nbytes for name in held]
        assert held == {name for name, shard in index["weight_map"].items() if shard == file.name}
        assert sum(sizes) <= 1000 or len(sizes) == 1


def test_a_variant_stands_where_transformers_looks_for_it(tmp_path):
    files = save(tmp_path / "a", arrays(), variant="fp16")
    assert files[0].name == "model.fp16.safetensors"
    files = save(tmp_path / "a", arrays(), variant="fp16", max_shard_size=1000)
    assert files[0].name == "model.fp16-00001-of-00003.safetensors"
    assert files[3].name == "model.safetensors.index.fp16.json"
    assert names_in(tmp_path / "a") == {file.name for file in files}
    assert load(tmp_path / "a", variant="fp16") == Loaded.of(arrays(), CONFIG)


def test_the_same_tensors_give_the_same_bytes_in_any_order(tmp_path):
    forward, backward = arrays(), dict(reversed(arrays().items()))
    for size in ("1GB", 1000):
        for name, tensors in (("a", forward), ("b", backward)):
            save(tmp_path / name, tensors, max_shard_size=size, other_files={"generation_config.json": "{}"})
        assert contents(tmp_path / "a") == contents(tmp_path / "b")
    other = contents(tmp_path / "a")
    save(tmp_path / "a", arrays(1), max_shard_size=1000)
    assert contents(tmp_path / "a") != other


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_tensor_that_is_larger_than_a_shard_has_one_for_itself():
    def sized(name, size):
        return StoredTensor(
            name=name, dtype="uint8", shape=(size,), read=lambda: pytest.fail("not to be read")
        )

    shards = lay_out(
        [sized("a", 5), sized("b", 50), sized("c", 5), sized("d", 5)], max_shard_size=10, variant=None
    )
    assert [[tensor.name for tensor in shard.tensors] for shard in shards] == [["a"], ["b"], ["c", "d"]]


def test_a_file_never_holds_more_tensors_than_the_parser_accepts():
    def empty(number):
        return StoredTensor(
            name=f"{number:06d}", dtype="uint8", shape=(0,), read=lambda: pytest.fail("not to be read")
        )

    shards = lay_out(map(empty, range(200_001)), max_shard_size="5GB", variant=None)
    assert [len(shard.tensors) for shard in shards] == [100_000, 100_000, 1]
    assert shards[-1].file == "model-00003-of-00003.safetensors"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5GB", 5 * 10**9),
        ("500MB", 5 * 10**8),
        ("1GiB", 2**30),
        ("1.5kb", 1500),
        (" 2 TiB ", 2**41),
        (7, 7),
        ("7", 7),
    ],
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "5 apples", "-1", 0, "GB", None, "1e3", True])
def test_other_sizes_are_refused(text):
    with pytest.raises(ArgumentError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    "name", ["../x", "a/../b", "/etc/x", "model.safetensors", "model-00001-of-00002.safetensors"]
)
def test_other_files_have_names_below_the_folder(tmp_path, name):
    with pytest.raises((ArgumentError, SourceError)):
        save(tmp_path / "a", arrays(), other_files={name: "text"})
    assert not (tmp_path / "a").exists()


def test_a_name_that_occurs_twice_or_is_reserved_is_refused(tmp_path):
    twice = [stored("x", np.zeros(3)), stored("x", np.ones(3))]
    for tensors in (twice, [stored("__metadata__", np.zeros(3))]):
        with pytest.raises(ArgumentError, match="cannot be saved as"):
            save_checkpoint(tmp_path / "a", tensors, config_json=CONFIG)
    assert not (tmp_path / "a").exists()


def test_a_tensor_that_is_not_what_was_announced_is_an_error_and_leaves_nothing(tmp_path):
    wrong = StoredTensor(
        name="x", dtype="float32", shape=(4,), read=stored("x", np.zeros(3, np.float32)).read
    )
    with pytest.raises(BackendError, match="another tensor than it announced"):
        save_checkpoint(tmp_path / "a", [wrong], config_json=CONFIG)
    assert names_in(tmp_path / "a") == set()


def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(SourceError, match="could not be saved"):
        save(tmp_path / "a", arrays())
    assert (tmp_path / "a").read_text() == "mine"


def test_one_tensor_at_a_time_is_in_memory(tmp_path):
    living: set[int] = set()
    most = 0

    def tensor(number):
        def read():
            nonlocal most
            gc.collect()
            data = np.full(3 * 2**20, number, np.uint8)
            living.add(number)
            weakref.finalize(data, living.discard, number)
            most = max(most, len(living))
            return HostTensor(name=str(number), dtype="uint8", shape=(3 * 2**20,), data=data)

        return StoredTensor(name=str(number), dtype="uint8", shape=(3 * 2**20,), read=read)

    written = []
    save_checkpoint(
        tmp_path / "a",
        map(tensor, range(5)),
        config_json=CONFIG,
        max_shard_size="7MB",
        progress=written.append,
    )
    assert most == 1 and not living
    assert sum(written) == 5 * 3 * 2**20
    assert len(load(tmp_path / "a").tensors) == 5


@pytest.mark.parametrize("size", ["1GB", 1000])
def test_saving_into_the_folder_from_which_the_tensors_are_mapped(tmp_path, size):
    tensors = arrays()
    write_foreign(tmp_path / "a", tensors, shards=3, config="{}", generation_config=None)
    index = open_checkpoint(resolve(tmp_path / "a"))
    before = {name: hashlib.sha256((tmp_path / "a" / name).read_bytes()).digest() for name in index.files}
    maps = {file: np.memmap(tmp_path / "a" / file, mode="r") for file in index.files}

    def mapped(info):
        data = maps[info.file][info.offset : info.end]
        host = HostTensor(name=info.name, dtype=info.dtype, shape=info.shape, data=data, mapped=True)
        return StoredTensor(name=info.name, dtype=info.dtype, shape=info.shape, read=lambda: host)

    saved = [mapped(info) for info in index.tensors.values()]
    save_checkpoint(tmp_path / "a", saved, config_json=CONFIG, max_shard_size=size)
    assert load(tmp_path / "a") == Loaded.of(tensors, CONFIG)
    assert {file: hashlib.sha256(bytes(data)).digest() for file, data in maps.items()} == before


def test_files_have_the_permissions_that_the_user_asks_for(tmp_path):
    mask = os.umask(0o027)
    try:
        files = save(tmp_path / "a", arrays(), max_shard_size=1000)
    finally:
        os.umask(mask)
    assert {file.stat().st_mode & 0o777 for file in files} == {0o640}
