"""GGUF files as llama.cpp's converters write them, of checkpoints in safetensors; gguf-py names, packs and writes."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

Kind = gguf.GGMLQuantizationType
ARCHITECTURES = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}


def write(
    path: Path,
    folder: Path,
    kind: Kind = Kind.F32,
    *,
    architecture: str = "",
    named: str = "tiny",
    more: Callable[[gguf.GGUFWriter], object] = lambda writer: None,
) -> dict[str, np.ndarray]:
    """Write a checkpoint as GGUF.

    Args:
        path: The file.
        folder: The checkpoint.
        kind: How matrices whose rows are whole blocks are packed; all else is F32.
        architecture: What llama.cpp calls the type, where not as config.json does.
        named: `general.name`.
        more: Adds what the checkpoint does not say.

    Returns:
        Name in the checkpoint -> the numbers that are in the file, unpacked, as a checkpoint has them.
    """
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    architecture = architecture or config["model_type"]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(named)
    keys(writer, config)
    found = {}
    layers = config.get("num_hidden_layers") or config["n_layer"]
    names = gguf.get_tensor_name_map(ARCHITECTURES[architecture], layers)
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        stored = f"{names.get_name(module)}.{leaf}"
        there, back = ways(architecture, config, stored)
        data = np.ascontiguousarray(there(tensor.astype(np.float32)))
        packed, held = pack(data, kind)
        writer.add_tensor(stored, packed, raw_dtype=held)
        found[name] = back(gguf.dequantize(packed, held).reshape(data.shape))
    more(writer)
    finish(writer)
    return found


def pack(data: np.ndarray, kind: Kind) -> tuple[np.ndarray, Kind]:
    """Return a tensor in blocks, if it is a matrix of whole ones."""
    if data.ndim < 2 or data.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
        kind = Kind.F32
    return gguf.quantize(data, kind), kind


def keys(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    """Write what config.json says."""
    one = {theirs: config.get(ours, config.get(old)) for theirs, (ours, old) in NUMBERS.items()}
    for name, value in one.items():
        if value is not None:
            getattr(writer, f"add_{name}")(value)
    if rope := config.get("rope_parameters"):
        writer.add_rope_freq_base(rope["rope_theta"])
    if config.get("head_dim"):
        writer.add_rope_dimension_count(config["head_dim"])


NUMBERS = {
    "context_length": ("max_position_embeddings", "n_positions"),
    "embedding_length": ("hidden_size", "n_embd"),
    "block_count": ("num_hidden_layers", "n_layer"),
    "feed_forward_length": ("intermediate_size", "n_inner"),
    "head_count": ("num_attention_heads", "n_head"),
    "head_count_kv": ("num_key_value_heads", ""),
    "layer_norm_rms_eps": ("rms_norm_eps", ""),
    "layer_norm_eps": ("layer_norm_epsilon", ""),
    "vocab_size": ("vocab_size", ""),
    "key_length": ("head_dim", ""),
    "value_length": ("head_dim", ""),
    "sliding_window": ("sliding_window", ""),
    "attn_logit_softcapping": ("attn_logit_softcapping", ""),
    "final_logit_softcapping": ("final_logit_softcapping", ""),
    "bos_token_id": ("bos_token_id", ""),
    "eos_token_id": ("eos_token_id", ""),
    "pad_token_id": ("pad_token_id", ""),
}


def same(tensor: np.ndarray) -> np.ndarray:
    """Return a tensor as it is."""
    return tensor


Way = Callable[[np.ndarray], np.ndarray]


def ways(architecture: str, config: Mapping[str, Any], stored: str) -> tuple[Way, Way]:
    """Return what llama.cpp's converter does to a tensor, and the way back."""
    if architecture == "llama" and (".attn_q." in stored or ".attn_k." in stored):
        heads = config["num_attention_heads" if ".attn_q." in stored else "num_key_value_heads"]
        return (lambda t: paired(t, heads, (2, -1))), (lambda t: paired(t, heads, (-1, 2)))
    if architecture.startswith("gemma") and stored.endswith("norm.weight"):
        return (lambda t: t + np.float32(1)), (lambda t: t - np.float32(1))
    turned = ("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight")
    if architecture == "gpt2" and stored.endswith(turned):
        return np.transpose, np.transpose
    return same, same


def paired(tensor: np.ndarray, heads: int, halves: tuple[int, int]) -> np.ndarray:
    """Return a tensor whose rows are in another order within each head."""
    rows = tensor.reshape(heads, *halves, *tensor.shape[1:])
    return rows.swapaxes(1, 2).reshape(tensor.shape)


def finish(writer: gguf.GGUFWriter) -> None:
    """Write all that was added."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# Files by hand, to be wrong in


def text(value: str | bytes) -> bytes:
    """Return a text as a file has it."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def number(key: str, value: int) -> bytes:
    """Return a key with a number of 32 bits."""
    return text(key) + struct.pack("<II", 4, value)


def words(key: str, value: str) -> bytes:
    """Return a key with a text."""
    return text(key) + struct.pack("<I", 8) + text(value)


def tensor(name: str, shape: tuple[int, ...], offset: int, kind: int = 0) -> bytes:
    """Return where a tensor lies; its sizes as a file has them, the fastest first."""
    axes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + axes + struct.pack("<IQ", kind, offset)


def by_hand(
    pairs: list[bytes],
    tensors: list[bytes],
    data: int = 64,
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    """Return a whole file."""
    start = b"GGUF" + struct.pack("<IQQ", version, *(counts or (len(tensors), len(pairs))))
    head = start + b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data)
