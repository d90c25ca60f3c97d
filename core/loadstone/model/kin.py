"""Objects that a neighbouring library takes for its own.

transformers' `Trainer` saves a model with its configuration, `pipeline` unpacks an output and PEFT adapts a layer only where
`isinstance` says that it is one of transformers' classes. Deriving from those would import transformers and PyTorch for
everybody. But `isinstance` also asks an object for its `__class__`, which proxies and mocks answer for what they stand for;
so do ours, once the neighbour is imported. `type()` and all attributes stay our own.
"""

from __future__ import annotations

import copyreg
import functools
import sys
from typing import Any, ClassVar


class Kin:
    """Mixed into a class whose objects do what those of a neighbour's class do.

    Attributes:
        kin: That class, as "module:Class".

    Example:
        >>> class Fraction(Kin):
        ...     kin = "fractions:Fraction"
        >>> import fractions
        >>> isinstance(Fraction(), fractions.Fraction), type(Fraction()) is Fraction
        (True, True)
    """

    kin: ClassVar[str]

    def _get_class(self) -> type:
        cls = type(self)
        module, _, name = cls.kin.partition(":")
        theirs: type | None = getattr(sys.modules.get(module), name, None)
        return cls if theirs is None else _seen_as(cls, theirs)  # type: ignore[arg-type]  # a class is hashable

    def _set_class(self, cls: type) -> None:
        # PyTorch replaces classes of modules (FSDP, parametrizations), and puts back what it found.
        _CLASS.__set__(self, _own(cls))

    __class__ = property(_get_class, _set_class)

    def __init_subclass__(cls, **arguments: Any) -> None:
        if not isinstance(cls, _Seen):  # then the neighbour's class would prepare it for being used
            super().__init_subclass__(**arguments)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle an object as what it is: pickle compares the class that is stored with `__class__`."""
        reduced = super().__reduce_ex__(protocol)
        if isinstance(reduced, tuple) and reduced[0] is copyreg.__newobj__:  # type: ignore[attr-defined]
            return _new, *reduced[1:]
        return reduced


_CLASS: Any = vars(object)["__class__"]


class _Seen(type):
    """Type of the classes that `__class__` answers with: ours, and the neighbour's behind it in the order of lookup."""

    theirs: ClassVar[type]

    def mro(cls) -> list[type]:
        own = super().mro()
        return own if cls.theirs in own else [*own[:-1], cls.theirs, object]

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        """Make an object of our class, whose place this one takes nowhere else than in `isinstance`."""
        own = _own(cls)
        return super().__call__(*arguments, **named) if own is cls else own(*arguments, **named)


@functools.cache
def _seen_as(cls: type, theirs: type) -> type:
    if theirs in cls.__mro__:
        return cls
    meta = type("Seen", (_Seen, type(cls)), {"theirs": theirs})
    described = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
    seen: type = meta(cls.__name__, (cls,), {**described, "_seen_for": cls})
    return seen


def _own(cls: type) -> type:
    """Return our class for one that `__class__` has answered with; any other as it is."""
    own: type = vars(cls).get("_seen_for", cls)
    return own


def _new(cls: type, *arguments: Any) -> Any:
    return cls.__new__(cls, *arguments)
