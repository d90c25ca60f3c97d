"""What would stand in config.json, from what a file says under llama.cpp's keys.

What the file does not say is as llama.cpp computes it, who runs these files: no window, heads that divide the hidden size. A key of
its type that is neither followed here nor without effect is an error.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from loadstone.errors import ConfigError
from loadstone_gguf.dialects import DIALECTS
from loadstone_gguf.header import Header, Length
from loadstone_gguf.rope import KEYS as ROPE_KEYS
from loadstone_gguf.rope import UNREAD, scaling, unknown

TOKENS = {"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "padding_token_id": "pad_token_id"}
"""Key of `tokenizer.ggml.` -> key of config.json."""
HERE = {"attention.key_length", "attention.value_length", "rope.dimension_count", *ROPE_KEYS}
"""Keys that are followed below."""
WITHOUT_EFFECT: Mapping[str, tuple[object, ...]] = {
    "attention.causal": (True,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "pooling_type": (),
    "rope.scaling.finetuned": (),
    "tensor_data_layout": (),
    "use_parallel_residual": (False,),
}
"""Keys that change nothing -> with which values; () is any."""
LAYERS_OF_27B = 46
"""By which llama.cpp knows the Gemma 2 that scales its queries by the hidden size and not by that of a head."""


def values_of(header: Header, factors: tuple[float, ...] | None, *, where: str) -> dict[str, Any]:
    """Return the keys and values of a configuration.

    Args:
        header: What the file says.
        factors: By which each frequency of the rope is divided, where the file has a tensor of them.
        where: The file, for an error.

    Raises:
        ConfigError: If the type is unknown, a key is missing, or one says what is not followed.
    """
    said = Said(header, where)
    dialect = said.dialect
    found = {theirs: said[key] for key, theirs in dialect.keys.items() if key in said}
    if missing := [said.prefix + key for key in dialect.needed if key not in said]:
        raise ConfigError(
            "the file does not say all that makes up the model", where=where, expected=", ".join(missing)
        )
    said.check_followed()
    names = {tensor.name for tensor in header.tensors}
    found |= {
        "model_type": said.model_type,
        "architectures": [DIALECTS[said.model_type].model_class],
        "tie_word_embeddings": "output.weight" not in names,
        "dtype": _dtype(header),
        **said.tokens(),
    }
    if "vocab_size" not in found:
        found["vocab_size"] = said.vocabulary()
    if dialect.rope:
        if unread := sorted(name for name in names if name.startswith(UNREAD)):
            raise unknown(said, f"the tensor {unread[0]}")
        found |= _of_decoder(said, names)
        found |= scaling(
            said, factors, head_dim=found["head_dim"], theta=found.setdefault("rope_theta", 10000.0)
        )
    return found


class Said(Mapping[str, Any]):
    """What a file says under the keys of its type, without their prefix.

    Attributes:
        where: The file.
        prefix: Of the keys.
        dialect: What they mean.
        model_type: In config.json.
    """

    def __init__(self, header: Header, where: str) -> None:
        values = header.values
        self.where, self._header = where, header
        architecture = str(values.get("general.architecture"))
        if architecture not in DIALECTS or values.get("general.type", "model") != "model":
            kind = values.get("general.type", "model")
            raise ConfigError(
                "the file is of a type that is not read",
                where=where,
                expected=f"general.architecture one of: {', '.join(DIALECTS)}",
                found=f"{architecture!r:.80}"
                + ("" if kind == "model" else f", of which it holds: {kind!r:.40}"),
                hint="load the model's own repository",
            )
        if values.get("split.count", 1) not in (0, 1):
            raise ConfigError(
                "the file is one part of a model",
                where=where,
                expected="a whole model",
                found=f"split.count={values['split.count']!r:.40}",
                hint="join the parts with llama.cpp's llama-gguf-split --merge",
            )
        self.prefix, self.dialect = f"{architecture}.", DIALECTS[architecture]
        # llama.cpp calls Mistral's a Llama; transformers takes it for what its name says.
        named = values.get("general.name") == "mistral"
        self.model_type = "mistral" if architecture == "llama" and named else architecture
        self._values = {
            key.removeprefix(self.prefix): plain(value)
            for key, value in values.items()
            if key.startswith(self.prefix)
        }

    def __getitem__(self, key: str) -> Any:
        """Return a value."""
        return self._values[key]

    def __iter__(self) -> Any:
        """Yield the keys."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._values)

    def check_followed(self) -> None:
        """Refuse keys that would change what is computed.

        Raises:
            ConfigError: If there are some; it names them all.
        """
        problems = []
        for key, value in self.items():
            if key in self.dialect.keys or (self.dialect.rope and key in HERE):
                if type(value) not in (int, float) and key != "rope.scaling.type":
                    problems.append(f"{self.prefix}{key} is no number, or not the same for each layer")
                continue
            allowed = WITHOUT_EFFECT.get(key)
            if allowed is None or (allowed and value not in allowed):
                problems.append(f"{self.prefix}{key}={value!r:.80}")
        if problems:
            raise ConfigError(
                "the file says of the model what loadstone does not follow for its type",
                where=self.where,
                problems=problems,
                hint="load the model's own repository, or pass the configuration that it has there as config=",
            )

    def tokens(self) -> dict[str, int]:
        """Return the ids of special tokens."""
        held = self._header.values
        return {
            ours: held[f"tokenizer.ggml.{key}"]
            for key, ours in TOKENS.items()
            if f"tokenizer.ggml.{key}" in held
        }

    def vocabulary(self) -> int:
        """Return how many tokens there are: as many as the file lists, or as are embedded."""
        listed = self._header.values.get("tokenizer.ggml.tokens")
        if isinstance(listed, Length):
            return listed.number
        for tensor in self._header.tensors:
            if tensor.name == "token_embd.weight" and tensor.shape:
                return tensor.shape[0]
        raise ConfigError(
            "the file does not say how many tokens there are",
            where=self.where,
            expected=f"{self.prefix}vocab_size, tokenizer.ggml.tokens, or the tensor token_embd.weight",
        )


def _of_decoder(said: Said, names: set[str]) -> dict[str, Any]:
    """Return what the file says of a decoder with rotated heads, and what it does by not saying it."""
    heads, size = said["attention.head_count"], said["embedding_length"]
    if not (type(heads) is int and type(size) is int and heads > 0):
        raise ConfigError(
            "the heads of the model cannot be", where=said.where, found=f"{heads!r:.80} heads of {size!r:.80}"
        )
    head_dim = said.get("attention.key_length", size // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if said.get(key, head_dim) != head_dim:
            raise ConfigError(
                "the heads of the model are of two sizes, or rotated in part",
                where=f"{said.where}: {said.prefix}{key}",
                expected=f"{head_dim!r}, the size of a head",
                found=f"{said[key]!r:.80}",
                hint="load the model's own repository",
            )
    found: dict[str, Any] = {"head_dim": head_dim}
    found["num_key_value_heads"] = said.get("attention.head_count_kv", heads)
    if said.model_type in ("llama", "qwen3", "gemma", "gemma2"):
        found["attention_bias"] = "blk.0.attn_q.bias" in names
    if said.model_type == "llama":
        found["mlp_bias"] = "blk.0.ffn_up.bias" in names
    if said.model_type != "gemma":
        found["sliding_window"] = said.get("attention.sliding_window")
    if said.model_type == "gemma2":
        large = said["block_count"] == LAYERS_OF_27B
        found["query_pre_attn_scalar"] = size // heads if large else head_dim
        found |= {key: said.get(key) for key in ("attn_logit_softcapping", "final_logit_softcapping")}
    return found


def _dtype(header: Header) -> str:
    """Return the dtype of the model: that of a file's half-wide numbers, float32 where something is quantised."""
    dtypes = {tensor.kind.dtype for tensor in header.tensors}
    halves = [] if "" in dtypes else [half for half in ("bfloat16", "float16") if half in dtypes]
    return halves[0] if halves else "float32"


def plain(value: Any) -> Any:
    """Return a value as one writes it: of a float32 number the shortest one that is rounded to it."""
    if isinstance(value, list) and value and all(one == value[0] for one in value):
        return plain(value[0])  # the same for each layer
    if not isinstance(value, float):
        return value
    try:
        exact = struct.pack("<f", value)
        return next(
            (
                short
                for digits in range(1, 10)
                if struct.pack("<f", short := float(f"{value:.{digits}g}")) == exact
            ),
            value,
        )
    except OverflowError:  # a wider one
        return value
