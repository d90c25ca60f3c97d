"""Every architecture and task that PyTorch has, against transformers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tests.oracle import load
from tests.oracle.compare import assert_run
from tests.oracle.parity import ParitySuite, case_runs
from tests.oracle.real import RealSuite

torch.set_num_threads(1)


class TestTorch(ParitySuite, RealSuite):
    backend = "torch"

    def native(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(array))

    def array(self, value: torch.Tensor) -> np.ndarray:
        value = value.detach()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()

    def gradients(self, model: Any, arguments: Mapping[str, Any], names: list[str]) -> dict[str, np.ndarray]:
        model.zero_grad()
        model(**arguments).loss.backward()
        gradients = {name: self.array(model.get_parameter(name).grad) for name in names}
        model.zero_grad()
        return gradients

    @case_runs(("plain", "left"))
    def test_eager_and_sdpa_agree(self, case: str, run: str) -> None:
        recorded, model = load.run(case, run), self.model(case)
        model.set_attn_implementation("eager")
        try:
            fields = {n: v for n, v in recorded.outputs.items() if n not in ("hidden_states", "attentions")}
            output = self.arrays(model(**self.arguments(recorded.inputs)))
            assert output.keys() >= fields.keys()
            assert_run({**recorded.outputs, **output}, recorded, what=f"torch/{case}/eager")
        finally:
            model.set_attn_implementation("sdpa")
