"""The engine against a plain reader: any tensors, at any offsets, of any dtypes, mapped or read, in pieces of any size."""

import dataclasses
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadstone.checkpoint.index import TensorInfo
from loadstone.dtypes import CASTABLE, DTYPES, nbytes, to_numpy
from loadstone.errors import ChangedFileError
from loadstone.read import engine
from loadstone.read.engine import Request, Traffic, read_tensors, same_bytes
from loadstone.read.files import OpenFiles, identity
from loadstone.read.memory import ALIGNMENT

FLOATS = sorted(CASTABLE)
OTHERS = ("int64", "uint8", "bool", "float8_e4m3fn", "complex64")
SHAPES = st.lists(st.integers(0, 9), max_size=3).map(tuple)


@st.composite
def requests(draw) -> list[Request]:
    """Draw tensors that lie in up to three files, with gaps between them, and what is wanted of each."""
    ends = {"a": draw(st.integers(0, 70)), "b": 0, "c": 1}
    drawn = []
    for number in range(draw(st.integers(0, 12))):
        dtype, shape = draw(st.sampled_from([*FLOATS, *OTHERS])), draw(SHAPES)
        file = draw(st.sampled_from(sorted(ends)))
        offset = ends[file] + draw(st.sampled_from([0, 0, 0, 1, 8, 64]))
        info = TensorInfo(
            name=f"stored.{number}",
            dtype=dtype,
            shape=shape,
            file=file,
            offset=offset,
            nbytes=nbytes(dtype, shape),
        )
        ends[file] = info.end
        wanted = draw(st.sampled_from(FLOATS)) if dtype in FLOATS else dtype
        drawn.append(Request(name=f"p.{number}", info=info, dtype=wanted, mappable=draw(st.booleans())))
    return draw(st.permutations(drawn))


@contextmanager
def opened(folder: Path, contents: dict[str, bytes]) -> Iterator[OpenFiles]:
    paths = {name: folder / name for name in contents}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    with OpenFiles(paths, {name: identity(path) for name, path in paths.items()}) as files:
        yield files


def random_bytes(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def contents_for(wanted: list[Request]) -> dict[str, bytes]:
    """Return files just long enough for the tensors."""
    sizes = dict.fromkeys("abc", 1)
    for request in wanted:
        sizes[request.info.file] = max(sizes[request.info.file], request.info.end)
    return {name: random_bytes(size, seed) for seed, (name, size) in enumerate(sizes.items())}


def plainly_read(contents: dict[str, bytes], request: Request) -> np.ndarray:
    info = request.info
    values = np.frombuffer(contents[info.file][info.offset : info.end], to_numpy(info.dtype))
    with np.errstate(all="ignore"):
        return values.astype(to_numpy(request.dtype)).reshape(info.shape)


def is_mapped(request: Request, alignment: int) -> bool:
    info = request.info
    aligned = info.offset % (alignment or DTYPES[info.dtype].itemsize) == 0
    return request.mappable and request.dtype == info.dtype and aligned and info.nbytes > 0


def assert_equal(found: np.ndarray, expected: np.ndarray, *, cast: bool) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if cast:  # whose not-a-numbers may differ in bits
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(found.astype(np.float64), expected.astype(np.float64))
    else:
        assert found.tobytes() == expected.tobytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(
    wanted=requests(),
    alignment=st.sampled_from([0, 1, 64]),
    piece=st.sampled_from([64, 128, 1 << 20]),
    window=st.integers(1, 3),
)
def test_every_tensor_is_what_a_plain_reader_finds(tmp_path, monkeypatch, wanted, alignment, piece, window):
    contents, traffic = contents_for(wanted), Traffic()
    with monkeypatch.context() as patched, opened(tmp_path, contents) as files:
        patched.setattr(engine, "PIECE", piece)
        patched.setattr(engine, "WINDOW", window)
        tensors = {t.name: t for t in read_tensors(files, wanted, alignment=alignment, traffic=traffic)}
    assert tensors.keys() == {request.name for request in wanted}
    for request in wanted:
        tensor, expected = tensors[request.name], plainly_read(contents, request)
        assert_equal(tensor.numpy(), expected, cast=request.dtype != request.info.dtype)
        assert tensor.mapped == is_mapped(request, alignment)
        assert tensor.mapped or not tensor.nbytes or tensor.address % ALIGNMENT == 0
    mapped = sum(request.info.nbytes for request in wanted if is_mapped(request, alignment))
    assert (traffic.mapped, traffic.read) == (mapped, sum(r.info.nbytes for r in wanted) - mapped)


def one_tensor(
    size: int, *, file: str = "a", offset: int = 0, dtype: str = "uint8", **wanted: object
) -> Request:
    elements = size // DTYPES[dtype].itemsize
    info = TensorInfo(name=file, dtype=dtype, shape=(elements,), file=file, offset=offset, nbytes=size)
    return Request(**{"name": f"{file}+{offset}", "info": info, "dtype": dtype, "mappable": False} | wanted)


def bytes_asked_for() -> int:
    """Return how many bytes this process has read from anything."""
    counters = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in counters if line.startswith("rchar"))


def test_a_consumer_that_stops_stops_the_reading(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "PIECE", 1 << 16)
    content = random_bytes(1 << 22)
    wanted = [one_tensor(1 << 16, offset=start) for start in range(0, len(content), 1 << 16)]
    with opened(tmp_path, {"a": content}) as files:
        before = bytes_asked_for()
        tensors = read_tensors(files, wanted, alignment=0, traffic=Traffic())
        next(tensors)
        time.sleep(0.1)
        assert (
            bytes_asked_for() - before <= (engine.WINDOW + 1) * engine.PIECE + 4096
        )  # and the counters' own text
        tensors.close()


def test_a_mapped_tensor_is_not_read(tmp_path):
    with opened(tmp_path, {"a": random_bytes(1 << 22)}) as files:
        before = bytes_asked_for()
        [tensor] = read_tensors(files, [one_tensor(1 << 22, mappable=True)], alignment=0, traffic=Traffic())
        assert bytes_asked_for() - before < 4096
        assert tensor.mapped


def test_writing_to_a_mapped_tensor_is_private(tmp_path):
    content, wanted = random_bytes(1 << 13), [one_tensor(1 << 13, mappable=True)]
    with opened(tmp_path, {"a": content}) as files:
        [one] = read_tensors(files, wanted, alignment=0, traffic=Traffic())
    one.data[:] = 0
    with (
        opened(tmp_path, {"b": b"-"}),
        OpenFiles({"a": tmp_path / "a"}, {"a": identity(tmp_path / "a")}) as files,
    ):
        [other] = read_tensors(files, wanted, alignment=0, traffic=Traffic())
    assert (tmp_path / "a").read_bytes() == content == other.data.tobytes()


def test_two_tensors_from_one_place_do_not_share_what_is_read(tmp_path):
    info = one_tensor(4096).info
    wanted = [Request(name=name, info=info, dtype="uint8", mappable=False) for name in "xy"]
    with opened(tmp_path, {"a": random_bytes(4096)}) as files:
        one, other = read_tensors(files, wanted, alignment=0, traffic=Traffic())
    assert not np.shares_memory(one.data, other.data)


def test_bytes_keep_their_bits_beside_a_tensor_that_is_cast(tmp_path):
    nans = np.full(64, 0x7FA1, np.uint16).tobytes()
    wanted = [
        one_tensor(64, dtype="bfloat16"),
        one_tensor(64, dtype="bfloat16", offset=64),
    ]
    wanted[1] = dataclasses.replace(wanted[1], dtype="float32")
    with opened(tmp_path, {"a": nans}) as files:
        kept, _ = read_tensors(files, wanted, alignment=0, traffic=Traffic())
    assert kept.data.tobytes() == nans[:64]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_file_that_ends_early_is_an_error(tmp_path, dtype):
    wanted = [one_tensor(1 << 20, dtype="bfloat16", offset=64)]
    wanted = [dataclasses.replace(wanted[0], dtype=dtype)]
    with opened(tmp_path, {"a": random_bytes((1 << 20) + 64)}) as files:
        with files.descriptor("a"):  # which stays open
            os.truncate(tmp_path / "a", 1 << 19)
        with pytest.raises(ChangedFileError, match="ended before it should"):
            list(read_tensors(files, wanted, alignment=0, traffic=Traffic()))


def test_a_file_cut_before_it_is_mapped_is_an_error(tmp_path):
    with opened(tmp_path, {"a": random_bytes(1 << 14)}) as files:
        os.truncate(tmp_path / "a", 1 << 13)
        with pytest.raises(ChangedFileError, match="changed while it was being loaded"):
            list(read_tensors(files, [one_tensor(1 << 14, mappable=True)], alignment=0, traffic=Traffic()))


@pytest.mark.parametrize("changed", [None, 0, 999, 1 << 20])
def test_same_bytes(tmp_path, monkeypatch, changed):
    monkeypatch.setattr(engine, "PIECE", 1 << 10)
    content = bytearray(random_bytes((1 << 20) + 1))
    contents = {"a": bytes(content)}
    if changed is not None:
        content[changed] ^= 1
    contents["b"] = bytes(content)
    one, other = (one_tensor(len(content), file=file).info for file in "ab")
    with opened(tmp_path, contents) as files:
        traffic = Traffic()
        assert same_bytes(files, one, other, traffic=traffic) == (changed is None)
        assert changed is not None or traffic.read == 2 * len(content)


def test_equal_bytes_of_another_dtype_or_shape_are_not_the_same(tmp_path):
    info = one_tensor(64).info
    with opened(tmp_path, {"a": bytes(64)}) as files:
        for other in ({"dtype": "bool"}, {"shape": (8, 8)}):
            assert not same_bytes(files, info, dataclasses.replace(info, **other), traffic=Traffic())


def test_comparing_a_file_that_ends_early_is_an_error(tmp_path):
    info = one_tensor(1 << 16).info
    with opened(tmp_path, {"a": bytes(1 << 16)}) as files:
        os.truncate(tmp_path / "a", 1 << 15)
        with pytest.raises(ChangedFileError):
            same_bytes(files, info, info, traffic=Traffic())
