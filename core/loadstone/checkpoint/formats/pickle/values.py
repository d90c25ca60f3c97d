"""What a pickle of weights is read into: records that do nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from loadstone.checkpoint.formats.pickle.fault import Place


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """The bytes that one or several tensors lie in.

    Attributes:
        dtype: Canonical dtype of its numbers; None where we have none; "" for bytes of any.
        itemsize: Bytes of one number.
        key: Its name in the file.
        count: How many numbers it has.
        start: How many come before its first one, where it is a part of the one that is in the file.
        of: How many numbers that one has; -1 where it is the whole.
    """

    dtype: str | None
    itemsize: int
    key: str
    count: int
    start: int = 0
    of: int = -1

    @property
    def whole(self) -> int:
        """How many numbers the storage that is in the file has."""
        return self.count if self.of < 0 else self.of


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A view of a storage.

    Attributes:
        storage: Where its numbers lie.
        dtype: Canonical dtype; None for one that we have no name for.
        itemsize: Bytes of one number.
        first: How many numbers of the storage come before its first one.
        shape: Sizes of its axes.
        strides: For each axis, how many numbers lie from one to the next.
    """

    storage: Storage
    dtype: str | None
    itemsize: int
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Table:
    """A dictionary: its pairs in order. Nothing of it is hashed or compared."""

    __slots__ = ("pairs",)

    def __init__(self) -> None:
        self.pairs: list[tuple[object, object]] = []


class Other:
    """Something that is kept by name alone, a numpy array or a set, say."""

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what = what


class Record:
    """An object of a class that is looked for: its class, and what was set as its state."""

    __slots__ = ("cls", "state")

    def __init__(self, cls: str) -> None:
        self.cls = cls
        self.state: object = None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A global name that weights may use.

    Attributes:
        name: Its module and name.
        make: What calling it comes to; None where it is not to be called.
        dtype: Canonical dtype that it stands for, where it is one or a storage of one.
        itemsize: Bytes of one number of that.
        storage: Whether it is a storage.
    """

    name: str
    make: Callable[[tuple[object, ...], Place], object] | None = None
    dtype: str | None = None
    itemsize: int = 0
    storage: bool = False


def told(value: object) -> str:
    """Return what kind of thing a value is, for a message; nothing inside it is looked at."""
    if isinstance(value, Known):
        return value.name
    if isinstance(value, Other):
        return value.what
    if isinstance(value, Record):
        return f"a {value.cls}"
    return _KINDS.get(type(value), f"a {type(value).__name__}")


_KINDS = {
    Table: "a dictionary",
    Tensor: "a tensor",
    Storage: "a storage",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bytes: "some bytes",
    type(None): "None",
}
