"""What became of every plugin: each entry point's claim, tried if that is asked for, and what stands in its way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from loadstone import plugins
from loadstone.architectures import architecture_for
from loadstone.backend import get_backend
from loadstone.checkpoint.formats import format_of
from loadstone.errors import LoadstoneError, MissingFrameworkError
from loadstone.plugins import Claim
from loadstone.source.lookup import opener_of


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """One entry point, examined.

    Attributes:
        claim: What its metadata says, and its state.
        framework: "installed" or "missing" for a backend whose plugin could be loaded, else None.
        install: The command that installs a backend's framework, where the plugin could be loaded.
        default: Whether this is the backend to which a call without `backend=` goes.
        problem: What stands in its way; "" if nothing does.
        usable: Whether it does what it claims, as far as it was tried.
    """

    claim: Claim
    framework: str | None = None
    install: str | None = None
    default: bool = False
    problem: str = ""
    usable: bool = True

    @property
    def state(self) -> str:
        """What became of it: the claim's state, or "unusable" for one whose module is there and is of no use."""
        return self.claim.state if self.usable or self.claim.state == "broken" else "unusable"

    def to_dict(self) -> dict[str, Any]:
        """Return the entry point as plain data for JSON."""
        facts = {key: getattr(self, key) for key in ("framework", "install", "default", "problem")}
        claim = dataclasses.asdict(self.claim)
        claim["state"] = self.state
        return {"claim": claim.pop("name"), "module": claim.pop("value"), **claim, **facts}


def examine(*, load: bool, default: str | None = None, build: bool = False) -> list[Examined]:
    """Return every entry point of every installed distribution, in name order.

    Args:
        load: Import each plugin's module; a backend's framework is not imported.
        default: The backend to which a call without `backend=` goes.
        build: Make each backend too, which imports its framework, those of high priority first.
    """
    made = _made() if build else {}
    return [_examine(claim, load=load, default=default, made=made) for claim in plugins.claims()]


def _made() -> dict[str, str]:
    """Return backend -> why it cannot be made, for those whose framework is installed and that fail nevertheless."""
    problems = {}
    backends = [claim for claims in plugins.claims_of("backend").values() for claim in claims]
    for claim in sorted(backends, key=lambda claim: -claim.priority):
        name = f"{claim.name.partition('.')[2]}@{claim.owner}"
        try:
            get_backend(name)
        except MissingFrameworkError:
            continue
        except LoadstoneError as error:
            problems[name] = _one_line(error)
    return problems


def default_backend() -> tuple[str | None, str]:
    """Return the backend to which a call without `backend=` goes, None if there is none, and why."""
    try:
        name = plugins.default_backend()
    except LoadstoneError as error:
        return None, error.hint or error.what
    if plugins.is_named(name):
        return name, f"named by {plugins.BACKEND}"
    return name, "the installed one of highest priority, loadstone's own first"


def _examine(claim: Claim, *, load: bool, default: str | None, made: Mapping[str, str]) -> Examined:
    if claim.state == "disabled":
        return Examined(claim=claim, problem=f"its distribution is named in {plugins.DISABLED}")
    if not load:
        return Examined(claim=claim)
    kind, _, name = claim.name.partition(".")
    ask = _KINDS.get(kind)
    if ask is None:
        known = ", ".join(f"{known}.NAME" for known in _KINDS)
        return Examined(claim=claim, usable=False, problem=f"nothing asks for such a claim: expected {known}")
    try:
        facts = ask(f"{name}@{claim.owner}")
        ask(name)  # Once more without its owner, as users ask: that is where two claims on one name collide.
    except LoadstoneError as error:
        return Examined(claim=claim, usable=False, problem=_one_line(error))
    own = f"{name}@{claim.owner}"
    problem = made.get(own, "") if kind == "backend" else ""
    return Examined(
        claim=claim,
        default=kind == "backend" and default in (name, own),
        usable=not problem,
        problem=problem or _lost_prefix(claim),
        **facts,
    )


def _lost_prefix(claim: Claim) -> str:
    """Return what becomes of a class prefix that another backend has, "" for one that is this backend's alone."""
    holders = plugins.class_prefixes().get(claim.prefix, [])
    if claim.prefix and claim.name.partition(".")[2] not in holders:
        return (
            f"the class prefix {claim.prefix!r} is the backend {holders[0]!r}'s: ask for this one by backend="
        )
    if len(holders) > 1:
        return f"{len(holders)} backends claim the class prefix {claim.prefix!r}"
    return ""


def _ask_backend(name: str) -> dict[str, str]:
    record = plugins.backend_record(name)
    state = "installed" if plugins.is_installed(record) else "missing"
    return {"framework": state, "install": record.install}


def _ask_architecture(name: str) -> dict[str, str]:
    plugins.architecture_record(name) if "@" in name else architecture_for(name)
    return {}


def _ask_format(name: str) -> dict[str, str]:
    claim, record = plugins.format_record(name)
    _refuse_taken(claim, name)
    format_of(claim, record)
    return {}


def _ask_source(name: str) -> dict[str, str]:
    claim, record = plugins.source_record(name)
    _refuse_taken(claim, name)
    opener_of(claim, record)
    return {}


def _refuse_taken(claim: plugins.Claim, name: str) -> None:
    """Raise PluginError for a name that is loadstone's own, whoever claims it too."""
    kind, _, wanted = claim.name.partition(".")
    if not plugins.is_first_party(claim) and plugins.is_built_in(kind, wanted):
        raise plugins.conflict(
            f"a plugin claims the {kind} {wanted!r}, which loadstone brings itself", [claim], ours=True
        )


_KINDS: Mapping[str, Callable[[str], dict[str, str]]] = {
    "backend": _ask_backend,
    "architecture": _ask_architecture,
    "format": _ask_format,
    "source": _ask_source,
}


def _one_line(error: LoadstoneError) -> str:
    details = "; ".join(error.problems) or error.found
    return f"{error.what}: {details}" if details else error.what
