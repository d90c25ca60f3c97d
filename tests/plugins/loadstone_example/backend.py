"""The backend contract in plain numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from loadstone.backend import Backend, Capabilities, Device, Parameter, Placement, must_fit
from loadstone.config import Config
from loadstone.errors import BackendError, PlacementError
from loadstone.read.tensor import HostTensor
from loadstone_example.modeling import PlainModel, Slot, build_dtype


class PlainBackend(Backend):
    """Arrays alias host memory as it is."""

    name = "plain"
    capabilities = Capabilities(
        alignment=0, aliases=True, dtypes=frozenset({"float64", "float32", "float16", "bfloat16"})
    )

    def devices(self) -> tuple[Device, ...]:
        """Return the host."""
        return (Device(name="cpu", is_host=True, free=1 << 40, total=1 << 40),)

    def device(self, requested: object) -> Device:
        """Return the host."""
        if requested not in (None, "cpu"):
            raise PlacementError(f"numpy knows no device {requested!r}")
        return self.devices()[0]

    def build(
        self,
        model_class: type,
        config: Config,
        *,
        dtype: str,
        attn_implementation: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Build a model of empty slots."""
        token = build_dtype.set(dtype)
        try:
            return model_class(config, **(options or {}))
        finally:
            build_dtype.reset(token)

    def parameters(self, model: PlainModel) -> dict[str, Parameter]:
        """List the slots."""
        return {
            name: Parameter(name=name, shape=slot.shape, dtype=slot.dtype, identity=id(slot))
            for name, slot in model.slots.items()
        }

    def put(self, model: PlainModel, name: str, tensor: HostTensor, device: Device) -> None:
        """Set a slot; its memory is the tensor's."""
        slot = model.slots[name]
        must_fit(tensor, slot.shape)
        slot.value, slot.dtype = tensor.numpy(), tensor.dtype

    def resize(self, model: PlainModel, name: str, shape: tuple[int, ...]) -> None:
        """Empty a slot, and give it another shape."""
        slot = model.slots[name]
        slot.value, slot.shape = None, shape

    def tie(self, model: PlainModel, name: str, to: str) -> None:
        """Make both names share a slot."""
        model.slots[name] = model.slots[to]

    def compute(self, model: PlainModel, placement: Placement) -> tuple[str, ...]:
        """There is nothing to compute."""
        return ()

    def finish(self, model: PlainModel, *, training: bool) -> None:
        """Check that every slot has a value."""
        left = [name for name, slot in model.slots.items() if slot.value is None]
        if left:
            raise BackendError(f"{len(left)} parameter(s) have no memory", problems=left)
        model.training = training

    def read(self, model: PlainModel, name: str) -> HostTensor:
        """Return a slot's own memory."""
        slot: Slot = model.slots[name]
        assert slot.value is not None
        data = np.ascontiguousarray(slot.value).reshape(-1).view(np.uint8)
        return HostTensor(name=name, dtype=slot.dtype, shape=slot.shape, data=data)
