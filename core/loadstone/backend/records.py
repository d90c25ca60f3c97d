"""What core and a backend tell each other: what a backend can do, what a parameter is, what a device is."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What core may ask of a backend.

    Attributes:
        alignment: Bytes to which the address of a host tensor must be aligned for the backend to alias it;
            0: the size of its element suffices.
        aliases: A put on the host device keeps the host tensor's memory and copies nothing.
        dtypes: Canonical names of the dtypes that a parameter may have.
        host_dtypes: Those of them that the framework would narrow: such a parameter stays a numpy array on the host,
            and the report says so.
        spreads: Whether its models run with parameters in several places, or on disk.
        arrives: Whether its models run while they are read, so that `put` also takes what `OnDisk.awaited` names after `spread`.
    """

    alignment: int
    aliases: bool
    dtypes: frozenset[str]
    host_dtypes: frozenset[str] = frozenset()
    spreads: bool = False
    arrives: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a model: a leaf that a checkpoint may hold.

    Attributes:
        name: Its name in checkpoints.
        shape: Sizes of its axes, as in checkpoints.
        dtype: Canonical dtype that it has now.
        identity: Equal for two names of one (tied) parameter, different for two parameters; None: tied to nothing.
        device: Name of the device that holds it, where `put` would move it to the one that it names; None: on none, or `put`
            leaves it where it is.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    identity: int | None = None
    device: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A place for parameters.

    Attributes:
        name: As the framework spells it, e.g. "cpu" or "cuda:0".
        is_host: Whether it computes in the process's own memory.
        free: Bytes that can be allocated now.
        total: Bytes it has.
        is_abstract: It holds shapes and dtypes and no values, as PyTorch's "meta" does.
    """

    name: str
    is_host: bool
    free: int
    total: int
    is_abstract: bool = False
