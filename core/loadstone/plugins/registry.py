"""Finding plugins: claims are read from metadata alone, modules are imported when a claim is asked for.

This is the one module that touches pluggy's manager. A broken plugin is remembered with its traceback and harms
nobody who does not ask for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import os
import traceback
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import pluggy

from loadstone.errors import LoadstoneError, MissingFrameworkError, PluginError, logger_of, nearest
from loadstone.plugins import hookspecs
from loadstone.plugins.hookspecs import API, ArchitectureRecord, BackendRecord, FormatRecord, SourceRecord

if TYPE_CHECKING:  # it takes 30 ms to import, and what loadstone brings itself is found without it
    from importlib.metadata import Distribution, EntryPoint

GROUP = "loadstone"
FIRST_PARTY = "loadstone"
"""The distribution that brings the backends of this project."""

BACKEND = "LOADSTONE_BACKEND"
"""Environment variable: the backend to use where none is named."""

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
        priority: The backend of highest priority is the default, loadstone's own before others'.
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
            claim = _claim(entry, owner)
            ours = _ours(*entry.name.split(".", 1)) if is_first_party(claim) and "." in entry.name else None
            found.setdefault((entry.name, owner, entry.value), ours or claim)
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
    readable = entry.pattern.match(entry.value) is not None
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


BUILT_IN = {"format": "loadstone.checkpoint.formats.plugin", "source": "loadstone.source.plugin"}
"""Kind of claim -> loadstone's own module for it, whose names are found without a look at what is installed."""


def _ours(kind: str, name: str) -> Claim | None:
    """Return loadstone's own claim on a format or a source, None where it has none."""
    if kind not in BUILT_IN:
        return None
    return _built_in(kind).get(name)


def is_built_in(kind: str, name: str) -> bool:
    """Return whether loadstone brings a format or a source of this name: it stays loadstone's, whoever claims it too."""
    return _ours(kind, name) is not None


@functools.cache
def _built_in(kind: str) -> dict[str, Claim]:
    """Return name -> claim for what loadstone brings of a kind; the entry points of its distribution say the same."""
    from loadstone import __version__

    hook, key = HOOKS[kind]
    module = importlib.import_module(BUILT_IN[kind])
    names = [getattr(record, key) for record in getattr(module, hook)()]
    owner = f"{FIRST_PARTY} {__version__}"
    return {
        name: Claim(name=f"{kind}.{name}", value=module.__name__, distribution=owner, prefix="", priority=0)
        for name in names
    }


def _ask(kind: str, name: str) -> Claim:
    """Import and register the module behind a claim; `name@distribution` chooses between two."""
    wanted, _, owner = name.partition("@")
    if owner in ("", FIRST_PARTY) and (claim := _ours(kind, wanted)) is not None:
        _register(claim)
        return claim
    rivals = [claim for claim in claims_of(kind).get(wanted, []) if owner in ("", claim.owner)]
    if not rivals:
        known = sorted({*claims_of(kind), *(_built_in(kind) if kind in BUILT_IN else ())})
        raise PluginError(
            f"no plugin offers the {kind} {name!r}",
            expected=f"one of: {', '.join(known) or 'none is installed'}",
            hint=nearest(wanted, known) or "see `loadstone plugins`",
        )
    if len(rivals) > 1:
        raise conflict(f"{len(rivals)} plugins claim the {kind} {wanted!r}", rivals)
    _register(rivals[0])
    return rivals[0]


ASKS = {
    "backend": "backend={!r} to an Auto class",
    "architecture": "AutoConfig.for_model({!r}, ...) as config=",
    "format": "weights_format={!r}",
    "source": "the address as {}://...",
}
"""Kind of claim -> how a caller says which of two is meant."""


def conflict(what: str, rivals: list[Claim], *, ours: bool = False) -> PluginError:
    """Make the error for a name that several plugins claim.

    Args:
        what: Which name.
        rivals: Who claims it.
        ours: Whether loadstone itself has it too, without a claim.
    """
    kind, _, name = rivals[0].name.partition(".")
    first = FIRST_PARTY if ours or any(map(is_first_party, rivals)) else rivals[0].owner
    others = [claim.owner for claim in rivals if claim.owner != first]
    hint = f"uninstall one, name its distribution in {DISABLED}={others[-1] if others else first}"
    if kind in ASKS:
        hint += f", or pass {ASKS[kind].format(f'{name}@{first}')}"
    return PluginError(what, problems=[str(claim) for claim in rivals], hint=hint)


def is_first_party(claim: Claim) -> bool:
    """Return whether a claim is one of loadstone's own."""
    return claim.owner == FIRST_PARTY


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
def blamed(
    claim: Claim, what: str, *, hint: str = "see `loadstone plugins` for its traceback"
) -> Iterator[None]:
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
            hint=hint,
        ) from error


def backend_record(name: str) -> BackendRecord:
    """Return the record of a backend; its framework is not imported.

    Args:
        name: "torch", "flax", ..., or "flax@distribution" to choose between two claims.

    Raises:
        PluginError: If no plugin claims the name, two do, or the plugin is broken.
    """
    return cast(BackendRecord, _record(backend_claim(name)))


def backend_claim(name: str) -> Claim:
    """Return the claim behind a backend. Raises as `backend_record` does."""
    return _ask("backend", name)


def architecture_record(model_type: str) -> ArchitectureRecord:
    """Return the record of an architecture that a plugin brings. Raises as `backend_record` does."""
    return cast(ArchitectureRecord, _record(architecture_claim(model_type)))


def architecture_claim(model_type: str) -> Claim:
    """Return the claim behind an architecture. Raises as `backend_record` does."""
    return _ask("architecture", model_type)


def source_record(scheme: str) -> tuple[Claim, SourceRecord]:
    """Return the claim and the record of a source. Raises as `backend_record` does."""
    claim = _ask("source", scheme)
    return claim, cast(SourceRecord, _record(claim))


def format_record(name: str) -> tuple[Claim, FormatRecord]:
    """Return the claim and the record of a format, "gguf" or "gguf@distribution". Raises as `backend_record` does."""
    claim = _ask("format", name)
    return claim, cast(FormatRecord, _record(claim))


def built_in_formats() -> Iterator[tuple[Claim, FormatRecord]]:
    """Yield the formats that loadstone brings; what is installed is not looked at."""
    for name in _built_in("format"):
        yield format_record(name)


def other_formats() -> Iterator[tuple[Claim, FormatRecord]]:
    """Yield the formats that third parties bring, without those of contested names. A broken one is passed over, with a warning."""
    for name, rivals in claims_of("format").items():
        if is_built_in("format", name) or len(rivals) > 1:
            continue
        try:
            yield format_record(name)
        except PluginError as error:
            logger.warning("passed over: %s", error)


def contested_formats() -> Iterator[tuple[str, list[str]]]:
    """Yield the names of formats that several third parties claim, and how each of them is asked for."""
    for name, rivals in claims_of("format").items():
        if len(rivals) > 1 and not is_built_in("format", name):
            yield name, [f"{name}@{claim.owner}" for claim in rivals]


def wrong_offer(claim: Claim, path: str, *, expected: str, found: object) -> PluginError:
    """Make the error for a record that names something else than it should, and remember its plugin as broken."""
    claim.state = "broken"
    shown = repr(found) if isinstance(found, str) else f"a {type(found).__name__}"
    return PluginError(
        f"the plugin behind {claim.name!r} offers {path!r}, which is something else",
        where=f"{claim.value} of {claim.distribution}",
        expected=expected,
        found=shown,
        hint="report it to the author of the plugin",
    )


RECORDS = {
    "loadstone_backends": BackendRecord,
    "loadstone_architectures": ArchitectureRecord,
    "loadstone_formats": FormatRecord,
    "loadstone_sources": SourceRecord,
}
"""Hook -> what it offers."""

HOOKS = {
    "backend": ("loadstone_backends", "name"),
    "architecture": ("loadstone_architectures", "model_type"),
    "format": ("loadstone_formats", "name"),
    "source": ("loadstone_sources", "scheme"),
}
"""Kind of claim -> its hook, and the field of its records that holds the claimed name."""


def _record(claim: Claim) -> object:
    """Return the record that a claim's own module offers under the claimed name."""
    kind, _, name = claim.name.partition(".")
    hook, key = HOOKS[kind]
    module = importlib.import_module(claim.value)
    others = [plugin for plugin in _manager().get_plugins() if plugin is not module]
    with blamed(claim, f"fails in {hook}"):
        offers = _manager().subset_hook_caller(hook, others)()
        offered = [record for offer in offers for record in offer]
        records = {getattr(record, key): record for record in offered if isinstance(record, RECORDS[hook])}
    if name not in records:
        raise PluginError(
            f"a plugin claims {claim.name!r} and offers no such record",
            where=f"{claim.value} of {claim.distribution}",
            expected=f"a record with {key}={name!r} from {hook}",
            found=", ".join(map(repr, records)) or ", ".join(type(one).__name__ for one in offered) or "none",
            hint="report it to the author of the plugin",
        )
    if (api := getattr(records[name], "api", None)) != API:
        raise PluginError(
            f"the plugin behind {claim.name!r} asks for version {api!r} of the plugin interface, and this is {API}",
            where=f"{claim.value} of {claim.distribution}",
            expected=f"a record with api={API}",
            found=f"api={api!r}",
            hint=f"install the release of {claim.owner} that goes with this loadstone, or the loadstone that it asks for",
        )
    return records[name]


@contextlib.contextmanager
def answerable(claim: Claim, what: str) -> Iterator[None]:
    """Blame a plugin for what its code raises of its own; what it tells of a file, a disk or memory is no fault of its.

    Raises:
        PluginError: If the body raised something else; the plugin is remembered as broken.
    """
    try:
        yield
    except (LoadstoneError, OSError, MemoryError):
        raise
    except Exception:
        with blamed(claim, what):
            raise


def load_attribute(path: str) -> Any:
    """Return what a "module:attribute" string of a record names."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def is_installed(record: BackendRecord) -> bool:
    """Return whether the modules that a backend requires can be found; none is imported."""
    return all(find_spec(module) is not None for module in record.requires)


def default_backend() -> str:
    """Return the backend to use when none is named: `LOADSTONE_BACKEND`, else the first that `default_backends` gives.

    Raises:
        MissingFrameworkError: If no backend's framework is installed.
    """
    for name in default_backends():
        return name
    offered = ", ".join(claims_of("backend"))
    raise MissingFrameworkError(
        "no framework is installed that loadstone has a backend for",
        expected=f"one of: {offered or '(no backend is installed)'}",
        hint="pip install 'loadstone[torch]'",
    )


def default_backends() -> Iterator[str]:
    """Yield the backends that may be the default, best first: the one that `LOADSTONE_BACKEND` names, or all installed.

    A third party's priority counts among third parties: loadstone's own come first, unless the caller says otherwise.
    """
    if named := os.environ.get(BACKEND):
        yield named
        return
    offered = sorted((claim for rivals in claims_of("backend").values() for claim in rivals), key=_rank)
    for claim in offered:
        name = claim.name.partition(".")[2]
        rivals = len(claims_of("backend")[name]) > 1
        asked = f"{name}@{claim.owner}" if rivals and is_first_party(claim) else name
        if (rivals and asked == name) or _can_be_default(
            asked
        ):  # of two strangers the caller chooses, or is told
            yield asked


def _rank(claim: Claim) -> tuple[bool, int]:
    return not is_first_party(claim), -claim.priority


def is_named(backend: str) -> bool:
    """Return whether `LOADSTONE_BACKEND` names a backend."""
    return os.environ.get(BACKEND) == backend


def _can_be_default(name: str) -> bool:
    try:
        return is_installed(backend_record(name))
    except PluginError as error:  # A broken plugin harms only those who ask for it by name.
        logger.warning("passed over: %s", error)
        return False


def class_prefixes() -> dict[str, list[str]]:
    """Return class-name prefix -> the backends that claim it, from metadata alone, e.g. {"Flax": ["flax"]}.

    A prefix of ours stays ours, whoever claims it too.
    """
    found: dict[str, list[str]] = {}
    for prefix, rivals in class_prefix_claims().items():
        first = [claim for claim in rivals if is_first_party(claim)] or rivals
        found[prefix] = list(dict.fromkeys(claim.name.partition(".")[2] for claim in first))
    return found


def class_prefix_claims() -> dict[str, list[Claim]]:
    """Return class-name prefix -> the claims that name it."""
    found: dict[str, list[Claim]] = {}
    for rivals in claims_of("backend").values():
        for claim in rivals:
            if claim.prefix:
                found.setdefault(claim.prefix, []).append(claim)
    return found


def class_prefix_of(backend: str) -> str:
    """Return the class-name prefix of a backend, "" if it has none."""
    rivals = claims_of("backend").get(backend.partition("@")[0], [])
    return next((claim.prefix for claim in rivals if backend.partition("@")[2] in ("", claim.owner)), "")
