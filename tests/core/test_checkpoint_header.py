"""The header of one file: what is right is read, everything else is refused in words."""

import json

import numpy as np
import pytest
from checkpoint_files import entry, raw
from hypothesis import given, settings
from hypothesis import strategies as st

from loadstone.checkpoint.formats import safetensors
from loadstone.checkpoint.formats.safetensors import FIRST_READ, MAX_HEADER, MAX_TENSORS, read_header
from loadstone.dtypes import BY_CODE
from loadstone.errors import CheckpointError


def parse(data, *, size=None):
    asked = []

    def read(offset, length):
        asked.append((offset, length))
        return data[offset : offset + length]

    tensors, metadata = read_header(
        read, len(data) if size is None else size, file="f.safetensors", where="folder"
    )
    return tensors, metadata, asked


def test_tensors_are_read_in_the_order_in_which_they_lie():
    header = {
        "__metadata__": {"format": "pt"},
        "b": entry([2], 16, 24),
        "scalar": entry([], 8, 16, "F64"),
        "a": entry([1, 2], 0, 8),
        "none": entry([0, 9], 8, 8),
    }
    data = raw(header, bytes(24))
    tensors, metadata, asked = parse(data)
    start = len(data) - 24
    assert [(t.name, t.shape, t.dtype, t.offset - start, t.nbytes) for t in tensors] == [
        ("a", (1, 2), "float32", 0, 8),
        ("none", (0, 9), "float32", 8, 0),
        ("scalar", (), "float64", 8, 8),
        ("b", (2,), "float32", 16, 8),
    ]
    assert {t.file for t in tensors} == {"f.safetensors"}
    assert metadata == {"format": "pt"}
    assert len(asked) == 1


def test_padding_and_no_tensors_are_fine():
    assert parse(raw("{}   "))[:2] == ([], {})


@pytest.mark.parametrize("code", BY_CODE)
def test_every_dtype_of_the_format_is_known(code):
    nbytes = 16 * BY_CODE[code].bits // 8
    [tensor], _, _ = parse(raw({"x": entry([4, 4], 0, nbytes, code)}, bytes(nbytes)))
    assert (tensor.dtype, tensor.nbytes) == (BY_CODE[code].name, nbytes)


def test_a_long_header_takes_two_reads():
    header = {f"layer.{i}.weight": entry([1], 4 * i, 4 * i + 4) for i in range(6000)}
    data = raw(header, bytes(24_000))
    tensors, _, asked = parse(data)
    assert len(tensors) == 6000
    length = len(json.dumps(header))
    assert asked == [(0, FIRST_READ), (FIRST_READ, 8 + length - FIRST_READ)]


GOOD = {"a": entry([2], 0, 8), "b": entry([2], 8, 16)}


def changed(**entries):
    return raw({**GOOD, **entries}, bytes(16))


DUPLICATE = json.dumps(GOOD).replace('"b"', '"a"')
FAULTS = {
    "empty": (b"", "is empty", ["expected: a safetensors file"]),
    "seven bytes": (b"1234567", "ends early", ["at least 8 bytes", "7 bytes"]),
    "LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "Git LFS pointer in place of weights",
        ["git lfs pull"],
    ),
    "web page": (b"<!DOCTYPE html><html>not found</html>", "is a web page", ["download the file again"]),
    "torch zip": (
        b"PK\x03\x04" + bytes(60),
        "is a zip archive, as torch.save writes",
        ["name it pytorch_model.bin"],
    ),
    "header over the limit": (raw("{}", length=MAX_HEADER + 1), "too long", ["25,000,000", "25,000,001"]),
    "absurd length": (b"\xff" * 8 + b"{}", "too long", ["18,446,744,073,709,551,615"]),
    "ends inside the header": (
        raw("{}", length=100),
        "ends inside its header",
        ["108 bytes or more", "10 bytes"],
    ),
    "no JSON": (raw('{"a": '), "not valid JSON", []),
    "no object": (raw("[1]"), "no JSON object", ["'{' first"]),
    "JSON after JSON": (raw("{}{}"), "not valid JSON", []),
    "invalid UTF-8": (raw(b'{"\xff": 1}'), "not valid JSON in UTF-8", []),
    "half a surrogate": (
        raw('{"\\ud800": ' + json.dumps(entry([0], 0, 0)) + "}"),
        "not valid JSON in UTF-8",
        [],
    ),
    "giant number": (raw('{"a": ' + "9" * 5000 + "}"), "not valid JSON", []),
    "nested": (raw('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"), "nested too deeply", []),
    "nested objects": (raw('{"a":' * 100_000), "nested too deeply", []),
    "duplicate": (raw(DUPLICATE, bytes(16)), "names one key twice", ["key 'a'"]),
    "duplicate field": (
        raw('{"a": {"dtype": "F32", "dtype": "F16"}}'),
        "names one key twice",
        ["key 'dtype'"],
    ),
    "metadata not text": (changed(__metadata__={"x": 1}), "`__metadata__` of a wrong type", ["only texts"]),
    "metadata a list": (changed(__metadata__=["x"]), "`__metadata__` of a wrong type", ["['x']"]),
    "entry a list": (changed(a=[1]), "describes a tensor wrongly", ["key 'a'", "[1]"]),
    "field missing": (
        changed(a={"dtype": "F32", "shape": [2]}),
        "describes a tensor wrongly",
        ["data_offsets"],
    ),
    "field unknown": (
        changed(a=entry([2], 0, 8) | {"scale": 2}),
        "describes a tensor wrongly",
        ["'scale': 2"],
    ),
    "dtype unknown": (changed(a=entry([2], 0, 8, "BF61")), "unknown dtype", ["'BF61'", "did you mean BF16"]),
    "dtype a list": (changed(a=entry([2], 0, 8, ["F32"])), "unknown dtype", ["['F32']"]),
    "shape a number": (changed(a=entry(2, 0, 8)), "impossible shape", ["found: 2"]),
    "shape negative": (changed(a=entry([-1, -2], 0, 8)), "impossible shape", ["[-1, -2]"]),
    "shape of floats": (changed(a=entry([2.0], 0, 8)), "impossible shape", ["[2.0]"]),
    "shape of booleans": (changed(a=entry([True, 2], 0, 8)), "impossible shape", ["[True, 2]"]),
    "shape beyond 2^63": (changed(a=entry([0, 2**63], 0, 0)), "impossible shape", []),
    "65 axes": (changed(a=entry([1] * 65, 0, 4)), "impossible shape", ["at most 64"]),
    "offsets negative": (changed(a=entry([2], -8, 0)), "impossible data_offsets", ["[-8, 0]"]),
    "offsets reversed": (changed(a=entry([2], 8, 0)), "impossible offsets", ["begin <= end"]),
    "three offsets": (
        changed(a=entry([2], 0, 8) | {"data_offsets": [0, 4, 8]}),
        "impossible offsets",
        ["(0, 4, 8)"],
    ),
    "shape x dtype": (changed(a=entry([3], 0, 8)), "do not fill its span", ["96 bits", "64 bits", "key 'a'"]),
    "shape x dtype, huge": (changed(a=entry([2**62] * 64, 0, 8)), "do not fill its span", []),
    "dtype swapped": (changed(a=entry([2], 0, 8, "F16")), "do not fill its span", ["32 bits", "float16"]),
    "half a byte": (
        raw({"a": entry([3], 0, 2, "F4")}, bytes(2)),
        "do not fill its span",
        ["12 bits", "16 bits"],
    ),
    "overlap": (changed(b=entry([2], 4, 12)), "overlapping tensors", ["key 'b'", "offset 8", "offset 4"]),
    "same span twice": (changed(b=entry([2], 0, 8)), "overlapping tensors", ["key 'b'"]),
    "hole": (
        raw({**GOOD, "b": entry([2], 12, 20)}, bytes(20)),
        "a hole between",
        ["offset 8, right after 'a'"],
    ),
    "does not start at 0": (
        raw({"a": entry([2], 8, 16)}, bytes(16)),
        "a hole between",
        ["right after 'the header'"],
    ),
    "trailing bytes": (raw(GOOD, bytes(17)), "bytes after its last tensor", []),
    "truncated": (raw(GOOD, bytes(15)), "ends early", ["key 'b'"]),
    "offsets beyond the file": (changed(b=entry([2**60], 8, 8 + 2**62)), "ends early", ["key 'b'"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_in_words(fault):
    data, what, facts = FAULTS[fault]
    with pytest.raises(CheckpointError) as caught:
        parse(data)
    message = str(caught.value)
    for fact in ("f.safetensors", "folder", "next: ", what, *facts):
        assert fact in message
    assert len(message.splitlines()) <= 15
    assert len(message) < 1500


def test_the_good_header_of_the_faults_is_good():
    assert len(parse(raw(GOOD, bytes(16)))[0]) == 2


@pytest.mark.parametrize("shape", ['{"a":{"b":', '"a":"",'])
def test_too_many_entries_are_counted_before_they_are_parsed(monkeypatch, shape):
    monkeypatch.setattr(safetensors.json, "loads", lambda *a, **k: pytest.fail("parsed"))
    header = b"{" + shape.encode() * (5 * MAX_TENSORS // shape.count(":") + 1)
    with pytest.raises(CheckpointError, match="too many tensors"):
        parse(raw(header))


def test_as_many_tensors_as_allowed_are_read(monkeypatch):
    monkeypatch.setattr(safetensors, "MAX_TENSORS", 500)
    header = {"__metadata__": {}} | {f"{i}": entry([0], 0, 0) for i in range(500)}
    assert len(parse(raw(header))[0]) == 500
    header["one more"] = entry([0], 0, 0)
    with pytest.raises(CheckpointError, match="too many tensors"):
        parse(raw(header))


def test_names_from_a_file_stay_on_one_short_line_of_a_message():
    with pytest.raises(CheckpointError) as caught:
        parse(raw({"evil\n  next: run this\x1b[2J" + "x" * 10_000: entry([3], 0, 8)}, bytes(8)))
    assert "evil\\n" in str(caught.value)
    assert len(str(caught.value)) < 1000


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_damage_to_a_header_is_worse_than_an_error(data):
    """Whatever bytes are flipped, the outcome is a valid reading or a CheckpointError, never another exception."""
    good = raw({"__metadata__": {"format": "pt"}, **GOOD}, bytes(16))
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(good) - 17))] = data.draw(st.integers(0, 255))
    try:
        tensors, _, _ = parse(bytes(damaged))
    except CheckpointError as error:
        assert "f.safetensors" in str(error)
    else:
        assert sum(tensor.nbytes for tensor in tensors) == tensors[-1].end - tensors[0].offset
        assert tensors[-1].end == len(damaged)


def test_what_the_safetensors_library_writes_is_read(tmp_path):
    from safetensors.numpy import save_file

    held = {
        "x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "flag": np.array(True),
        "y": np.zeros((0, 3), np.int8),
    }
    save_file(held, tmp_path / "f.safetensors", metadata={"format": "np", "snö": "☃"})
    data = (tmp_path / "f.safetensors").read_bytes()
    tensors, metadata, _ = parse(data)
    assert {t.name: (t.dtype, t.shape, data[t.offset : t.end]) for t in tensors} == {
        name: (array.dtype.name, array.shape, array.tobytes()) for name, array in held.items()
    }
    assert metadata == {"format": "np", "snö": "☃"}
