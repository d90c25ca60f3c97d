"""Several sequences in one row."""

from typing import Any

import numpy as np
import torch

from tests.oracle.packed import PackedSuite


class TestPacked(PackedSuite):
    backend = "torch"

    @torch.no_grad()
    def logits(self, model: Any, ids: np.ndarray, **inputs: Any) -> np.ndarray:
        given = {n: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for n, v in inputs.items()}
        return model(torch.from_numpy(ids), **given).logits.numpy()

    @torch.no_grad()
    def traced(self, model: Any, ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        example = {
            "input_ids": torch.from_numpy(ids),
            "position_ids": torch.zeros_like(torch.from_numpy(ids)),
        }
        exported = torch.export.export(model, (), {**example, "use_cache": False}).module()
        given = {"input_ids": torch.from_numpy(ids), "position_ids": torch.from_numpy(positions)}
        return exported(**given, use_cache=False).logits.numpy()
