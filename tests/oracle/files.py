"""Files of checkpoints, changed as a fault or a careless tool would change them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

WEIGHTS = "model.safetensors"
SIZES: dict[str, dict[str, Any]] = {
    "llama": {
        "vocab_size": 61,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    },
    "bert": {
        "vocab_size": 61,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
        "num_labels": 3,
    },
}
"""Model type -> the fields of a tiny configuration."""


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


def copied(source: Path, target: Path) -> Path:
    """Copy a checkpoint; the copy may be written to."""
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    target.chmod(0o755)
    return target
