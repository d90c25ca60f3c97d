"""Writing down the answers of an architecture that transformers does not have. numpy only."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from loadstone.checkpoint.formats.second_opinion import store_arrays
from loadstone.testing.case import Case
from loadstone.testing.store import MANIFEST, REFERENCE

Arrays = Mapping[str, np.ndarray]


def save_answers(
    case: Case, folder: Path, fingerprint: str, weights: Arrays, runs: Mapping[str, tuple[Arrays, Arrays]]
) -> None:
    """Write a case's folder as the oracle does: what the function that `Case.answers` names ends with.

    Args:
        case: It.
        folder: Empty.
        fingerprint: What that function was given.
        weights: The checkpoint's tensors by their names.
        runs: Name of each run -> what is fed, and what the right answers are, by the names of the output's fields.
    """
    config = {"model_type": case.model_type, "architectures": [case.class_name], **case.config}
    (folder / "config.json").write_text(json.dumps(config))
    store_arrays(folder, weights)
    arrays = {
        f"{run}/{kind}/{name}": array
        for run, both in runs.items()
        for kind, named in zip(("input", "output"), both, strict=True)
        for name, array in named.items()
    }
    np.savez(folder / REFERENCE, **arrays)  # type: ignore[arg-type]
    manifest = {"case": case.name, "class_name": case.class_name, "fingerprint": fingerprint}
    (folder / MANIFEST).write_text(json.dumps(manifest))
