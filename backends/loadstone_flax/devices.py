"""JAX's devices by the names that device maps have for them, and arrays on them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax

if TYPE_CHECKING:
    from loadstone.read.tensor import HostTensor


def default_device() -> jax.Device:
    """Return where JAX puts a new array here and now."""
    named = jax.config.jax_default_device
    if named is None:
        return jax.local_devices()[0]
    return named if isinstance(named, jax.Device) else jax.local_devices(backend=named)[0]


@functools.cache
def spellings() -> dict[str, jax.Device]:
    """Return every name of a device -> the device: those of JAX's default platform, and the host's last."""
    found: dict[str, jax.Device] = {}
    devices = dict.fromkeys([*jax.local_devices(), *jax.local_devices(backend="cpu")])
    for device in sorted(devices, key=lambda device: device.platform == "cpu"):
        name = name_of(device)
        for spelling in (name, f"{device.platform}:{device.id}", name.partition(":")[0], device.platform):
            found.setdefault(spelling, device)
    return found


def name_of(device: jax.Device) -> str:
    """Return the name that a device has in reports."""
    if device.platform == "cpu" and device.id == 0:
        return "cpu"
    # A GPU calls itself "cuda:0"; what other devices call themselves is no name.
    return str(device) if device.platform == "gpu" else f"{device.platform}:{device.id}"


def narrowed() -> frozenset[str]:
    """Return the dtypes that JAX makes 32-bit ones in silence, unless the process has told it otherwise."""
    return frozenset() if jax.config.jax_enable_x64 else frozenset({"int64", "uint64", "float64"})


def as_jax(tensor: HostTensor, device: str) -> Any:
    """Return a tensor as an array on a device; on the CPU it shares the tensor's memory, which nobody may write to any more.

    What JAX would narrow stays a numpy array.
    """
    array = tensor.numpy()
    array.flags.writeable = False
    if tensor.dtype in narrowed():
        return array
    wanted = spellings()[device]
    # An array on the default device is left free to follow those that it meets, as JAX's own are.
    return jax.device_put(array, None if wanted == default_device() else wanted)
