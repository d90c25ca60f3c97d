"""Running trusted code: this module is the package in which every module of it lives.

`loadstone.remote.modules.org__name_1a2b3c4d.c<commit>.modeling_mine` is a module of one commit of one repository, and
`...folder_1a2b3c4d.d<digest>...` one of a folder as it was: two revisions live side by side, and a changed file is another
module. The files lie in a folder of this user's (`LOADSTONE_CODE_CACHE`, else `loadstone/code` in `HF_HOME`), so that a process
that unpickles an object finds its class again. What is compiled is what was read and trusted: a file is held against its digest
in the moment in which it is run, and no compiled copy of it is written or read.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType

from loadstone.errors import (
    ChangedFileError,
    ConfigError,
    LoadstoneError,
    MissingFrameworkError,
    SourceError,
    nearest,
)
from loadstone.remote.code import Code
from loadstone.remote.references import Reference

__path__: list[str] = []

LISTING = ".files.json"
"""Beside the files of one package: their digests."""

_digests: dict[str, dict[str, str]] = {}
"""Package -> name of a file -> the SHA-256 of what was trusted, in this process."""


def cache_folder() -> Path:
    """Return the folder in which trusted code lies."""
    if said := os.environ.get("LOADSTONE_CODE_CACHE"):
        return Path(said).expanduser()
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "loadstone" / "code"


def package_of(code: Code) -> str:
    """Return the name of the package in which some code is imported."""
    where = code.location if code.commit else os.path.basename(os.path.normpath(code.location))
    readable = re.sub(r"[^0-9A-Za-z]+", "_", where.replace("/", "__")).strip("_") or "folder"
    number = hashlib.sha256(code.location.encode()).hexdigest()[:8]
    version = f"c{code.commit}" if code.commit else f"d{code.digest[:40]}"
    return f"{__name__}.{'r' if readable[0].isdigit() else ''}{readable[:60]}_{number}.{version}"


def load_class(code: Code, reference: Reference) -> type:
    """Import the class that an `auto_map` names; `code` is trusted.

    Raises:
        MissingFrameworkError: If the code imports a package that is not installed.
        ConfigError: If there is no such class, or the code fails when it is imported.
        ChangedFileError: If a file in the cache is not the one that was trusted.
        SourceError: If the cache cannot be written.
    """
    package = package_of(code)
    _write(code, package)
    return _class(package, reference, f"{code.location}: {reference.module}")


def class_beside(module: str, reference: Reference, *, where: object) -> type:
    """Return a class of code of which a module has been imported. Raises as `load_class` does."""
    package = ".".join(module.split(".")[: __name__.count(".") + 3])
    return _class(package, reference, f"{where}: {reference.module}")


def _class(package: str, reference: Reference, where: str) -> type:
    try:
        module = importlib.import_module(f"{package}.{reference.module}")
    except LoadstoneError:
        raise
    except ModuleNotFoundError as error:
        raise _lacking(error, where, package) from error
    except Exception as error:
        raise ConfigError(
            "the checkpoint's own code fails when it is imported",
            where=where,
            found=f"{type(error).__name__}: {error}",
            hint="the traceback above tells where; it may be written for another version of what it imports",
        ) from error
    found = getattr(module, reference.name, None)
    if not isinstance(found, type):
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        raise ConfigError(
            f"the checkpoint's own code has no class {reference.name}, which config.json's auto_map names",
            where=where,
            found=", ".join(sorted(classes)[:8]) or "no class",
            hint=nearest(reference.name, classes) or "correct config.json's auto_map",
        )
    return found


def _lacking(error: ModuleNotFoundError, where: str, package: str) -> LoadstoneError:
    """Tell a module that is not there: somebody's package, or a file of the code itself."""
    name = str(error.name)
    if name.startswith(package):
        return ConfigError(
            f"the checkpoint's own code imports a module that its repository lacks: {name.removeprefix(package)[1:]!r}",
            where=where,
            hint="fetch the repository again, with all of its code",
        )
    top = name.partition(".")[0]
    return MissingFrameworkError(
        f"the checkpoint's own code stands on {top}, which is not installed",
        where=where,
        expected=f"the module {name}",
        hint="pip install transformers"
        if top == "transformers"
        else "install what brings that module, if you know it: the name is the code's own",
    )


def _write(code: Code, package: str) -> None:
    """Put the files of trusted code where its modules are imported from, and remember what they are."""
    wanted = {name: hashlib.sha256(content).hexdigest() for name, content in code.files.items()}
    known = _digests.setdefault(package, {})
    folder = _folder(package)
    if wanted.items() <= known.items() and all((folder / name).exists() for name in wanted):
        return
    try:
        for name, content in code.files.items():
            _replace(folder / name, content)
        listed = {**_listing(folder), **wanted}
        _replace(folder / LISTING, json.dumps(listed, indent=1, sort_keys=True).encode())
    except OSError as error:
        raise SourceError(
            "the cache of trusted code cannot be written",
            where=error.filename or folder,
            found=error.strerror or error,
            hint="choose another folder with LOADSTONE_CODE_CACHE",
        ) from error
    known.update(wanted)


def _replace(path: Path, content: bytes) -> None:
    """Write a file in one move, unless it is there already with this content."""
    with contextlib.suppress(OSError):
        if not path.is_symlink() and path.read_bytes() == content:
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    fresh.write_bytes(content)
    fresh.replace(path)


def _folder(package: str) -> Path:
    return cache_folder().joinpath(*package.removeprefix(f"{__name__}.").split("."))


def _listing(folder: Path) -> dict[str, str]:
    """Return the digests that lie beside the files of a package."""
    try:
        found = json.loads((folder / LISTING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of trusted code, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return where a module of trusted code is; None for any other."""
        if not fullname.startswith(f"{__name__}."):
            return None
        parts = fullname.removeprefix(f"{__name__}.").split(".")
        package, inner = ".".join([__name__, *parts[:2]]), "/".join(parts[2:])
        if len(parts) == 1:
            return _spec(fullname, _Loader(package, "", is_package=True))
        digests = _digests.get(package) or _listing(_folder(package))
        for name in (f"{inner}.py", f"{inner}/__init__.py".lstrip("/")):
            if name in digests:
                return _spec(fullname, _Loader(package, name, is_package=name.endswith("__init__.py")))
        start = f"{inner}/" if inner else ""
        if digests and any(name.startswith(start) for name in digests):
            return _spec(fullname, _Loader(package, "", is_package=True))
        return None


def _spec(fullname: str, loader: _Loader) -> importlib.machinery.ModuleSpec:
    spec = importlib.machinery.ModuleSpec(
        fullname, loader, origin=loader.get_filename(fullname) or None, is_package=loader.is_package(fullname)
    )
    spec.has_location = spec.origin is not None
    return spec


class _Loader(importlib.abc.InspectLoader):
    """Compiles one file of trusted code, once it has been held against its digest."""

    def __init__(self, package: str, name: str, *, is_package: bool) -> None:
        self._package, self._name, self._is_package = package, name, is_package

    def is_package(self, fullname: str) -> bool:
        return self._is_package

    def get_filename(self, fullname: str) -> str:
        return str(_folder(self._package) / self._name) if self._name else ""

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self.content()) if self._name else ""

    def get_code(self, fullname: str) -> CodeType:
        return compile(
            self.content() if self._name else b"",
            self.get_filename(fullname) or fullname,
            "exec",
            dont_inherit=True,
        )

    def content(self) -> bytes:
        """Return the file's content, if it is what was trusted."""
        path = _folder(self._package) / self._name
        digests = _digests.get(self._package) or _listing(_folder(self._package))
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != digests.get(self._name):
            raise ChangedFileError(
                "a file of trusted code is not what it was when it was trusted",
                where=path,
                expected=f"sha256:{digests.get(self._name)}",
                found=f"sha256:{hashlib.sha256(content).hexdigest()}",
                hint="delete that folder, and load the checkpoint again",
            )
        return content


def is_own(cls: type) -> bool:
    """Return whether a class is of code that came with a checkpoint."""
    return cls.__module__.startswith(f"{__name__}.")


def name_within(cls: type) -> str:
    """Return the name of the module of a class that came with a checkpoint, as the `auto_map` has it."""
    return ".".join(cls.__module__.split(".")[__name__.count(".") + 3 :])


def files_beside(cls: type) -> Mapping[str, bytes]:
    """Return the files of the code that a class came with, as they were trusted; none for any other class.

    Raises:
        ChangedFileError: If one is no longer what was trusted.
    """
    if not is_own(cls):
        return {}
    package = ".".join(cls.__module__.split(".")[: __name__.count(".") + 3])
    listed = _digests.get(package) or _listing(_folder(package))
    return {name: _Loader(package, name, is_package=False).content() for name in sorted(listed)}


def beside(module: str) -> Mapping[str, ModuleType]:
    """Return the modules of the same code that have been imported, by name; none for a module that is no such code."""
    parts = module.removeprefix(f"{__name__}.").split(".")
    if not module.startswith(f"{__name__}.") or len(parts) < 3:
        return {}
    start = ".".join([__name__, *parts[:2], ""])
    return {name: found for name, found in list(sys.modules.items()) if name.startswith(start)}


sys.meta_path.insert(0, _Finder())
