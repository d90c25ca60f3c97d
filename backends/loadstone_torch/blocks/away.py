"""Parameters that are not where they are used: each comes when the module runs that needs it, and goes after.

A module that needs some is called with two hooks of PyTorch's, so that whoever calls it (`run_blocks`, a head, a layer that is
computed again) need not know. What stays on disk is an `Away`: on the meta device, it has a shape, a dtype and no values.
"""

from __future__ import annotations

import copy
import functools
import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from loadstone.errors import ArgumentError

if TYPE_CHECKING:
    from loadstone.backend import Placement
    from loadstone.read.arriving import Names
    from loadstone.read.on_disk import OnDisk
    from loadstone.read.tensor import HostTensor


def uncompiled(method: Callable[..., Any]) -> Callable[..., Any]:
    """Keep `torch.compile` out of a method: what it does is no computation. Its import, a second, is not made for this."""
    undisturbed: Any = None

    @functools.wraps(method)
    def call(*args: Any) -> Any:
        nonlocal undisturbed
        if "torch._dynamo" not in sys.modules:
            return method(*args)
        if undisturbed is None:
            undisturbed = torch.compiler.disable(method)
        return undisturbed(*args)

    return call


AsTorch = Callable[["HostTensor"], Tensor]


class Away(nn.Parameter):
    """A parameter or buffer that stays on disk, or is absent.

    Attributes:
        on_disk: What brings it.
        path: Its name there.
        runs_on: The device that it comes to.
    """

    on_disk: OnDisk
    path: str
    runs_on: torch.device

    def __new__(
        cls, on_disk: OnDisk, path: str, dtype: torch.dtype, runs_on: torch.device, requires_grad: bool
    ) -> Self:
        """Make it; it takes no memory."""
        empty = torch.empty(on_disk.requests[path].shape, dtype=dtype, device="meta")
        made = super().__new__(cls, empty, requires_grad)
        made.on_disk, made.path, made.runs_on = on_disk, path, runs_on
        return made

    @property
    def comes_once(self) -> bool:
        """Whether it is still being read, and then stays in the model."""
        return self.path in self.on_disk.awaited

    def become(self, value: Tensor, *, parameter: bool) -> None:
        """Turn into a parameter, or a buffer, with values: whoever holds it (an optimiser, a tie) holds that then."""
        made = nn.Parameter(value, requires_grad=self.requires_grad) if parameter else value
        torch.utils.swap_tensors(self, made)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if self.comes_once:
            self.on_disk.wait()
            return copy.deepcopy(self, memo)  # a parameter now
        return memo.setdefault(id(self), _made(*self.__reduce_ex__(4)[1]))

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.comes_once:
            self.on_disk.wait()
            return self.__reduce_ex__(protocol)
        return _made, (self.on_disk, self.path, self.dtype, self.runs_on, self.requires_grad)

    def __repr__(self, **_: Any) -> str:
        return f"{self.on_disk.where(self.path)}: {self.path}, {self.dtype}, {list(self.shape)}"


def _made(*arguments: Any) -> Away:
    return Away(*arguments)


def stays_on_disk(module: nn.Module) -> Iterator[Away]:
    """Yield what stays on disk of a module and of those below it."""
    for held in (*module.parameters(), *module.buffers()):
        if isinstance(held, Away):
            yield held


class Leaf(NamedTuple):
    """A parameter or buffer of a module.

    Attributes:
        module: Who holds it.
        name: Its name there.
        path: Its name in checkpoints.
    """

    module: nn.Module
    name: str
    path: str

    @property
    def table(self) -> dict[str, Any]:
        """The module's parameters, or its buffers."""
        parameters = self.module._parameters
        return parameters if self.name in parameters else self.module._buffers


class Visit:
    """The hooks of one module: what it needs comes before it runs, and is let go of after.

    Args:
        leaves: What comes, with what the module holds in its place meanwhile.
        device: The device that computes the module.
        hops: Whether what the module is given may lie on another device.
        as_torch: Makes a tensor of what comes from disk.
    """

    def __init__(
        self,
        leaves: Iterable[tuple[Leaf, Tensor]],
        device: torch.device,
        *,
        hops: bool,
        as_torch: AsTorch,
    ) -> None:
        self.leaves, self.device, self.hops, self.as_torch = list(leaves), device, hops, as_torch
        self.awaits = any(isinstance(held, Away) and held.comes_once for _, held in self.leaves)
        self.lock, self.visitors = threading.Lock(), set[int]()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("lock", "visitors")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.lock, self.visitors = threading.Lock(), set()

    @property
    def names(self) -> Names:
        """What comes from disk."""
        return tuple(dict.fromkeys(held.path for _, held in self.leaves if isinstance(held, Away)))

    def register(self, module: nn.Module) -> None:
        """Have PyTorch call it before and after the module."""
        self.hooks = (
            module.register_forward_pre_hook(self.before, with_kwargs=True, prepend=True),
            module.register_forward_hook(self.after, always_call=True),
        )

    @uncompiled
    def before(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """Bring what the module needs; the first of several threads does."""
        table = self._looked_up(module, args) if self.awaits else None
        if self.awaits and table is None:
            self._receive(module)
        self._check(module)
        with self.lock:
            there = bool(self.visitors)
            self.visitors.add(threading.get_ident())
            if table is not None and self.awaits:
                [(leaf, _)] = self.leaves
                leaf.table[leaf.name] = nn.Parameter(table, requires_grad=False)
            elif self.leaves and not there:
                self._bring(module)
        if not self.hops:
            return None
        return _pytree.tree_map_only(Tensor, lambda given: given.to(self.device), (args, kwargs))

    @uncompiled
    def after(self, module: nn.Module, args: object, output: object) -> None:
        """Let go of what came; the last of several threads does."""
        with self.lock:
            self.visitors.discard(threading.get_ident())
            if not self.visitors:
                for leaf, held in self.leaves:
                    leaf.table[leaf.name] = held

    def _receive(self, module: nn.Module) -> None:
        """Wait for what comes once. A module that then has all that it needs is called as any other."""
        if names := self.names:
            self._on_disk.receive(names)
        with self.lock:
            for leaf, held in self.leaves:
                leaf.table[leaf.name] = held  # and no table of which a few rows were read
            _refuse_empty(module)
            self.awaits = False
            self.leaves = [(leaf, held) for leaf, held in self.leaves if _is_elsewhere(held, self.device)]
        if not self.leaves and not self.hops:
            for hook in self.hooks:
                hook.remove()

    def _looked_up(self, module: nn.Module, args: Any) -> Tensor | None:
        """Return the table of an embedding with the rows that it looks up, where the whole is still to come; else None."""
        held = next((held for _, held in self.leaves if isinstance(held, Away) and held.comes_once), None)
        if held is None or not _is_table(module) or not args or self.device.type != "cpu":
            return None
        if torch.is_grad_enabled():  # gradients are of the parameter, which is not there
            return None
        table = held.on_disk.rows(held.path, args[0].unique().tolist())
        return None if table is None else self.as_torch(table)

    def _bring(self, module: nn.Module) -> None:
        brought: dict[int, Tensor] = {}
        names = self.names
        tensors = self._on_disk.bring(names) if names else {}
        for _, held in self.leaves:
            if id(held) not in brought:
                value = self.as_torch(tensors[held.path]) if isinstance(held, Away) else held.detach()
                brought[id(held)] = value.to(self.device, non_blocking=True)
        for leaf, held in self.leaves:
            value = brought[id(held)]
            parameter = leaf.table is leaf.module._parameters
            leaf.table[leaf.name] = nn.Parameter(value, requires_grad=False) if parameter else value
        _refuse_empty(module)

    @property
    def _on_disk(self) -> OnDisk:
        return next(held.on_disk for _, held in self.leaves if isinstance(held, Away))

    def _check(self, module: nn.Module) -> None:
        """Make sure that nothing here is to be trained: what comes and goes keeps no change."""
        if not (module.training and torch.is_grad_enabled() and self.leaves):
            return
        trained = [
            leaf.path for leaf, held in self.leaves if held.requires_grad or leaf.name in leaf.module._buffers
        ]
        if trained:
            raise ArgumentError(
                "parameters that only come when their block runs cannot be trained",
                problems=trained,
                hint="freeze them (requires_grad_(False), as PEFT's get_peft_model does), run the model in eval() or under"
                " torch.no_grad(), or give their blocks a device in device_map=",
            )


def _is_table(module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding)


def _is_elsewhere(held: Tensor, device: torch.device) -> bool:
    return isinstance(held, Away) or held.device != device


def _refuse_empty(module: nn.Module) -> None:
    """Make sure that nothing was added to a module, on the device of what was not there."""
    found = module.named_parameters()
    if added := [name for name, held in found if held.is_meta and not isinstance(held, Away)]:
        raise ArgumentError(
            f"parameters were added to a {type(module).__name__} that stays on disk, and have no values",
            problems=added,
            hint="put adapters on blocks that are on a device (PEFT: layers_to_transform=, target_modules=), or give these"
            " blocks one in device_map=; after wait=False call model.wait() first",
        )


def spread(
    model: nn.Module,
    leaves: Iterable[Leaf],
    placement: Placement,
    *,
    blocks: Callable[[str], str],
    on_disk: OnDisk | None,
    dtypes: dict[str, torch.dtype],
    as_torch: AsTorch,
) -> None:
    """Make a model run whose parameters lie in several places.

    Args:
        model: It.
        leaves: All that a checkpoint may hold of it, in the order in which it runs.
        placement: Where each parameter is.
        blocks: Parameter -> the name of its block, or "".
        on_disk: What stays on disk; None: nothing.
        dtypes: Canonical dtype -> PyTorch's.
        as_torch: Makes a tensor of what comes from disk.
    """
    leaves = list(leaves)
    if on_disk is not None:
        _leave(leaves, placement, on_disk, dtypes)
    units: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        block = blocks(leaf.path)
        # One of a stack is called as one; of others, such as embeddings, each part is.
        called = block if block.rpartition(".")[2].isdigit() else leaf.path.rpartition(".")[0]
        units.setdefault(called, []).append(leaf)
    devices = {name: torch.device(placement.runs_on(unit[0].path).name) for name, unit in units.items()}
    hops = len(set(devices.values())) > 1 or any(device.type != "cpu" for device in devices.values())
    visits = {}
    for name, unit in units.items():
        device = devices[name]
        held = [(leaf, leaf.table[leaf.name]) for leaf in unit]
        away = [(leaf, value) for leaf, value in held if _is_elsewhere(value, device)]
        if away or hops:
            visits[name] = Visit(away, device, hops=hops, as_torch=as_torch)
    for name, visit in visits.items():
        visit.register(model.get_submodule(name))
    if on_disk is not None:
        tables = (visit.names for name, visit in visits.items() if _is_table(model.get_submodule(name)))
        on_disk.in_order(
            (visit.names for visit in visits.values()), tables=tuple(itertools.chain.from_iterable(tables))
        )


def _leave(
    leaves: Iterable[Leaf], placement: Placement, on_disk: OnDisk, dtypes: dict[str, torch.dtype]
) -> None:
    """Put an `Away` in the place of each parameter that stays on disk, and of those that are tied to it."""
    leaves = list(leaves)
    away: dict[int, Away] = {}
    for leaf in leaves:
        if leaf.path in on_disk.requests:
            held = leaf.table[leaf.name]
            dtype = dtypes[on_disk.requests[leaf.path].dtype]
            trains = held.requires_grad and dtype.is_floating_point
            device = torch.device(placement.runs_on(leaf.path).name)
            away[id(held)] = Away(on_disk, leaf.path, dtype, device, trains)
    found = [(leaf, away.get(id(leaf.table[leaf.name]))) for leaf in leaves]
    for leaf, stand_in in found:
        if stand_in is not None:
            leaf.table[leaf.name] = stand_in
