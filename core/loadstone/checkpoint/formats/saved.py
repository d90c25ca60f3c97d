"""What our own saves note in the files of weights: to which save a file belongs, and the sum of its bytes."""

from __future__ import annotations

from loadstone.checkpoint.formats.names import BLANK, GENERATION, SHA256
from loadstone.checkpoint.formats.safetensors import read_file_header
from loadstone.checkpoint.formats.shards import parse_shard_map
from loadstone.errors import CheckpointError
from loadstone.source import Snapshot


def generation_of(snapshot: Snapshot, entry: str) -> str | None:
    """Return the save to which an entry belongs, the one file or an index; None for a foreign or unreadable one."""
    if not snapshot.has(entry):
        return None
    try:
        if entry.endswith(".json"):
            return parse_shard_map(snapshot.read_text(entry), file=entry, where=snapshot.location).generation
        return read_file_header(snapshot, entry)[1].get(GENERATION)
    except CheckpointError:
        return None


def sum_of(snapshot: Snapshot, file: str) -> str | None:
    """Return the SHA-256 that a file of weights notes of itself, None where it notes none.

    Raises:
        CheckpointError: If its header is damaged.
    """
    if not file.endswith(".safetensors"):
        return None
    return read_file_header(snapshot, file)[1].get(SHA256)


def blank(header: bytes) -> bytes:
    """Return a header as it was when the sum was taken: before the values of our own keys were known."""
    for key, zeros in BLANK.items():
        start = header.find(f'"{key}":"'.encode()) + len(key) + 4
        header = header[:start] + zeros.encode() + header[start + len(zeros) :]
    return header
