"""Rotary position embedding: both spellings of config.json -> the numbers that a model multiplies positions by.

Frequencies are computed here, once for all frameworks, with each operation rounded to float32 as the reference
implementations do it in float32 arrays.

Sources: Su et al. 2021, https://arxiv.org/abs/2104.09864; linear scaling: Chen et al. 2023,
https://arxiv.org/abs/2306.15595; llama3: the Llama 3.1 model card's reference code.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

from loadstone.config import Config
from loadstone.errors import ConfigError, nearest

Frequencies = tuple[float, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RopeSpec:
    """Rotary position embedding of one model.

    Attributes:
        inverse_frequencies: Radians per position, one per pair of rotated channels: `[D // 2]` float32 values.
        attention_scaling: Factor on cosine and sine.
    """

    inverse_frequencies: Frequencies
    attention_scaling: float = 1.0


def rope_parameters(config: Config) -> dict[str, Any]:
    """Return `rope_type`, `rope_theta` and the type's own parameters, from either spelling.

    transformers 5 writes them as `rope_parameters`; transformers 4 as `rope_theta` beside `rope_scaling`, whose type is
    called `rope_type` or `type`.
    """
    scaling = dict(config.rope_parameters or config.rope_scaling or {})
    legacy_type = scaling.pop("type", None)
    scaling.setdefault("rope_type", legacy_type or "default")
    scaling.setdefault("rope_theta", config.rope_theta)
    return scaling


def rope_spec(config: Config, *, head_dim: int) -> RopeSpec:
    """Resolve the rotary embedding of a configuration.

    Args:
        config: Declares `rope_parameters`, `rope_scaling`, `rope_theta` and `max_position_embeddings`.
        head_dim: Channels of one attention head.

    Raises:
        ConfigError: If the type is unknown or lacks a parameter.
    """
    parameters = rope_parameters(config)
    kind = parameters["rope_type"]
    if kind not in _SCALINGS:
        raise ConfigError(
            f"unknown rope type {kind!r}",
            where="rope_parameters.rope_type",
            expected=f"one of: {', '.join(_SCALINGS)}",
            hint=nearest(str(kind), _SCALINGS),
        )
    parameters.setdefault("original_max_position_embeddings", config.max_position_embeddings)
    rotated = int(head_dim * parameters.get("partial_rotary_factor", 1.0))
    try:
        return _SCALINGS[kind](_plain(float(parameters["rope_theta"]), rotated), parameters)
    except KeyError as error:
        raise ConfigError(
            f"rope type {kind!r} needs the parameter {error.args[0]!r}",
            where="rope_parameters (or rope_scaling)",
            found=sorted(parameters),
        ) from error


def _float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


def _plain(theta: float, rotated: int) -> Frequencies:
    exponents = (_float32(_float32(i) / rotated) for i in range(0, rotated, 2))
    return tuple(_float32(1.0 / _float32(theta**exponent)) for exponent in exponents)


def _default(frequencies: Frequencies, parameters: Mapping[str, Any]) -> RopeSpec:
    return RopeSpec(inverse_frequencies=frequencies)


def _linear(frequencies: Frequencies, parameters: Mapping[str, Any]) -> RopeSpec:
    factor = parameters["factor"]
    return RopeSpec(inverse_frequencies=tuple(_float32(f / factor) for f in frequencies))


def _llama3(frequencies: Frequencies, parameters: Mapping[str, Any]) -> RopeSpec:
    factor, original = parameters["factor"], parameters["original_max_position_embeddings"]
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]

    def scaled(frequency: float) -> float:
        wavelength = _float32(2 * math.pi / frequency)
        if wavelength > original / low:
            return _float32(frequency / factor)
        if wavelength < original / high:
            return frequency
        smooth = _float32(_float32(_float32(original / wavelength) - low) / (high - low))
        stretched = _float32(_float32((1 - smooth) * frequency) / factor)
        return _float32(stretched + _float32(smooth * frequency))

    return RopeSpec(inverse_frequencies=tuple(scaled(f) for f in frequencies))


_SCALINGS: dict[str, Callable[[Frequencies, Mapping[str, Any]], RopeSpec]] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
}
