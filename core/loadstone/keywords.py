"""Keywords that a function takes as `**arguments`: written down once, in a record, and shown wherever one is asked for them."""

from __future__ import annotations

import dataclasses
import inspect
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


class _LeftOut:
    """Stands in a signature for the default of a keyword that has none: what is left out is not there."""

    def __repr__(self) -> str:
        return "..."


LEFT_OUT = _LeftOut()


def said(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a caller said: who calls by the signature, as `tf.function` does, passes its defaults too."""
    return {name: value for name, value in arguments.items() if value is not LEFT_OUT}


def told(record: type) -> Callable[[Function], Function]:
    """Show the fields of a record as keywords of a function that takes them as `**arguments`.

    `inspect.signature` tells them with their types and defaults, and `help` with their text, from the one place where they
    are written down. What the function names itself stays as it says it.

    Args:
        record: A dataclass; or a `TypedDict`, of which nothing has a default: what is left out is not there.
    """

    def tell(function: Function) -> Function:
        signature = inspect.signature(function)
        *named, rest = signature.parameters.values()
        keywords = [keyword for keyword in _keywords(record) if keyword.name not in signature.parameters]
        function.__signature__ = signature.replace(parameters=[*named, *keywords, rest])  # type: ignore[attr-defined]
        text, listed = function.__doc__ or "", _texts(record)
        start = text.rfind("\n", 0, text.find(f"**{rest.name}: ")) + 1
        if start and listed:  # `python -OO` leaves neither
            margin = text[start : text.index("*", start)]
            function.__doc__ = f"{text[:start]}{textwrap.indent(listed, margin)}{text[start:]}"
        return function

    return tell


def _keywords(record: type) -> Iterator[inspect.Parameter]:
    """Yield the fields of a record as parameters."""
    kind = inspect.Parameter.KEYWORD_ONLY
    if dataclasses.is_dataclass(record):
        for field in dataclasses.fields(record):
            yield inspect.Parameter(field.name, kind, default=field.default, annotation=field.type)
    else:
        for name, given in record.__annotations__.items():
            yield inspect.Parameter(name, kind, default=LEFT_OUT, annotation=given.__forward_arg__)


def _texts(record: type) -> str:
    """Return what the docstrings of a record, and of those that it extends, say of their fields."""
    listed = ""
    for one in reversed(record.__mro__):
        text = inspect.cleandoc(vars(one).get("__doc__") or "").partition("Attributes:\n")[2]
        listed += f"{textwrap.dedent(text)}\n" if text else ""
    return listed


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ConfigArguments:
    """What a caller may say beside the name of a checkpoint whose configuration is loaded.

    Attributes:
        dtype: "auto" (the default: the configuration's dtype, else the file's), "stored" (each tensor as it lies), or a dtype
            by name or as a framework's object; also as `torch_dtype`.
        revision: The branch, tag or commit of a repository.
        subfolder: The folder of the repository that holds the checkpoint.
        cache_dir: Where downloads are kept, as in huggingface_hub.
        token: For repositories that are not public, as in huggingface_hub.
        force_download: Fetch what the cache has too.
        local_files_only: Open no socket.
        model_type: "bert", say: of a config.json that does not say it, or in its place.
        trust_remote_code: Whether code that comes with the checkpoint may run: True, or a list of what is trusted
            ("org/repo@<commit>", "sha256:<digest>"). None of it runs else, and the error says what it is.
        prefer_remote_code: Run that code where loadstone has the model type itself, too.
        code_revision: The branch, tag or commit of the code, where it is not that of the checkpoint.
        attn_implementation: "sdpa" or "eager".
    """

    dtype: object = None
    revision: str | None = None
    subfolder: str = ""
    cache_dir: str | os.PathLike[str] | None = None
    token: str | bool | None = None
    force_download: bool = False
    local_files_only: bool = False
    model_type: str | None = None
    trust_remote_code: bool | list[str] | None = None
    prefer_remote_code: bool = False
    code_revision: str | None = None
    attn_implementation: str | None = None

    def source(self) -> dict[str, Any]:
        """Return the arguments that say where files come from."""
        names = ("revision", "subfolder", "cache_dir", "token", "force_download", "local_files_only")
        return {name: getattr(self, name) for name in names}
