"""Rotary position embedding: both spellings of config.json -> the numbers that a model multiplies positions by.

Frequencies are computed here, once for all frameworks, with each operation rounded to float32 as the reference
implementations do it in float32 arrays.

Sources: Su et al. 2021, https://arxiv.org/abs/2104.09864; linear scaling: Chen et al. 2023,
https://arxiv.org/abs/2306.15595; dynamic: bloc97 and emozilla 2023, "NTK-aware scaled RoPE"; yarn: Peng et al. 2023,
https://arxiv.org/abs/2309.00071; longrope: Ding et al. 2024, https://arxiv.org/abs/2402.13753; llama3: the Llama 3.1
model card's reference code.
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

# Parameters of any type that must be numbers above zero, and those that must be lists of them.
_POSITIVE = frozenset({"rope_theta", "factor", "low_freq_factor", "high_freq_factor", "attention_factor"})
_POSITIVE |= {"beta_fast", "beta_slow", "original_max_position_embeddings", "partial_rotary_factor"}
_POSITIVE |= {"max_position_embeddings"}
_LISTS = frozenset({"short_factor", "long_factor"})
_NUMBERS = frozenset({"mscale", "mscale_all_dim"})
# Types that are computed from the context that the model was first trained with.
_OF_ORIGINAL = frozenset({"llama3", "yarn", "longrope"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RopeGrowth:
    """Frequencies that fall as a sequence grows beyond `limit` tokens: those of a larger base.

    The base is `theta * (factor * tokens / limit - (factor - 1)) ** (rotated / (rotated - 2))`; frequency `i` is
    `base ** -exponents[i]`.
    """

    limit: int
    theta: float
    factor: float
    rotated: int
    exponents: Frequencies

    def base(self, tokens: Any) -> Any:
        """Return the base for a sequence of `tokens`, a number or a framework's scalar that is at least `limit`."""
        stretched = self.factor * tokens / self.limit - (self.factor - 1)
        return self.theta * stretched ** (self.rotated / (self.rotated - 2))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RopeSpec:
    """Rotary position embedding of one model.

    Attributes:
        inverse_frequencies: Radians per position, one per pair of rotated channels: `[D // 2]` float32 values.
        attention_scaling: Factor on cosine and sine.
        beyond: Frequencies of a sequence of more than `limit` tokens, where they are others.
        limit: See `beyond`.
        growth: How they change with the length of a sequence, where they do.
        interleaved: A pair is two neighbouring channels; else one in each half of those that are rotated.
    """

    inverse_frequencies: Frequencies
    attention_scaling: float = 1.0
    beyond: Frequencies | None = None
    limit: int = 0
    growth: RopeGrowth | None = None
    interleaved: bool = False

    @property
    def rotated(self) -> int:
        """How many channels of a head are rotated, from its first on."""
        return 2 * len(self.inverse_frequencies)


def rope_block(config: Config) -> Mapping[str, Any]:
    """Return the section that describes the rope, the old one where both are there, or what holds where none is."""
    return (
        config.rope_scaling
        or config.held("rope_parameters")
        or getattr(type(config), "default_rope", None)
        or {}
    )


def original_context(config: Config, parameters: Mapping[str, Any]) -> Any:
    """Return how many tokens the model was first trained with, or None where its rope's parameters do not speak of it."""
    original = parameters.get("original_max_position_embeddings")
    if parameters["rope_type"] not in _OF_ORIGINAL:
        return original
    beside = getattr(config, "original_max_position_embeddings", None)  # it goes before the one among them
    return next(one for one in (beside, original, config.max_position_embeddings) if one is not None)


def rope_parameters(config: Config) -> dict[str, Any]:
    """Return `rope_type`, `rope_theta` and the type's own parameters, from either spelling.

    transformers 5 writes them as `rope_parameters`; transformers 4 as `rope_theta` beside `rope_scaling`, whose type is
    called `rope_type` or `type`. Where both are there, transformers takes `rope_scaling` as a whole.
    """
    scaling = {key: value for key, value in rope_block(config).items() if value is not None}
    legacy_type = scaling.pop("type", None)
    scaling.setdefault("rope_type", legacy_type or "default")
    scaling.setdefault("rope_theta", config.rope_theta)
    return scaling


def rope_spec(
    config: Config, *, head_dim: int, parameters: Mapping[str, Any] | None = None, partial: bool = False
) -> RopeSpec:
    """Resolve the rotary embedding of a configuration.

    Args:
        config: Declares `rope_parameters`, `rope_scaling`, `rope_theta` and `max_position_embeddings`.
        head_dim: Channels of one attention head.
        parameters: Those of the layers that are asked about, where kinds of layers have ropes of their own.
        partial: Whether `partial_rotary_factor`, which the configuration declares then, says what part of a head is rotated.

    Raises:
        ConfigError: If the type is unknown, lacks a parameter or has one that cannot be.
    """
    said = rope_parameters(config) if parameters is None else parameters
    parameters, kind = dict(said), str(said["rope_type"])
    if kind not in _SCALINGS:
        raise ConfigError(
            f"unknown rope type {kind!r}",
            where="rope_parameters.rope_type",
            expected=f"one of: {', '.join(_SCALINGS)}",
            hint=nearest(kind, _SCALINGS),
        )
    if kind != "default":
        _add_lengths(config, parameters)
    _check_numbers(kind, parameters)
    if partial:
        parameters.setdefault("partial_rotary_factor", config.partial_rotary_factor)
    parameters["rotated"] = _rotated(parameters, head_dim, partial=partial)
    try:
        return _SCALINGS[kind](_plain(float(parameters["rope_theta"]), parameters["rotated"]), parameters)
    except KeyError as error:
        raise ConfigError(
            f"rope type {kind!r} needs the parameter {error.args[0]!r}",
            where="rope_parameters (or rope_scaling)",
            found=", ".join(said),
            hint="add it to config.json, or correct the rope_type",
        ) from error
    except (TypeError, ValueError, ArithmeticError) as error:
        listed = [f"{key}={value!r}" for key, value in parameters.items()]
        raise _impossible(kind, [f"{error}: {', '.join(listed)}"]) from error


def _add_lengths(config: Config, parameters: dict[str, Any]) -> None:
    """Add what a type reads of the configuration beside the rope's own parameters."""
    original = original_context(config, parameters)
    parameters["original_max_position_embeddings"] = (
        config.max_position_embeddings if original is None else original
    )
    parameters["max_position_embeddings"] = config.max_position_embeddings
    if getattr(config, "partial_rotary_factor", None) is not None:
        parameters.setdefault("partial_rotary_factor", config.partial_rotary_factor)


def _check_numbers(kind: str, parameters: Mapping[str, Any]) -> None:
    wrong = [
        f"{key}: expected {expected}, found {value!r}"
        for keys, fits, expected in (
            (_POSITIVE, _is_positive, "a positive number"),
            (_NUMBERS, lambda value: value == 0 or _is_positive(value), "a positive number"),
            (_LISTS, _are_positive, "a list of positive numbers"),
        )
        for key, value in parameters.items()
        if key in keys and not fits(value)
    ]
    wrong += [
        f"{key}: expected a parameter of the rope, found the parameters of one kind of layers"
        for key, value in parameters.items()
        if isinstance(value, Mapping)
    ]
    if wrong:
        raise _impossible(kind, wrong)


def _is_positive(value: object) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf  # type: ignore[operator]


def _are_positive(value: object) -> bool:
    return isinstance(value, list | tuple) and all(_is_positive(one) for one in value)


def _rotated(parameters: Mapping[str, Any], head_dim: int, *, partial: bool) -> int:
    """Return how many channels of a head are rotated."""
    factor = parameters.get("partial_rotary_factor", 1.0)
    if factor != 1.0 and not partial:
        raise ConfigError(
            "this architecture rotates whole heads",
            where="rope_parameters.partial_rotary_factor",
            found=parameters["partial_rotary_factor"],
            hint="load the model with transformers, or take the key out of config.json where it changes nothing",
        )
    rotated = int(head_dim * factor)
    if rotated % 2 or not 0 < rotated <= head_dim:
        raise ConfigError(
            "a rotary embedding turns channels in pairs",
            where="head_dim (or hidden_size / num_attention_heads)",
            expected="an even number"
            if factor == 1.0
            else f"an even number that partial_rotary_factor leaves of {head_dim}",
            found=rotated,
            hint="correct config.json, or pass the right number as a keyword argument",
        )
    return rotated


def _impossible(kind: str, problems: list[str]) -> ConfigError:
    return ConfigError(
        f"rope type {kind!r} cannot be computed from its parameters",
        where="rope_parameters (or rope_scaling)",
        problems=problems,
        hint="correct config.json",
    )


def _float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


def _exponents(rotated: int) -> Frequencies:
    return tuple(_float32(i / rotated) for i in range(0, rotated, 2))


def _plain(theta: float, rotated: int) -> Frequencies:
    return tuple(_float32(1.0 / _float32(theta**exponent)) for exponent in _exponents(rotated))


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


def _dynamic(frequencies: Frequencies, parameters: Mapping[str, Any]) -> RopeSpec:
    if parameters["rotated"] == 2:
        raise ValueError("a head of two channels has no base that could grow")
    growth = RopeGrowth(
        limit=parameters["max_position_embeddings"],
        theta=float(parameters["rope_theta"]),
        factor=float(parameters["factor"]),
        rotated=parameters["rotated"],
        exponents=_exponents(parameters["rotated"]),
    )
    return RopeSpec(inverse_frequencies=frequencies, growth=growth)


def _yarn(frequencies: Frequencies, parameters: Mapping[str, Any]) -> RopeSpec:
    original = parameters["original_max_position_embeddings"]
    factor = parameters["factor"] or parameters["max_position_embeddings"] / original
    low, high = _yarn_range(parameters, original)
    blended = []
    for channel, frequency in enumerate(frequencies):
        ramp = _float32(min(1.0, max(0.0, (channel - low) / (high - low))))
        stretched = _float32(1.0 / _float32(factor * _float32(1.0 / frequency)))
        blended.append(_float32(_float32(stretched * ramp) + _float32(frequency * _float32(1 - ramp))))
    scaling = parameters.get("attention_factor")
    return RopeSpec(
        inverse_frequencies=tuple(blended),
        attention_scaling=_yarn_scaling(factor, parameters) if scaling is None else float(scaling),
    )


def _yarn_range(parameters: Mapping[str, Any], original: int) -> tuple[float, float]:
    """Return the channels between which yarn goes over from the plain frequencies to the stretched ones."""
    rotated, theta = parameters["rotated"], parameters["rope_theta"]

    def channel(rotations: float) -> float:
        return float(rotated * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta)))

    low = channel(parameters.get("beta_fast") or 32)
    high = channel(parameters.get("beta_slow") or 1)
    if parameters.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotated - 1)
    return low, high if high != low else high + 0.001


def _yarn_scaling(factor: float, parameters: Mapping[str, Any]) -> float:
    def scale(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    one, all_dimensions = parameters.get("mscale"), parameters.get("mscale_all_dim")
    return scale(one) / scale(all_dimensions) if one and all_dimensions else scale(1.0)


def _longrope(frequencies: Frequencies, parameters: Mapping[str, Any]) -> RopeSpec:
    original = parameters["original_max_position_embeddings"]
    factor = parameters.get("factor") or parameters["max_position_embeddings"] / original
    scaling = parameters.get("attention_factor")
    if scaling is None:
        scaling = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0

    def divided(by: list[float]) -> Frequencies:
        return tuple(
            _float32(1.0 / _float32(_float32(b) * _float32(1.0 / f)))
            for b, f in zip(by, frequencies, strict=True)
        )

    return RopeSpec(
        inverse_frequencies=divided(parameters["short_factor"]),
        attention_scaling=float(scaling),
        beyond=divided(parameters["long_factor"]),
        limit=original,
    )


_SCALINGS: dict[str, Callable[[Frequencies, Mapping[str, Any]], RopeSpec]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "longrope": _longrope,
    "llama3": _llama3,
}
