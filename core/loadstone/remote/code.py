"""Gathering the files that an `auto_map` leads to: read once, as bytes, and never run here."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from loadstone.checkpoint.formats.names import ENDINGS
from loadstone.errors import ConfigError, SourceError, human_bytes
from loadstone.source import Snapshot, safe_name
from loadstone.source.cache import RepositoryCache
from loadstone.source.local_file import read_whole

LARGEST = 2_000_000
"""Bytes of a file of code, or of one that it reads beside it."""

MOST = 300
"""Files of a repository's code."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """The code of one repository, as it was read.

    Attributes:
        location: The repository, or the folder.
        commit: The commit that it was read from; None for a folder of this machine.
        files: Name -> content: what an `auto_map` names, what that imports from beside it, and the files beside it whose
            names stand in it.
        imports: What it imports from elsewhere: the first part of each module's name, in order.
        absent: Names of modules beside it that it imports and that are not there.
        missing: Names of files that the `auto_map` itself leads to and that are not there.
    """

    location: str
    commit: str | None
    files: Mapping[str, bytes] = dataclasses.field(repr=False)
    imports: tuple[str, ...]
    absent: tuple[str, ...]
    missing: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over the names and contents of all files, in hexadecimal."""
        told = hashlib.sha256()
        for name in sorted(self.files):
            told.update(f"{name}\0{hashlib.sha256(self.files[name]).hexdigest()}\n".encode())
        return told.hexdigest()

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the files that would run."""
        return tuple(name for name in sorted(self.files) if name.endswith(".py"))


def gather(snapshot: Snapshot, modules: Iterable[str]) -> Code:
    """Read the files of some modules and of all that they import from beside them, however they lead to one another.

    Args:
        snapshot: The repository.
        modules: Names of modules in it, dots between folders.

    Raises:
        ConfigError: If one imports from outside of the repository.
        SourceError: If a file cannot be fetched, leads out of the repository by a link, or is too long.
    """
    reader = _Reader(snapshot)
    for module in modules:
        reader.add(module)
    reader.follow()
    return Code(
        location=snapshot.location,
        commit=snapshot.commit,
        files=dict(sorted(reader.files.items())),
        imports=tuple(sorted(reader.imports)),
        absent=tuple(sorted(reader.absent)),
        missing=tuple(reader.missing),
    )


class _Reader:
    """What was read so far, and what is still to be looked at."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.files: dict[str, bytes] = {}
        self.imports: set[str] = set()
        self.absent: set[str] = set()
        self.missing: list[str] = []
        self._pending: list[str] = []

    def add(self, module: str) -> None:
        """Take on a module that an `auto_map` names."""
        if not self._found(module):
            self.missing.append(f"{module.replace('.', '/')}.py")

    def follow(self) -> None:
        """Look through what was taken on, and take on what it imports from beside it."""
        while self._pending:
            name = self._pending.pop()
            tree = parsed(self.files[name], name)
            if tree is not None:
                self._follow(name, tree)

    def _follow(self, name: str, tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self.imports |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                self.imports.add(str(node.module).partition(".")[0])
            elif isinstance(node, ast.ImportFrom):
                self._beside(name, node)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                self._data(name, node.value)

    def _beside(self, name: str, node: ast.ImportFrom) -> None:
        """Take on what one relative import may mean: a module, or modules of a folder."""
        folders = PurePosixPath(name).parent.parts
        if node.level - 1 > len(folders):
            raise ConfigError(
                "the checkpoint's code imports from outside of its repository",
                where=f"{self.snapshot.location}/{name}, line {node.lineno}",
                expected="modules of the repository",
                found=f"from {'.' * node.level}{node.module or ''} import ...",
                hint="do not trust that checkpoint if you did not write it",
            )
        start = [*folders[: len(folders) - node.level + 1], *(node.module or "").split(".")]
        base = ".".join(part for part in start if part)
        found = bool(base) and self._found(base)
        for alias in node.names:
            inner = f"{base}.{alias.name}" if base else alias.name
            found = (alias.name != "*" and self._found(inner)) or found
        if not found:
            self.absent.add(base or ", ".join(alias.name for alias in node.names))

    def _found(self, module: str) -> bool:
        """Take on a module if it is there, with the packages that it lies in."""
        path = module.replace(".", "/")
        found = self._take(f"{path}.py") or self._take(f"{path}/__init__.py")
        if found:
            for folder in PurePosixPath(path).parents:
                if folder.parts:
                    self._take(f"{folder}/__init__.py")
        return found

    def _data(self, name: str, text: str) -> None:
        """Take on a file beside the code whose name stands in it as it is."""
        if not 0 < len(text) < 200 or text.endswith(".py") or "." not in text:
            return
        try:
            path = safe_name(f"{PurePosixPath(name).parent}/{text}", where=name)
        except SourceError:
            return
        file = self.snapshot.files.get(path)
        if file is not None and file.size <= LARGEST and not path.endswith(_NOT_CODE):
            self._take(path)

    def _take(self, name: str) -> bool:
        if name in self.files:
            return True
        if name not in self.snapshot.files:
            return False
        if len(self.files) >= MOST:
            raise ConfigError(
                "the checkpoint's code has too many files",
                where=self.snapshot.location,
                expected=f"at most {MOST}",
                hint="do not trust that checkpoint if you did not write it",
            )
        self.files[name] = read_code(self.snapshot, name)
        if name.endswith(".py"):
            self._pending.append(name)
        return True


_NOT_CODE = (*ENDINGS, "config.json")


def read_code(snapshot: Snapshot, name: str) -> bytes:
    """Return the content of a file of code.

    Raises:
        SourceError: If it cannot be fetched, is longer than `LARGEST`, or is a link that leads out of the repository.
    """
    file = snapshot.file(name)
    if file.size > LARGEST:
        raise SourceError(
            f"'{name}' is too long to be code",
            where=f"{snapshot.location}/{name}",
            expected=f"at most {human_bytes(LARGEST)}",
            found=human_bytes(file.size),
        )
    if snapshot.reads_at_once:  # no link leads anywhere
        return snapshot.read_bytes(name)
    [path] = snapshot.fetch([name]).values()
    _check_inside(snapshot, path)
    return read_whole(path, file.size)


def _check_inside(snapshot: Snapshot, path: Path) -> None:
    """Refuse a link out of the repository: of weights it leads to bytes, of code to what somebody else wrote."""
    if snapshot.root is None or RepositoryCache.around(snapshot.root) is not None:
        return  # links of a download cache have been checked where they were listed
    root, target = os.path.realpath(snapshot.root), os.path.realpath(path)
    if not target.startswith(root + os.sep):
        raise SourceError(
            f"'{path.name}' is a link that leads out of the repository whose code it is",
            where=path,
            expected=f"a file below {root}",
            found=target,
            hint="put the file itself there if you trust it",
        )


def parsed(content: bytes, name: str) -> ast.Module | None:
    """Return a file's syntax, or None where it has none; nothing of it is compiled into code."""
    try:
        return ast.parse(content, filename=f"<read, not run: {name}>")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def told(files: Iterable[str]) -> Iterator[str]:
    """Yield names for a message, at most a few."""
    listed = list(files)
    yield from listed[:8]
    if len(listed) > 8:
        yield f"and {len(listed) - 8} more"
