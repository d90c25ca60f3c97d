"""Finding plugins: claims are read from metadata alone, modules are imported when a claim is asked for.

This is the one module that touches pluggy's manager. A broken plugin is remembered with its traceback and harms
nobody who does not ask for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import os
import traceback
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint
from typing import Any, cast

import pluggy

from loadstone import hookspecs
from loadstone.errors import LoadstoneError, MissingFrameworkError, PluginError, logger_of, nearest
from loadstone.hookspecs import ArchitectureRecord, BackendRecord

GROUP = "loadstone"
DISABLED = "LOADSTONE_DISABLE_PLUGINS"
"""Environment variable: names of distributions, with commas between them, whose plugins are as good as absent."""

logger = logger_of(__name__)


@dataclasses.dataclass(slots=True, kw_only=True)
class Claim:
    """One entry point: what it claims, whose it is, and what became of it.

    Attributes:
        name: Its name, e.g. "backend.torch".
        value: The module it names.
        distribution: The distribution that declares it, with its version.
        prefix: Class-name prefix of a backend ("Flax"); "" for none.
        priority: The backend of highest priority is the default.
        state: "unused", "loaded", "broken" or "disabled".
        traceback: What a broken module raised.
    """

    name: str
    value: str
    distribution: str
    prefix: str
    priority: int
    state: str = "unused"
    traceback: str | None = None

    @property
    def owner(self) -> str:
        """The name of the distribution."""
        return self.distribution.split()[0]

    def __str__(self) -> str:
        return f"{self.distribution}: {self.value}"


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
        for entry, owner in _entries(distribution):
            # One distribution seen twice on the path (an editable install beside its build) is one claim.
            found.setdefault((entry.name, owner, entry.value), _claim(entry, owner))
    return tuple(sorted(found.values(), key=lambda claim: (claim.name, claim.distribution)))


def _entries(distribution: Distribution) -> list[tuple[EntryPoint, str]]:
    """Return a distribution's entry points of ours, and its name and version."""
    try:
        entries = [entry for entry in distribution.entry_points if entry.group == GROUP]
        return [(entry, f"{distribution.name} {distribution.version}") for entry in entries]
    except Exception:  # Any kind of damaged metadata: it harms its own distribution alone.
        logger.warning(
            "the metadata of an installed distribution cannot be read: %s", distribution, exc_info=True
        )
        return []


def _claim(entry: EntryPoint, owner: str) -> Claim:
    # "loadstone_flax.plugin [Flax, 20]": class prefix and priority stand where the extras of an entry point do.
    readable = EntryPoint.pattern.match(entry.value) is not None
    words = entry.extras if readable else []
    numbers = [int(word) for word in words if word.isdigit()]
    disabled = os.environ.get(DISABLED, "").replace(",", " ").split()
    return Claim(
        name=entry.name,
        value=entry.module if readable else entry.value,
        distribution=owner,
        prefix=next((word for word in words if not word.isdigit()), ""),
        priority=numbers[0] if numbers else 0,
        state="disabled" if owner.split()[0] in disabled else "unused",
    )


def claims_of(kind: str) -> dict[str, list[Claim]]:
    """Return name -> claims for one kind ("backend", "architecture"), the kind's prefix and disabled ones left out."""
    named: dict[str, list[Claim]] = {}
    for claim in claims():
        if claim.name.startswith(f"{kind}.") and claim.state != "disabled":
            named.setdefault(claim.name.removeprefix(f"{kind}."), []).append(claim)
    return named


def _ask(kind: str, name: str) -> Claim:
    """Import and register the module behind a claim; `name@distribution` chooses between two."""
    wanted, _, owner = name.partition("@")
    rivals = [claim for claim in claims_of(kind).get(wanted, []) if owner in ("", claim.owner)]
    if not rivals:
        known = claims_of(kind)
        raise PluginError(
            f"no plugin offers the {kind} {name!r}",
            expected=f"one of: {', '.join(known) or 'none is installed'}",
            hint=nearest(wanted, known) or "see `loadstone plugins`",
        )
    if len(rivals) > 1:
        raise conflict(
            f"{len(rivals)} plugins claim the {kind} {wanted!r}", rivals, ask=f"{wanted}@{rivals[0].owner}"
        )
    _register(rivals[0])
    return rivals[0]


def conflict(what: str, rivals: list[Claim], *, ask: str = "") -> PluginError:
    """Make the error for a name that several plugins claim.

    Args:
        what: Which name.
        rivals: Who claims it.
        ask: The name under which the first of them can be had; "" if there is none.
    """
    alone = f", or ask for {ask!r}" if ask else ""
    return PluginError(
        what,
        problems=[str(claim) for claim in rivals],
        hint=f"uninstall one, or name its distribution in {DISABLED}={rivals[-1].owner}{alone}",
    )


def _register(claim: Claim) -> None:
    if claim.state == "loaded":
        return
    with blamed(claim, "cannot be imported"):
        module = importlib.import_module(claim.value)
        if not _manager().is_registered(module):
            try:
                _manager().register(module)
                _manager().check_pending()
            except Exception:
                if _manager().is_registered(module):  # or the next plugin would be blamed for its hooks
                    _manager().unregister(module)
                raise
    claim.state = "loaded"


@contextlib.contextmanager
def blamed(claim: Claim, what: str) -> Iterator[None]:
    """Turn what a plugin's code raises into an error that names the plugin, and remember it as broken.

    What it raises as a `LoadstoneError` says already what to do, and stays as it is.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        claim.state, claim.traceback = "broken", traceback.format_exc()
        if isinstance(error, LoadstoneError):
            raise
        raise PluginError(
            f"the plugin behind {claim.name!r} {what}",
            where=f"{claim.value} of {claim.distribution}",
            found=f"{type(error).__name__}: {error}",
            hint="see `loadstone plugins` for its traceback",
        ) from error


def backend_record(name: str) -> BackendRecord:
    """Return the record of a backend; its framework is not imported.

    Args:
        name: "torch", "flax", ..., or "flax@distribution" to choose between two claims.

    Raises:
        PluginError: If no plugin claims the name, two do, or the plugin is broken.
    """
    return cast(BackendRecord, _record(backend_claim(name), "loadstone_backends", "name"))


def backend_claim(name: str) -> Claim:
    """Return the claim behind a backend. Raises as `backend_record` does."""
    return _ask("backend", name)


def architecture_record(model_type: str) -> ArchitectureRecord:
    """Return the record of an architecture that a plugin brings. Raises as `backend_record` does."""
    claim = _ask("architecture", model_type)
    return cast(ArchitectureRecord, _record(claim, "loadstone_architectures", "model_type"))


def architecture(model_type: str) -> Any:
    """Return the architecture that a plugin brings. Raises as `backend_record` does."""
    record, claim = architecture_record(model_type), _ask("architecture", model_type)
    with blamed(claim, f"offers {record.architecture!r}, which cannot be imported"):
        return load_attribute(record.architecture)


def _record(claim: Claim, hook: str, key: str) -> object:
    """Return the record that a claim's own module offers under the claimed name."""
    module = importlib.import_module(claim.value)
    others = [plugin for plugin in _manager().get_plugins() if plugin is not module]
    with blamed(claim, f"fails in {hook}"):
        offers = _manager().subset_hook_caller(hook, others)()
        records = {getattr(record, key): record for offered in offers for record in offered}
    name = claim.name.partition(".")[2]
    if name not in records:
        raise PluginError(
            f"a plugin claims {claim.name!r} and offers no such record",
            where=f"{claim.value} of {claim.distribution}",
            expected=f"a record with {key}={name!r} from {hook}",
            found=", ".join(map(repr, records)) or "none",
            hint="report it to the author of the plugin",
        )
    return records[name]


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
    offered = sorted(claims_of("backend").items(), key=lambda item: -max(claim.priority for claim in item[1]))
    for name, rivals in offered:
        if len(rivals) > 1 or _can_be_default(name):
            return name
    raise MissingFrameworkError(
        "no framework is installed that loadstone has a backend for",
        expected=f"one of: {', '.join(name for name, _ in offered) or '(no backend is installed)'}",
        hint="pip install 'loadstone[torch]'",
    )


def _can_be_default(name: str) -> bool:
    try:
        return is_installed(backend_record(name))
    except PluginError as error:  # A broken plugin harms only those who ask for it by name.
        logger.warning("passed over: %s", error)
        return False


def prefixes() -> dict[str, list[str]]:
    """Return class-name prefix -> the backends that claim it, from metadata alone, e.g. {"Flax": ["flax"]}."""
    found: dict[str, list[str]] = {}
    for name, rivals in claims_of("backend").items():
        for prefix in {claim.prefix for claim in rivals} - {""}:
            found.setdefault(prefix, []).append(name)
    return found


def prefix_of(backend: str) -> str:
    """Return the class-name prefix of a backend, "" if it has none."""
    rivals = claims_of("backend").get(backend.partition("@")[0], [])
    return next((claim.prefix for claim in rivals if backend.partition("@")[2] in ("", claim.owner)), "")
