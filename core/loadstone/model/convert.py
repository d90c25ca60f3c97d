"""One model in another framework of the same process: its parameters go over as they are, their memory too where it can."""

from __future__ import annotations

import contextlib
import copy as copying
import dataclasses
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from loadstone.backend import Backend, Device, Model, Parameter, Placement, get_backend
from loadstone.dtypes import CASTABLE, DTYPES, canonical, nbytes
from loadstone.errors import ArgumentError, MatchError, human_bytes, logger_of
from loadstone.load.collector import paused_collector
from loadstone.load.install import Installed, Supply, install
from loadstone.load.likeness import built_like
from loadstone.load.report import LoadReport, await_all, refuse_in_part
from loadstone.load.target import Target
from loadstone.planning.dtype import DTypePolicy
from loadstone.planning.fold import fold
from loadstone.planning.place import with_values
from loadstone.planning.records import Assignment, LoadPlan, ParameterState
from loadstone.save.story import saved_config, stored_parameters

if TYPE_CHECKING:
    from loadstone.read.tensor import HostTensor

logger = logger_of(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ConversionReport(LoadReport):
    """What became of every parameter on its way to another framework.

    Attributes:
        source: The backend that the model came from.
        shared: Parameters that have one memory in both frameworks.
        copied: Parameter -> why it has a memory of its own.
        attention: How attention is computed now, where the other framework does not have the model's way; "" else.
    """

    source: str
    shared: tuple[str, ...]
    copied: Mapping[str, str]
    attention: str = ""

    def _title(self) -> str:
        assignments = self.plan.assignments
        shared = sum(nbytes(assignments[name].dtype, assignments[name].shape) for name in self.shared)
        sizes = f"{human_bytes(shared)} shared, {human_bytes(self.nbytes - shared)} copied"
        attention = f", attention: {self.attention}" if self.attention else ""
        return (
            f"{self.model_class} ({self.backend}) from {self.source}\n  {sizes}, on {self.device}{attention}"
        )

    def _parameter_rows(self) -> Iterator[tuple[str, int, str, str, str]]:
        groups: dict[tuple[str, str], list[str]] = {("shared", ""): list(self.shared)}
        for name, why in self.copied.items():
            groups.setdefault(("copied", why), []).append(name)
        for (state, why), members in groups.items():
            for label, names in fold(members).items():
                held = [self.plan.assignments[name] for name in names]
                size = human_bytes(sum(nbytes(a.dtype, a.shape) for a in held))
                yield state, len(names), size, held[0].dtype, f"{label} ({why})" if why else label
        for assignment in self.plan.in_state("tied"):
            yield "tied", 1, "-", "-", f"{assignment.name} = {assignment.to}"


def to_backend(
    model: Model,
    backend: str,
    *,
    dtype: object = None,
    device: object = None,
    attn_implementation: str | None = None,
    copy: bool = False,
) -> Any:
    """Return the same model in another framework: equal bit for bit, ties, settings and mode kept.

    On the host a parameter keeps its memory where the other framework can take it (its address is a multiple of 64, which
    PyTorch does not ask for): then there is one copy of the weights in the process. **One memory also means that a change in
    place is seen by both.** JAX and TensorFlow never change shared memory in place: to them a new value is a new array. PyTorch
    does: its optimisers, `load_state_dict` and `add_` write into the memory that it has, and would change the arrays of a Flax
    or TensorFlow model under it. Compare and run shared models; before you train one in PyTorch, pass `copy=True`.

    Args:
        model: A model of any backend; it stays as it is.
        backend: "torch", "flax", "tensorflow", ...
        dtype: A dtype to cast floats to, by name or as a framework's object; None: each keeps its own.
        device: As the other framework calls it; None: its default.
        attn_implementation: "sdpa" or "eager"; None: as `model` has it.
        copy: Share nothing.

    Returns:
        A model of the other framework; its `load_report` is a `ConversionReport` and says what is shared.

    Raises:
        ArgumentError: If `model` is no model of ours, or `dtype` none of floats.
        ArchitectureError: If the other backend has no such class.
        MatchError: If the model's parameters are not those of its class, or one cannot be cast.
        PlacementError: If there is no such device, or it holds no values.
        MissingFrameworkError: If the other framework is not installed.

    Example:
        ```python
        import loadstone

        model = loadstone.AutoModelForCausalLM.from_pretrained("org/name", backend="torch")
        twin = loadstone.to_backend(model, "flax")
        print(twin.load_report)
        ```
    """
    started = time.perf_counter()
    if not hasattr(model, "backend_name"):
        raise ArgumentError(
            "to_backend() takes a model that loadstone made",
            found=type(model).__name__,
            hint="load it with loadstone",
        )
    with paused_collector():
        move = _decided(model, backend, dtype, device, attn_implementation, copy)
        report = move.run()
    move.made.load_report = dataclasses.replace(report, seconds=time.perf_counter() - started)
    return move.made


def _decided(
    model: Model,
    backend: str,
    dtype: object,
    device: object,
    attn_implementation: str | None,
    copy: bool,
) -> _Move:
    """Choose class, dtypes and device, and build the model without memory."""
    await_all(model)
    refuse_in_part(model, "cannot go to another framework")
    source = get_backend(model.backend_name)
    stored = stored_parameters(model, source)
    policy = _policy(model, stored, dtype)
    chosen = get_backend(backend)
    architecture, head = model.architecture_and_head()
    target = Target(
        backend=chosen,
        architecture=architecture,
        head=head,
        model_class=chosen.model_class(architecture, head),
    )
    attention, instead = _attention(model, target, attn_implementation)
    return _Move(
        model=model,
        source=source,
        stored=stored,
        target=target,
        policy=policy,
        made=built_like(model, source.parameters(model), target, policy, attention),
        device=with_values(chosen.device(device)),
        copy=copy,
        attention=instead,
    )


def _attention(model: Model, target: Target, asked: str | None) -> tuple[str | None, str]:
    """Return how attention is computed in the other framework, and the same again where it is not the model's way."""
    own: str | None = getattr(model, "attn_implementation", None)
    known: tuple[str, ...] = getattr(target.model_class, "attentions", ())
    if asked or own is None or own in known or not known:
        return asked or own, ""
    logger.warning(
        "%s computes attention as %r, the backend %r as %r: that is taken",
        type(model).__name__,
        own,
        target.backend.name,
        known[0],
    )
    return known[0], known[0]


def _policy(model: Model, stored: list[Parameter], dtype: object) -> DTypePolicy:
    build = saved_config(model, stored).dtype or "float32" if dtype is None else canonical(dtype)
    if DTYPES[build].kind != "float":
        raise ArgumentError("a model cannot be cast to this dtype", expected="a float dtype", found=build)
    return DTypePolicy(
        build=build,
        keeps="stored" if dtype is None else "",
        float32=model.architecture_and_head()[0].wide_for(build),
        origin="model" if dtype is None else "argument",
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Move:
    """A conversion that is decided: from where, what, to where."""

    model: Model
    source: Backend
    stored: list[Parameter]
    target: Target
    policy: DTypePolicy
    made: Any
    device: Device
    copy: bool
    attention: str

    def run(self) -> ConversionReport:
        """Move everything, and tell what became of it."""
        supply = _FromModel(self)
        done = install(
            self.made,
            LoadPlan(assignments=self._moved() | self._tied(), stored={}),
            supply,
            target=self.target,
            config=self.model.config,
            placement=Placement.on(self.device),
            training=bool(getattr(self.model, "training", False)),
        )
        self.made.generation_config = copying.deepcopy(self.model.generation_config)
        return self._report(done, supply.copied)

    def _moved(self) -> dict[str, Assignment]:
        """Return the state of each parameter that is put."""
        declared = self.target.backend.parameters(self.made)
        found = {}
        for parameter in self.stored:
            name, dtype = parameter.name, self._dtype(parameter, declared[parameter.name])
            state: ParameterState = "loaded" if dtype == parameter.dtype else "cast"
            found[name] = Assignment(name=name, state=state, dtype=dtype, shape=parameter.shape)
        return found

    def _tied(self) -> dict[str, Assignment]:
        """Return what is tied in the old model, to be tied in the new one."""
        owners = {parameter.identity: parameter.name for parameter in self.stored}
        found = {}
        for name, parameter in self.source.parameters(self.model).items():
            owner = owners.get(parameter.identity, name) if parameter.identity is not None else name
            if owner != name:
                found[name] = Assignment(name=name, state="tied", shape=parameter.shape, to=owner)
        return found

    def _dtype(self, parameter: Parameter, declared: Parameter) -> str:
        base_name = self.target.head.base_name(parameter.name)
        wanted = self.policy.dtype_of(base_name, parameter.dtype, declared.dtype)
        if wanted != parameter.dtype and not {wanted, parameter.dtype} <= CASTABLE:
            raise MatchError(
                f"{parameter.name} cannot be cast",
                expected=wanted,
                found=parameter.dtype,
                hint="leave dtype out to keep each parameter's own",
            )
        return wanted

    def _report(self, done: Installed, copied: Mapping[str, str]) -> ConversionReport:
        assignments = dict(done.plan.assignments)
        for name, why in copied.items():
            assignments[name] = dataclasses.replace(assignments[name], why=why)
        before = self.model.load_report
        return ConversionReport(
            model_class=self.target.model_class.__name__,
            backend=self.target.backend.name,
            location=before.location if before is not None else "",
            commit=before.commit if before is not None else None,
            placement=Placement.on(self.device),
            dtype="stored" if self.policy.keeps else self.policy.build,
            dtype_origin=self.policy.origin,
            plan=LoadPlan(assignments=assignments, stored={}),
            computed=done.computed,
            metadata=before.metadata if before is not None else {},
            source=f"{type(self.model).__name__} ({self.source.name})",
            shared=tuple(parameter.name for parameter in self.stored if parameter.name not in copied),
            copied=copied,
            attention=self.attention,
        )


class _FromModel(Supply):
    """The parameters of a model of another framework.

    Attributes:
        copied: Parameter -> why it has a memory of its own in the new model.
    """

    def __init__(self, move: _Move) -> None:
        self.move, self.copied = move, dict[str, str]()

    @contextlib.contextmanager
    def opened(self, plan: LoadPlan) -> Iterator[tuple[LoadPlan, Iterator[HostTensor]]]:
        """Give the parameters one after the other, in memory that the other framework can take."""
        yield plan, self._given(plan)

    def keeps(self, tensor: HostTensor) -> bool:
        """Return whether the old model keeps the memory too."""
        return tensor.name not in self.copied

    def _given(self, plan: LoadPlan) -> Iterator[HostTensor]:
        move, backend = self.move, self.move.target.backend
        for parameter in move.stored:
            name, dtype = parameter.name, plan.assignments[parameter.name].dtype
            tensor = move.source.read(move.model, name)
            if why := self._why_copied(tensor, dtype):
                self.copied[name] = why
            own = (
                move.copy or dtype != tensor.dtype
            )  # where it is for another reason, the backends make the copy
            yield _copy(tensor, dtype) if own else _writable(tensor)
            if not why and backend.read(move.made, name).address != tensor.address:
                self.copied[name] = f"{backend.name} made a copy of its own"

    def _why_copied(self, tensor: HostTensor, dtype: str) -> str:
        if self.move.copy:
            return "copy=True"
        if dtype != tensor.dtype:
            return f"cast from {tensor.dtype}"
        if not self.move.device.is_host:
            return f"{self.move.device.name} has a memory of its own"
        if not self.move.source.device(self.move.model.device).is_host:
            return f"from {self.move.model.device}"
        if not tensor.nbytes:
            return "empty"
        if self.move.source.read(self.move.model, tensor.name).address != tensor.address:
            return f"{self.move.source.name} gives only copies of it"
        alignment = self.move.target.backend.capabilities.alignment or DTYPES[dtype].itemsize
        if tensor.address % alignment:
            return f"its address is no multiple of {alignment}"
        return ""


def _copy(tensor: HostTensor, dtype: str) -> HostTensor:
    """Return a tensor in memory of its own, aligned for every framework, cast where asked for."""
    from loadstone.read.cast import cast
    from loadstone.read.memory import aligned_empty

    data = aligned_empty(nbytes(dtype, tensor.shape))
    if dtype == tensor.dtype:
        data[:] = tensor.data
    else:
        cast(tensor.data, tensor.dtype, data, dtype)
    return dataclasses.replace(tensor, data=data, dtype=dtype)


def _writable(tensor: HostTensor) -> HostTensor:
    """Return the same memory without a mark that nobody may write to it.

    It is private memory, of an array or a copy-on-write mapping; a framework that shares nothing unless it may write to it
    (PyTorch, TensorFlow through DLPack) takes it then. What follows from that, `to_backend` tells.
    """
    import ctypes

    import numpy as np

    if tensor.data.flags.writeable:
        return tensor
    memory = (ctypes.c_uint8 * tensor.nbytes).from_address(tensor.address)
    memory.owner = tensor.data  # type: ignore[attr-defined]  # keeps it alive
    return dataclasses.replace(tensor, data=np.ctypeslib.as_array(memory))
