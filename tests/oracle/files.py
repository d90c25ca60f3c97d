"""Files of checkpoints, changed as a fault or a careless tool would change them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

WEIGHTS = "model.safetensors"


def tensors(folder: Path, file: str = WEIGHTS) -> dict[str, np.ndarray]:
    """Return the tensors of a file as the safetensors library reads them."""
    return load_file(folder / file)


def rewrite(
    folder: Path, held: dict[str, np.ndarray], file: str = WEIGHTS, metadata: dict[str, str] | None = None
) -> None:
    """Replace a file of tensors, as the safetensors library writes it."""
    save_file(held, folder / f"{file}.new", metadata={"format": "pt"} | (metadata or {}))
    (folder / f"{file}.new").replace(folder / file)


def edit_config(folder: Path, **fields: Any) -> None:
    """Set keys of config.json; None removes one."""
    values = json.loads((folder / "config.json").read_text()) | fields
    kept = {key: value for key, value in values.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))
