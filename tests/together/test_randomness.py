"""One seed gives the same values in every framework."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loadstone
from loadstone.backend import get_backend

BACKENDS = ("torch", "tensorflow", "flax")
CONFIG = loadstone.BertConfig(
    vocab_size=29, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2
)


def held(model: Any) -> dict[str, np.ndarray]:
    backend = get_backend(model.backend_name)
    return {name: backend.read(model, name).numpy().copy() for name in backend.parameters(model)}


@pytest.mark.parametrize("mean_resizing", [True, False])
def test_fresh_weights_and_new_rows_are_the_same_everywhere(mean_resizing: bool) -> None:
    found = []
    for backend in BACKENDS:
        model = loadstone.AutoModelForMaskedLM.from_config(CONFIG, backend=backend, seed=3)
        model.resize_token_embeddings(34, mean_resizing=mean_resizing, seed=4)
        found.append(held(model))
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, value in other.items():
            np.testing.assert_array_equal(value, found[0][name], err_msg=name)
    table = found[0]["bert.embeddings.word_embeddings.weight"]
    assert np.ptp(table[29:], axis=0).min() > 0
