"""The backend contract in Flax."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from loadstone.backend import (
    Backend,
    Capabilities,
    Device,
    Parameter,
    Placement,
    host_memory,
    must_fit,
    unknown_device,
)
from loadstone.config import Config
from loadstone.dtypes import DTYPES
from loadstone.errors import ArgumentError, BackendError
from loadstone.read.tensor import HostTensor
from loadstone_flax.blocks.away import Away, spread
from loadstone_flax.devices import as_jax, default_device, name_of, narrowed, spellings
from loadstone_flax.layers import named_parameters, submodule, without_memory
from loadstone_flax.modeling import PreTrainedModel

if TYPE_CHECKING:
    from loadstone.backend.adoption import Adoption
    from loadstone.read.on_disk import OnDisk

JAX_DTYPES = {name: getattr(jnp, name) for name, d in DTYPES.items() if d.bits >= 8 and hasattr(jnp, name)}
NAMES = {np.dtype(dtype): name for name, dtype in JAX_DTYPES.items()}


class _CapabilitiesNow:
    """Capabilities whose `host_dtypes` are what JAX narrows when they are read: that may change after an import."""

    def __init__(self, **fixed: Any) -> None:
        self.fixed = fixed

    def __get__(self, backend: Backend | None, owner: type[Backend]) -> Capabilities:
        return Capabilities(**self.fixed, host_dtypes=narrowed())


class FlaxBackend(Backend):
    """Flax: parameters alias host memory at addresses that are multiples of 64."""

    name = "flax"
    capabilities = _CapabilitiesNow(
        alignment=64, aliases=True, dtypes=frozenset(JAX_DTYPES), spreads=True, arrives=True
    )

    def devices(self) -> tuple[Device, ...]:
        """Return the accelerators of JAX's default platform, then the CPU."""
        return tuple(_described(device) for device in dict.fromkeys(spellings().values()))

    def device(self, requested: object) -> Device:
        """Return a device from a `jax.Device`, a platform ("gpu"), or its name ("cuda:0"); None is JAX's default."""
        if requested is None:
            return _described(default_device())
        wanted = name_of(requested) if isinstance(requested, jax.Device) else str(requested)
        if wanted not in spellings():
            raise unknown_device(requested, self.devices())
        return _described(spellings()[wanted])

    def build(
        self,
        model_class: type,
        config: Config,
        *,
        dtype: str,
        attn_implementation: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Build with shapes in the place of arrays.

        Raises:
            ArgumentError: If JAX would compute in another dtype.
        """
        if dtype in narrowed():
            raise ArgumentError(
                f"JAX computes in float32 where it is given {dtype}",
                hint='ask for dtype="float32", or call jax.config.update("jax_enable_x64", True) first',
            )
        with without_memory(JAX_DTYPES[dtype]):
            model = model_class(config, **(options or {}))
        if attn_implementation is not None:
            model.set_attn_implementation(attn_implementation)
        return model

    def parameters(self, model: nnx.Module) -> dict[str, Parameter]:
        """List the variables of the model's modules."""
        found = {}
        for name, variable in named_parameters(model):
            value = variable.get_raw_value()
            held_by = value.devices() if isinstance(value, jax.Array) else ()
            found[name] = Parameter(
                name=name,
                shape=value.shape,
                dtype=NAMES[value.dtype],
                identity=id(variable),
                device=name_of(next(iter(held_by))) if len(held_by) == 1 else None,
            )
        return found

    def put(self, model: nnx.Module, name: str, tensor: HostTensor, device: Device) -> None:
        """Set a parameter; on the CPU it shares the tensor's memory, which nobody may write to any more."""
        variable = _variable(model, name)
        held = variable.get_raw_value()
        must_fit(tensor, held.shape)
        value = as_jax(tensor, device.name)
        if isinstance(held, Away) and held.comes_once:
            held.came = value
        elif isinstance(held, Away) or _is_awaited(model, name):
            raise _takes_no_other_value(name)
        variable.set_raw_value(value)

    def resize(self, model: nnx.Module, name: str, shape: tuple[int, ...]) -> None:
        """Put a shape in the place of a parameter's array."""
        variable = _variable(model, name)
        if isinstance(variable.get_raw_value(), Away):
            raise _takes_no_other_value(name)
        variable.set_raw_value(jax.ShapeDtypeStruct(shape, variable.get_raw_value().dtype))

    def tie(self, model: nnx.Module, name: str, to: str) -> None:
        """Make both modules hold one `nnx.Param`."""
        path, _, leaf = name.rpartition(".")
        setattr(submodule(model, path), leaf, _variable(model, to))

    def spread(
        self,
        model: PreTrainedModel,
        placement: Placement,
        *,
        blocks: Callable[[str], str],
        on_disk: OnDisk | None,
    ) -> None:
        """Put shapes in the place of what stays on disk, and tell the model where each of its parts runs."""
        model.set_calls(spread(model, placement, blocks=blocks, on_disk=on_disk, dtypes=JAX_DTYPES))
        if on_disk is not None and not placement.is_spread and on_disk.awaited.issuperset(on_disk.requests):
            on_disk.afterwards(lambda: model.set_calls(()))  # then it is one program

    def compute(self, model: nnx.Module, placement: Placement) -> tuple[str, ...]:
        """Do nothing: rope tables are constants of the compiled program, and dropout is seeded by `model.train()`."""
        return ()

    def finish(self, model: PreTrainedModel, *, training: bool) -> None:
        """Check that every parameter has memory, set the mode, and seed dropout in training mode."""
        held = (jax.Array, np.ndarray, Away)
        left = [name for name, p in named_parameters(model) if not isinstance(p.get_raw_value(), held)]
        if left:
            raise BackendError(f"{len(left)} parameter(s) have no memory", problems=left)
        if training:
            model.train()

    def read(self, model: nnx.Module, name: str) -> HostTensor:
        """Return a parameter's bytes: its own memory on the CPU, a copy of it from elsewhere."""
        value = _variable(model, name).get_value()
        if isinstance(value, Away):
            value = value.arrived()
        if isinstance(value, Away):
            return dataclasses.replace(value.on_disk.read(value.path), name=name)
        return self.to_host(name, value)

    def adopt(
        self, model_class: type, config: Config, *, task: str, stored: Collection[str] | None
    ) -> Adoption:
        """Adopt classes on our own base class."""
        from loadstone.backend.own import adopted

        return adopted(self, model_class, config, task, stored, self._drawn)

    def _drawn(
        self, model_class: type, config: Config, dtypes: Mapping[str, str], seed: int
    ) -> Mapping[str, HostTensor]:
        """Make a second model, in which what the class's constructor or its `_init_weights` fills has arrays, and the rest none."""
        model = self.build(model_class, copy.deepcopy(config), dtype="float32")
        held = {name: variable for name, variable in named_parameters(model) if name in dtypes}
        from loadstone.backend.own import last_word

        last_word(model, held)
        values = {name: variable.get_raw_value() for name, variable in held.items()}
        return {
            name: self.to_host(name, value.astype(JAX_DTYPES[dtypes[name]]))
            for name, value in values.items()
            if isinstance(value, jax.Array)
        }

    def draw_seed(self, rngs: object = None) -> int:
        """Draw from an `nnx.Rngs` (its stream `params`), a stream of such, or a key; JAX has no generator of its own."""
        if rngs is None:
            return super().draw_seed()
        stream = rngs.params if isinstance(rngs, nnx.Rngs) else rngs
        key = stream() if isinstance(stream, nnx.RngStream) else stream
        if not isinstance(key, jax.Array) or isinstance(key, jax.core.Tracer):
            raise ArgumentError(
                "rngs is no source of random numbers",
                expected="an nnx.Rngs, or a key of jax.random, outside of jax.jit",
                found=type(key).__name__,
                hint="pass nnx.Rngs(0), or seed=, a number",
            )
        return int.from_bytes(np.asarray(jax.random.key_data(key)).tobytes(), "little")


def _variable(model: nnx.Module, name: str) -> nnx.Variable[Any]:
    found: nnx.Variable[Any] = submodule(model, name)
    return found


def _is_awaited(model: PreTrainedModel, name: str) -> bool:
    report = model.load_report
    return report is not None and report.on_its_way is not None and name in report.on_its_way.awaited


def _takes_no_other_value(name: str) -> ArgumentError:
    """Make the error for what comes from disk in the place of another value."""
    return ArgumentError(
        "a parameter that stays on disk, or is still being read, takes no other value",
        where=name,
        hint="load the model with all of it on a device; after wait=False call model.wait() first",
    )


def _described(device: jax.Device) -> Device:
    if device.platform == "cpu":
        free, total = host_memory()
    else:
        memory = device.memory_stats() or {}
        total = memory.get("bytes_limit", 0)
        free = total - memory.get("bytes_in_use", 0)
    return Device(name=name_of(device), is_host=device.platform == "cpu", free=free, total=total)
