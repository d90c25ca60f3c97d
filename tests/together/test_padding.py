"""What comes of padding that sees no token before it is the same in every framework: nothing random, and no not-a-number."""

import torch  # isort: skip

from typing import Any

import numpy as np
import pytest

import loadstone
from loadstone.architectures import find_head
from loadstone.backend import get_backend
from loadstone.testing import assert_close
from tests.oracle.files import SIZES

BACKENDS = ("torch", "flax", "tensorflow")
WINDOWED = {"sliding_window": 3, "layer_types": ["sliding_attention", "full_attention"]}
CONFIGS = {
    "LlamaModel": SIZES["llama"],
    "MistralModel": {**SIZES["llama"], **WINDOWED},
    "GPT2Model": {"vocab_size": 61, "n_positions": 32, "n_embd": 24, "n_layer": 2, "n_head": 3},
    "BertModel": SIZES["bert"],
    "DistilBertModel": {"vocab_size": 61, "dim": 24, "hidden_dim": 40, "n_layers": 2, "n_heads": 3},
}
IDS = np.arange(5, 32).reshape(3, 9)
DECODERS = ("LlamaModel", "MistralModel", "GPT2Model")
LEFT, ALL = np.ones_like(IDS), np.ones_like(IDS)
LEFT[:2, :4] = LEFT[1, 4:7] = 0
ALL[0, :4] = ALL[1] = 0  # of an encoder's sequence something is real


def states(name: str, backend: str, implementation: str) -> list[np.ndarray]:
    """Return all hidden states of a model of one seed, the same in every framework."""
    found = find_head(name)
    assert found is not None
    config = loadstone.AutoConfig.for_model(found[0].model_type, **CONFIGS[name])
    model: Any = get_backend(backend).model_class(*found)
    model = model.from_config(config, seed=3)
    if backend != "tensorflow":
        model.eval()
    model.set_attn_implementation(implementation)
    inputs = {"input_ids": IDS, "attention_mask": ALL if name in DECODERS else LEFT}
    if backend == "torch":
        inputs = {name: torch.from_numpy(value) for name, value in inputs.items()}
    output = model(**inputs, output_hidden_states=True)
    return [np.asarray(s.detach() if backend == "torch" else s) for s in output.hidden_states]


@pytest.mark.parametrize("name", CONFIGS)
def test_padding_that_sees_nothing(name: str) -> None:
    expected = states(name, "torch", "eager")
    for backend in BACKENDS:
        for layer, (state, wanted) in enumerate(zip(states(name, backend, "sdpa"), expected, strict=True)):
            assert_close(state, wanted, what=f"{backend}: layer {layer}")
