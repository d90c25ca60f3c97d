"""The keys that a configuration class declares: their types, their defaults and their spellings; and what a value of one is."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Self

from loadstone.dtypes import DTYPES, canonical
from loadstone.errors import ArgumentError, ConfigError, nearest

_WHOLE = 2**63
"""Above every whole number that a setting may be."""


class Typed:
    """What each part of a configuration asks of the whole."""

    model_type: ClassVar[str] = ""
    spellings: ClassVar[Mapping[str, str]]
    _fields: ClassVar[dict[str, tuple[Any, object]]] = {}
    _values: dict[str, Any]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: object = "config", **overrides: Any) -> Self:
        """Return the configuration that a parsed config.json describes."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return what config.json holds."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, slots=True)
class Derived:
    """The default of a field that follows from other fields, e.g. `head_dim`."""

    of: Callable[[Any], object]


def derived(of: Callable[[Any], object]) -> Any:
    """Declare a field whose value, when absent or null, is `of(config)`."""
    return Derived(of)


def declared(cls: type[Typed]) -> dict[str, tuple[Any, object]]:
    """Return key -> (type, default) for the annotated class attributes of a class and its bases."""
    fields: dict[str, tuple[Any, object]] = {}
    for base in reversed(cls.__mro__[1:]):
        known = vars(base).get("_fields", {})
        fields |= {name: known[name] for name in vars(base).get("__annotations__", {}) if name in known}
    # Of the bases they are known: evaluating all hints of all classes takes longer than the rest of an import.
    for name, hint in _own_hints(cls).items():
        if not name.startswith("_") and typing.get_origin(hint) is not ClassVar and name in vars(cls):
            fields[name] = (hint, vars(cls)[name])
    return fields


def check_spellings(cls: type[Typed]) -> None:
    """Raise a ConfigError where an alternative spelling is a key of its own, or stands for none."""
    problems = [
        f"{spelling!r} stands for {key!r}, and is a declared key itself"
        if spelling in cls._fields
        else f"{spelling!r} stands for {key!r}, which is not declared"
        for spelling, key in cls.spellings.items()
        if spelling in cls._fields or key not in cls._fields
    ]
    if problems:
        raise ConfigError(
            f"{cls.__name__}.spellings contradict its keys",
            where=f"{cls.__module__}.{cls.__qualname__}",
            problems=problems,
            hint="leave out one of the two, the spelling or the key",
        )


def _own_hints(cls: type[Typed]) -> dict[str, Any]:
    """Return the evaluated annotations that stand in the body of a class."""
    own = vars(cls).get("__annotations__", {})
    return typing.get_type_hints(type("Own", (), {"__annotations__": own, "__module__": cls.__module__}))


def dtype_name(field: str, value: object) -> str:
    """Return the canonical name of a dtype that a field holds, under whatever name.

    Raises:
        ConfigError: If there is no such dtype.
    """
    try:
        return canonical(value)
    except ArgumentError as error:
        near = nearest(str(value), DTYPES)
        raise ConfigError(
            f"{field}: expected the name of a dtype, found {value!r}" + (f"; {near}" if near else "")
        ) from error


def fits(value: object, hint: Any) -> bool:
    """Return whether a JSON value fits a declared type; an int fits float, a bool never fits a number."""
    if hint is Any:
        return True
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in typing.get_args(hint))
    if hint is None or hint is type(None):
        return value is None
    if origin in (list, tuple):
        inner = typing.get_args(hint)[0]
        return isinstance(value, list | tuple) and all(fits(item, inner) for item in value)
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin is dict:
        return isinstance(value, dict)
    if hint is float:
        return isinstance(value, float) or fits(value, int)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and -_WHOLE < value < _WHOLE
    return isinstance(value, hint)


def type_name(hint: Any) -> str:
    """Return a declared type as people write it."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " | ".join(map(type_name, typing.get_args(hint)))
    if typing.get_origin(hint) is Literal:
        return " | ".join(map(repr, typing.get_args(hint)))
    if hint is type(None):
        return "None"
    return (
        hint.__name__
        if isinstance(hint, type) and not typing.get_args(hint)
        else str(hint).replace("typing.", "")
    )
