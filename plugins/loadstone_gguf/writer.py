"""Writing a model as one GGUF file, as llama.cpp's converter does: its names, its keys, its order of Llama's rows.

There is no tokenizer in it. What is said of the model is told in `loadstone_gguf.saying`.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; llama.cpp's convert_hf_to_gguf.py
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from loadstone.checkpoint.formats.writer import ALIGNMENT, NOTES, Block, Shard, StoredTensor, Told, Writer
from loadstone.config import Config
from loadstone.errors import ArgumentError, counted
from loadstone_gguf.dialects import DIALECTS, Dialect
from loadstone_gguf.header import MAGIC, TEXT
from loadstone_gguf.kinds import KINDS, Kind
from loadstone_gguf.rope import FACTORS
from loadstone_gguf.saying import faults_of, values_and_factors
from loadstone_gguf.turned import Held, turned

FILE = "model.gguf"
NOTED = "loadstone.metadata."
"""How the keys of texts begin that are none of llama.cpp's."""
WRITTEN = {"float16": "f16", "float32": "f32", "bfloat16": "bf16"}
VARIETIES = {WRITTEN[kind.dtype]: kind for kind in KINDS.values() if kind.dtype in WRITTEN}
"""What a caller calls a type of numbers -> the type."""
FILE_TYPES = {"F32": 0, "F16": 1, "BF16": 32}
"""`general.file_type`."""
UINT32, FLOAT32 = 4, 6
CASTABLE = (*WRITTEN, "float64")


class GgufWriter(Writer):
    """`model.gguf`.

    Args:
        kind: The type of the matrices; all else is F32.
        values: What stands beside the tensors; nothing until there is a model.
    """

    whole: ClassVar[bool] = True

    def __init__(self, kind: Kind, values: Mapping[str, Any] | None = None) -> None:
        self.kind, self.values = kind, values or {}

    def file_names(self, number: int, *, variant: str | None) -> list[str]:
        """Return `model.gguf`."""
        return [FILE]

    def index_name(self, variant: str | None) -> str:
        """Return the file: there is no other."""
        return FILE

    def problems(
        self, tensors: Sequence[StoredTensor], metadata: Mapping[str, str], *, variant: str | None
    ) -> Iterator[str]:
        """Yield that there is no variant."""
        if variant is not None:
            yield f"variant={variant!r}: its files have none"

    def told(self, tensors: Sequence[StoredTensor], config: Config) -> Told:
        """Return a model in llama.cpp's names, keys and order."""
        if config.model_type not in DIALECTS:
            raise ArgumentError(
                f"GGUF files of {config.model_type} are not written",
                expected=f"one of: {', '.join(DIALECTS)}",
                hint='format="safetensors" holds every model',
            )
        # llama.cpp knows Mistral as a Llama of that name.
        architecture = "llama" if config.model_type == "mistral" else config.model_type
        dialect = DIALECTS[architecture]
        named = {tensor.name: dialect.stored(tensor.name) for tensor in tensors}
        values, factors = values_and_factors(architecture, dialect, config)
        problems = [
            f"{one.name}: {one.dtype} is no plain float" for one in tensors if one.dtype not in CASTABLE
        ]
        problems += faults_of(config, dialect, values, factors, named)
        if problems:
            raise ArgumentError(
                "a GGUF file cannot say all of the model",
                found=counted(len(problems), "problem"),
                problems=problems,
                hint='format="safetensors" holds every model',
            )
        made = [self._made(tensor, str(named[tensor.name]), dialect, config) for tensor in tensors]
        if factors is not None:
            made.append(_of_factors(factors))
        values |= {"general.file_type": FILE_TYPES[self.kind.name], "general.alignment": ALIGNMENT}
        return Told(
            writer=GgufWriter(self.kind, values), tensors=tuple(made), notes=tuple(_notes(config, dialect))
        )

    def _made(self, tensor: StoredTensor, name: str, dialect: Dialect, config: Config) -> StoredTensor:
        """Return a tensor as it is written: a matrix in the file's type, all else as llama.cpp wants it."""
        module = name.rpartition(".")[0].rpartition(".")[2]
        wide = len(tensor.shape) < 2 or module in dialect.wide
        heads = {
            "attention.head_count": "num_attention_heads",
            "attention.head_count_kv": "num_key_value_heads",
        }
        key = dialect.heads.get(module)
        return turned(
            tensor,
            name,
            "float32" if wide else self.kind.dtype,
            heads=getattr(config, heads[key]) if key else 0,
            over=module in dialect.turned and len(tensor.shape) == 2,
            more=int(dialect.less_one and name.endswith("norm.weight")),
        )

    def blocks(self, shard: Shard, metadata: Mapping[str, str]) -> Iterator[Block]:
        """Yield the header, and each tensor at a multiple of 64 bytes."""
        values = {**self.values, **self._texts(metadata)}
        kinds = {kind.dtype: kind for kind in VARIETIES.values()}
        head = [MAGIC, struct.pack("<IQQ", 3, len(shard.tensors), len(values))]
        head += [_text(key) + _value(value) for key, value in values.items()]
        offset = 0
        for tensor in shard.tensors:
            axes = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *reversed(tensor.shape))
            head.append(_text(tensor.name) + axes + struct.pack("<IQ", kinds[tensor.dtype].number, offset))
            offset += tensor.nbytes + -tensor.nbytes % ALIGNMENT
        start = b"".join(head)
        yield start + bytes(-len(start) % ALIGNMENT)
        for tensor in shard.tensors:
            yield from tensor.blocks()
            yield bytes(-tensor.nbytes % ALIGNMENT)

    def _texts(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """Return the texts beside the tensors: llama.cpp's under their own keys, others, and what is said already, under ours."""
        kept = {key: text for key, text in metadata.items() if key not in ("format", *NOTES)}
        free = {key for key in kept if key.startswith("general.") and key not in self.values}
        return {key if key in free else NOTED + key: text for key, text in kept.items()}


def _notes(config: Config, dialect: Dialect) -> Iterator[str]:
    yield f"{FILE} has no tokenizer in it: llama.cpp needs one, loads in Python take that of the folder"
    eos = getattr(config, "eos_token_id", None)
    if isinstance(eos, list) and len(eos) > 1:
        yield f"of eos_token_id={eos} the file says the first alone"
    if dialect.less_one:
        yield "norms have one added, as llama.cpp has them: some lose their last bits by that"


def _of_factors(factors: Sequence[float]) -> StoredTensor:
    data = np.array(factors, np.float32)
    held = Held("float32", data.shape, data.view(np.uint8))
    return StoredTensor(name=FACTORS, dtype="float32", shape=data.shape, read=lambda: held)


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", TEXT) + _text(value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT32, value)
    return struct.pack("<II", UINT32, value)
