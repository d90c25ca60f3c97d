"""HDF5 and msgpack files that no framework wrote: links, other files, lies about sizes. Each ends in our error, at once."""

import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from loadstone.checkpoint.open import open_checkpoint
from loadstone.errors import CheckpointError
from loadstone.source import resolve
from tests.foreign import H5, MSGPACK, array_of, ext, mapped, number, packed, text
from tests.pickled import held

ONES = np.arange(12, dtype=np.float32).reshape(3, 4)
GOOD = array_of((3, 4), "float32", ONES.tobytes())


def refused(folder: Path, what: str) -> None:
    """Hold that a checkpoint ends in our error within a second and, where its file is small, 32 MB."""
    snapshot = resolve(folder)
    started = time.process_time()
    with pytest.raises(CheckpointError, match=what):
        open_checkpoint(snapshot)
    assert time.process_time() - started < 1
    if sum(file.stat().st_size for file in folder.iterdir()) > 1_000_000:
        return  # tracemalloc takes ten times as long; such a file has as much memory as is allowed
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            open_checkpoint(snapshot)
        assert tracemalloc.get_traced_memory()[1] < 32 * 1024 * 1024
    finally:
        tracemalloc.stop()


def nested(depth: int) -> bytes:
    return mapped([(text("a"), b"")]) * depth + GOOD


def one(value: bytes, name: str = "kernel") -> bytes:
    return mapped([(text(name), value)])


def pieces(shape: tuple[int, ...], arrays: list[bytes]) -> bytes:
    """Return an array in pieces."""

    def counted(values: list[bytes]) -> bytes:
        return mapped([(text(str(number)), value) for number, value in enumerate(values)])

    sizes = counted([bytes([size]) for size in shape])
    chunks = (text("chunks"), counted(arrays))
    return mapped([(text("__msgpack_chunked_array__"), b"\xc3"), (text("shape"), sizes), chunks])


MSGPACKS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "a list": (b"\x91\x01", "none of the files that flax writes"),
    "a number": (b"\x01", "none of the files that flax writes"),
    "a byte that means nothing": (one(b"\xc1"), "is no msgpack"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "a page": (b"<!DOCTYPE html>", "a web page"),
    "cut short in an array": (one(GOOD)[:-3], "ends before"),
    "cut short in a header": (one(GOOD)[:16], "cut short|ends before"),
    "cut short in a key": (one(GOOD)[:8], "cut short|ends before"),
    "more behind it": (one(GOOD) + b"\x00", "goes on behind its end"),
    "a map of 4 billion": (mapped([(text("a"), GOOD)], count=2**32 - 1), "ends before"),
    "a map of one more": (mapped([(text("a"), GOOD)], count=2), "cut short|ends before"),
    "a list in the tree": (one(b"\x91\x01"), "holds a list"),
    "a list of 4 billion": (one(b"\xdd" + b"\xff" * 4), "ends before"),
    "deep maps": (nested(100_000), "too deep"),
    "maps of 33 levels": (nested(40), "too deep"),
    "a key that is a number": (mapped([(number(1), GOOD)]), "in the place of a key"),
    "a key that is a map": (mapped([(mapped([]), GOOD)]), "in the place of a key"),
    "a key of bytes": (mapped([(b"\xc4\x01a", GOOD)]), "in the place of a key"),
    "a key of 60,000 letters": (one(GOOD, "a" * 60_000), "in the place of a key"),
    "a key that is no UTF-8": (mapped([(b"\xa2\xff\xfe", GOOD)]), "no UTF-8"),
    "two of one name": (mapped([(text("a"), GOOD)] * 2), "two arrays of one name"),
    "two of one path": (
        mapped([(text("a/b"), GOOD), (text("a"), mapped([(text("b"), GOOD)]))]),
        "two arrays of one name",
    ),
    "a timestamp": (one(ext(-1, b"\0" * 4)), "a type that flax has not"),
    "an unknown type": (one(ext(42, b"cos\nsystem\n")), "a type that flax has not"),
    "an ext of 4 GB": (one(ext(1, b"", length=2**32 - 1)), "ends before"),
    "an array that is a text": (one(ext(1, text("os.system"))), "contradicts itself"),
    "an array of two fields": (one(ext(1, b"\x92" + packed({})[:0] + b"\x90" + text("int8"))), "itself"),
    "an array without fields": (one(ext(1, b"")), "contradicts itself|cut short|ends before"),
    "a size below zero": (one(ext(1, b"\x93\x91\xff" + text("int8") + b"\xc4\x00")), "contradicts itself"),
    "a size of 2**60": (one(array_of((2**60, 0), "int8", b"")), "contradicts itself"),
    "a size that is a float": (
        one(ext(1, b"\x93\x91\xca\0\0\0\0" + text("int8") + b"\xc4\x00")),
        "contradicts itself",
    ),
    "sizes beyond the bytes": (one(array_of((3000, 4000), "float32", ONES.tobytes())), "contradicts itself"),
    "fewer than the bytes": (one(array_of((3, 3), "float32", ONES.tobytes())), "contradicts itself"),
    "bytes beyond the value": (one(array_of((3, 4), "float32", ONES.tobytes(), length=47)), "contradicts"),
    "a dtype of objects": (one(array_of((1,), "object", b"\0" * 8)), "a dtype that there is a name for"),
    "a dtype of records": (one(array_of((1,), "V8", b"\0" * 8)), "a dtype that there is a name for"),
    "a dtype of the other order": (one(array_of((1,), ">f4", b"\0" * 4)), "a dtype that there is"),
    "200,001 values": (mapped([(text(f"{at}"), b"\xc0") for at in range(200_001)]), "more values than"),
    "a name of 2,000 letters": (
        one(one(one(GOOD, "a" * 700), "b" * 700), "c" * 700),
        "names that are too long",
    ),
    "an array in pieces": (
        one(mapped([(text("__msgpack_chunked_array__"), b"\xc3"), (text("shape"), mapped([]))])),
        "contradicts itself",
    ),
    "pieces that are more than their array": (one(pieces((2,), [GOOD, GOOD])), "contradicts itself"),
    "pieces that are no arrays": (one(pieces((2,), [b"\xc0"])), "contradicts itself"),
    "pieces of a list": (one(pieces((2,), [b"\x90"])), "contradicts itself"),
}


@pytest.mark.parametrize("name", MSGPACKS)
def test_msgpack(name: str, tmp_path: Path) -> None:
    data, what = MSGPACKS[name]
    (tmp_path / MSGPACK).write_bytes(data)
    refused(tmp_path, what)


def test_every_cut_of_a_msgpack_is_told(tmp_path: Path) -> None:
    data = packed({"params": {"a": ONES, "b": {"c": ONES[0]}}})
    for end in range(len(data)):
        (tmp_path / MSGPACK).write_bytes(data[:end])
        with pytest.raises(CheckpointError):
            open_checkpoint(resolve(tmp_path))


def test_what_is_no_tensor_is_passed_over(tmp_path: Path) -> None:
    beside = [
        b"\xc0",
        b"\xc3",
        b"\xca\0\0\0\0",
        b"\xd3" + b"\xff" * 8,
        text("pt"),
        b"\xc4\x02ab",
        ext(2, b"\x92\x01\x02"),
    ]
    entries = [(text(f"x{at}"), value) for at, value in enumerate(beside)]
    scalar = array_of((), "bfloat16", b"\x80\x3f", code=3)
    (tmp_path / MSGPACK).write_bytes(mapped([*entries, (text("kernel"), GOOD), (text("step"), scalar)]))
    found = held(tmp_path)
    assert found.keys() == {"kernel", "step"}
    assert np.array_equal(found["kernel"], ONES)
    assert (found["step"].dtype.name, found["step"].shape, float(found["step"])) == ("bfloat16", (), 1.0)


def external(file: Any) -> None:
    file["layer"] = h5py.ExternalLink("/etc/passwd", "/")


def soft(file: Any) -> None:
    file["layer/model/kernel:0"] = ONES
    file["layer/model/other:0"] = h5py.SoftLink("/layer/model/kernel:0")


def dangling(file: Any) -> None:
    file["layer"] = h5py.SoftLink("/nowhere")


def circle(file: Any) -> None:
    group = file.create_group("layer")
    group["again"] = group


def root_circle(file: Any) -> None:
    file["layer"] = file["/"]


def stored_outside(file: Any) -> None:
    file.create_dataset("layer/model/kernel:0", (16,), "uint8", external=[("/etc/passwd", 0, 16)])


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3, 4), "float32")
    layout[:] = h5py.VirtualSource("/etc/hostname", "data", (3, 4))
    file.create_virtual_dataset("layer/model/kernel:0", layout)


def chunked(file: Any) -> None:
    file.create_dataset("layer/model/kernel:0", data=ONES, chunks=(1, 4))


def packed_chunks(file: Any) -> None:
    file.create_dataset("layer/model/kernel:0", data=ONES, compression="gzip")


def bomb(file: Any) -> None:
    file.create_dataset("layer/model/kernel:0", (1 << 40,), "uint8", chunks=(1 << 20,), compression="gzip")


def never_written(file: Any) -> None:
    file.create_dataset("layer/model/kernel:0", (1 << 50,), "float32")


def texts(file: Any) -> None:
    file["layer/model/kernel:0"] = "some text"


def records(file: Any) -> None:
    file["layer/model/kernel:0"] = np.zeros(3, [("a", "f4"), ("b", "i8")])


def other_order(file: Any) -> None:
    file["layer/model/kernel:0"] = ONES.astype(">f4")


def references(file: Any) -> None:
    file.create_dataset("layer/model/kernel:0", (2,), h5py.ref_dtype)


def of_no_shape(file: Any) -> None:
    file["layer/model/kernel:0"] = h5py.Empty("f4")


def deep(file: Any) -> None:
    file.create_group("/".join("a" * 100))


def crowded(file: Any) -> None:
    for at in range(10_100):
        file.create_group(f"{at}")


def long_name(file: Any) -> None:
    file.create_group("a" * 2000)


def two_of_one(file: Any) -> None:
    file["one/model/kernel:0"] = ONES
    file["two/model/kernel:0"] = ONES[:2]


H5S: dict[Callable[[Any], None], str] = {
    external: "a link to another file",
    soft: "a link to another name",
    dangling: "a link to another name",
    circle: "without end",
    root_circle: "without end",
    stored_outside: "in another file",
    virtual: "in another file",
    chunked: "in chunks, packed",
    packed_chunks: "in chunks, packed",
    bomb: "in chunks, packed",
    never_written: "was never written",
    texts: "a dtype that there is no name for",
    records: "a dtype that there is no name for",
    other_order: "a dtype that there is no name for",
    references: "a dtype that there is no name for",
    of_no_shape: "a dtype that there is no name for",
    deep: "without end",
    crowded: "more than weights need",
    long_name: "more than weights need",
    two_of_one: "two different tensors of one variable",
}


@pytest.mark.parametrize("make", H5S, ids=lambda make: make.__name__)
def test_h5(make: Callable[[Any], None], tmp_path: Path) -> None:
    with h5py.File(tmp_path / H5, "w") as file:
        make(file)
    refused(tmp_path, H5S[make])


def good_h5(folder: Path) -> bytes:
    with h5py.File(folder / H5, "w") as file:
        file["layer/model/kernel:0"] = ONES
        file["layer/model/bias:0"] = ONES[0]
    return (folder / H5).read_bytes()


@pytest.mark.parametrize(
    ("data", "what"),
    [(b"", "is empty"), (b"\0" * 4096, "is no HDF5 file"), (b"version https://git-lfs", "a Git LFS pointer")],
)
def test_another_file_in_the_place_of_h5(data: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / H5).write_bytes(data)
    refused(tmp_path, what)


def test_every_cut_of_an_h5_is_told(tmp_path: Path) -> None:
    data = good_h5(tmp_path)
    assert np.array_equal(held(tmp_path)["kernel:0"], ONES)
    for end in range(0, len(data) - 1, 61):
        (tmp_path / H5).write_bytes(data[:end])
        with pytest.raises(CheckpointError):
            open_checkpoint(resolve(tmp_path))


FLIPS = """
import pathlib, random, sys
from loadstone.checkpoint.open import open_checkpoint
from loadstone.errors import CheckpointError
from loadstone.source import resolve
path = pathlib.Path(sys.argv[1])
data, random = path.read_bytes(), random.Random(0)
for _ in range(400):
    changed = bytearray(data)
    for _ in range(random.randint(1, 6)):
        changed[random.randrange(len(data))] = random.choice((0, 1, 255, random.randrange(256)))
    path.write_bytes(changed)
    try:
        for info in open_checkpoint(resolve(path.parent)).tensors.values():
            assert 0 <= info.offset <= info.end <= len(data)
    except CheckpointError:
        pass
"""


@pytest.mark.parametrize("file", [H5, MSGPACK])
def test_changed_bytes_end_in_our_error(file: str, tmp_path: Path) -> None:
    good_h5(tmp_path)
    if file == MSGPACK:
        (tmp_path / H5).unlink()
        (tmp_path / MSGPACK).write_bytes(packed({"params": {"a": ONES, "b": {"c": ONES[0]}}}))
    subprocess.run([sys.executable, "-c", FLIPS, str(tmp_path / file)], check=True, timeout=120)


def test_without_h5py_the_error_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good_h5(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r"pip install 'loadstone\[h5\]'"):
        open_checkpoint(resolve(tmp_path))


def test_planning_needs_no_framework(tmp_path: Path) -> None:
    good_h5(tmp_path)
    program = (
        "import sys; from loadstone.checkpoint.open import open_checkpoint; from loadstone.source import resolve\n"
        f"assert len(open_checkpoint(resolve({str(tmp_path)!r}))) == 2\n"
        "print({'torch', 'tensorflow', 'keras', 'jax', 'flax'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
