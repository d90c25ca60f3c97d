"""Repositories as the Hub keeps them: commits that never change, and names that point to them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

LFS_SUFFIXES = frozenset({".bin", ".gguf", ".h5", ".msgpack", ".npz", ".onnx", ".pt", ".safetensors"})
LFS_THRESHOLD = 10 * 1024**2
"""Bytes from which the Hub keeps any file out of git."""
HASHED = 1024**3
"""Bytes up to which a file on disk is hashed; a longer one (a sparse one) is identified by name and size."""


GOOD_TOKEN = "hf_loopback"
"""A token that may read and write everything, its owner having accepted all terms. Any other may do neither."""


def kept_as_lfs(path: str, size: int) -> bool:
    """Return whether the Hub keeps a file as LFS: outside git, and outside its own host."""
    return size > 0 and (Path(path).suffix in LFS_SUFFIXES or size > LFS_THRESHOLD)


class Content:
    """The bytes of one file, in memory or on disk."""

    def __init__(self, source: bytes | Path) -> None:
        self.source = source
        self.size = source.stat().st_size if isinstance(source, Path) else len(source)

    def read(self, offset: int, length: int) -> bytes:
        if isinstance(self.source, bytes):
            return self.source[offset : offset + length]
        with open(self.source, "rb") as stream:
            stream.seek(offset)
            return stream.read(length)

    @cached_property
    def sha256(self) -> str:
        if self.size > HASHED:
            return hashlib.sha256(f"{self.source}:{self.size}".encode()).hexdigest()
        digest = hashlib.sha256()
        for offset in range(0, self.size, 1 << 20):
            digest.update(self.read(offset, 1 << 20))
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file of a commit."""

    path: str
    content: Content

    @property
    def lfs(self) -> bool:
        return kept_as_lfs(self.path, self.content.size)

    @property
    def blob_id(self) -> str:
        """The git object id: of the content, or of the pointer that stands for it."""
        data = self.pointer if self.lfs else self.content.read(0, self.content.size)
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def pointer(self) -> bytes:
        """The text that git holds in place of an LFS file."""
        return (
            "version https://git-lfs.github.com/spec/v1\n"
            f"oid sha256:{self.content.sha256}\nsize {self.content.size}\n"
        ).encode()

    @property
    def etag(self) -> str:
        return self.content.sha256 if self.lfs else self.blob_id


@dataclass(slots=True, kw_only=True)
class Repository:
    """One model repository: its commits, branches and tags, and who may see it."""

    name: str
    gated: bool = False
    private: bool = False
    commits: dict[str, dict[str, StoredFile]] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(
        self,
        files: Mapping[str, bytes | Path | Content],
        *,
        branch: str = "main",
        message: str = "Upload",
        delete: Iterable[str] = (),
    ) -> str:
        """Put files on a branch, delete others, and return the new commit."""
        parent = self.branches.get(branch)
        tree = dict(self.commits[parent]) if parent else {}
        for path in delete:
            tree = {
                kept: file for kept, file in tree.items() if kept != path and not kept.startswith(f"{path}/")
            }
        for path, source in files.items():
            content = source if isinstance(source, Content) else Content(source)
            tree[path] = StoredFile(path=path, content=content)
        # As in git, a commit's id follows from its parent, its message and its content.
        described = "\n".join(f"{path} {tree[path].etag}" for path in sorted(tree))
        commit = hashlib.sha1(f"{self.name}\n{parent}\n{message}\n{described}".encode()).hexdigest()
        self.commits[commit] = dict(sorted(tree.items()))
        self.messages[commit] = message
        self.branches[branch] = commit
        return commit

    def resolve(self, revision: str) -> str | None:
        """Return the commit of a branch, a tag, a commit or the beginning of a commit."""
        named = self.branches.get(revision) or self.tags.get(revision)
        if named is not None or not re.fullmatch(r"[0-9a-f]{7,40}", revision):
            return named
        matches = [commit for commit in self.commits if commit.startswith(revision)]
        return matches[0] if len(matches) == 1 else None


def files_below(folder: Path) -> dict[str, bytes | Path]:
    """Return the files of a folder by their names in a repository."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}
