"""Finding config.json and making the configuration that its `model_type` asks for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from loadstone.architectures import Architecture, architecture_for, architecture_of
from loadstone.arguments import parse_arguments, split_rest
from loadstone.checkpoint.absent import adapter_alone
from loadstone.checkpoint.switch import settle
from loadstone.config import CONFIG_NAME, Config, parse_config_json
from loadstone.errors import ConfigError
from loadstone.source import Snapshot, resolve
from loadstone.source.snapshot import summary

Name = str | os.PathLike[str]


def load_config(pretrained_model_name_or_path: Name, **arguments: Any) -> Config:
    """Load a configuration; `AutoConfig.from_pretrained` tells the arguments and errors."""
    given, rest = parse_arguments(arguments)
    config = read_config(settle(resolve(pretrained_model_name_or_path, **given.source())))
    fields, _ = split_rest(rest, config=config, head=architecture_of(config).heads[0])
    config.update(fields)
    if given.dtype not in (None, "auto"):
        config.update({"dtype": given.dtype})
    config._attn_implementation = given.attn_implementation
    return config


def config_values(name: Name, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a parsed config.json, and the arguments that do not say where it is; `Config.get_config_dict` tells them."""
    given, _ = parse_arguments(arguments)
    where = given.source()
    rest = {name: value for name, value in arguments.items() if name not in where}
    return read_values(settle(resolve(name, **where))), rest


def read_config(snapshot: Snapshot) -> Config:
    """Return the typed configuration of a snapshot.

    Raises:
        ConfigError: If config.json is absent, not JSON, of no known model type, or of wrong types.
    """
    where = f"{snapshot.location}/{CONFIG_NAME}"
    values = read_values(snapshot)
    model_type = values.get("model_type")
    if not isinstance(model_type, str):
        raise ConfigError(
            "config.json does not say what kind of model this is",
            where=where,
            expected='"model_type", e.g. "llama"',
            found=f"keys {', '.join(sorted(values)[:6])}" if model_type is None else repr(model_type),
            hint="add the model_type, or pass config=",
        )
    config = _architecture(model_type, values, where=where).config.from_dict(values, where=where)
    config.name_or_path = snapshot.location
    return config


def read_values(snapshot: Snapshot) -> dict[str, Any]:
    """Return the parsed config.json of a snapshot.

    Raises:
        ConfigError: If it is absent or not JSON.
    """
    if not snapshot.has(CONFIG_NAME):
        raise adapter_alone(snapshot.files, [CONFIG_NAME], where=snapshot.location) or ConfigError(
            "there is no config.json",
            where=snapshot.location,
            found=summary(snapshot.files),
            hint="name the folder or repository that holds config.json, or pass subfolder= or config=",
        )
    return parse_config_json(snapshot.read_text(CONFIG_NAME), where=f"{snapshot.location}/{CONFIG_NAME}")


def _architecture(model_type: str, values: Mapping[str, Any], *, where: object) -> Architecture:
    try:
        return architecture_for(model_type)
    except ConfigError as error:
        hint = error.hint
        if "auto_map" in values:
            hint = (
                "the checkpoint brings code of its own, which is never run; a plugin can add the model type"
            )
        raise ConfigError(error.what, where=where, expected=error.expected, hint=hint) from error
