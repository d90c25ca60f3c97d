"""The header of one safetensors file: parsed without trust, checked until nothing is left to doubt.

A file is eight bytes of length N (little endian), N bytes of JSON, then the tensors' bytes without a gap. The
safetensors library accepts duplicate keys, names of any kind and 100 MB of header; this parser does not.

Source: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import functools
import json
import operator
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from loadstone.checkpoint.formats.names import IMPOSTORS
from loadstone.checkpoint.index import TensorInfo
from loadstone.dtypes import BY_CODE, DType
from loadstone.errors import CheckpointError, nearest, shown
from loadstone.source.local_file import unreadable

if TYPE_CHECKING:
    from loadstone.source import Snapshot

MAX_HEADER = 25_000_000
"""Bytes that a header may have; one of 200,000 tensors has about 20 million."""

MAX_TENSORS = 200_000
"""Tensors that one file may hold."""

MAX_AXES = 64
"""Axes that a tensor may have, numpy's own limit."""

FIRST_READ = 256 * 1024
"""Bytes asked for first. They hold the header of a shard of some 2,000 tensors: one request over the network."""

_LENGTH = 8
_METADATA = "__metadata__"
_FIELDS = {"dtype", "shape", "data_offsets"}

# What else is found under the name of a safetensors file. Read as a length, each is beyond MAX_HEADER.
_IMPOSTORS = (
    *IMPOSTORS,
    (
        b"PK\x03\x04",
        "a zip archive, as torch.save writes",
        "name it pytorch_model.bin, and it is read as that",
    ),
    (
        b"\x80\x02\x8a\x0a",
        "a pickle, as torch.save wrote",
        "name it pytorch_model.bin, and it is read as that",
    ),
    (b"\x89HDF", "an HDF5 file", "convert it with transformers' save_pretrained"),
    (b"GGUF", "a GGUF file", "let its name end in .gguf, and load it by its path or with gguf_file="),
)

Read = Callable[[int, int], bytes]
"""Returns the bytes of a file from an offset on, as many as asked for."""

Header = tuple[list[TensorInfo], dict[str, str]]
"""The tensors of a file in the order in which they lie, and the texts of its `__metadata__`."""


def read_header(read: Read, size: int, *, file: str, where: object) -> Header:
    """Parse and check the header of a safetensors file.

    Args:
        read: Returns bytes of the file, given offset and length. No byte of a tensor needs to be there.
        size: Length of the file in bytes.
        file: The file's name, which each tensor's record will carry.
        where: The folder or repository it lies in, for messages.

    Returns:
        The tensors in the order in which they lie, and the texts of `__metadata__`.

    Raises:
        CheckpointError: If anything about the header, or about the length of the file, is wrong.

    Example:
        >>> data = Path("model.safetensors").read_bytes()
        >>> tensors, metadata = read_header(
        ...     lambda offset, length: data[offset : offset + length],
        ...     len(data), file="model.safetensors", where="the current folder",
        ... )
    """
    return _Header(file=file, where=where).read(read, size)


def read_file_header(snapshot: Snapshot, file: str) -> Header:
    """Parse and check the header of one file of a snapshot, as `read_header` does; the file is not fetched."""
    size = snapshot.file(file).size
    return read_header(functools.partial(snapshot.read_range, file), size, file=file, where=snapshot.location)


def check_with_library(paths: Iterable[Path]) -> None:
    """Pass each file's header through the safetensors library's own parser too; no tensor is read.

    Raises:
        CheckpointError: If the library refuses a file.
        SourceError: If a file cannot be read.
        OutOfMemoryError: If there is no room for a mapping of a file.
    """
    from safetensors import SafetensorError, safe_open

    from loadstone.errors import out_of_memory

    for path in paths:
        try:
            with safe_open(path, framework="numpy"):
                pass
        except MemoryError as error:  # it maps the whole file
            raise out_of_memory(f"to map {path.name}", asked=path.stat().st_size) from error
        except OSError as error:
            raise unreadable(path, error) from error
        except SafetensorError as error:
            raise CheckpointError(
                f"{path.name} is refused by the safetensors library",
                where=path,
                found=str(error)[:300],
                hint="fetch the file again, or save the checkpoint again with its original tool",
            ) from error


class _Header:
    """The reading of one header: the file's name and place, which every complaint carries."""

    def __init__(self, *, file: str, where: object) -> None:
        self.file = file
        self.where = where
        self.extents: dict[tuple[tuple[int, ...], int], tuple[tuple[int, ...], int]] = {}

    def read(self, read: Read, size: int) -> Header:
        start = read(0, min(size, FIRST_READ))
        length = self._length(start, size)
        missing = _LENGTH + length - len(start)
        if missing > 0:
            start += read(len(start), missing)
        entries = self._parse(start[_LENGTH : _LENGTH + length])
        metadata = self._metadata(entries.pop(_METADATA, {}))
        tensors = self._tensors(entries, data=_LENGTH + length)
        self._check_contiguous(tensors, data=_LENGTH + length, size=size)
        return tensors, metadata

    def _length(self, start: bytes, size: int) -> int:
        if size == 0:
            self._fail("is empty", expected="a safetensors file", hint="fetch or copy the file again")
        for magic, name, hint in _IMPOSTORS:
            if start.startswith(magic):
                self._fail(
                    f"is {name} in place of weights", expected="a safetensors file", found=name, hint=hint
                )
        if len(start) < _LENGTH:
            self._fail("ends early", expected="at least 8 bytes", found=f"{size} bytes")
        length = int.from_bytes(start[:_LENGTH], "little")
        if length > MAX_HEADER:
            self._fail(
                "has a header that is too long, or is no safetensors file",
                expected=f"at most {MAX_HEADER:,} bytes of header",
                found=f"{length:,}, as its first 8 bytes say",
                hint="fetch the file again; if it stays so, save the tensors in more and smaller shards",
            )
        if _LENGTH + length > size:
            self._fail(
                "ends inside its header",
                expected=f"{_LENGTH + length:,} bytes or more, as its first 8 bytes say",
                found=f"{size:,} bytes",
            )
        return length

    def _parse(self, header: bytes) -> dict[str, Any]:
        # Counted before parsing: each tensor needs a brace, two brackets, four colons and some commas, each text of
        # metadata a colon and a comma.
        tensors = header.count(b"{") - 1 - (_METADATA.encode() in header)
        values = max(header.count(b":"), header.count(b"["), header.count(b",") // 2)
        if tensors > MAX_TENSORS or values > 5 * MAX_TENSORS:
            self._fail(
                "holds too many tensors",
                expected=f"at most {MAX_TENSORS:,} in a file",
                found=f"about {tensors:,}, in {values:,} entries",
                hint="save the tensors in more shards",
            )
        if not header.startswith(b"{"):
            self._fail("has a header that is no JSON object", expected="'{' first", found=repr(header[:16]))
        try:
            entries = json.loads(header.decode("utf-8"), object_pairs_hook=self._unique)
            "".join(entries).encode("utf-8")  # half of a surrogate pair, written as \\ud800, is no text
        except RecursionError as error:
            deepest = "lists and objects three deep at most"
            self._fail("has a header that is nested too deeply", expected=deepest, cause=error)
        except CheckpointError:
            raise
        except ValueError as error:
            self._fail("has a header that is not valid JSON in UTF-8", found=str(error)[:200], cause=error)
        return entries  # type: ignore[no-any-return]

    def _unique(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            self._fail(
                "names one key twice in its header",
                key=twice,
                expected="each name once",
                found="twice or more",
                hint="a faulty tool wrote it: save the tensors again, each under one name",
            )
        return found

    def _metadata(self, metadata: object) -> dict[str, str]:
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            self._fail(
                "has `__metadata__` of a wrong type",
                key=_METADATA,
                expected="an object that holds only texts",
                found=shown(metadata),
            )
        return metadata

    def _tensors(self, entries: dict[str, Any], *, data: int) -> list[TensorInfo]:
        tensors = [self._tensor(name, entry, data) for name, entry in entries.items()]
        tensors.sort(key=operator.attrgetter("offset", "nbytes"))
        return tensors

    def _tensor(self, name: str, entry: object, data: int) -> TensorInfo:
        if type(entry) is not dict or entry.keys() != _FIELDS:
            self._fail(
                "describes a tensor wrongly",
                key=name,
                expected="dtype, shape and data_offsets",
                found=shown(entry),
            )
        dtype = self._dtype(name, entry["dtype"])
        shape = self._sizes(name, "shape", entry["shape"])
        offsets = self._sizes(name, "data_offsets", entry["data_offsets"])
        if len(offsets) != 2 or offsets[0] > offsets[1]:
            self._fail(
                "has impossible offsets",
                key=name,
                expected="data_offsets [begin, end], begin <= end",
                found=shown(offsets),
            )
        begin, end = offsets
        bits = dtype.bits
        for axis in shape:
            bits *= axis
        if bits != 8 * (end - begin):
            self._fail(
                "has a tensor whose shape and dtype do not fill its span",
                key=name,
                expected=f"{shown(bits)} bits for {dtype.name} {shown(shape)}",
                found=f"{8 * (end - begin)} bits: bytes {begin:,} to {end:,} of the data",
                hint="the header was damaged or edited: fetch the file again",
            )
        # Thousands of tensors have a few shapes and sizes between them: each is held once.
        shape, nbytes = self.extents.setdefault((shape, end - begin), (shape, end - begin))
        # So is each name: with the index of the shards, the parameters of the model have it too.
        return TensorInfo(
            name=sys.intern(name),
            dtype=dtype.name,
            shape=shape,
            file=self.file,
            offset=data + begin,
            nbytes=nbytes,
        )

    def _dtype(self, name: str, code: object) -> DType:
        dtype = BY_CODE.get(code) if isinstance(code, str) else None
        if dtype is None:
            self._fail(
                "holds a tensor of an unknown dtype",
                key=name,
                expected=f"one of {', '.join(BY_CODE)}",
                found=shown(code),
                hint=nearest(code[:20], BY_CODE) if isinstance(code, str) else None,
            )
        return dtype

    def _sizes(self, name: str, field: str, sizes: object) -> tuple[int, ...]:
        if type(sizes) is list and len(sizes) <= MAX_AXES:
            for size in sizes:
                if type(size) is not int or not 0 <= size < 2**63:  # `is`: a bool is an instance of int too
                    break
            else:
                return tuple(sizes)
        self._fail(
            f"has a tensor with an impossible {field}",
            key=name,
            expected=f"a list of at most {MAX_AXES} whole numbers from 0 to 2^63 - 1",
            found=shown(sizes),
        )

    def _check_contiguous(self, tensors: Sequence[TensorInfo], *, data: int, size: int) -> None:
        """Check that the tensors cover the data from its first byte to the file's last, none of it twice."""
        at, previous = data, "the header"
        for info in tensors:
            if info.offset != at:
                self._fail(
                    f"has {'overlapping tensors' if info.offset < at else 'a hole between tensors'}",
                    key=info.name,
                    expected=f"offset {at - data:,}, right after {shown(previous)}",
                    found=f"offset {info.offset - data:,}",
                    hint="the header was damaged or edited: fetch the file again",
                )
            at, previous = info.end, info.name
        if at > size:
            last = next(info for info in tensors if info.end > size)
            self._fail(
                "ends early",
                key=last.name,
                expected=f"{at:,} bytes, as its header says",
                found=f"{size:,} bytes",
            )
        if at < size:
            self._fail(
                "has bytes after its last tensor",
                expected=f"{at:,} bytes, as its header says",
                found=f"{size:,} bytes",
                hint="the file was appended to, or its header belongs to another file: fetch it again",
            )

    def _fail(
        self,
        what: str,
        *,
        key: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
        cause: Exception | None = None,
    ) -> NoReturn:
        place = f"{self.file} in {self.where}"
        raise CheckpointError(
            f"{self.file} {what}",
            where=place if key is None else f"{place}, key {shown(key)}",
            expected=expected,
            found=found,
            hint=hint or "it was damaged, or cut short by a download or a full disk: fetch the file again",
        ) from cause
