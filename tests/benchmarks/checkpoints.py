"""The checkpoints that are measured: generated once, the same bytes on every machine.

Tensors lie as transformers' `save_pretrained` lays them: header padded to 8 bytes, shards filled in the model's order
and sorted by name. Two are sparse: all zeros in holes, so that the largest of them take no disk.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loadstone.dtypes import BY_CODE
from loadstone.read.cast import cast

Tensor = tuple[str, tuple[int, ...]]
STAMP = "generated.json"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One Llama-shaped checkpoint.

    Attributes:
        name: Its folder.
        code: safetensors' name of the dtype of every tensor.
        shard: Bytes that a shard holds at most; None: one file.
        sparse: Zeros in holes instead of drawn weights.
    """

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    code: str = "BF16"
    shard: int | None = None
    sparse: bool = False

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return BY_CODE[self.code].itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(math.prod(shape) for _, shape in self.tensors()) * self.itemsize

    def tensors(self) -> list[Tensor]:
        """Return name and shape of every tensor, in the model's order."""
        width, keys = self.hidden, self.hidden // self.heads * self.kv_heads
        layer: list[Tensor] = [
            ("self_attn.q_proj.weight", (width, width)),
            ("self_attn.k_proj.weight", (keys, width)),
            ("self_attn.v_proj.weight", (keys, width)),
            ("self_attn.o_proj.weight", (width, width)),
            ("mlp.gate_proj.weight", (self.intermediate, width)),
            ("mlp.up_proj.weight", (self.intermediate, width)),
            ("mlp.down_proj.weight", (width, self.intermediate)),
            ("input_layernorm.weight", (width,)),
            ("post_attention_layernorm.weight", (width,)),
        ]
        layers = [(f"model.layers.{i}.{name}", shape) for i in range(self.layers) for name, shape in layer]
        first, last = ("model.embed_tokens.weight", (self.vocabulary, width)), ("model.norm.weight", (width,))
        return [first, *layers, last, ("lm_head.weight", (self.vocabulary, width))]

    def shards(self) -> dict[str, list[Tensor]]:
        """Return file name -> its tensors, sorted by name."""
        shards: list[list[Tensor]] = [[]]
        held = 0
        for name, shape in self.tensors():
            size = math.prod(shape) * self.itemsize
            if self.shard and shards[-1] and held + size > self.shard:
                shards.append([])
                held = 0
            shards[-1].append((name, shape))
            held += size
        if len(shards) == 1:
            return {"model.safetensors": sorted(shards[0])}
        names = (f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards)))
        return {name: sorted(tensors) for name, tensors in zip(names, shards, strict=True)}

    def config(self) -> dict[str, Any]:
        """Return what config.json holds, in the spelling of transformers 4, which 5 reads too."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": False,
            "torch_dtype": BY_CODE[self.code].name,
        }


CHECKPOINTS = {
    generated.name: generated
    for generated in (
        Generated(
            name="llama-1b-bf16",
            layers=22,
            hidden=2048,
            intermediate=5632,
            heads=32,
            kv_heads=4,
            vocabulary=32000,
            shard=500_000_000,
        ),
        *(
            Generated(
                name=f"llama-0.4b-fp32{kind}",
                layers=24,
                hidden=1024,
                intermediate=3584,
                heads=16,
                kv_heads=8,
                vocabulary=32000,
                code="F32",
                shard=shard,
            )
            for kind, shard in (("", None), ("-sharded", 400_000_000))
        ),
        Generated(
            name="llama-70b-sparse",
            layers=80,
            hidden=8192,
            intermediate=28672,
            heads=64,
            kv_heads=8,
            vocabulary=128256,
            shard=5 << 30,
            sparse=True,
        ),
        Generated(
            name="llama-99003-tensors",
            layers=11000,
            hidden=64,
            intermediate=128,
            heads=2,
            kv_heads=1,
            vocabulary=1000,
            shard=10 << 20,
            sparse=True,
        ),
    )
}


def make(generated: Generated, folder: Path) -> Path:
    """Return the checkpoint's folder below `folder`, writing it where it is not there yet."""
    target = folder / generated.name
    stamp = json.dumps(dataclasses.asdict(generated))
    if (target / STAMP).exists() and (target / STAMP).read_text() == stamp:
        return target
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shards = generated.shards()
    for name, tensors in shards.items():
        _write(target / name, tensors, generated)
    if len(shards) > 1:
        places = {tensor: name for name, tensors in shards.items() for tensor, _ in tensors}
        index = {"metadata": {"total_size": generated.nbytes}, "weight_map": places}
        (target / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    (target / "config.json").write_text(json.dumps(generated.config(), indent=2) + "\n")
    (target / STAMP).write_text(stamp)
    return target


def _write(path: Path, tensors: Sequence[Tensor], generated: Generated) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in tensors:
        end = at + math.prod(shape) * generated.itemsize
        header[name] = {"dtype": generated.code, "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        if generated.sparse:
            stream.truncate(8 + len(text) + at)
            return
        for name, shape in tensors:
            stream.write(_drawn(name, shape, generated))


def _drawn(name: str, shape: tuple[int, ...], generated: Generated) -> np.ndarray[Any, Any]:
    """Return the bytes of one tensor: normal with deviation 0.02, around 1 for the scale of a norm."""
    digest = hashlib.sha256(f"{generated.name}/{name}".encode()).digest()
    generator = np.random.Generator(np.random.SFC64(int.from_bytes(digest[:8], "little")))
    values = generator.standard_normal(math.prod(shape), np.float32)
    values *= 0.02
    if len(shape) == 1:
        values += 1
    data = np.empty(values.size * generated.itemsize, np.uint8)
    cast(values.view(np.uint8), "float32", data, BY_CODE[generated.code].name)
    return data
