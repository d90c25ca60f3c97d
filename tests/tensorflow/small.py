"""Two small models, and what they are called with."""

from typing import Any

import numpy as np

import loadstone
from tests.oracle import load

CLASSIFIER = "bert-sequence-classification-single-label"
IDS = np.random.default_rng(0).integers(6, 67, (12, 9))
CLASSES = IDS[:, 0] % 3


def classifier(**arguments: Any) -> Any:
    return loadstone.TFBertForSequenceClassification.from_pretrained(load.folder(CLASSIFIER), **arguments)


def shallow(**arguments: Any) -> Any:
    """Return the same classifier with one layer and weights drawn alike each time: its training is traced in half the time."""
    config = loadstone.BertConfig.from_pretrained(load.folder(CLASSIFIER), num_hidden_layers=1, **arguments)
    return loadstone.TFBertForSequenceClassification.from_config(config, seed=0)


def decoder(**arguments: Any) -> Any:
    return loadstone.TFLlamaForCausalLM.from_pretrained(load.folder("llama-causal-lm"), **arguments)
