"""Archives of arrays as numpy writes them, and such as it does not: only plain numbers as they are come through."""

import io
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from loadstone.checkpoint.open import open_checkpoint
from loadstone.errors import CheckpointError
from loadstone.source import resolve

ARRAYS = {
    "model.a.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "turned": np.arange(24, dtype=np.float16).reshape(4, 3, 2).T,
    "one": np.array(3),
    "none": np.zeros((0, 3)),
    "flags": np.array([True, False]),
    "complex": np.ones(3, np.complex64),
    "column": np.asfortranarray(np.arange(5, dtype=np.uint8).reshape(5, 1)),
    "ü" * 300: np.ones((1,) * 20, np.int16),
}


def opened(tmp_path, data):
    (tmp_path / "model.npz").write_bytes(data)
    return open_checkpoint(resolve(tmp_path))


def saved(save=np.savez, **arrays):
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def test_what_numpy_writes_lies_where_the_index_says(tmp_path):
    data = saved(**ARRAYS)
    index = opened(tmp_path, data)
    assert set(index.tensors) == set(ARRAYS) and index.files == ("model.npz",)
    for name, array in ARRAYS.items():
        info = index.tensors[name]
        assert (info.dtype, info.shape) == (str(array.dtype), array.shape)
        numbers = np.frombuffer(data, array.dtype, max(array.size, 0), info.offset)
        steps = None if info.strides is None else [step * array.itemsize for step in info.strides]
        assert np.array_equal(
            np.lib.stride_tricks.as_strided(numbers, info.shape, steps) if array.size else array, array
        )


def entry(header, numbers=b"", version=b"\x01\x00", **options):
    """Return an archive of one entry, its header written by hand."""
    header = header if isinstance(header, bytes) else str(header).encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        data = b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + numbers
        archive.writestr(options.get("name", "a.npy"), data)
    return stream.getvalue()


PLAIN = {"descr": "<f4", "fortran_order": False, "shape": (2,)}
HOSTILE = {
    "objects": (saved(a=np.array([{}], object)), "Python objects, which only a pickle can"),
    "compressed": (saved(np.savez_compressed, a=np.zeros(100_000)), "which an entry is compressed"),
    "big-endian": (saved(a=np.ones(3, ">f4")), "the most significant byte first"),
    "bfloat16": (saved(a=np.ones(3, ml_dtypes.bfloat16)), "numpy forgets bfloat16"),
    "records": (saved(a=np.zeros(2, [("x", "f4")])), "something else than numbers"),
    "texts": (saved(a=np.array(["x"])), "a dtype that there is no name for"),
    "program": (entry("__import__('os').system('touch ran')"), "something else than numbers"),
    "nested": (entry("(" * 5000), "something else than numbers"),
    "larger": (entry(PLAIN | {"shape": (2**40, 2**40)}), "another size than its header"),
    "negative": (entry(PLAIN | {"shape": (-1,)}), "something else than numbers"),
    "longer": (entry(PLAIN, bytes(12)), "another size than its header"),
    "huge header": (entry(b"{" + b" " * 20_000), "an impossible header"),
    "other version": (entry(PLAIN, bytes(8), b"\x07\x00"), "an entry that is no array"),
    "leaves": (entry(PLAIN, bytes(8), name="../a.npy"), "a name that leads out"),
    "no array": (entry(PLAIN, bytes(8), name="a.txt"), "something that is no array"),
    "pickle": (b"\x80\x04N.", "none of the files that numpy.savez writes"),
    "cut": (saved(a=np.ones(3))[:-30], "a zip archive without an end"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_plain_array_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    data, message = HOSTILE[name]
    with pytest.raises(CheckpointError) as caught:
        opened(tmp_path, data)
    assert message in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"model.npz"}


def test_an_archive_whose_entries_share_bytes_is_refused(tmp_path):
    data = bytearray(saved(a=np.ones(1000), b=np.ones(1000)))
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 100)
    with pytest.raises(CheckpointError, match="overlaps another one"):
        opened(tmp_path, bytes(data))


def test_safetensors_come_first_and_a_name_asks_for_it(tmp_path):
    from safetensors.numpy import save_file

    save_file({"b": np.ones(2)}, tmp_path / "model.safetensors")
    assert list(opened(tmp_path, saved(a=np.ones(2))).tensors) == ["b"]
    assert list(open_checkpoint(resolve(tmp_path), weights_format="npz").tensors) == ["a"]


def test_where_an_argument_leaves_it_out_the_error_says_so(tmp_path):
    (tmp_path / "model.npz").write_bytes(saved(a=np.ones(2)))
    with pytest.raises(CheckpointError, match="a format that use_safetensors= leaves out"):
        open_checkpoint(resolve(tmp_path), use_safetensors=True)
