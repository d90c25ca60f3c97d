"""The engine against a plain reader: any tensors, at any offsets, of any dtypes, mapped or read, in pieces of any size."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadstone.checkpoint.index import TensorInfo
from loadstone.checkpoint.recipe import Cast, Concatenate, Recipe, Slice, Stack, Transpose, whole
from loadstone.dtypes import CASTABLE, DTYPES, nbytes, to_numpy
from loadstone.errors import ChangedFileError
from loadstone.read import engine, pieces, runs
from loadstone.read.engine import Traffic, read_tensors, same_bytes
from loadstone.read.files import OpenFiles, identity
from loadstone.read.memory import ALIGNMENT
from loadstone.read.pieces import Request
from loadstone.read.steps import assemble

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
        drawn.append(
            Request(name=f"p.{number}", recipe=whole(info, wanted), shape=shape, mappable=draw(st.booleans()))
        )
    return draw(st.permutations(drawn))


@contextmanager
def opened(folder: Path, contents: dict[str, bytes]) -> Iterator[OpenFiles]:
    paths = {name: folder / name for name in contents}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    with OpenFiles(paths, {name: identity(path) for name, path in paths.items()}) as files:
        yield files


def info_of(request: Request) -> TensorInfo:
    """Return the one stored tensor that is asked for whole."""
    assert request.recipe.whole is not None
    return request.recipe.whole


def random_bytes(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def contents_for(wanted: list[Request]) -> dict[str, bytes]:
    """Return files just long enough for the tensors."""
    sizes = dict.fromkeys("abc", 1)
    for request in wanted:
        sizes[info_of(request).file] = max(sizes[info_of(request).file], info_of(request).end)
    return {name: random_bytes(size, seed) for seed, (name, size) in enumerate(sizes.items())}


def plainly_read(contents: dict[str, bytes], request: Request) -> np.ndarray:
    info = info_of(request)
    values = np.frombuffer(contents[info.file][info.offset : info.end], to_numpy(info.dtype))
    with np.errstate(all="ignore"):
        return values.astype(to_numpy(request.dtype)).reshape(info.shape)


def is_mapped(request: Request, alignment: int) -> bool:
    info = info_of(request)
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
    contents, traffic, shown = contents_for(wanted), Traffic(), Shown()
    with monkeypatch.context() as patched, opened(tmp_path, contents) as files:
        patched.setattr(pieces, "PIECE", piece)
        patched.setattr(engine, "WINDOW", window)
        found = read_tensors(files, wanted, alignment=alignment, traffic=traffic, bar=shown)
        tensors = {tensor.name: tensor for tensor in found}
    assert tensors.keys() == {request.name for request in wanted}
    for request in wanted:
        tensor, expected = tensors[request.name], plainly_read(contents, request)
        assert_equal(tensor.numpy(), expected, cast=request.dtype != info_of(request).dtype)
        assert tensor.mapped == is_mapped(request, alignment)
        assert tensor.mapped or not tensor.nbytes or tensor.address % ALIGNMENT == 0
    mapped = sum(info_of(request).nbytes for request in wanted if is_mapped(request, alignment))
    assert (traffic.mapped, traffic.read) == (mapped, sum(info_of(r).nbytes for r in wanted) - mapped)
    assert shown.passed == shown.total == traffic.read


class Shown:
    """A bar that remembers what it was told."""

    def __init__(self) -> None:
        self.total = self.passed = 0

    @contextmanager
    def __call__(self, *, total: int) -> Iterator[Callable[[int], object]]:
        self.total = total
        yield self.advance

    def advance(self, number: int) -> None:
        self.passed += number


def one_tensor(
    size: int, *, file: str = "a", offset: int = 0, dtype: str = "uint8", **wanted: object
) -> Request:
    elements = size // DTYPES[dtype].itemsize
    info = TensorInfo(name=file, dtype=dtype, shape=(elements,), file=file, offset=offset, nbytes=size)
    given = {
        "name": f"{file}+{offset}",
        "recipe": whole(info, dtype),
        "shape": (elements,),
        "mappable": False,
    }
    return Request(**given | wanted)


def bytes_asked_for() -> int:
    """Return how many bytes this process has read from anything."""
    counters = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in counters if line.startswith("rchar"))


def test_a_consumer_that_stops_stops_the_reading(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 1 << 16)
    content = random_bytes(1 << 22)
    wanted = [one_tensor(1 << 16, offset=start) for start in range(0, len(content), 1 << 16)]
    with opened(tmp_path, {"a": content}) as files:
        before = bytes_asked_for()
        tensors = read_tensors(files, wanted, alignment=0, traffic=Traffic())
        next(tensors)
        time.sleep(0.1)
        assert (
            bytes_asked_for() - before <= (engine.WINDOW + 1) * pieces.PIECE + 4096
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
    info = info_of(one_tensor(4096))
    wanted = [Request(name=name, recipe=whole(info, "uint8"), shape=(4096,), mappable=False) for name in "xy"]
    with opened(tmp_path, {"a": random_bytes(4096)}) as files:
        one, other = read_tensors(files, wanted, alignment=0, traffic=Traffic())
    assert not np.shares_memory(one.data, other.data)


def test_bytes_keep_their_bits_beside_a_tensor_that_is_cast(tmp_path):
    nans = np.full(64, 0x7FA1, np.uint16).tobytes()
    wanted = [
        one_tensor(64, dtype="bfloat16"),
        one_tensor(64, dtype="bfloat16", offset=64),
    ]
    wanted[1] = dataclasses.replace(wanted[1], recipe=whole(info_of(wanted[1]), "float32"))
    with opened(tmp_path, {"a": nans}) as files:
        kept, _ = read_tensors(files, wanted, alignment=0, traffic=Traffic())
    assert kept.data.tobytes() == nans[:64]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_file_that_ends_early_is_an_error(tmp_path, dtype):
    wanted = [one_tensor(1 << 20, dtype="bfloat16", offset=64)]
    wanted = [dataclasses.replace(wanted[0], recipe=whole(info_of(wanted[0]), dtype))]
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
    monkeypatch.setattr(pieces, "PIECE", 1 << 10)
    content = bytearray(random_bytes((1 << 20) + 1))
    contents = {"a": bytes(content)}
    if changed is not None:
        content[changed] ^= 1
    contents["b"] = bytes(content)
    one, other = (info_of(one_tensor(len(content), file=file)) for file in "ab")
    with opened(tmp_path, contents) as files:
        traffic = Traffic()
        assert same_bytes(files, one, other, traffic=traffic) == (changed is None)
        assert changed is not None or traffic.read == 2 * len(content)


def test_equal_bytes_of_another_dtype_or_shape_are_not_the_same(tmp_path):
    info = info_of(one_tensor(64))
    with opened(tmp_path, {"a": bytes(64)}) as files:
        for other in ({"dtype": "bool"}, {"shape": (8, 8)}):
            assert not same_bytes(files, info, dataclasses.replace(info, **other), traffic=Traffic())


def test_comparing_a_file_that_ends_early_is_an_error(tmp_path):
    info = info_of(one_tensor(1 << 16))
    with opened(tmp_path, {"a": bytes(1 << 16)}) as files:
        os.truncate(tmp_path / "a", 1 << 15)
        with pytest.raises(ChangedFileError):
            same_bytes(files, info, info, traffic=Traffic())


# Tensors that are made of parts


@st.composite
def recipes(draw) -> tuple[dict[str, bytes], Recipe]:
    """Draw a few tensors of one shape that lie in two files, and what is made of blocks of them."""
    shape = draw(st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple))
    dtype, wanted = draw(st.sampled_from([("float32",) * 2, ("float32", "float64"), ("int16",) * 2]))
    ends, sources = {"a": 3, "b": 0}, []
    for number in range(draw(st.integers(1, 3))):
        file = draw(st.sampled_from("ab"))
        info = TensorInfo(
            name=f"s.{number}",
            dtype=dtype,
            shape=shape,
            file=file,
            offset=ends[file],
            nbytes=nbytes(dtype, shape),
        )
        ends[file] = info.end + draw(st.sampled_from([0, 0, 5]))
        sources.append(info)
    steps = []
    for axis, size in enumerate(shape):
        start = draw(st.integers(0, size - 1))
        steps += [Slice(axis, start, draw(st.integers(start + 1, size)))] * draw(st.booleans())
    if draw(st.booleans()):
        steps.append(Transpose(tuple(draw(st.permutations(range(len(shape)))))))
    if len(sources) > 1 or draw(st.booleans()):
        axis = draw(st.integers(0, len(shape) - 1))
        steps.append(draw(st.sampled_from([Stack(axis), Concatenate(axis)])))
    steps += [Cast(wanted)] * (wanted != dtype)
    contents = {name: random_bytes(max(1, end), seed) for seed, (name, end) in enumerate(ends.items())}
    return contents, Recipe(sources=tuple(sources), steps=tuple(steps))


def plainly_made(contents: dict[str, bytes], recipe: Recipe) -> np.ndarray:
    arrays = [
        np.frombuffer(contents[info.file][info.offset : info.end], to_numpy(info.dtype)).reshape(info.shape)
        for info in recipe.sources
    ]
    target = np.empty(recipe.shape, arrays[0].dtype)
    assemble(target, recipe.parts, arrays.__getitem__)
    with np.errstate(all="ignore"):
        return target.astype(to_numpy(recipe.dtype))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(made=recipes(), piece=st.sampled_from([16, 64, 1 << 20]), mappable=st.booleans())
def test_parts_are_put_together_as_numpy_does_it(tmp_path, monkeypatch, made, piece, mappable):
    contents, recipe = made
    request = Request(name="p", recipe=recipe, shape=recipe.shape, mappable=mappable)
    traffic, shown = Traffic(), Shown()
    with monkeypatch.context() as patched, opened(tmp_path, contents) as files:
        patched.setattr(pieces, "PIECE", piece)
        patched.setattr(runs, "GAP", 0)
        [tensor] = read_tensors(files, [request], alignment=0, traffic=traffic, bar=shown)
        found = tensor.numpy().copy()
    assert_equal(found, plainly_made(contents, recipe), cast=any(isinstance(s, Cast) for s in recipe.steps))
    assert traffic.read + traffic.mapped == recipe.nbytes  # and not a byte that nobody asked for
    assert shown.passed == shown.total == traffic.read


@pytest.mark.parametrize("axis", [0, 1])
def test_of_a_part_no_more_is_read_than_it_holds(tmp_path, axis):
    size = 1 << 12
    info = TensorInfo(name="s", dtype="uint8", shape=(size, 3 * size), file="a", offset=0, nbytes=3 * size**2)
    recipe = Recipe(sources=(info,), steps=(Slice(axis, 5, 205),))
    with opened(tmp_path, {"a": bytes(3 * size**2)}) as files:
        before = bytes_asked_for()
        wanted = Request(name="p", recipe=recipe, shape=recipe.shape, mappable=False)
        [tensor] = read_tensors(files, [wanted], alignment=0, traffic=Traffic())
        asked = bytes_asked_for() - before
    assert tensor.nbytes == recipe.nbytes == 200 * (3 * size, size)[axis]
    assert tensor.nbytes <= asked < tensor.nbytes + 8192  # and the counters' own text
