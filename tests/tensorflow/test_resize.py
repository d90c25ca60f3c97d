"""Resizing a vocabulary: every name that is tied to it follows."""

from __future__ import annotations

from typing import Any

import pytest

from loadstone.backend import get_backend
from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone_tensorflow.layers import Embedding, Layer, Linear
from loadstone_tensorflow.modeling import PreTrainedModel
from tests.shared_vocabulary import TRIO, TrioConfig, check_put, check_resizing, offer


class Stack(Layer):
    """An encoder or a decoder: its name of the words."""

    def __init__(self, spec: Any) -> None:
        super().__init__()
        self.embed_tokens = Embedding(spec.vocab_size, spec.hidden_size)


class TFTrioForCausalLM(PreTrainedModel):
    """Words under four names."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.shared = Embedding(self.spec.vocab_size, self.spec.hidden_size)
        self.encoder, self.decoder = Stack(self.spec), Stack(self.spec)
        self.lm_head = Linear(self.spec.hidden_size, self.spec.vocab_size)


add_classes(globals(), [TRIO], prefix="TF")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rows", [23, 11])
def test_every_tied_name_follows(rows: int, tied: bool, monkeypatch: Any, tmp_path: Any) -> None:
    offer(monkeypatch)
    model = TFTrioForCausalLM(TrioConfig(tie_word_embeddings=tied), seed=0)
    check_resizing(model, get_backend("tensorflow"), tmp_path, rows, tied)


def test_a_tensor_of_another_shape_is_put_nowhere_and_resizing_is_a_verb_of_its_own(monkeypatch: Any) -> None:
    offer(monkeypatch)
    check_put(TFTrioForCausalLM(TrioConfig(tie_word_embeddings=False), seed=0), get_backend("tensorflow"))
