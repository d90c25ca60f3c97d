"""From what a pickle describes to names of tensors: a state dict, or a training checkpoint that holds one deeper."""

from __future__ import annotations

from collections.abc import Iterator

from loadstone.checkpoint.formats.pickle.fault import Place
from loadstone.checkpoint.formats.pickle.values import Other, Table, Tensor, told
from loadstone.errors import shown

MAX_DEPTH = 8
"""Dictionaries in one another in which tensors are looked for."""

MAX_ENTRIES = 400_000
"""Entries that they may have together."""

MAX_NAME = 1_000
"""Characters that the name of a tensor may have."""

State = tuple[dict[str, Tensor], dict[str, str]]
"""Name -> tensor, and the other values of the outermost dictionary as texts."""


def state_of(root: object, place: Place) -> State:
    """Return the tensors of a pickled object. Those of dictionaries inside it are named by their path, `model.weight`.

    Raises:
        CheckpointError: If it is no dictionary of tensors, or larger than one can be.
    """
    if not isinstance(root, Table):
        place.fail(
            "holds no state dict",
            expected="a dictionary: name of a tensor -> the tensor",
            found=told(root),
            hint="save the model's state_dict()",
        )
    tensors: dict[str, Tensor] = {}
    for name, value in _entries(root, place):
        if isinstance(value, Tensor) and tensors.setdefault(name, value) is not value:
            place.fail("names two tensors the same", key=name, expected="each name once", found="twice")
    if not tensors:
        place.fail(
            "holds no tensor",
            expected="a dictionary: name of a tensor -> the tensor",
            found=f"a dictionary of {len(root.pairs):,} other things",
            hint="save the model's state_dict()",
        )
    return tensors, {str(key): text for key, value in root.pairs if (text := _text(key, value)) is not None}


def _entries(root: Table, place: Place) -> Iterator[tuple[str, object]]:
    """Yield path and value of everything in dictionaries and lists, those inside others included."""
    pending: list[tuple[str, object, int]] = [("", root, 0)]
    seen = 0
    while pending:
        path, holder, depth = pending.pop()
        for key, value in _pairs(holder):
            seen += 1
            if depth >= MAX_DEPTH or seen > MAX_ENTRIES:
                place.fail(
                    "describes more than weights can have",
                    expected=f"at most {MAX_ENTRIES:,} entries, {MAX_DEPTH} dictionaries deep",
                    hint="save the model's state_dict() alone",
                )
            if isinstance(value, Tensor):
                yield joined(path, key, place), value
            elif isinstance(value, Table | list | tuple) and value:
                pending.append((joined(path, key, place), value, depth + 1))


def _pairs(holder: object) -> Iterator[tuple[object, object]]:
    if isinstance(holder, Table):
        yield from holder.pairs
    elif isinstance(holder, list | tuple):
        yield from enumerate(holder)


def joined(path: str, key: object, place: Place) -> str:
    """Return the name of an entry below a path.

    Raises:
        CheckpointError: If the key is no text that can name a tensor.
    """
    if type(key) is int and -(2**63) <= key < 2**63:
        key = str(key)
    if not isinstance(key, str):
        place.fail(
            "names a tensor by something that is no text", found=told(key), hint="save it under a text"
        )
    name = f"{path}.{key}" if path else key
    if len(name) > MAX_NAME or not _is_text(name):
        place.fail(
            "names a tensor by something that is no name",
            expected=f"at most {MAX_NAME:,} characters of text",
            found=shown(name[:200]),
            hint="save it under another name",
        )
    return name


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _text(key: object, value: object) -> str | None:
    """Return what is told of a value beside the tensors; None where nothing is."""
    if not isinstance(key, str) or len(key) > MAX_NAME or not _is_text(key):
        return None
    if isinstance(value, str) and _is_text(value):
        return value[:MAX_NAME]
    if isinstance(value, bool | int | float):
        return str(value) if not isinstance(value, int) or abs(value) < 2**64 else None
    return value.what if isinstance(value, Other) else None
