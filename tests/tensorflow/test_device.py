"""Models go where TensorFlow puts variables."""

from __future__ import annotations

import pytest

import loadstone
from loadstone_tensorflow.framework import keras, tf
from tests.oracle import load

CONFIG = loadstone.LlamaConfig(
    vocab_size=29, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2
)


@pytest.mark.parametrize("scope", [tf.device, keras.device])
def test_the_scope_of_a_device_is_followed(scope: object) -> None:
    with scope("CPU:1"):
        made = [
            loadstone.TFLlamaModel(CONFIG),
            loadstone.TFLlamaModel.from_config(CONFIG),
            loadstone.TFBertModel.from_pretrained(load.folder("bert-base")),
        ]
        elsewhere = loadstone.TFBertModel.from_pretrained(load.folder("bert-base"), device_map="CPU:0")
    assert [model.device for model in made] == ["CPU:1"] * 3
    assert elsewhere.device == "CPU:0"
    assert loadstone.TFLlamaModel(CONFIG).device == "CPU:0"
