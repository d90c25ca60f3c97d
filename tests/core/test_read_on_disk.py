"""Parameters that stay on disk: brought, let go of, brought ahead where there is room."""

import copy
import gc
import os
import pickle
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadstone.checkpoint.index import TensorInfo
from loadstone.checkpoint.recipe import whole
from loadstone.dtypes import nbytes
from loadstone.errors import ChangedFileError, SourceError
from loadstone.read import on_disk
from loadstone.read.files import identity
from loadstone.read.on_disk import OnDisk
from loadstone.read.pieces import Request

UNITS = tuple((f"{n}.weight", f"{n}.bias") for n in range(4))
"""Four blocks of two parameters."""
SIZE = 4 * 65 * 64
"""Bytes of a block."""


def stored(
    folder: Path, *, dtype: str = "float32", mappable: bool = True
) -> tuple[dict[str, Any], list[Request]]:
    """Write two blocks into each of two files, and return where they lie and what is wanted of them."""
    folder.mkdir(exist_ok=True)
    requests, contents = [], {"a": bytearray(), "b": bytearray()}
    for number, unit in enumerate(UNITS):
        file = "a" if number < 2 else "b"
        for name, shape in zip(unit, ((64, 64), (64,)), strict=True):
            value = np.random.default_rng(number).standard_normal(shape, np.float32)
            info = TensorInfo(
                name=name, dtype="float32", shape=shape, file=file, offset=len(contents[file]), nbytes=value.nbytes
            )  # fmt: skip
            contents[file] += value.tobytes()
            requests.append(Request(name=name, recipe=whole(info, dtype), shape=shape, mappable=mappable))
    paths = {name: folder / name for name in contents}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    return {
        "paths": paths,
        "identities": {n: identity(p) for n, p in paths.items()},
        "alignment": 0,
    }, requests


@pytest.fixture
def disk(tmp_path: Path) -> OnDisk:
    where, requests = stored(tmp_path / "model")
    found = OnDisk(requests, **where)
    found.in_order(UNITS)
    return found


def expected(number: int) -> np.ndarray:
    return np.random.default_rng(number).standard_normal((64, 64), np.float32)


def ahead() -> None:
    """Wait for what is being brought."""
    for thread in threading.enumerate():
        if thread.name == "loadstone-ahead":
            thread.join()


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 0, 1), (3, 2, 1, 0), (1, 1, 3)], ids=str)
@pytest.mark.parametrize("mappable", [True, False])
def test_what_is_brought_is_what_lies_there(tmp_path, order, mappable):
    where, requests = stored(tmp_path / "model", mappable=mappable)
    disk = OnDisk(requests, **where)
    disk.in_order(UNITS)
    for number in order:
        tensors = disk.bring(UNITS[number])
        assert list(tensors) == list(UNITS[number])
        assert np.array_equal(tensors[f"{number}.weight"].numpy(), expected(number))
        assert all(tensor.mapped == mappable for tensor in tensors.values())


def test_a_cast_is_done_as_it_comes(tmp_path):
    where, requests = stored(tmp_path / "model", dtype="float16")
    tensors = OnDisk(requests, **where).bring(UNITS[2])
    assert np.array_equal(tensors["2.weight"].numpy(), expected(2).astype(np.float16))


def test_the_next_block_comes_while_one_runs_and_the_last_has_none(disk):
    disk.bring(UNITS[0])
    ahead()
    assert disk.traffic.mapped == 2 * SIZE
    disk.bring(UNITS[1])
    ahead()
    assert disk.traffic.mapped == 3 * SIZE, "what came ahead is not brought again"
    disk.bring(UNITS[3])
    ahead()
    assert disk.traffic.mapped == 4 * SIZE, "the third came for nothing, and nothing is after the fourth"


@pytest.mark.parametrize(("room", "blocks"), [(2 * SIZE, 2), (2 * SIZE - 1, 1), (0, 1)])
def test_nothing_comes_ahead_where_a_budget_has_no_room_for_both(tmp_path, room, blocks):
    where, requests = stored(tmp_path / "model", mappable=False)
    disk = OnDisk(requests, **where, room=room)
    disk.in_order(UNITS)
    disk.bring(UNITS[0])
    ahead()
    assert disk.traffic.read == blocks * SIZE


@pytest.mark.parametrize(("free", "blocks"), [(2 * SIZE, 2), (2 * SIZE - 2, 1), (0, 1)])
def test_nor_where_the_system_has_none(tmp_path, monkeypatch, free, blocks):
    monkeypatch.setattr(on_disk, "available", lambda: free)
    where, requests = stored(tmp_path / "model", mappable=False)
    disk = OnDisk(requests, **where)
    disk.in_order(UNITS)
    disk.bring(UNITS[0])
    ahead()
    assert disk.traffic.read == blocks * SIZE


def test_what_is_mapped_needs_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(on_disk, "available", lambda: 0)
    where, requests = stored(tmp_path / "model")
    disk = OnDisk(requests, **where, room=0)
    disk.in_order(UNITS)
    disk.bring(UNITS[0])
    ahead()
    assert disk.traffic.mapped == 2 * SIZE


def test_memory_goes_with_the_last_who_holds_it(disk):
    tensors = disk.bring(UNITS[0])
    one, other = (weakref.ref(tensor.data.base.base) for tensor in tensors.values())
    kept = tensors["0.weight"].numpy()
    del tensors
    disk.bring(UNITS[2])
    gc.collect()
    assert one() is not None
    assert np.array_equal(kept, expected(0))
    kept[:] = 7
    assert np.array_equal(disk.bring(UNITS[0])["0.weight"].numpy(), expected(0)), (
        "each call has memory of its own"
    )
    del kept
    gc.collect()
    assert one() is None
    assert other() is None


def test_a_parameter_that_is_read_has_memory_of_its_own(disk):
    tensor = disk.read("3.weight")
    assert not tensor.mapped
    assert np.array_equal(tensor.numpy(), expected(3))


def test_a_file_that_changed_is_an_error_for_its_blocks_alone_and_stays_one(disk, tmp_path):
    disk.bring(UNITS[1])  # the third is on its way
    ahead()
    with open(tmp_path / "model" / "b", "r+b") as stream:
        stream.write(b"\0")
    os.utime(tmp_path / "model" / "b", ns=(1, 1))
    for _ in range(2):
        assert disk.bring(UNITS[0])
        for number in (2, 3):
            with pytest.raises(ChangedFileError, match="since the model was loaded") as caught:
                disk.bring(UNITS[number])
            assert str(tmp_path / "model" / "b") in str(caught.value)
    with pytest.raises(ChangedFileError):
        disk.read("2.weight")


def test_a_file_that_became_shorter_ends_no_process(disk, tmp_path):
    disk.bring(UNITS[2])
    ahead()
    os.truncate(tmp_path / "model" / "b", 10)
    with pytest.raises(ChangedFileError):
        disk.bring(UNITS[3])


def test_a_file_that_is_replaced_is_read_on(disk, tmp_path):
    disk.bring(UNITS[0])
    (tmp_path / "new").write_bytes(b"\0" * 100)
    os.replace(tmp_path / "new", tmp_path / "model" / "a")
    assert np.array_equal(disk.bring(UNITS[1])["1.weight"].numpy(), expected(1))


def test_a_file_that_is_gone_before_it_was_opened(disk, tmp_path):
    (tmp_path / "model" / "b").unlink()
    disk.bring(UNITS[1])
    with pytest.raises(SourceError):
        disk.bring(UNITS[2])


def test_copies_share_it_and_pickles_open_the_files_anew(disk):
    assert copy.deepcopy({"held": disk})["held"] is disk
    twin = pickle.loads(pickle.dumps(disk))
    assert np.array_equal(twin.bring(UNITS[0])["0.weight"].numpy(), expected(0))
    ahead()
    assert twin.traffic.mapped == 2 * SIZE, "the order came along"


def test_many_threads_bring_at_once(disk):
    wrong = []

    def run(start: int) -> None:
        for step in range(40):
            number = (start + step) % 4
            if not np.array_equal(disk.bring(UNITS[number])[f"{number}.weight"].numpy(), expected(number)):
                wrong.append(number)

    threads = [threading.Thread(target=run, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_it_holds_the_bytes_of_its_parameters(disk):
    assert disk.nbytes == 4 * SIZE == sum(nbytes(r.dtype, r.shape) for r in disk.requests.values())
    descriptors = set(os.listdir("/proc/self/fd"))
    disk.bring(UNITS[0])
    ahead()
    assert len(set(os.listdir("/proc/self/fd")) - descriptors) == 1
