"""A configuration as a file: where it is read from, what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Self

from loadstone.config.fields import Typed
from loadstone.config.json_text import parse_json
from loadstone.errors import ArgumentError, ConfigError
from loadstone.plugins import load_attribute

CONFIG_NAME = "config.json"

# Saving stands above configurations, and is named here as plugins name what is theirs.
CODE = "loadstone.save.code:code_of_config"

MAX_VALUES = 400_000
"""Values that a file of settings may hold."""


class InFile(Typed):
    """What a configuration has because there are files of it."""

    _location: str = ""
    _auto_class: ClassVar[str | None] = None

    @classmethod
    def from_json_file(cls, json_file: str | Path) -> Self:
        """Return the configuration of a file, whatever its name.

        Raises:
            ConfigError: If it cannot be read, or is not what this class takes.
        """
        try:
            text = Path(json_file).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ConfigError("the configuration cannot be read", where=json_file, found=error) from error
        return cls.from_dict(parse_config_json(text, where=json_file), where=json_file)

    @property
    def name_or_path(self) -> str:
        """Where the configuration was loaded from; "" for one that was made in code. It is not saved."""
        return self._location or str(self._values.get("name_or_path") or "")

    @name_or_path.setter
    def name_or_path(self, name: str | Path) -> None:
        object.__setattr__(self, "_location", str(name))

    _name_or_path = name_or_path  # so TRL asks for it, to load a reference from there

    def to_json_string(self) -> str:
        """Return the text of config.json, keys sorted, as transformers writes it."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, default=str) + "\n"

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write `config.json` into a folder, which is made where absent. No key is lost.

        With it goes the code of a class that `register_for_auto_class` shares.

        Raises:
            ArgumentError: If that code lies in no file.
        """
        config = self
        code = load_attribute(CODE)(self) if getattr(self, "_auto_class", None) else None
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        if code is not None:
            for name, content in code.files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            config = type(self).from_dict(self._values | {"auto_map": dict(code.auto_map)})
        (folder / CONFIG_NAME).write_text(config.to_json_string(), encoding="utf-8")

    @classmethod
    def register_for_auto_class(cls, auto_class: str | type = "AutoConfig") -> None:
        """Let saves write the code of this class beside config.json, whose `auto_map` then names it.

        Args:
            auto_class: "AutoConfig"; there is no other.

        Raises:
            ArgumentError: If it is another.
        """
        name = auto_class if isinstance(auto_class, str) else auto_class.__name__
        if name != "AutoConfig":
            raise ArgumentError(
                f"{cls.__name__} is a class of configurations",
                expected="AutoConfig",
                found=name,
                hint="leave the argument out",
            )
        cls._auto_class = name


def parse_config_json(text: str, *, where: object) -> dict[str, Any]:
    """Parse the text of a config.json.

    Raises:
        ConfigError: If it is not JSON, not an object, holds more than `MAX_VALUES` values, or is nested too deeply.
    """
    try:
        values = parse_json(text, most=MAX_VALUES)
    except ValueError as error:
        raise ConfigError(
            "a configuration is not valid JSON"
            if isinstance(error, json.JSONDecodeError)
            else "a configuration is none that a model can have",
            where=where,
            found=str(error) if text else "an empty file",
            hint="fetch the file again, or correct it",
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(
            "a configuration is not a JSON object",
            where=where,
            expected='an object, e.g. {"model_type": "llama"}',
            found=type(values).__name__,
            hint="fetch the file again, or correct it",
        )
    return values
