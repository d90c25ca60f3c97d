"""`torch.jit.trace` takes models as they are, and what it makes computes the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import loadstone
from tests.oracle import load

CASES = (
    "bert-base",
    "llama-causal-lm",
    "llama-causal-lm-multi-head",
    "mistral-causal-lm",
    "gemma2-causal-lm",
    "gpt2-base",
)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("case", CASES)
def test_a_traced_model_computes_the_same(case: str, attention: str) -> None:
    (class_name,) = (row.class_name for row in load.cases() if row.name == case)
    model: Any = getattr(loadstone, class_name).from_pretrained(
        load.folder(case), attn_implementation=attention, return_dict=False, use_cache=False
    )
    ids = torch.randint(3, 60, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    with torch.no_grad():
        traced = torch.jit.trace(model, (ids, mask))
        longer, padded = torch.cat((ids, ids), dim=1), torch.cat((mask, mask), dim=1)
        padded[0, -3:] = 0
        for inputs in ((ids, mask), (longer, padded)):
            expected = model(*inputs)[0]
            torch.testing.assert_close(traced(*inputs)[0], expected, rtol=0, atol=1e-6)
