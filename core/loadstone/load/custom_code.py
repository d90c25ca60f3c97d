"""Code that comes with a checkpoint, which config.json's `auto_map` names: it is never run, and always told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from loadstone.errors import ArchitectureError, ConfigError, LoadstoneError, MatchError, shown


def own_code(auto_map: object) -> str | None:
    """Return the classes of its own that a checkpoint names for the model; None for none, or for a tokenizer's alone.

    Example:
        >>> own_code({"AutoModel": "modeling.Mine", "AutoTokenizer": ["tokens.Mine", None]})
        "AutoModel: 'modeling.Mine'"
    """
    if not isinstance(auto_map, Mapping):
        return None
    named = {key: value for key, value in auto_map.items() if key.startswith(("AutoModel", "AutoConfig"))}
    return ", ".join(f"{key}: {shown(value)}" for key, value in named.items()) or None


def note_of_code(auto_map: object, model_type: str, *, trusted: bool) -> str | None:
    """Return what a report says of a checkpoint with code of its own whose model type is known."""
    code = own_code(auto_map)
    if code is None:
        return None
    asked = "trust_remote_code=True runs nothing here" if trusted else "it is not run"
    return (
        f"config.json's auto_map names code of the checkpoint's author ({code}): {asked}; that code may compute"
        f" something of its own, loadstone computes what {model_type!r} is"
    )


@contextlib.contextmanager
def naming_code(auto_map: object) -> Iterator[None]:
    """Let errors about a custom checkpoint say that it is one: its code may describe another model than its type.

    Raises:
        ConfigError, ArchitectureError, MatchError: What the body raised, with the `auto_map` named.
    """
    try:
        yield
    except (ConfigError, ArchitectureError, MatchError) as error:
        code = own_code(auto_map)
        if code is None or "auto_map" in str(error):
            raise
        reason = (
            f"config.json's auto_map names code of the checkpoint's author ({code}), which is never run here"
            " and may describe another model"
        )
        raise with_hint(error, f"{error.hint}; {reason}" if error.hint else reason) from error


def with_hint(error: LoadstoneError, hint: str) -> LoadstoneError:
    """Return the same error with another next step."""
    facts = {name: getattr(error, name) for name in ("where", "expected", "found", "problems")}
    return type(error)(error.what, **facts, hint=hint)
