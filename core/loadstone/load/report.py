"""The report of a load: what became of every parameter and every stored tensor, and what it cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from loadstone.backend import Placement
from loadstone.errors import ArgumentError, counted, human_bytes, plain
from loadstone.planning.fold import fold
from loadstone.planning.held import Held, held, tokens_per_second
from loadstone.planning.parts import LEFT_OUT
from loadstone.planning.records import Assignment, LoadPlan, Stored, StoredState
from loadstone.read.progress import Progress

if TYPE_CHECKING:
    from loadstone.backend import Model
    from loadstone.read.on_disk import OnDisk

MAX_ROWS = 36
"""Rows of a printed report, so that it fits a screen."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What a load did, or, before anything is read, would do.

    Attributes:
        model_class: Name of the model class.
        backend: Name of the backend.
        location: Folder or repository.
        commit: The Hub's commit; None for a folder.
        placement: Where each parameter is.
        dtype: Canonical float dtype that was asked for, by whom.
        dtype_origin: "argument", "config" or "checkpoint".
        plan: Every parameter's and every stored tensor's state.
        computed: State of the model that is in no checkpoint.
        metadata: The checkpoint's `__metadata__`.
        kept_on_host: Parameters of a dtype that the framework would narrow, which stay on the host.
        notes: What the load took upon itself to decide, or leaves out, in sentences.
        bytes_read: Bytes read from files; None before the load.
        bytes_mapped: Bytes mapped and not read; None before the load.
        seconds: Wall time of the load; None before it.
        bandwidth: Place -> bytes a second, as `plan` was given it.
        on_its_way: What is still being read, of a load that did not wait; None once all is there.
    """

    model_class: str
    backend: str
    location: str
    commit: str | None
    placement: Placement
    dtype: str
    dtype_origin: str
    plan: LoadPlan
    computed: tuple[str, ...] = ()
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    kept_on_host: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    bytes_read: int | None = None
    bytes_mapped: int | None = None
    seconds: float | None = None
    bandwidth: Mapping[str, int] = dataclasses.field(default_factory=dict)
    on_its_way: OnDisk | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def progress(self) -> Progress:
        """How far a load is; one that did not say `wait=False` is done."""
        if self.on_its_way is not None and self.on_its_way.arriving is not None:
            return self.on_its_way.arriving.progress
        return Progress(read=self.bytes_read or 0, total=self.bytes_read or 0)

    @property
    def device(self) -> str:
        """Name of the device that holds the model; of several, all, with commas between them."""
        return str(self.placement)

    @property
    def device_map(self) -> dict[str, str | None] | None:
        """Module -> name of its device, or None for an absent one, where the caller gave a `device_map`; None without."""
        return self.placement.device_map if self.placement.asked else None

    @property
    def places(self) -> tuple[Held, ...]:
        """What each place holds, and what of it a forward pass moves."""
        return held(self.plan, self.placement)

    @property
    def tokens_per_second(self) -> float | None:
        """Forward passes a second that the bandwidths allow at most; None where they bound nothing."""
        return tokens_per_second(self.places, self.bandwidth)

    @property
    def nbytes(self) -> int:
        """Bytes of the model's parameters, tied ones once, absent ones left out."""
        return sum(assignment.nbytes for assignment in self.plan.assignments.values())

    def names(self, state: str) -> list[str]:
        """Return the names of parameters or stored tensors in one state, e.g. "new" or "unused"."""
        parameters = [a.name for a in self.plan.assignments.values() if a.state == state]
        return parameters + [s.name for s in self.plan.stored.values() if s.state == state]

    def loading_info(self) -> dict[str, Any]:
        """Return what transformers' `output_loading_info=True` gives: missing, unexpected, mismatched keys."""
        new = self.plan.in_state("new")
        return {
            "missing_keys": {a.name for a in new if a.refused is None},
            "unexpected_keys": set(self.names("unused")),
            "mismatched_keys": {(a.name, a.refused, a.shape) for a in new if a.refused is not None},
            "error_msgs": [],
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data for JSON."""
        facts = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in ("plan", "placement", "on_its_way")
        }
        facts |= {
            "nbytes": self.nbytes,
            "device": self.device,
            "device_map": self.device_map,
            "places": {
                one.place.name: {"nbytes": one.nbytes, "moved": one.nbytes if one.moves else 0}
                for one in self.places
            },
            "tokens_per_second": self.tokens_per_second,
            "bandwidth": dict(self.bandwidth),
            "metadata": dict(self.metadata),
            "computed": list(self.computed),
            "kept_on_host": list(self.kept_on_host),
            "notes": list(self.notes),
        }
        facts["parameters"] = {
            a.name: {"state": a.state, "dtype": a.dtype, "shape": list(a.shape), "from": _origin(a)}
            for a in self.plan.assignments.values()
        }
        facts["stored"] = {s.name: {"state": s.state, "why": s.why} for s in self.plan.stored.values()}
        return facts

    def __str__(self) -> str:
        rows = [*self._parameter_rows(), *self._stored_rows()]
        shown = rows if len(rows) <= MAX_ROWS else rows[: MAX_ROWS - 1]
        lines = [self._title(), f"{'':2}{'state':<8} {'number':>6} {'bytes':>9}  {'dtype':<9} name"]
        lines += [
            f"  {state:<8} {number:>6} {size:>9}  {dtype:<9} {plain(name)}"
            for state, number, size, dtype, name in shown
        ]
        if len(shown) < len(rows):
            lines.append(f"  ... and {len(rows) - len(shown)} more rows (see .plan)")
        lines += self._place_lines()
        lines += [f"  note: {note}" for note in self.notes]
        if (fault := self.progress.fault) is not None:
            lines.append(f"  fault: {plain(str(fault).splitlines()[0])}")
        return "\n".join(lines)

    def _title(self) -> str:
        commit = f" @ {self.commit[:8]}" if self.commit else ""
        cost = ""
        if self.seconds is not None:
            read, mapped = human_bytes(self.bytes_read or 0), human_bytes(self.bytes_mapped or 0)
            cost = f"; {mapped} mapped, {read} read, {self.seconds:.2f} s"
        if self.on_its_way is not None:
            progress = self.progress
            cost = f"; {human_bytes(progress.read)} of {human_bytes(progress.total)} read"
            cost += ", and no more will be: a fault" if progress.fault else " so far"
        return (
            f"{self.model_class} ({self.backend}) from {plain(self.location)}{commit}\n"
            f"  {human_bytes(self.nbytes)} in {self.dtype} (from the {self.dtype_origin}) on {self.device}{cost}"
        )

    def _place_lines(self) -> Iterator[str]:
        places = self.places
        if len(places) == 1 and not places[0].moves and not self.bandwidth:
            return
        yield f"  {'place':<8} {'number':>6} {'bytes':>9}  {'':<9} modules"
        rest = "all" if len(places) == 1 else "the rest"
        for one in places:
            modules = ", ".join(name or rest for name in fold(one.modules))
            moves, size = "moves" if one.moves else "stays", human_bytes(one.nbytes)
            yield plain(f"  {one.place.name:<8} {one.parameters:>6} {size:>9}  {moves:<9} {modules}")
        yield (
            f"  a forward pass moves {human_bytes(sum(one.nbytes for one in places if one.moves))}"
            + self._best()
        )

    def _best(self) -> str:
        best = self.tokens_per_second
        if best is None:
            return ""
        rates = (f"{name} {human_bytes(rate)}/s".strip() for name, rate in self.bandwidth.items())
        number = f"{best:,.1f}" if best >= 1 else f"{best:.2g}"
        return plain(f": at best {number} tokens/s at {', '.join(rates)}")

    def _parameter_rows(self) -> Iterator[tuple[str, int, str, str, str]]:
        if absent := self.plan.in_state("absent"):
            yield "absent", len(absent), "-", "-", ", ".join(fold(self.placement.absent))
        for state in ("new", "cast", "tied", "loaded"):
            members = {a.name: a for a in self.plan.assignments.values() if a.state == state}
            for label, names in fold(members).items():
                group = [members[name] for name in names]
                size = human_bytes(sum(a.nbytes for a in group)) if state != "tied" else "-"
                yield state, len(group), size, group[0].dtype or "-", label + _note(group[0])
        for label, names in fold(self.kept_on_host).items():
            yield "on host", len(names), "-", "-", f"{label} (the framework would narrow its dtype)"
        if self.computed:
            yield "computed", len(self.computed), "-", "-", ", ".join(fold(self.computed))

    def _stored_rows(self) -> Iterator[tuple[str, int, str, str, str]]:
        states: tuple[StoredState, ...] = ("unused", "ignored", "alias")
        for state in states:
            members = {s.name: s for s in self.plan.stored_in_state(state) if s.why != LEFT_OUT}
            for label, names in fold(members).items():
                yield state, len(names), "-", "-", f"{label} ({_reason(members[names[0]])})"


def await_all(model: Model) -> None:
    """Wait for what is still being read of a model. Raises what ended the reading."""
    report = model.load_report
    if report is not None and report.on_its_way is not None:
        report.on_its_way.wait()


def refuse_on_disk(model: Model, what: str) -> None:
    """Make sure that a model has all of its parameters in memory.

    Args:
        model: It.
        what: What is to be done with it, for the error.

    Raises:
        ArgumentError: If some stay on disk, or are absent.
    """
    await_all(model)
    refuse_in_part(model, what)
    report = model.load_report
    if report is not None and any(place.device is None for place in report.placement.places):
        raise ArgumentError(
            f"a model that stays on disk in part {what}",
            found=str(report.placement),
            hint="load it anew with all of it on a device",
        )


def refuse_in_part(model: Model, what: str) -> None:
    """Make sure that a model has all of its parameters somewhere.

    Args:
        model: It.
        what: What is to be done with it, for the error.

    Raises:
        ArgumentError: If some are absent.
    """
    report = model.load_report
    if report is not None and (absent := report.plan.in_state("absent")):
        raise ArgumentError(
            f"a model that was loaded in part {what}",
            found=f"{counted(len(absent), 'parameter')} absent",
            problems=list(fold(report.placement.absent)),
            hint="load it whole: leave layers= out, and None out of device_map=",
        )


def _origin(assignment: Assignment) -> str | None:
    if assignment.recipe is None:
        return assignment.to or None
    return ", ".join(dict.fromkeys(info.name for info in assignment.recipe.sources))


def _note(assignment: Assignment) -> str:
    if assignment.state == "tied":
        return f" = {assignment.to}"
    if assignment.state == "new":
        return f" ({assignment.why})"
    if assignment.recipe is None:
        return ""
    sources = assignment.recipe.sources
    notes = [f"stored as {sources[0].kind}"] if assignment.state == "cast" else []
    if assignment.recipe.whole is None:
        what = "tensor" if len({info.name for info in sources}) > 1 else "piece"
        notes.append(
            f"of {counted(len(sources), what)}" if len(sources) > 1 else f"a part of {sources[0].name}"
        )
    return f" ({', '.join(notes)})" if notes else ""


def _reason(stored: Stored) -> str:
    return f"of {stored.why}" if stored.state == "alias" else stored.why
