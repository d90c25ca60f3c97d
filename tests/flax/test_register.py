"""Classes of one's own in Flax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flax import nnx
from jax import Array

from loadstone.config import Config
from loadstone_flax.layers import Embedding, Linear
from loadstone_flax.modeling import PreTrainedModel
from tests.own_classes import PebbleConfig, check, check_elsewhere, registered


class FlaxPebbleModel(PreTrainedModel):
    """Token ids to rows of a table."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.tokens = Embedding(self.spec.vocab_size, self.spec.hidden_size)

    def forward(self, input_ids: Array) -> Any:
        """(B, T) -> `last_hidden_state` (B, T, C)."""
        return self.result(True, last_hidden_state=self.tokens(input_ids))


class FlaxPebbleForCausalLM(PreTrainedModel):
    """Scores every token of the vocabulary."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.model = self.build_base(config)
        self.lm_head = Linear(self.spec.hidden_size, self.spec.vocab_size)

    def forward(self, input_ids: Array) -> Any:
        """(B, T) -> `logits` (B, T, V)."""
        return self.result(True, logits=self.lm_head(self.model(input_ids).last_hidden_state))


def test_classes_of_ones_own(tmp_path: Path) -> None:
    check("flax", FlaxPebbleModel, FlaxPebbleForCausalLM, tmp_path)
    check_elsewhere("flax", tmp_path)


def test_they_split_and_merge_as_ours_do() -> None:
    with registered({"flax": {"": FlaxPebbleModel, "CausalLM": FlaxPebbleForCausalLM}}):
        graph, state = nnx.split(FlaxPebbleForCausalLM(PebbleConfig()))
        assert nnx.merge(graph, state).architecture_and_head()[1].task == "CausalLM"
