"""The code that goes with a model: of a class that was made to be shared, or that came with a checkpoint itself."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loadstone import plugins
from loadstone.config import Config
from loadstone.errors import ArgumentError, ConfigError, logger_of
from loadstone.remote.code import gather
from loadstone.remote.modules import files_beside, is_own, name_within
from loadstone.remote.references import references
from loadstone.source import SourceFile
from loadstone.source.local import FolderSnapshot, find_file

logger = logger_of(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SharedCode:
    """Code that is saved beside weights.

    Attributes:
        files: Name -> content.
        auto_map: Auto class -> "module.Class", as config.json has it; None: it stays as it is.
    """

    files: Mapping[str, bytes]
    auto_map: Mapping[str, Any] | None = None


NO_CODE = SharedCode(files={})


def code_of_model(model: Any) -> SharedCode:
    """Return the code of a model's class and of its configuration's, where the class is to be shared or came with code.

    Raises:
        ArgumentError: If the code lies in no file that could be copied, or leads out of its folder.
    """
    cls, config_class = type(model), _class_of(model.config)
    key = shared_as(cls)
    if key is None:
        return _that_came(cls, config_class, model.config)
    classes = {f"{plugins.class_prefix_of(model.backend_name)}{key}": cls}
    if not _is_a_librarys(config_class) and model.config.model_type not in plugins.claims_of("architecture"):
        classes = {"AutoConfig": config_class, **classes}
    return _shared(classes, model.config)


def code_of_config(config: Config) -> SharedCode:
    """Return the code of a configuration's class, where that is to be shared. Raises as `code_of_model` does."""
    cls = type(config)
    return NO_CODE if shared_as(cls) is None else _shared({"AutoConfig": cls}, config)


def shared_as(cls: type) -> str | None:
    """Return the Auto class that `register_for_auto_class` named for a class; None for none."""
    found: str | None = getattr(cls, "_auto_class", None)
    return found


def _class_of(config: Any) -> type:
    """Return the class that made a configuration, in whatever library."""
    return getattr(config, "theirs", type(config))


def _is_a_librarys(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in ("loadstone", "transformers") and not is_own(cls)


def _that_came(cls: type, config_class: type, config: Any) -> SharedCode:
    """Return the code of classes that came with a checkpoint, and its `auto_map` without the repository that it was in."""
    files: dict[str, bytes] = {}
    for made in (config_class, cls):
        _add(files, files_beside(made), made)
    if not any(name.endswith(".py") for name in files):
        return NO_CODE
    auto_map = dict(config.to_dict().get("auto_map") or {})
    named = references(auto_map, where=cls.__module__)
    homes = {one.repository for one in named.values() if any(map(_is_named(one), (cls, config_class)))}
    for key, one in named.items():
        if one.repository in homes:
            auto_map[key] = f"{one.module}.{one.name}"
    return SharedCode(files=files, auto_map=auto_map)


def _is_named(one: Any) -> Any:
    return lambda cls: is_own(cls) and (name_within(cls), cls.__name__) == (one.module, one.name)


def _shared(classes: Mapping[str, type], config: Any) -> SharedCode:
    """Return the code of classes by their keys, with what that imports from beside it."""
    files: dict[str, bytes] = {}
    for cls in classes.values():
        _add(files, _files_of(cls), cls)
    if below := [name for name in files if "/" in name and name.endswith(".py")]:
        logger.warning(
            "transformers reads the code of one folder alone, and %s lies in a folder below it", below[0]
        )
    before = config.to_dict().get("auto_map") or {}
    named = {key: f"{_module_of(cls)}.{cls.__name__}" for key, cls in classes.items()}
    return SharedCode(files=files, auto_map={**before, **named})


def _add(files: dict[str, bytes], more: Mapping[str, bytes], cls: type) -> None:
    """Add the files of a class to others.

    Raises:
        ArgumentError: If one has the name of another, and says something else.
    """
    for name, content in more.items():
        if files.setdefault(name, content) != content:
            raise ArgumentError(
                f"the code of {cls.__name__} and of its configuration has two files {name}",
                where=cls.__module__,
                hint="give one of the modules another name, or put both classes into one folder",
            )


def _module_of(cls: type) -> str:
    return name_within(cls) if is_own(cls) else cls.__module__.rpartition(".")[2]


def _files_of(cls: type) -> Mapping[str, bytes]:
    """Return the file of a class and those that it imports from beside it, by their names below its folder."""
    if is_own(cls):
        return files_beside(cls)
    path = str(getattr(sys.modules.get(cls.__module__), "__file__", None) or "")
    in_file = path.endswith(".py") and not path.endswith("__init__.py")
    if cls.__module__ == "__main__" or not in_file or "<locals>" in cls.__qualname__:
        raise ArgumentError(
            f"the code of {cls.__name__} cannot be saved: it lies in no module that others could import",
            where=f"{cls.__module__}.{cls.__qualname__}",
            expected="a class of a module that has a file of its own",
            hint="put the class into a file such as modeling_mine.py, and import it from there",
        )
    folder, module = Path(path).parent, Path(path).stem
    snapshot = FolderSnapshot(location=str(folder), commit=None, root=folder, files=_Beside(folder))
    try:
        code = gather(snapshot, [module])
    except ConfigError as error:
        raise ArgumentError(
            f"the code of {cls.__name__} cannot be saved: it imports by a relative import from above its folder",
            where=error.where,
            found=error.found,
            hint="put what goes with the checkpoint into one folder, and import it as from .name import ...",
        ) from error
    top = cls.__module__.partition(".")[0]
    if top in code.imports and top != cls.__module__:
        logger.warning(
            "the code of %s imports %s, which has to be installed where it is loaded", cls.__name__, top
        )
    return code.files


class _Beside(Mapping[str, SourceFile]):
    """The files of a folder, each looked up when it is asked for: a folder of a user's may hold any number."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, name: str) -> SourceFile:
        found = find_file(self.folder, name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0
