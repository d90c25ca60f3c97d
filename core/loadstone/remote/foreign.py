"""Configurations whose class is not ours: the engine's view of them, and their own objects made from it."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

from loadstone.config import Config
from loadstone.errors import ConfigError


class ForeignConfig(Config):
    """What the engine knows of a configuration of another library's kind (transformers' `PretrainedConfig`).

    It holds what config.json and the caller say; what the other class makes of that, its defaults included, is `made()`.

    Attributes:
        theirs: The other class, which has `from_dict` and `to_dict`.
    """

    theirs: ClassVar[type]

    def made(self) -> Any:
        """Return an object of the other class that says the same.

        Raises:
            ConfigError: If that class refuses it.
        """
        try:
            found = self.theirs.from_dict(self.to_dict())  # type: ignore[attr-defined]
        except Exception as error:
            raise ConfigError(
                f"the checkpoint's own {self.theirs.__name__} cannot be made from its config.json",
                where=self.name_or_path or None,
                found=f"{type(error).__name__}: {error}",
                hint="it may be written for another version of the library that it stands on",
            ) from error
        found.name_or_path = self.name_or_path
        return found

    def __contains__(self, name: str) -> bool:
        return super().__contains__(name) or hasattr(self.made(), name)


_made: weakref.WeakValueDictionary[int, type[ForeignConfig]] = weakref.WeakValueDictionary()
"""The id of another library's class -> what was made for it, which holds that class."""


def foreign_class(theirs: type) -> type[ForeignConfig]:
    """Return the class of the engine's configurations for another library's class; the same for the same.

    Raises:
        ConfigError: If that is no class of configurations.
    """
    if (found := _made.get(id(theirs))) is not None:
        return found
    if not all(callable(getattr(theirs, name, None)) for name in ("from_dict", "to_dict")):
        raise ConfigError(
            f"{theirs.__name__} is no class of configurations",
            where=theirs.__module__,
            expected="a subclass of loadstone.Config, or of transformers.PretrainedConfig",
        )
    described = {
        "__module__": __name__,
        "__doc__": f"The engine's view of {theirs.__name__}.",
        "theirs": theirs,
        "model_type": str(getattr(theirs, "model_type", "") or ""),
    }
    made: type[ForeignConfig] = type(theirs.__name__, (ForeignConfig,), described)
    _made[id(theirs)] = made
    return made


def as_config(said: object) -> Config | None:
    """Return the engine's configuration for what a caller passes as one: ours as it is, another library's as foreign."""
    if isinstance(said, Config):
        return said
    if isinstance(said, str) or not callable(getattr(said, "to_dict", None)):
        return None
    made = foreign_class(type(said)).from_dict(said.to_dict())  # type: ignore[attr-defined]
    made.name_or_path = str(getattr(said, "name_or_path", "") or "")
    return made
