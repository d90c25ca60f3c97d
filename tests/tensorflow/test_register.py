"""Classes of one's own in TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loadstone.config import Config
from loadstone_tensorflow.layers import Embedding, Linear
from loadstone_tensorflow.modeling import PreTrainedModel
from tests.own_classes import PebbleConfig, check, check_elsewhere, registered


class TFPebbleModel(PreTrainedModel):
    """Token ids to rows of a table."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.tokens = Embedding(self.spec.vocab_size, self.spec.hidden_size)

    def forward(self, input_ids: Any, training: bool = False) -> Any:
        """(B, T) -> `last_hidden_state` (B, T, C)."""
        return self.result(True, last_hidden_state=self.tokens(input_ids))


class TFPebbleForCausalLM(PreTrainedModel):
    """Scores every token of the vocabulary."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.model = self.build_base(config)
        self.lm_head = Linear(self.spec.hidden_size, self.spec.vocab_size)

    def forward(self, input_ids: Any, training: bool = False) -> Any:
        """(B, T) -> `logits` (B, T, V)."""
        return self.result(True, logits=self.lm_head(self.model(input_ids).last_hidden_state))


def test_classes_of_ones_own(tmp_path: Path) -> None:
    check("tensorflow", TFPebbleModel, TFPebbleForCausalLM, tmp_path)
    check_elsewhere("tensorflow", tmp_path)


def test_keras_makes_them_again() -> None:
    with registered({"tensorflow": {"": TFPebbleModel, "CausalLM": TFPebbleForCausalLM}}):
        model = TFPebbleForCausalLM(PebbleConfig())
        assert type(TFPebbleForCausalLM.from_config(model.get_config())) is TFPebbleForCausalLM
