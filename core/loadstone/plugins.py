"""Finding plugins: claims are read from metadata alone, modules are imported when a claim is asked for.

This is the one module that touches pluggy's manager. A broken plugin is remembered with its traceback and harms
nobody who does not ask for it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import os
import traceback
from importlib.metadata import EntryPoint
from typing import Any, cast

import pluggy

from loadstone import hookspecs
from loadstone.errors import MissingFrameworkError, PluginError, nearest
from loadstone.hookspecs import ArchitectureRecord, BackendRecord

GROUP = "loadstone"


@dataclasses.dataclass(slots=True, kw_only=True)
class Claim:
    """One entry point: what it claims, whose it is, and what became of it.

    Attributes:
        name: Its name, e.g. "backend.torch".
        value: The module it names.
        distribution: The distribution that declares it, with its version.
        prefix: Class-name prefix of a backend ("Flax"); "" for none.
        priority: The backend of highest priority is the default.
        state: "unused", "loaded" or "broken".
        traceback: What a broken module raised.
    """

    name: str
    value: str
    distribution: str
    prefix: str
    priority: int
    state: str = "unused"
    traceback: str | None = None


@functools.cache
def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    return manager


@functools.cache
def claims() -> tuple[Claim, ...]:
    """Return every claim of every installed distribution, in name order; nothing is imported."""
    from importlib.metadata import distributions

    found: dict[tuple[str, str, str], Claim] = {}
    for distribution in distributions():
        for entry in distribution.entry_points:
            if entry.group == GROUP:
                owner = f"{distribution.name} {distribution.version}"
                # One distribution seen twice on the path (an editable install beside its build) is one claim.
                found.setdefault((entry.name, owner, entry.value), _claim(entry, owner))
    return tuple(sorted(found.values(), key=lambda claim: (claim.name, claim.distribution)))


def _claim(entry: EntryPoint, owner: str) -> Claim:
    # "loadstone_flax.plugin [Flax, 20]": class prefix and priority stand where the extras of an entry point do.
    words = entry.extras
    numbers = [int(word) for word in words if word.isdigit()]
    prefix = next((word for word in words if not word.isdigit()), "")
    return Claim(
        name=entry.name,
        value=entry.module,
        distribution=owner,
        prefix=prefix,
        priority=numbers[0] if numbers else 0,
    )


def claims_of(kind: str) -> dict[str, list[Claim]]:
    """Return name -> claims for one kind ("backend", "architecture"), the kind's prefix dropped."""
    named: dict[str, list[Claim]] = {}
    for claim in claims():
        if claim.name.startswith(f"{kind}."):
            named.setdefault(claim.name.removeprefix(f"{kind}."), []).append(claim)
    return named


def _ask(kind: str, name: str) -> Claim:
    """Import and register the module behind a claim; `name@distribution` chooses between two."""
    wanted, _, owner = name.partition("@")
    rivals = [
        claim
        for claim in claims_of(kind).get(wanted, [])
        if not owner or claim.distribution.split()[0] == owner
    ]
    if not rivals:
        known = claims_of(kind)
        raise PluginError(
            f"no plugin offers the {kind} {name!r}",
            expected=f"one of: {', '.join(known) or 'none is installed'}",
            hint=nearest(wanted, known) or "see `loadstone plugins`",
        )
    if len(rivals) > 1:
        raise PluginError(
            f"two plugins claim the {kind} {wanted!r}",
            problems=[f"{claim.distribution}: {claim.value}" for claim in rivals],
            hint=f"uninstall one, or ask for {wanted}@{rivals[0].distribution.split()[0]}",
        )
    _register(rivals[0])
    return rivals[0]


def _register(claim: Claim) -> None:
    if claim.state == "loaded":
        return
    try:
        module = importlib.import_module(claim.value)
        if not _manager().is_registered(module):
            _manager().register(module)
            _manager().check_pending()
    except Exception as error:
        claim.state, claim.traceback = "broken", traceback.format_exc()
        raise PluginError(
            f"the plugin behind {claim.name!r} cannot be imported",
            where=f"{claim.value} of {claim.distribution}",
            found=f"{type(error).__name__}: {error}",
            hint="see `loadstone plugins` for its traceback",
        ) from error
    claim.state = "loaded"


def backend_record(name: str) -> BackendRecord:
    """Return the record of a backend; its framework is not imported.

    Args:
        name: "torch", "flax", ..., or "flax@distribution" to choose between two claims.

    Raises:
        PluginError: If no plugin claims the name, two do, or the plugin is broken.
    """
    claim = _ask("backend", name)
    records = [record for offered in _manager().hook.loadstone_backends() for record in offered]
    return cast(BackendRecord, _only(records, "name", name.partition("@")[0], claim))


def architecture_record(model_type: str) -> ArchitectureRecord:
    """Return the record of an architecture that a plugin brings. Raises as `backend_record` does."""
    claim = _ask("architecture", model_type)
    records = [record for offered in _manager().hook.loadstone_architectures() for record in offered]
    return cast(ArchitectureRecord, _only(records, "model_type", model_type.partition("@")[0], claim))


def _only(records: list[Any], key: str, name: str, claim: Claim) -> object:
    for record in records:
        if getattr(record, key) == name:
            return record
    raise PluginError(
        f"a plugin claims {claim.name!r} and offers no such record",
        where=f"{claim.value} of {claim.distribution}",
        expected=f"a record with {key}={name!r}",
        found=[getattr(record, key) for record in records],
    )


def load_attribute(path: str) -> Any:
    """Return what a "module:attribute" string of a record names."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def is_installed(record: BackendRecord) -> bool:
    """Return whether the modules that a backend requires can be found; none is imported."""
    return all(importlib.util.find_spec(module) is not None for module in record.requires)


def default_backend() -> str:
    """Return the backend to use when none is named: `LOADSTONE_BACKEND`, else the installed one of highest priority.

    Raises:
        MissingFrameworkError: If no backend's framework is installed.
    """
    named = os.environ.get("LOADSTONE_BACKEND")
    if named:
        return named
    offered = sorted(claims_of("backend").items(), key=lambda item: -item[1][0].priority)
    for name, rivals in offered:
        if len(rivals) > 1 or is_installed(backend_record(name)):
            return name
    raise MissingFrameworkError(
        "no framework is installed that loadstone has a backend for",
        expected=f"one of: {', '.join(name for name, _ in offered) or '(no backend is installed)'}",
        hint="pip install 'loadstone[torch]'",
    )


def prefixes() -> dict[str, str]:
    """Return class-name prefix -> backend name, from metadata alone: {"Flax": "flax", "TF": "tensorflow"}."""
    return {rivals[0].prefix: name for name, rivals in claims_of("backend").items() if rivals[0].prefix}
