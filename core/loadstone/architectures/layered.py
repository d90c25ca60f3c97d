"""Decoders whose windowed layers have a rope of their own: both spellings of config.json -> one rope for each kind of layers.

transformers 5 writes `rope_parameters` with a section for each kind; transformers 4 wrote `rope_theta` and `rope_scaling`, which speak of the
full layers alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loadstone.architectures.decoders import FULL, SLIDING, DecoderConfig
from loadstone.architectures.rope import RopeSpec, rope_spec
from loadstone.config import Config, derived
from loadstone.errors import ConfigError


class LayeredConfig(DecoderConfig):
    """What the configurations of these decoders share. Keys and defaults are transformers'."""

    rope_theta: float = derived(lambda config: config.default_theta)
    rope_parameters: dict[str, Any] | None = derived(lambda config: ropes_by_kind(config))
    sliding_window: int | None = 4096

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a key; what transformers 4 says of the rope goes into the section of the full layers where there are sections."""
        held = self._values.get("rope_parameters")
        if held and name in ("rope_theta", "rope_scaling"):
            full = dict(held.get(FULL) or {})
            if name == "rope_theta":
                full["rope_theta"] = value
            else:
                full = {"rope_theta": full.get("rope_theta", self.rope_theta), **(value or {})}
            name, value = "rope_parameters", {**held, FULL: full}
        super().__setattr__(name, value)

    def local_theta(self) -> float:
        """Return the base of the windowed layers where their section does not speak of it."""
        return self.default_theta


def ropes_by_kind(config: Config) -> dict[str, dict[str, Any]]:
    """Return kind of layers -> `rope_type`, `rope_theta` and the type's own parameters.

    Raises:
        ConfigError: If `rope_parameters` has no sections.
    """
    said: Mapping[str, Any] = config.held("rope_parameters") or {}
    if not {SLIDING, FULL}.issuperset(said):
        raise ConfigError(
            "the layers have two ropes, and rope_parameters speaks of one",
            where="rope_parameters",
            expected=f"a section for {FULL!r} and one for {SLIDING!r}",
            found=sorted(said),
            hint="nest the parameters in config.json, or give the full layers' as rope_theta and rope_scaling",
        )
    thetas = {FULL: config.rope_theta, SLIDING: config.local_theta()}
    scaling = {FULL: config.rope_scaling or {}, SLIDING: {}}
    return {
        kind: _parameters({**(said.get(kind) or {}), **scaling[kind]}, theta)
        for kind, theta in thetas.items()
    }


def _parameters(said: Mapping[str, Any], theta: float) -> dict[str, Any]:
    given = {key: value for key, value in said.items() if value is not None}
    old = given.pop("type", None)
    return {"rope_type": old or "default", "rope_theta": theta, **given}


def layer_ropes(config: Config) -> list[RopeSpec]:
    """Return each layer's rope, from its type; call it when the types are known to fit."""
    by_kind = ropes_by_kind(config)
    ropes = {
        kind: rope_spec(config, head_dim=config.head_dim, parameters=by_kind[kind])
        for kind in {*config.layer_types}
    }
    return [ropes[kind] for kind in config.layer_types]


def every(num_layers: int, interval: int) -> list[str]:
    """Return layer types of which every so many-th is full, and the others are windowed.

    Raises:
        ConfigError: If the interval is zero.
    """
    if not interval:
        raise ConfigError(
            "there is no interval between full layers",
            where="sliding_window_pattern",
            expected="a number of layers",
            found=interval,
            hint="correct config.json, or say of each layer what it is, as layer_types",
        )
    return [SLIDING if (layer + 1) % interval else FULL for layer in range(num_layers)]
