"""A checkpoint of one file as the format's own library reads and writes it: what ours is held against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

FILE = "model.safetensors"


def stored_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Return every tensor of a folder's checkpoint, in dtypes that numpy knows.

    Raises:
        OSError: If there is no such file.
        SafetensorError: If it is damaged.
    """
    from safetensors.numpy import load_file

    return load_file(folder / FILE)


def store_arrays(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a checkpoint of one file into a folder.

    Raises:
        OSError: If it cannot be written.
    """
    from safetensors.numpy import save_file

    save_file(dict(arrays), folder / FILE, metadata={"format": "pt"})
