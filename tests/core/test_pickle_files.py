"""What torch.save writes, read without torch: both forms, views, ties, shards, variants, training checkpoints."""

import json

import numpy as np
import pytest

from loadstone.checkpoint.formats.pickle.format import NOTE
from loadstone.checkpoint.index import TensorInfo
from loadstone.checkpoint.open import open_checkpoint
from loadstone.checkpoint.recipe import Recipe, Slice, Transpose
from loadstone.checkpoint.strides import View, row_by_row
from loadstone.cli.inspect import inspect
from loadstone.errors import CheckpointError
from loadstone.planning.wrappers import wrappers
from loadstone.read.engine import Traffic, read_tensors, same_bytes
from loadstone.read.files import OpenFiles, identity
from loadstone.read.pieces import Request
from loadstone.source import resolve
from tests.pickled import (
    GOOD,
    ONES,
    ORDERED,
    archive,
    entries_of,
    held,
    large,
    named,
    number,
    older,
    pair,
    persistent,
    pickled,
    reduced,
    table,
    tensor,
    text,
)

BIN = "pytorch_model.bin"
FORMS = {"zip": lambda description: archive(entries_of(description)), "older": older}


@pytest.fixture(params=FORMS)
def written(request, tmp_path):
    """Return a function that writes a checkpoint of a description in one of the two forms."""

    def write(description, name=BIN):
        (tmp_path / name).write_bytes(FORMS[request.param](description))
        return tmp_path

    return write


def test_a_tensor_is_where_the_file_has_it(written):
    folder = written(GOOD)
    index = open_checkpoint(resolve(folder))
    [info] = index.tensors.values()
    assert (info.name, info.dtype, info.shape, info.nbytes) == ("weight", "float32", (3, 4), 48)
    assert (folder / BIN).read_bytes()[info.offset : info.end] == ONES.tobytes()
    assert index.files == (BIN,) and index.notes == (NOTE,)


VIEWS = {
    "whole": ((3, 4), (4, 1), 0),
    "transposed": ((4, 3), (1, 4), 0),
    "second half": ((2, 3), (3, 1), 6),
    "columns": ((3, 2), (4, 1), 1),
    "every second": ((3, 2), (4, 2), 0),
    "every third from 1": ((4,), (3,), 1),
    "last column": ((3,), (4,), 3),
    "a column with axes": ((3, 1, 1), (4, 99, 1), 2),
    "one number": ((), (), 5),
    "permuted": ((2, 2, 3), (3, 6, 1), 0),
    "reversed axes": ((3, 2, 2), (1, 3, 6), 0),
    "sliced and permuted": ((2, 3), (1, 4), 1),
    "expanded": ((5, 4), (0, 1), 4),
    "expanded inside": ((3, 2, 4), (4, 0, 1), 0),
    "all one": ((2, 3), (0, 0), 7),
    "steps that do not divide": ((2, 2), (3, 2), 0),
    "nothing": ((0, 4), (4, 1), 0),
}


@pytest.mark.parametrize("view", VIEWS)
def test_views_come_row_by_row(written, view):
    shape, strides, first = VIEWS[view]
    expected = np.lib.stride_tricks.as_strided(ONES[first:], shape, [4 * stride for stride in strides])
    found = held(written(pickled(table({"view": tensor(shape, strides, first=first)}))))["view"]
    assert found.dtype == np.float32 and found.shape == shape
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("shape", "strides"), [((3, 4), (3, 1)), ((2, 2), (2, 2)), ((4, 4), (1, 1)), ((2000,), (0,))]
)
def test_rows_that_lie_over_one_another_are_refused(written, shape, strides):
    with pytest.raises(CheckpointError, match="lie over one another, or in too many places") as caught:
        open_checkpoint(resolve(written(pickled(table({"view": tensor(shape, strides)})))))
    assert "'view'" in str(caught.value) and ".contiguous()" in str(caught.value)


def test_a_part_of_a_view_reads_that_part_alone(tmp_path):
    large = np.arange(4000 * 1200, dtype=np.float32).reshape(4000, 1200)
    (tmp_path / "f").write_bytes(large.tobytes())
    info = TensorInfo(
        name="t",
        dtype="float32",
        shape=(1200, 4000),
        file="f",
        offset=0,
        nbytes=large.nbytes,
        strides=(1, 1200),
    )
    traffic = Traffic()
    for steps, expected in (
        ((), large.T),
        ((Transpose((1, 0)),), large),
        ((Slice(1, 100, 103),), large.T[:, 100:103]),
    ):
        request = Request(
            name="t", recipe=Recipe(sources=(info,), steps=steps), shape=expected.shape, mappable=False
        )
        traffic = Traffic()
        with OpenFiles({"f": tmp_path / "f"}, {"f": identity(tmp_path / "f")}) as files:
            [found] = read_tensors(files, [request], alignment=0, traffic=traffic)
        assert np.array_equal(found.numpy(), expected)
    assert traffic.read == 3 * 1200 * 4
    assert Recipe(sources=(info,)).nbytes == large.nbytes and info.end == large.nbytes


def test_a_view_and_its_copy_are_equal(tmp_path):
    square = np.arange(9, dtype=np.float32).reshape(3, 3)
    (tmp_path / "f").write_bytes(square.tobytes() + square.T.tobytes() + square.tobytes())
    infos = [
        TensorInfo(name="t", dtype="float32", shape=(3, 3), file="f", offset=at, nbytes=36, strides=strides)
        for at, strides in ((0, (1, 3)), (36, None), (72, None))
    ]
    with OpenFiles({"f": tmp_path / "f"}, {"f": identity(tmp_path / "f")}) as files:
        assert same_bytes(files, infos[0], infos[1], traffic=Traffic())
        assert not same_bytes(files, infos[0], infos[2], traffic=Traffic())


def test_strides_are_told_apart():
    assert row_by_row((3, 1, 2), (2, 77, 1)) and row_by_row((0, 9), (5, 5)) and not row_by_row((2, 2), (1, 2))
    assert View.of((2, 3), (1, 1)) is None and View.of((3, 4), (3, 1)) is None


def test_any_view_of_a_block_comes_row_by_row(tmp_path):
    rng, numbers_ = np.random.default_rng(0), np.arange(3 * 4 * 5 * 7, dtype=np.int16)
    (tmp_path / "f").write_bytes(numbers_.tobytes())
    for _ in range(300):
        view = numbers_.reshape(3, 4, 5, 7).transpose(rng.permutation(4))
        picks = (slice(int(rng.integers(0, 3)), None, int(rng.integers(1, 4))) for _ in range(4))
        view = view[tuple(picks)]
        first = (
            (view.__array_interface__["data"][0] - numbers_.__array_interface__["data"][0])
            if view.size
            else 0
        )
        strides = tuple(step // 2 for step in view.strides)
        found = None if row_by_row(view.shape, strides) else strides
        info = TensorInfo(
            name="t",
            dtype="int16",
            shape=view.shape,
            file="f",
            offset=first,
            nbytes=view.nbytes,
            strides=found,
        )
        request = Request(name="t", recipe=Recipe(sources=(info,)), shape=view.shape, mappable=False)
        with OpenFiles({"f": tmp_path / "f"}, {"f": identity(tmp_path / "f")}) as files:
            [tensor_] = read_tensors(files, [request], alignment=0, traffic=Traffic())
        assert np.array_equal(tensor_.numpy(), view), (view.shape, strides)


def test_tensors_of_one_view_are_one_and_others_are_not(written):
    entries = {"b": tensor(), "a": tensor(), "row": tensor((4,), (1,)), "other": tensor((4, 3), (3, 1))}
    index = open_checkpoint(resolve(written(pickled(table(entries)))))
    assert index.aliases == {"a": "b"} and set(index.tensors) == {"b", "row", "other"}
    assert index.overlapping() == {"b", "row", "other"}


def test_what_stands_beside_tensors_is_told(written):
    array = reduced(
        named("numpy.core.multiarray", "_reconstruct"), named("numpy", "ndarray"), pair(number(0)), text("b")
    )
    kind = reduced(named("numpy", "dtype"), text("f8"), b"\x89", b"\x88")
    state = pair(number(1), pair(number(2)), kind, b"\x89", text("bytes"))
    entries = {
        "w": tensor(),
        "epoch": number(3),
        "note": text("kept"),
        "rng": array + state + b"b",
        "none": b"N",
    }
    index = open_checkpoint(resolve(written(pickled(table(entries)))))
    assert set(index.tensors) == {"w"}
    assert index.metadata == {"epoch": "3", "note": "kept", "rng": "a numpy array of 'f8', shape [2]"}


def test_parameters_and_attributes_are_tensors(written):
    parameter = reduced(named("torch._utils", "_rebuild_parameter"), tensor(), b"\x88", ORDERED)
    state = reduced(
        named("torch._utils", "_rebuild_parameter_with_state"), tensor((12,), (1,)), b"\x88", ORDERED, b"}"
    )
    inner = pair(persistent(), number(0), numbers_of(2), numbers_of(1), b"\x89", ORDERED)
    typed = reduced(
        named("torch._tensor", "_rebuild_from_type_v2"),
        named("torch._utils", "_rebuild_tensor_v2"),
        named("torch", "Tensor"),
        inner,
        b"}",
    )
    body = (
        ORDERED
        + b"("
        + text("p")
        + parameter
        + text("s")
        + state
        + text("t")
        + typed
        + b"u}"
        + text("_metadata")
    )
    index = open_checkpoint(resolve(written(pickled(body + ORDERED + b"sb"))))
    assert {name: info.shape for name, info in index.tensors.items()} == {"p": (3, 4), "s": (12,), "t": (2,)}


def numbers_of(*values):
    return pair(*map(number, values))


def test_a_training_checkpoint_is_named_by_its_paths(written):
    optimizer = table({"state": b"}(" + number(0) + table({"exp_avg": tensor((12,), (1,))}) + b"u"})
    folder = written(
        pickled(
            table({"state_dict": table({"module.w": tensor()}), "optimizer": optimizer, "epoch": number(1)})
        )
    )
    index = open_checkpoint(resolve(folder))
    assert set(index.tensors) == {"state_dict.module.w", "optimizer.state.0.exp_avg"}
    assert [pattern for pattern, _ in wrappers(index.tensors)] == [r"^state_dict\.", r"^state_dict\.module\."]


def shards(folder, names=("a", "b"), variant=""):
    index = {"metadata": {}, "weight_map": {}}
    for position, name in enumerate(names, 1):
        file = f"pytorch_model{variant}-{position:05d}-of-{len(names):05d}.bin"
        (folder / file).write_bytes(archive(entries_of(pickled(table({name: tensor()})))))
        index["weight_map"][name] = file
    return index


def test_shards_are_held_against_their_index(tmp_path):
    index = shards(tmp_path)
    file = tmp_path / "pytorch_model.bin.index.json"
    file.write_text(json.dumps(index))
    assert set(held(tmp_path)) == {"a", "b"}
    file.write_text(json.dumps(index | {"weight_map": index["weight_map"] | {"c": index["weight_map"]["a"]}}))
    with pytest.raises(CheckpointError, match="'c': the index places it"):
        open_checkpoint(resolve(tmp_path))
    file.write_text(json.dumps({"weight_map": {"a": "other.safetensors"}}))
    with pytest.raises(CheckpointError, match="does not end in"):
        open_checkpoint(resolve(tmp_path))
    file.write_text(json.dumps(index))
    (tmp_path / index["weight_map"]["b"]).unlink()
    with pytest.raises(CheckpointError, match="is not there"):
        open_checkpoint(resolve(tmp_path))


@pytest.mark.parametrize(
    "index_name", ["pytorch_model.bin.index.fp16.json", "pytorch_model.fp16.bin.index.json"]
)
def test_a_variant(tmp_path, index_name):
    (tmp_path / index_name).write_text(json.dumps(shards(tmp_path, variant=".fp16")))
    assert set(held(tmp_path, variant="fp16")) == {"a", "b"}
    (tmp_path / "pytorch_model.fp16.bin").write_bytes(archive(entries_of()))
    assert set(held(tmp_path, variant="fp16")) == {"weight"}


@pytest.mark.parametrize("name", ["pytorch_model.pt", "pytorch_model.pth", "model.pt", "model.pth"])
def test_other_endings(tmp_path, name):
    (tmp_path / "optimizer.pt").write_bytes(b"not looked at")
    (tmp_path / name).write_bytes(archive(entries_of()))
    assert set(held(tmp_path)) == {"weight"}


def test_a_far_archive_is_planned_from_its_ends(hub, tmp_path):
    weights = np.arange(300_000, dtype=np.float32)
    storage = persistent(count=len(weights))
    description = pickled(table({"w": tensor((len(weights),), (1,), storage=storage)}))
    data = archive(entries_of(description, {"0": weights.tobytes()}))
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / BIN).write_bytes(data)
    hub.add_repo("org/pickle", {BIN: data, "config.json": b"{}"})
    far = open_checkpoint(resolve("org/pickle"))
    assert far.tensors == open_checkpoint(resolve(tmp_path / "local")).tensors
    assert hub.bytes_sent(BIN) < 100_000 < len(data)
    assert len({one.range for one in hub.log("GET", BIN)}) <= 6, (
        "one for each storage would be a request too many"
    )


def test_an_archive_of_64_bit_sizes(tmp_path):
    data = large(archive(entries_of()))
    (tmp_path / BIN).write_bytes(data)
    assert np.array_equal(held(tmp_path)["weight"].ravel(), ONES)
    (tmp_path / BIN).write_bytes(data.replace(b"PK\x06\x06", b"PK\x06\x05"))
    with pytest.raises(CheckpointError, match="end is not where it says"):
        open_checkpoint(resolve(tmp_path))


def test_inspect_calls_it_the_less_safe_choice(written):
    found = inspect(written(GOOD))
    assert NOTE in found.notes and found.problems[0].where is not None
    assert [info.name for info in found.tensors] == ["weight"]


def test_safetensors_win_unless_told_otherwise(tmp_path):
    from checkpoint_files import arrays, save

    save(tmp_path, arrays())
    (tmp_path / BIN).write_bytes(archive(entries_of()))
    assert set(open_checkpoint(resolve(tmp_path)).tensors) == set(arrays())
    assert set(open_checkpoint(resolve(tmp_path), use_safetensors=True).tensors) == set(arrays())
    assert set(open_checkpoint(resolve(tmp_path), use_safetensors=False).tensors) == {"weight"}
