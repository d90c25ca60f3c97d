"""Keys of config.json that change what transformers makes of any model, and that are not followed here."""

from __future__ import annotations

from loadstone.config import Config
from loadstone.errors import ConfigError

# Key -> what transformers does with it.
UNFOLLOWED = {
    "transformers_weights": "reads the weights from the file that it names",
    "per_layer_config": "gives single layers other settings",
    "fusion_config": "computes with other, fused modules",
}


def refuse_unfollowed(config: Config) -> None:
    """Refuse a configuration that says more of the model than is followed here.

    Raises:
        ConfigError: If it holds such a key with a value that changes something; all are named at once.
    """
    said = {name: config.to_dict().get(name) for name in UNFOLLOWED}
    said |= {f"text_config.{name}": (config.text_config or {}).get(name) for name in UNFOLLOWED}
    problems = [
        f"{name}: transformers {UNFOLLOWED[name.removeprefix('text_config.')]}; found {value!r}"
        for name, value in said.items()
        if value and not (isinstance(value, dict) and not any(value.values()))
    ]
    if problems:
        raise ConfigError(
            "the configuration asks for what is not supported",
            where=type(config).__name__,
            problems=problems,
            hint="load the model with transformers, or take the key out of config.json where it changes nothing",
        )
