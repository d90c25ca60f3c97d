"""What config.json's `auto_map` names: a class in a module of this repository, or of another one."""

from __future__ import annotations

import dataclasses
import keyword
import re
from collections.abc import Mapping

from loadstone.errors import ConfigError, shown
from loadstone.source.hub import is_repository_id

AUTO_CLASS = re.compile(r"[A-Z]?[A-Za-z]{0,20}?Auto(Config|Model[A-Za-z0-9]*)")
"""A key that names a configuration or a model; others name tokenizers and processors, whose code is not run here."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One class that an `auto_map` names.

    Attributes:
        key: The Auto class that it is for, e.g. "AutoModelForCausalLM".
        repository: Id of the repository that holds the module; "" for the checkpoint's own.
        module: The module, dots between folders, e.g. "modeling_mine".
        name: The class.
    """

    key: str
    repository: str
    module: str
    name: str


def references(auto_map: object, *, where: object) -> dict[str, Reference]:
    """Return Auto class -> what an `auto_map` names for it; tokenizers and their like are left out.

    Raises:
        ConfigError: If a name is none of a class in a module. Nothing is looked up: `os.system` is a class `system` in a file
            `os.py` of the repository.

    Example:
        >>> references({"AutoConfig": "configuration_mine.MineConfig"}, where="")["AutoConfig"].module
        'configuration_mine'
    """
    if not isinstance(auto_map, Mapping):
        return {}
    return {
        key: _reference(key, said, where=where)
        for key, said in auto_map.items()
        if isinstance(key, str) and AUTO_CLASS.fullmatch(key)
    }


def _reference(key: str, said: object, *, where: object) -> Reference:
    text = said if isinstance(said, str) else ""
    repository, other, path = text.rpartition("--")
    *module, name = path.split(".")
    plain = all(part.isidentifier() and not keyword.iskeyword(part) for part in (*module, name))
    if module and plain and (not other or is_repository_id(repository)):
        return Reference(key=key, repository=repository, module=".".join(module), name=name)
    raise ConfigError(
        "config.json's auto_map names no class in a module of a repository",
        where=f"{where}: auto_map: {key}",
        expected='e.g. "modeling_mine.MineModel", or "org/name--modeling_mine.MineModel"',
        found=shown(said),
        hint="correct config.json; if you did not write it, do not trust that checkpoint",
    )
