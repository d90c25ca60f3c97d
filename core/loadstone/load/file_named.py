"""A file in the place of a checkpoint: the path of one that is a model by itself means its folder and its name."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TypeVar

from loadstone.errors import ArgumentError
from loadstone.load.arguments import LoadArguments
from loadstone.source import Name

ENDING = ".gguf"


Named = TypeVar("Named", Name, Name | None)


def with_file_named(name_or_path: Named, given: LoadArguments) -> tuple[Named | Path, LoadArguments]:
    """Return where to look for a checkpoint, and the arguments of the load, which name the file.

    Args:
        name_or_path: What the caller named. A file that needs others beside it stays what it is: its folder is asked for.
        given: What else the caller said.

    Raises:
        ArgumentError: If the caller named two files, or a folder below one.
    """
    path = _file(name_or_path)
    if path is None:
        return name_or_path, given
    said = {"gguf_file": given.gguf_file, "subfolder": given.subfolder}
    if names := [name for name, value in said.items() if value]:
        raise ArgumentError(
            f"the path of a file says already which one is meant, and takes no {names[0]}=",
            where=path,
            found=f"{names[0]}={said[names[0]]!r:.80}",
            hint="leave it out, or pass the folder",
        )
    return path.parent, dataclasses.replace(given, gguf_file=path.name)


def _file(name_or_path: object) -> Path | None:
    """Return the path of a file that is a model by itself."""
    if not isinstance(name_or_path, str | os.PathLike):
        return None
    path = Path(os.path.expanduser(name_or_path))
    return path if path.name.endswith(ENDING) and os.path.isfile(path) else None
