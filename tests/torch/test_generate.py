"""Generation."""

from typing import Any

import numpy as np
import pytest
import torch

import loadstone
from tests.oracle import load
from tests.oracle.generate import CASE, GenerateSuite


@pytest.fixture(scope="module")
def model() -> Any:
    return loadstone.LlamaForCausalLM.from_pretrained(load.folder(CASE))


class TestGenerate(GenerateSuite):
    backend = "torch"

    def native(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array)

    def array(self, value: torch.Tensor) -> np.ndarray:
        return value.detach().numpy()
