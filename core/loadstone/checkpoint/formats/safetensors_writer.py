"""Writing safetensors: in our layout, which every framework can alias, or in that of the safetensors library.

In ours each file's data starts at a multiple of 64 bytes, tensors whose size is a multiple of 64 come first, in name
order, and the odd ones follow. So all but the odd ones lie at multiples of 64, where every framework can alias a mapping.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from loadstone.checkpoint.formats import names
from loadstone.checkpoint.formats.names import BLANK
from loadstone.checkpoint.formats.writer import ALIGNMENT, Block, Shard, StoredTensor, Writer
from loadstone.dtypes import DTYPES

# As the library orders them.
_ORDER = "U64 I64 F64 C64 F32 U32 I32 BF16 F16 U16 I16 F8_E8M0 F8_E4M3 F8_E5M2 I8 U8 F6_E3M2 F6_E2M3 F4 BOOL"
_RANKS = {code: rank for rank, code in enumerate(_ORDER.split(" "))}


class Aligned(Writer):
    """Our own layout, each file of which notes its sum and the save that it belongs to."""

    notes: ClassVar[bool] = True
    reserved: ClassVar[frozenset[str]] = frozenset({"__metadata__"})
    padding: ClassVar[int] = ALIGNMENT

    def file_names(self, number: int, *, variant: str | None) -> list[str]:
        """Return `model.safetensors`, or the names of shards."""
        return names.file_names(number, variant=variant)

    def index_name(self, variant: str | None) -> str:
        """Return `model.safetensors.index.json`."""
        return names.weight_names(variant)[1]

    def ordered(self, tensors: Sequence[StoredTensor]) -> tuple[StoredTensor, ...]:
        """Put the odd ones last, by falling element size, so that each lies at a multiple of its own element's."""
        even = [tensor for tensor in tensors if tensor.nbytes % ALIGNMENT == 0]
        odd = [tensor for tensor in tensors if tensor.nbytes % ALIGNMENT]
        return *even, *sorted(odd, key=lambda tensor: -DTYPES[tensor.dtype].bits)

    def blocks(self, shard: Shard, metadata: Mapping[str, str]) -> Iterator[Block]:
        """Yield the header, then the tensors."""
        yield self.start(shard, metadata)
        for tensor in shard.tensors:
            yield from tensor.blocks()

    def start(self, shard: Shard, metadata: Mapping[str, str]) -> bytes:
        """Return the bytes that come before the tensors'; their number depends on the length of texts alone."""
        texts = {**metadata, **shard.aliases}
        entries: dict[str, object] = {"__metadata__": dict(sorted(texts.items()))}
        at = 0
        for tensor in shard.tensors:
            end = at + tensor.nbytes
            code = DTYPES[tensor.dtype].code
            entries[tensor.name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [at, end]}
            at = end
        text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        text += b" " * (-(8 + len(text)) % self.padding)
        return len(text).to_bytes(8, "little") + text


class AsTorch(Aligned):
    """The layout of the safetensors library, byte for byte; its files note nothing of ours."""

    notes: ClassVar[bool] = False
    padding: ClassVar[int] = 8

    def ordered(self, tensors: Sequence[StoredTensor]) -> tuple[StoredTensor, ...]:
        """Put the tensors in the order of their dtypes, and each in name order."""
        return tuple(sorted(tensors, key=lambda tensor: (_RANKS[DTYPES[tensor.dtype].code], tensor.name)))

    def start(self, shard: Shard, metadata: Mapping[str, str]) -> bytes:
        """Return the library's header: without our own keys."""
        kept = {key: text for key, text in metadata.items() if key not in BLANK}
        return super().start(shard, kept)


LAYOUTS = {"aligned": Aligned, "torch": AsTorch}
"""What `layout=` takes."""
