"""What became of every plugin: each entry point's claim, tried if that is asked for, and what stands in its way."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

from loadstone import plugins
from loadstone.architectures import architecture_for
from loadstone.errors import LoadstoneError
from loadstone.plugins import Claim


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """One entry point, examined.

    Attributes:
        claim: What its metadata says, and its state.
        framework: "installed" or "missing" for a backend whose plugin could be loaded, else None.
        install: The command that installs a backend's framework, where the plugin could be loaded.
        default: Whether this is the backend to which a call without `backend=` goes.
        problem: Why it cannot be used; "" if nothing stands in its way.
    """

    claim: Claim
    framework: str | None = None
    install: str | None = None
    default: bool = False
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the entry point as plain data for JSON."""
        facts = {key: getattr(self, key) for key in ("framework", "install", "default", "problem")}
        claim = dataclasses.asdict(self.claim)
        return {"claim": claim.pop("name"), "module": claim.pop("value"), **claim, **facts}


def examine(*, load: bool, default: str | None = None) -> list[Examined]:
    """Return every entry point of every installed distribution, in name order.

    Args:
        load: Import each plugin's module; a backend's framework is never imported.
        default: The backend to which a call without `backend=` goes.
    """
    return [_examine(claim, load=load, default=default) for claim in plugins.claims()]


def default_backend() -> tuple[str | None, str]:
    """Return the backend to which a call without `backend=` goes, None if there is none, and why."""
    try:
        name = plugins.default_backend()
    except LoadstoneError as error:
        return None, error.hint or error.what
    return name, "named by LOADSTONE_BACKEND" if os.environ.get(
        "LOADSTONE_BACKEND"
    ) else "the installed one of highest priority"


def _examine(claim: Claim, *, load: bool, default: str | None) -> Examined:
    if claim.state == "disabled":
        return Examined(claim=claim, problem=f"its distribution is named in {plugins.DISABLED}")
    if not load:
        return Examined(claim=claim)
    kind, _, name = claim.name.partition(".")
    ask = _KINDS.get(kind)
    if ask is None:
        known = ", ".join(f"{known}.NAME" for known in _KINDS)
        return Examined(claim=claim, problem=f"nothing asks for such a claim: expected {known}")
    try:
        facts = ask(f"{name}@{claim.owner}")
        ask(name)  # Once more without its owner, as users ask: that is where two claims on one name collide.
    except LoadstoneError as error:
        return Examined(claim=claim, problem=_one_line(error))
    return Examined(claim=claim, default=name == default and kind == "backend", **facts)


def _ask_backend(name: str) -> dict[str, str]:
    record = plugins.backend_record(name)
    state = "installed" if plugins.is_installed(record) else "missing"
    return {"framework": state, "install": record.install}


def _ask_architecture(name: str) -> dict[str, str]:
    plugins.architecture_record(name) if "@" in name else architecture_for(name)
    return {}


_KINDS: Mapping[str, Callable[[str], dict[str, str]]] = {
    "backend": _ask_backend,
    "architecture": _ask_architecture,
}


def _one_line(error: LoadstoneError) -> str:
    details = "; ".join(error.problems) or error.found
    return f"{error.what}: {details}" if details else error.what
