"""Packed numbers through the engine: whole, turned, in parts and in pieces, held against all of them unpacked at once."""

import dataclasses

import numpy as np
import pytest

from loadstone.checkpoint.index import Packing, TensorIndex, TensorInfo
from loadstone.checkpoint.recipe import Cast, Concatenate, Recipe, Slice, Stack, Transpose, Unstack, viewed
from loadstone.dtypes import to_numpy
from loadstone.errors import CheckpointError, PluginError
from loadstone.read import pieces
from loadstone.read.engine import Traffic, read_tensors, same_bytes
from loadstone.read.files import OpenFiles, identity
from loadstone.read.pieces import Request

BLOCK, BYTES = 4, 5


def scaled(blocks, numbers, times):
    """Make numbers of blocks of a scale and four bytes."""
    rows = blocks.reshape(-1, BYTES).astype(np.float32)
    numbers.reshape(-1, BLOCK)[...] = rows[:, :1] * rows[:, 1:] * np.float32(times)


def failing(blocks, numbers):
    """Fail, as a plugin may."""
    raise KeyError("a table")


PACKING = Packing(name="scaled", numbers=BLOCK, nbytes=BYTES, unpack=f"{__name__}:scaled", arguments=(3,))
SHAPE = (6, 5, 8)
SIZE = 6 * 5 * 8 // BLOCK * BYTES


def stored(shape=SHAPE, offset=3, packing=PACKING):
    """Return a packed tensor."""
    nbytes = int(np.prod(shape)) // packing.numbers * packing.nbytes
    return TensorInfo(
        name="w", dtype="float32", shape=shape, file="f", offset=offset, nbytes=nbytes, packing=packing
    )


@pytest.fixture
def files(tmp_path):
    """Open a file of random bytes, and return it with the numbers that its tensor is of."""
    data = np.random.default_rng(0).integers(0, 256, 3 + 2 * SIZE, np.uint8)
    (tmp_path / "f").write_bytes(data.tobytes())
    numbers = np.empty(2 * SIZE // BYTES * BLOCK, np.float32)
    scaled(data[3:], numbers, 3)
    with OpenFiles({"f": tmp_path / "f"}, {"f": identity(tmp_path / "f")}) as opened:
        yield opened, numbers.reshape(2, *SHAPE)


def read(opened, recipe):
    """Return what a recipe gives, and the bytes that were read."""
    traffic = Traffic()
    request = Request(name="p", recipe=recipe, shape=recipe.shape, mappable=True)
    [tensor] = read_tensors(opened, [request], alignment=0, traffic=traffic)
    assert not tensor.mapped and not traffic.mapped
    return tensor.numpy(), traffic.read


ONE = stored()
TWO = dataclasses.replace(ONE, name="v", offset=3 + SIZE)
WAYS = {
    "whole": (Recipe(sources=(ONE,)), lambda a: a[0]),
    "cast": (Recipe(sources=(ONE,), steps=(Cast("bfloat16"),)), lambda a: a[0]),
    "turned": (Recipe(sources=(ONE,), steps=(Transpose((2, 0, 1)), Cast("float16"))), lambda a: a[0].transpose(2, 0, 1)),
    "viewed": (Recipe(sources=(viewed(ONE, [Transpose((1, 2, 0))], name="w"),)), lambda a: a[0].transpose(1, 2, 0)),
    "rows": (Recipe(sources=(ONE,), steps=(Slice(0, 1, 3), Slice(1, 2, 5))), lambda a: a[0, 1:3, 2:5]),
    "half of each row": (Recipe(sources=(ONE,), steps=(Slice(2, 4, 8),)), lambda a: a[0, :, :, 4:]),
    "one of many": (Recipe(sources=(ONE,), steps=(Unstack(1, 2),)), lambda a: a[0, :, 2]),
    "stacked": (Recipe(sources=(ONE, TWO), steps=(Stack(1),)), lambda a: np.stack(list(a), 1)),
    "joined": (Recipe(sources=(ONE, TWO), steps=(Concatenate(2),)), lambda a: np.concatenate(list(a), 2)),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("piece", [pieces.PIECE, 50])
def test_every_number_lies_where_it_belongs(files, monkeypatch, way, piece):
    monkeypatch.setattr(pieces, "PIECE", piece)
    opened, numbers = files
    recipe, expected = WAYS[way]
    found, moved = read(opened, recipe)
    with np.errstate(over="ignore"):
        assert np.array_equal(found, expected(numbers).astype(to_numpy(recipe.dtype)))
    assert recipe.nbytes <= moved <= 2 * SIZE and recipe.nbytes == expected(numbers).size // BLOCK * BYTES


def test_a_part_that_cuts_a_block_is_refused(files):
    with pytest.raises(CheckpointError, match="inside a packed block") as caught:
        read(files[0], Recipe(sources=(ONE,), steps=(Slice(2, 2, 8),)))
    assert "found: 2 to 8 of 8" in str(caught.value)
    with pytest.raises(ValueError, match="does not fit"):
        viewed(ONE, [Unstack(0, 1)], name="w")


def test_blocks_of_several_rows_are_read_whole(files):
    rows = Packing(name="rows", numbers=40, nbytes=50, unpack=f"{__name__}:scaled", arguments=(3,))
    found, moved = read(files[0], Recipe(sources=(stored(packing=rows),)))
    assert np.array_equal(found, files[1][0]) and moved == SIZE


def test_what_is_stored_twice_is_compared_by_its_numbers(files):
    opened, _ = files
    other = dataclasses.replace(PACKING, name="other")
    again = dataclasses.replace(ONE, packing=other)
    tripled = dataclasses.replace(ONE, packing=dataclasses.replace(PACKING, arguments=(9,)))
    assert same_bytes(opened, ONE, again, traffic=Traffic())
    assert not same_bytes(opened, ONE, tripled, traffic=Traffic())


@pytest.mark.parametrize("path", [f"{__name__}:failing", f"{__name__}:nowhere", "no_such_module:scaled"])
def test_a_function_that_fails_is_blamed(files, path):
    packing = Packing(name="scaled", numbers=BLOCK, nbytes=BYTES, unpack=path)
    with pytest.raises(PluginError, match=path):
        read(files[0], Recipe(sources=(stored(packing=packing),)))


def test_what_fills_its_bytes():
    assert ONE.fills and ONE.kind == "scaled" and ONE.end == 3 + SIZE
    assert TensorIndex(tensors={"w": ONE}).dtypes() == {"scaled": SIZE}
    assert not dataclasses.replace(ONE, nbytes=SIZE - BYTES).fills
    assert not stored(shape=(4, 6)).fills, "a block would end in the middle of a row"
    assert stored(shape=(0, 8)).fills and stored(shape=(8,)).fills
    with pytest.raises(ValueError, match="a block of 0 numbers"):
        Packing(name="nothing", numbers=0, nbytes=4, unpack="")
