"""The way to a configuration of a class: from a checkpoint. Its types are in `loading.pyi`, which is generated."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Self

from loadstone.errors import ConfigError
from loadstone.keywords import ConfigArguments, told
from loadstone.plugins import load_attribute

# Loading stands above configurations, and is named here as plugins name what is theirs.
LOAD_CONFIG, CONFIG_VALUES = (
    f"loadstone.load.configuration:{name}" for name in ("load_config", "config_values")
)


class ConfigLoading:
    """Gives a configuration class `from_pretrained` and `get_config_dict`."""

    model_type: ClassVar[str] = ""

    @classmethod
    @told(ConfigArguments)
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **arguments: Any) -> Self:
        """Load a configuration of this class; `AutoConfig.from_pretrained` tells the errors.

        Args:
            pretrained_model_name_or_path: A folder, or a repository on the Hub ("org/name").
            **arguments: Fields of the configuration (`num_labels=3`), which replace the file's. With `return_unused_kwargs=True`
                what is neither a field nor known here comes back beside the configuration, as in transformers.

        Raises:
            ConfigError: If the checkpoint's configuration is of another class.
        """
        load_config = load_attribute(LOAD_CONFIG)
        found: Any = load_config(
            pretrained_model_name_or_path, of_class=cls.model_type or None, config_class=cls, **arguments
        )
        config = found[0] if isinstance(found, tuple) else found
        if not isinstance(config, cls):
            raise ConfigError(
                "the configuration is of another model type",
                where=pretrained_model_name_or_path,
                expected=cls.__name__,
                found=type(config).__name__,
                hint="load it with AutoConfig.from_pretrained",
            )
        return found  # type: ignore[no-any-return]

    @classmethod
    @told(ConfigArguments)
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **arguments: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what a checkpoint's config.json holds, and the arguments that do not say where it is.

        Args:
            pretrained_model_name_or_path: A folder, or a repository on the Hub ("org/name").
            **arguments: Whatever else; it comes back.

        Raises:
            SourceError: If the folder or repository cannot be found.
            ConfigError: If there is no config.json, or it is not JSON.
        """
        found: tuple[dict[str, Any], dict[str, Any]]
        found = load_attribute(CONFIG_VALUES)(pretrained_model_name_or_path, arguments)
        return found
