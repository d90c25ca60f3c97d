"""Names of files inside a checkpoint: relative, below its root, spelled one way."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

from loadstone.errors import SourceError


def safe_name(name: str, *, where: object) -> str:
    r"""Return the one spelling of a file's name, or refuse a name that could leave the checkpoint.

    Args:
        name: A name from a listing, from a shard index, or from the caller.
        where: The file, repository or argument in which the name stands, for the message.

    Returns:
        The name as a relative POSIX path without empty or `.` parts.

    Raises:
        SourceError: The name is empty or absolute, climbs with `..`, or holds a backslash, a drive letter,
            a control character or half of a surrogate pair.

    Example:
        >>> safe_name("./text//config.json", where="the index of the shards")
        'text/config.json'
    """
    fault = _fault(name)
    if fault is not None:
        raise SourceError(
            f"a file name is refused: {fault}",
            where=where,
            expected="a relative name below the checkpoint's folder, such as 'text/config.json'",
            found=f"{name!r:.80}",
            hint="correct the name; if it stands in a file that you did not write, do not trust that checkpoint",
        )
    return str(PurePosixPath(name))


def _fault(name: object) -> str | None:
    """Say what makes a name unsafe, or None."""
    if not isinstance(name, str):
        return f"a name is text, and this is a {type(name).__name__}"
    # Controls (DEL among them), halves of surrogate pairs, and what ends a line or a paragraph.
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        return "it holds a control character or half of a surrogate pair"
    path = PurePosixPath(name)
    if not path.parts:
        return "it names no file"
    if path.is_absolute() or PureWindowsPath(name).anchor:
        return "it is absolute"
    if "\\" in name:
        return "it holds a backslash, which some systems read as a folder"
    if ".." in path.parts:
        return "it climbs out of its folder"
    return None
