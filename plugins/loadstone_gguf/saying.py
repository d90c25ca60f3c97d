"""What a file says of a model, from its configuration: the way back of `loadstone_gguf.configuration`.

It is read again before anything is written: a configuration that would come back as another one is named.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loadstone.architectures import rope_parameters
from loadstone.config import Config
from loadstone.errors import ConfigError
from loadstone_gguf.configuration import TOKENS, values_of
from loadstone_gguf.dialects import LAYER, Dialect
from loadstone_gguf.header import Header, Stored
from loadstone_gguf.kinds import KINDS
from loadstone_gguf.rope import said_of

FLOATS = ("epsilon", "freq_base", "softcapping", "beta_fast", "beta_slow")
"""How keys end whose values are fractions, whole or not."""
UNSAID = frozenset(
    # names, and what training and training's losses are told
    {
        "name_or_path",
        "architectures",
        "dtype",
        "torch_dtype",
        "initializer_range",
        "problem_type",
        "pretraining_tp",
    }
    | {"id2label", "label2id", "num_labels", "attention_dropout", "hidden_dropout", "classifier_dropout"}
    | {"attn_pdrop", "embd_pdrop", "resid_pdrop", "reorder_and_upcast_attn"}
    # what a call may say, and tokens, which go to the file's own keys
    | {"use_cache", "return_dict", "output_attentions", "output_hidden_states"}
    | {"bos_token_id", "eos_token_id", "pad_token_id"}
    # the rope and the windows are compared as the model follows them
    | {"rope_theta", "rope_scaling", "rope_parameters", "layer_types"}
    | {"sliding_window", "use_sliding_window", "max_window_layers"}
)
"""Keys of config.json of which a file need not say the same."""


def values_and_factors(
    architecture: str, dialect: Dialect, config: Config
) -> tuple[dict[str, Any], list[float] | None]:
    """Return what a file says, key by key, and the factors of its rope that are a tensor.

    Args:
        architecture: `general.architecture`.
        dialect: Its keys.
        config: The configuration.
    """
    found: dict[str, Any] = {"general.architecture": architecture, "general.name": config.model_type}
    said = {key: getattr(config, theirs, None) for key, theirs in dialect.keys.items()}
    said["attention.sliding_window"] = _window(config) if "attention.sliding_window" in said else None
    factors = None
    if dialect.rope:
        rope = rope_parameters(config)
        keys, factors = said_of(rope, config.head_dim)
        sizes = ("attention.key_length", "attention.value_length", "rope.dimension_count")
        said |= {"rope.freq_base": rope["rope_theta"], **keys, **dict.fromkeys(sizes, config.head_dim)}
    for key, value in said.items():
        if value is not None:
            found[f"{architecture}.{key}"] = float(value) if key.endswith(FLOATS) else value
    for key, theirs in TOKENS.items():
        value = getattr(config, theirs, None)
        value = value[0] if isinstance(value, list) and value else value
        if type(value) is int and value >= 0:
            found[f"tokenizer.ggml.{key}"] = value
    return found, factors


def faults_of(
    config: Config,
    dialect: Dialect,
    values: Mapping[str, Any],
    factors: Sequence[float] | None,
    named: Mapping[str, str | None],
) -> list[str]:
    """Return why a file would not be the model: tensors that it cannot have or lacks, and keys that it would say otherwise.

    Args:
        config: The configuration.
        dialect: How files of the type say things.
        values: What the file is to say.
        factors: By which each frequency of the rope is divided, where the file has a tensor of them.
        named: Name of each tensor -> its name in the file, None where it has none.
    """
    names = {own for own in named.values() if own is not None}
    found = [
        f"{name}: GGUF has no name for it in {config.model_type}"
        for name, own in named.items()
        if own is None
    ]
    found += [
        f"{name}: is not there" for name in _needed(config, dialect) if dialect.stored(name) not in names
    ]
    last = config.num_hidden_layers
    layers = {name.split(".")[1] for name in names if name.startswith(LAYER)} - {*map(str, range(last))}
    found += [f"{dialect.layers}.{layer}: there are {last} layers" for layer in sorted(layers)]
    return found or _unlike(config, values, factors, names)


def _needed(config: Config, dialect: Dialect) -> Iterator[str]:
    """Yield the weights that a model of the type has, as a checkpoint names them."""
    outside = dialect.layers.rpartition(".")[0] + "."
    for theirs in dialect.modules.values():
        if theirs.startswith(outside) or (theirs == "lm_head" and not config.tie_word_embeddings):
            yield f"{theirs}.weight"
        elif theirs != "lm_head":
            yield from (
                f"{dialect.layers}.{layer}.{theirs}.weight" for layer in range(config.num_hidden_layers)
            )


def _unlike(
    config: Config, values: Mapping[str, Any], factors: Sequence[float] | None, names: set[str]
) -> list[str]:
    """Return what a load of the file would take for something else than the configuration says."""
    tensors = [Stored(name=name, kind=KINDS[0], shape=(), offset=0, nbytes=4) for name in names]
    header = Header(values={key: _as_read(value) for key, value in values.items()}, tensors=tuple(tensors))
    stretched = None if factors is None else tuple(map(_as_read, factors))
    try:
        back = type(config).from_dict(values_of(header, stretched, where="the file"), where="the file")
    except ConfigError as error:
        return [error.what]
    both = [(k, getattr(config, k), getattr(back, k)) for k in config.known_names() if k not in UNSAID]
    both.append(("sliding_window and layer_types", _windows(config), _windows(back)))
    if "rope_theta" in config.known_names():
        both.append(("rope_parameters", rope_parameters(config), rope_parameters(back)))
    return [
        f"config.json says {key}={one!r:.80}, and a file says {other!r:.80}"
        for key, one, other in both
        if not _same(one, other)
    ]


def _windows(config: Config) -> list[int | None]:
    """Return the window of each layer."""
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    window = getattr(config, "sliding_window", None)
    return [window if kind == "sliding_attention" else None for kind in kinds]


def _window(config: Config) -> int | None:
    return next((window for window in _windows(config) if window is not None), None)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = {key for both in (one, other) for key, value in both.items() if value is not None}
        return all(_same(one.get(key), other.get(key)) for key in keys)
    nothing = [value is None or value is False for value in (one, other)]
    return all(nothing) or (not any(nothing) and bool(_as_read(one) == _as_read(other)))


def _as_read(value: Any) -> Any:
    """Return a number as a file has it."""
    return struct.unpack("<f", struct.pack("<f", value))[0] if isinstance(value, float) else value
