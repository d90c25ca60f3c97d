"""The classes of a checkpoint's own: from what its `auto_map` names to classes, where the caller trusts them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from loadstone.errors import ConfigError, SourceError
from loadstone.remote.code import Code, gather
from loadstone.remote.modules import class_beside, load_class
from loadstone.remote.references import Reference, references
from loadstone.remote.trust import NO_TRUST, Trust, check_trusted, untrusted_elsewhere
from loadstone.source import Snapshot, resolve
from loadstone.source.cache import COMMIT
from loadstone.source.local import FolderSnapshot


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """What the caller says of code, and of where it comes from.

    Attributes:
        trust: What may run.
        prefer: Whether it goes before an architecture of ours with the same model type.
        revision: The branch, tag or commit of the checkpoint.
        code_revision: That of the code, where it is another.
        subfolder: Where in the repository the checkpoint lies; its code may lie there or at the top.
        source: What else `resolve` is told: cache, token and the like.
    """

    trust: Trust = NO_TRUST
    prefer: bool = False
    revision: str | None = None
    code_revision: str | None = None
    subfolder: str = ""
    source: Mapping[str, Any] = dataclasses.field(default_factory=dict)


NO_PERMISSION = Permission()
"""Where the caller says nothing."""


class OwnCode:
    """What a checkpoint's `auto_map` names. Nothing is read before a class is asked for, and nothing run without trust.

    Args:
        snapshot: The checkpoint.
        named: Auto class -> what is named for it.
        permission: What the caller says.
    """

    def __init__(self, snapshot: Snapshot, named: Mapping[str, Reference], permission: Permission) -> None:
        self.snapshot, self.named, self._permission = snapshot, named, permission
        self._codes: dict[str, Code] = {}

    @classmethod
    def of(cls, values: Mapping[str, Any], snapshot: Snapshot, permission: Permission) -> OwnCode | None:
        """Return what a parsed config.json names; None where it names no configuration and no model.

        Raises:
            ConfigError: If its `auto_map` names something that is no class in a module.
        """
        named = references(values.get("auto_map"), where=f"{snapshot.location}/config.json")
        return cls(snapshot, named, permission) if named else None

    def __deepcopy__(self, memo: object) -> OwnCode:
        return self

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(None), ()  # a configuration that is pickled keeps nothing of what may run

    def load(self, key: str, *, wanted: str) -> type:
        """Import the class for one key of the `auto_map`.

        Args:
            key: One that there is.
            wanted: What needs it, for a message.

        Raises:
            UntrustedCodeError: If the caller does not trust the code.
            ConfigError: If the code is not there, or fails.
            SourceError: If it cannot be fetched.
            MissingFrameworkError: If what it stands on is not installed.
        """
        reference = self.named[key]
        code = self._code(reference.repository, wanted=wanted)
        return load_class(code, reference)

    @property
    def location(self) -> str:
        """The repository or folder of the checkpoint."""
        return self.snapshot.location

    def check(self, *, wanted: str) -> None:
        """Make sure that the code of every repository that is named is trusted, before any of it runs. Raises as `load`."""
        for repository in dict.fromkeys(reference.repository for reference in self.named.values()):
            self._code(repository, wanted=wanted)

    def _code(self, repository: str, *, wanted: str) -> Code:
        if repository == self.snapshot.location:
            repository = ""
        if repository not in self._codes:
            names = [
                r.module for r in self.named.values() if r.repository in (repository, self.snapshot.location)
            ]
            if repository:
                names = [r.module for r in self.named.values() if r.repository == repository]
                code, pinned = self._elsewhere(repository, names, wanted)
            else:
                code, pinned = self._beside(names)
            check_trusted(code, self._permission.trust, pinned=pinned, wanted=wanted)
            if code.missing:
                raise ConfigError(
                    f"{wanted} needs code that the repository lacks",
                    where=code.location,
                    expected=", ".join(code.missing),
                    found=", ".join(code.modules) or "no file of code",
                    hint="fetch the repository again, with its code",
                )
            self._codes[repository] = code
        return self._codes[repository]

    def _beside(self, names: Iterable[str]) -> tuple[Code, bool]:
        """Gather the code that lies in the checkpoint's own repository: of the commit of its configuration and weights."""
        said, snapshot, names = self._permission, self.snapshot, list(names)
        if snapshot.commit is None and not isinstance(snapshot, FolderSnapshot):
            raise SourceError(
                "the checkpoint's code has no commit: what is run must be known",
                where=snapshot.location,
                expected="a source that fixes what it gives at a commit, or a folder of this machine",
                hint="copy the checkpoint into a folder, and load it from there",
            )
        revision = said.revision
        if said.code_revision is not None and snapshot.commit is not None:
            revision = said.code_revision
            snapshot = resolve(
                f"hub://{snapshot.location}", revision=revision, subfolder=said.subfolder, **said.source
            )
        if said.subfolder and not all(_holds(snapshot, name) for name in names):
            snapshot = resolve(snapshot.location, revision=snapshot.commit, **said.source)
        return gather(snapshot, names), bool(COMMIT.fullmatch(revision or ""))

    def _elsewhere(self, repository: str, names: Iterable[str], wanted: str) -> tuple[Code, bool]:
        """Gather code that lies in another repository; without trust in it the Hub is not even asked."""
        said, names = self._permission, list(names)
        trusted = said.trust.everything or any(
            entry.startswith((f"{repository}@", "sha256:")) for entry in said.trust.named
        )
        if not trusted:
            files = [f"{name.replace('.', '/')}.py" for name in names]
            raise untrusted_elsewhere(repository, files, where=self.snapshot.location, wanted=wanted)
        revision = said.code_revision or said.trust.commit_of(repository)
        snapshot = resolve(f"hub://{repository}", revision=revision, **said.source)
        if snapshot.commit is None:
            raise ConfigError("the code's repository has no commit", where=repository)
        return gather(snapshot, names), bool(COMMIT.fullmatch(revision or ""))


class ImportedCode(OwnCode):
    """Code that has run already: the classes beside a configuration class that came with a checkpoint.

    Args:
        config_class: That class.
        auto_map: What its configuration names.
        location: Where it was loaded from, for a message.
    """

    def __init__(self, config_class: type, auto_map: object, location: str) -> None:
        named = references(auto_map, where=location or config_class.__name__)
        self._module, self._location = config_class.__module__, location
        home = named["AutoConfig"].repository if "AutoConfig" in named else ""
        self.named = {key: one for key, one in named.items() if one.repository == home}

    @property
    def location(self) -> str:
        """Where it is from."""
        return self._location

    def load(self, key: str, *, wanted: str) -> type:
        """Return a class beside the configuration's. Raises as `OwnCode.load` does."""
        return class_beside(self._module, self.named[key], where=self._location)


def _holds(snapshot: Snapshot, module: str) -> bool:
    path = module.replace(".", "/")
    return snapshot.has(f"{path}.py") or snapshot.has(f"{path}/__init__.py")
