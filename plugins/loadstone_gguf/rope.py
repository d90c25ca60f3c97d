"""The rope of a file: how it is stretched, in the words of config.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loadstone.errors import ConfigError

if TYPE_CHECKING:
    from loadstone_gguf.configuration import Said

KEYS = {
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scale_linear",
}
OF_YARN = {
    "rope.scaling.original_context_length": "original_max_position_embeddings",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}
"""Key -> key of `rope_scaling`."""
FACTORS = "rope_freqs.weight"
"""The tensor of what each frequency is divided by: of Llama 3.1's rope no more is left in a file."""
UNREAD = "rope_factors"
"""How the names of tensors begin that stretch a rope by the length of the text."""
BOUNDS = (1.0, 4.0)
"""`low_freq_factor` and `high_freq_factor` of every Llama that has them."""


def scaling(said: Said, factors: Sequence[float] | None, *, head_dim: int, theta: float) -> dict[str, Any]:
    """Return `rope_scaling`, or nothing where the rope is plain.

    Args:
        said: What the file says.
        factors: By which each frequency is divided, where the file has a tensor of them.
        head_dim: Channels of a head.
        theta: The base.

    Raises:
        ConfigError: If it is stretched in a way that config.json has no words for.
    """
    kind = said.get("rope.scaling.type", "linear" if "rope.scale_linear" in said else "none")
    factor = said.get("rope.scaling.factor", said.get("rope.scale_linear", 1.0))
    if factors is not None:
        if kind != "none" and factor not in (0.0, 1.0):
            raise unknown(said, f"{kind} scaling and a tensor of factors")
        return {"rope_scaling": _of_factors(said, factors, head_dim=head_dim, theta=theta)}
    if kind == "none" or (kind == "linear" and factor in (0.0, 1.0)):
        return {}
    if kind == "linear":
        return {"rope_scaling": {"rope_type": "linear", "factor": factor}}
    if kind != "yarn":
        raise unknown(said, f"{kind!r:.40}")
    stretched = {"rope_type": "yarn", "factor": factor}
    for key, ours in OF_YARN.items():
        if (value := said.get(key)) is not None:
            stretched[ours] = value
    return {"rope_scaling": stretched}


def said_of(rope: Mapping[str, Any], head_dim: int) -> tuple[dict[str, Any], list[float] | None]:
    """Return the keys that say how a rope is stretched, and the factors of it that are a tensor; the way back of `scaling`.

    Of a rope that has neither nothing is returned.

    Args:
        rope: `rope_type`, `rope_theta` and its own parameters, as in config.json.
        head_dim: Channels of a head.
    """
    kind = rope["rope_type"]
    if kind == "llama3":
        found = (rope["factor"], rope["original_max_position_embeddings"])
        return {}, _llama3(rope["rope_theta"], head_dim, *found)
    if kind not in ("linear", "yarn"):
        return {}, None
    keys = {"rope.scaling.type": kind, "rope.scaling.factor": float(rope["factor"])}
    if kind == "yarn":
        keys |= {key: rope[ours] for key, ours in OF_YARN.items() if rope.get(ours) is not None}
    return keys, None


def _of_factors(
    said: Said, factors: Sequence[float], *, head_dim: int, theta: float
) -> Mapping[str, Any] | None:
    """Return the numbers from which the factors follow, as llama.cpp's converter computes them."""
    if all(factor == 1 for factor in factors):
        return None
    low, high = BOUNDS
    if 2 * len(factors) != head_dim or not theta > 0 or not all(0 < factor < math.inf for factor in factors):
        raise unknown(said, f"{len(factors)} factors in {FACTORS} for heads of {head_dim}")
    for original in (2**power for power in range(4, 24)):
        wanted = _llama3(theta, head_dim, factor := max(factors), original)
        if all(map(_close, wanted, factors)):
            found = {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
            }
            return found | {"original_max_position_embeddings": original}
    raise unknown(said, f"{len(factors)} factors up to {max(factors):g} in {FACTORS}")


def _llama3(theta: float, head_dim: int, factor: float, original: int) -> list[float]:
    low, high = BOUNDS

    def stretched(wavelength: float) -> float:
        if wavelength < original / high:
            return 1.0
        if wavelength > original / low:
            return factor
        smooth = (original / wavelength - low) / (high - low)
        return 1 / ((1 - smooth) / factor + smooth)

    return [stretched(2 * math.pi * theta ** (channel / head_dim)) for channel in range(0, head_dim, 2)]


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-4)


def unknown(said: Said, found: str) -> ConfigError:
    """Make the error for a rope that config.json has no words for."""
    return ConfigError(
        "the rope of the model is stretched in a way that the file does not say in full",
        where=f"{said.where}: {said.prefix}rope",
        expected="linear, yarn, or the factors of Llama 3.1",
        found=found,
        hint="load the model's own repository, or pass the configuration that it has there as config=",
    )
