"""The formats that loadstone brings."""

from __future__ import annotations

from collections.abc import Iterable

from loadstone.plugins.hookspecs import FormatRecord, hookimpl


@hookimpl
def loadstone_formats() -> Iterable[FormatRecord]:
    """Offer safetensors, then what torch, Keras, Flax and numpy write, and torch's distributed checkpoints and Orbax's."""
    yield FormatRecord(
        name="safetensors",
        endings=(".safetensors",),
        format="loadstone.checkpoint.formats.sharded:Safetensors",
    )
    yield FormatRecord(
        name="pickle",
        endings=(".bin", ".pt", ".pth"),
        format="loadstone.checkpoint.formats.pickle.format:Pickle",
    )
    yield FormatRecord(
        name="h5",
        endings=(".h5",),
        format="loadstone.checkpoint.formats.hdf5.format:Hdf5",
    )
    yield FormatRecord(
        name="msgpack",
        endings=(".msgpack",),
        format="loadstone.checkpoint.formats.msgpack.format:Msgpack",
    )
    yield FormatRecord(
        name="npz",
        endings=(".npz",),
        format="loadstone.checkpoint.formats.npz.format:Npz",
    )
    yield FormatRecord(
        name="dcp",
        endings=(".distcp", ".metadata"),
        format="loadstone.checkpoint.formats.dcp.format:Dcp",
    )
    yield FormatRecord(
        name="orbax",
        endings=("_METADATA", ".ocdbt"),
        format="loadstone.checkpoint.formats.orbax.format:Orbax",
    )
