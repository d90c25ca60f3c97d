"""Models go where JAX puts arrays."""

from __future__ import annotations

import jax

import loadstone
from tests.oracle import load

CONFIG = loadstone.LlamaConfig(
    vocab_size=29, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2
)


def test_the_default_device_is_followed() -> None:
    first, second = jax.local_devices()
    with jax.default_device(second):
        made = [
            loadstone.FlaxLlamaModel(CONFIG),
            loadstone.FlaxLlamaModel.from_config(CONFIG),
            loadstone.FlaxBertModel.from_pretrained(load.folder("bert-base")),
        ]
    assert [model.device for model in made] == [second] * 3
    assert loadstone.FlaxLlamaModel(CONFIG).device == first
