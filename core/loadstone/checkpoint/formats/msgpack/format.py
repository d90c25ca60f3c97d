"""A checkpoint that transformers' Flax classes wrote: one file, or shards and the index that says which array lies where."""

from __future__ import annotations

from loadstone.checkpoint.formats.foreign import Foreign
from loadstone.checkpoint.formats.msgpack.files import read_file
from loadstone.checkpoint.formats.msgpack.writer import MsgpackWriter
from loadstone.checkpoint.formats.safetensors import Header
from loadstone.checkpoint.formats.writer import Writer
from loadstone.source import Snapshot


class Msgpack(Foreign):
    """`flax_model.msgpack` is taken before `flax_model.msgpack.index.json`."""

    stem, ending, dialect = "flax_model", ".msgpack", "flax"

    def writer(self) -> Writer:
        """Return what writes it."""
        return MsgpackWriter()

    def read(self, snapshot: Snapshot, file: str) -> Header:
        """Walk through one file."""
        return read_file(snapshot, file)
