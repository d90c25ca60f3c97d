"""The backend contract in PyTorch."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from loadstone.backend import (
    STRATEGIES,
    Backend,
    Capabilities,
    Device,
    Parameter,
    Placement,
    host_memory,
    must_fit,
    unknown_device,
)
from loadstone.dtypes import DTYPES
from loadstone.errors import ArgumentError, BackendError, PlacementError, nearest
from loadstone.read.tensor import HostTensor
from loadstone_torch.blocks.away import Away, Leaf, spread
from loadstone_torch.layers import BatchNorm, RotaryEmbedding, without_memory

if TYPE_CHECKING:
    from loadstone.backend.adoption import Adoption
    from loadstone.config import Config
    from loadstone.read.on_disk import OnDisk

TORCH_DTYPES = {name: getattr(torch, name) for name in DTYPES if hasattr(torch, name)}
NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}


class TorchBackend(Backend):
    """PyTorch: parameters alias host memory at any address that suits their element."""

    name = "torch"
    capabilities = Capabilities(
        alignment=0, aliases=True, dtypes=frozenset(TORCH_DTYPES), spreads=True, arrives=True
    )

    def devices(self) -> tuple[Device, ...]:
        """Return the CUDA devices, then the CPU."""
        found = []
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            found.append(Device(name=f"cuda:{index}", is_host=False, free=free, total=total))
        free, total = host_memory()
        return (*found, Device(name="cpu", is_host=True, free=free, total=total))

    def device(self, requested: object) -> Device:
        """Return a device from a `torch.device`, its string, or a CUDA index.

        None is where PyTorch puts parameters now: `with torch.device(...)`, `torch.set_default_device` and accelerate's
        `init_empty_weights` say it, and else it is the CPU.
        """
        if requested is None:
            requested = _default_device()
        try:
            named = f"cuda:{requested}" if isinstance(requested, int) else requested
            wanted = torch.device(named)
        except (RuntimeError, TypeError) as error:
            raise PlacementError(
                f"PyTorch knows no device {requested!r}",
                expected='e.g. "cpu", "cuda", "cuda:1" or a torch.device',
                hint=nearest(str(requested), ("cpu", "cuda", "disk", *STRATEGIES))
                or "name a device, or leave device_map out",
            ) from error
        if wanted.type == "meta":
            return Device(name="meta", is_host=False, free=0, total=0, is_abstract=True)
        name = "cuda:0" if wanted == torch.device("cuda") else str(wanted)
        known = {device.name: device for device in self.devices()}
        if name not in known:
            raise unknown_device(name, tuple(known.values()))
        return known[name]

    def build(
        self,
        model_class: type,
        config: Config,
        *,
        dtype: str,
        attn_implementation: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Build on the meta device."""
        if not _is_ours(model_class):
            from loadstone_torch import custom

            model = custom.build(model_class, config, TORCH_DTYPES[dtype], options or {})
        else:
            with without_memory(TORCH_DTYPES[dtype]):
                model = model_class(config, **(options or {}))
        if attn_implementation is not None:
            model.set_attn_implementation(attn_implementation)
        return model

    def parameters(self, model: nn.Module) -> dict[str, Parameter]:
        """List what `state_dict` would hold."""
        found = {}
        shapes: dict[torch.Size, tuple[int, ...]] = {}  # a few between thousands of parameters
        devices: dict[torch.device, str] = {}
        # Names are interned, as those of stored tensors are: one text of two equal ones is held.
        for path, module in _walk(model):
            for leaf, value in _persistent(module):
                name, shape = sys.intern(path + leaf), value.shape
                shape = shapes.setdefault(shape, tuple(shape))
                if value.dtype not in NAMES:
                    check_plain({name: value})
                dtype = NAMES[value.dtype]
                device = None if value.is_meta else devices.setdefault(value.device, str(value.device))
                found[name] = Parameter(
                    name=name, shape=shape, dtype=dtype, identity=id(value), device=device
                )
        return found

    def put(self, model: nn.Module, name: str, tensor: HostTensor, device: Device) -> None:
        """Set a parameter or buffer; on the CPU it shares the tensor's memory."""
        module, leaf = _owner(model, name)
        old = module._parameters.get(leaf)
        held = module._buffers[leaf] if old is None else old
        must_fit(tensor, held.shape)
        value = _as_torch(tensor)
        if not device.is_host:
            value = value.to(device.name)
        if isinstance(held, Away) and held.comes_once:
            held.become(value, parameter=old is not None)
            return
        _in_memory(name, held)
        if not held.is_meta:
            held.data = value  # whoever holds it, a visit among others, has the value too
        elif old is None:
            module._buffers[leaf] = value
        else:
            trains = old.requires_grad and value.is_floating_point()
            module._parameters[leaf] = nn.Parameter(value, requires_grad=trains)

    def resize(self, model: nn.Module, name: str, shape: tuple[int, ...]) -> None:
        """Make a parameter or buffer of that shape, on the meta device."""
        module, leaf = _owner(model, name)
        old = module._parameters.get(leaf)
        _in_memory(name, module._buffers.get(leaf) if old is None else old)
        if old is None:
            module._buffers[leaf] = module._buffers[leaf].new_empty(shape, device="meta")
            return
        value = torch.empty(shape, dtype=old.dtype, device="meta")
        module._parameters[leaf] = nn.Parameter(value, requires_grad=old.requires_grad)
        _resize(module, value)

    def tie(self, model: nn.Module, name: str, to: str) -> None:
        """Make both modules hold one `nn.Parameter`."""
        module, leaf = _owner(model, name)
        other, other_leaf = _owner(model, to)
        shared = other._parameters[other_leaf]
        module._parameters[leaf] = shared
        _resize(module, shared)

    def spread(
        self,
        model: nn.Module,
        placement: Placement,
        *,
        blocks: Callable[[str], str],
        on_disk: OnDisk | None,
    ) -> None:
        """Register the hooks that bring parameters to the modules that need them."""
        leaves = [
            Leaf(module, leaf, path + leaf)
            for path, module in _walk(model)
            for leaf, _ in _persistent(module)
        ]
        spread(
            model,
            leaves,
            placement,
            blocks=blocks,
            on_disk=on_disk,
            dtypes=TORCH_DTYPES,
            as_torch=_as_torch,
        )

    def compute(self, model: nn.Module, placement: Placement) -> tuple[str, ...]:
        """Fill the rotary frequencies; where parameters get no values, buffers may: running statistics too."""
        names = []
        for path, module in _walk(model):
            if isinstance(module, RotaryEmbedding):
                module.compute(_for_buffers(placement.runs_on(f"{path}inv_freq")))
                names.append(f"{path}inv_freq")
            elif isinstance(module, BatchNorm) and (device := placement.runs_on(path[:-1])).is_abstract:
                module.compute(_for_buffers(device))
        if not _is_ours(type(model)):
            from loadstone_torch import custom

            names += custom.compute(model, lambda name: _for_buffers(placement.runs_on(name)))
        return tuple(dict.fromkeys(names))

    def finish(self, model: nn.Module, *, training: bool) -> None:
        """Check that nothing is left on the meta device, and set the mode."""
        left, unusual = [], []
        for path, module in _walk(model):
            for held in (module._parameters, module._buffers):
                for leaf, value in held.items():
                    if value is not None and value.is_meta and not isinstance(value, Away):
                        left.append(path + leaf)
            # As `model.train` does, which takes a second for 100,000 modules; and `vars` would make each a dictionary.
            object.__setattr__(module, "training", training)
            if type(module).train is not nn.Module.train:
                unusual.append(module)
        if left:
            raise BackendError(f"{len(left)} parameter(s) or buffer(s) have no memory", problems=left)
        for module in unusual:
            module.train(training)

    def read(self, model: nn.Module, name: str) -> HostTensor:
        """Return a parameter's or buffer's bytes: its own memory on the CPU, a copy of it from elsewhere."""
        module, leaf = _owner(model, name)
        held = module._parameters.get(leaf)
        value = module._buffers[leaf] if held is None else held
        if isinstance(value, Away):
            value.on_disk.receive((value.path,))
        if isinstance(value, Away):
            return dataclasses.replace(value.on_disk.read(value.path), name=name)
        return self.to_host(name, value)

    def adopt(
        self, model_class: type, config: Config, *, task: str, stored: Collection[str] | None
    ) -> Adoption:
        """Adopt classes on our own base class, and on transformers'."""
        from loadstone_torch import custom

        if hasattr(model_class, "backend_name") and not getattr(model_class, "adopted", False):
            draws = functools.partial(custom.drawn_by_its_class, self)
            from loadstone.backend.own import adopted

            return adopted(self, model_class, config, task, stored, draws)
        return custom.adopt(self, model_class, config, task, stored)

    def draw_seed(self, rngs: object = None) -> int:
        """Draw from PyTorch's global generator, which `torch.manual_seed` sets."""
        if rngs is not None:
            return super().draw_seed(rngs)
        return int(torch.randint(2**63 - 1, (), dtype=torch.int64, device="cpu"))

    def to_host(self, name: str, value: torch.Tensor) -> HostTensor:
        """Return a tensor on the host: its own memory where it lies there in one piece.

        Raises:
            ArgumentError: If it is of a kind whose numbers cannot be read (`DTensor`, torchao's).
        """
        check_plain({name: value})
        value = value.detach().cpu().contiguous()
        data = value.reshape(-1).view(torch.uint8).numpy()
        return HostTensor(name=name, dtype=NAMES[value.dtype], shape=tuple(value.shape), data=data)


def _is_ours(model_class: type) -> bool:
    return model_class.__module__.partition(".")[0] == __package__


def _for_buffers(device: Device) -> torch.device:
    # accelerate's `init_empty_weights` leaves buffers where they would be without it.
    return torch.empty(0).device if device.is_abstract else torch.device(device.name)


def _default_device() -> torch.device:
    """Return where a module made now would have its parameters."""
    probe = nn.Module()
    probe.register_parameter("here", nn.Parameter(torch.empty(0)))
    return probe.here.device


def check_plain(tensors: Mapping[str, torch.Tensor]) -> None:
    """Make sure that the numbers of tensors simply lie in memory.

    Raises:
        ArgumentError: If some do not.
        BackendError: If some have no numbers.
    """
    if empty := [name for name, value in tensors.items() if value.is_meta]:
        raise BackendError(
            "a model has no values: it lies on the device 'meta'",
            problems=empty,
            hint="load it with from_pretrained, or give it memory first: model.to_empty(device=...)",
        )
    others = {name: value for name, value in tensors.items() if not _is_plain(value)}
    if others:
        raise ArgumentError(
            "tensors whose numbers do not simply lie in memory cannot be saved as they are",
            problems=[f"{name}: {_kind(value)}" for name, value in others.items()],
            hint="pass plain tensors as state_dict=: gather sharded ones (DTensor: full_tensor()), "
            "dequantise quantised ones (torchao: dequantize())",
        )


def _is_plain(value: torch.Tensor) -> bool:
    own = type(value).__torch_dispatch__ is torch.Tensor.__torch_dispatch__
    return own and value.layout is torch.strided and value.dtype in NAMES


def _kind(value: torch.Tensor) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}, {value.dtype}, {value.layout}, on {value.device}"


def _persistent(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    if not module._buffers:
        return [(n, v) for n, v in module._parameters.items() if v is not None]
    buffers = [(n, b) for n, b in module._buffers.items() if n not in module._non_persistent_buffers_set]
    return [(n, v) for n, v in [*module._parameters.items(), *buffers] if v is not None]


def _walk(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield every module under each of its names, a dot at its end, in the order of `named_modules`.

    Nested generators as there take seconds for 100,000 modules.
    """
    pending = [("", model)]
    while pending:
        path, module = pending.pop()
        yield path, module
        if module._modules:
            children = [(f"{path}{name}.", m) for name, m in module._modules.items() if m is not None]
            pending += reversed(children)


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    *path, leaf = name.split(".")
    for segment in path:
        model = model._modules[segment]
    return model, leaf


def _in_memory(name: str, value: torch.Tensor | None) -> None:
    """Make sure that a parameter does not stay on disk, from where it would come again in the place of another value."""
    if isinstance(value, Away):
        raise ArgumentError(
            "a parameter that stays on disk takes no other value",
            where=name,
            hint="load the model with all of it on a device",
        )


def _resize(module: nn.Module, value: torch.Tensor | None) -> None:
    """Keep what a layer says of itself true to its weight."""
    if value is not None and isinstance(module, nn.Embedding):
        module.num_embeddings = len(value)
        if module.padding_idx is not None and module.padding_idx >= len(value):
            module.padding_idx = None
    elif value is not None and isinstance(module, nn.Linear):
        module.out_features = len(value)


def _as_torch(tensor: HostTensor) -> torch.Tensor:
    dtype = TORCH_DTYPES[tensor.dtype]
    if not len(tensor.data):
        return torch.empty(tensor.shape, dtype=dtype, device="cpu")
    # torch warns of a read-only buffer that it could write to; ours are private copies or copy-on-write.
    data = tensor.data if tensor.data.flags.writeable else np.array(tensor.data)
    # What a tensor is made from stays alive: rather the mapping that all share than a view of it for each.
    whole = data.base if isinstance(data.base, np.ndarray) else data
    offset = _address(data) - _address(whole)
    return torch.frombuffer(whole, dtype=dtype, count=len(data) // dtype.itemsize, offset=offset).view(
        tensor.shape
    )


def _address(data: np.ndarray[Any, Any]) -> int:
    return data.__array_interface__["data"][0]
