"""Echo in plain numpy."""

from __future__ import annotations

from typing import Any

import numpy as np

from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone.outputs import ModelOutput
from loadstone_example.architecture import ECHO
from loadstone_example.modeling import PlainModel


class PlainEchoModel(PlainModel):
    """Token ids to normalised embeddings."""

    def __init__(self, config: Config, prefix: str = "") -> None:
        super().__init__(config)
        self.prefix = prefix
        self.declare(f"{prefix}tokens.weight", (self.spec.vocab_size, self.spec.hidden_size))
        self.declare(f"{prefix}norm.weight", (self.spec.hidden_size,))

    def __call__(self, input_ids: Any) -> ModelOutput:
        """(B, T) -> `last_hidden_state` (B, T, C)."""
        x = self[f"{self.prefix}tokens.weight"][np.asarray(input_ids)]
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
        return ModelOutput(last_hidden_state=x * self[f"{self.prefix}norm.weight"])


class PlainEchoForCausalLM(PlainEchoModel):
    """Scores every token of the vocabulary."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, prefix="model.")
        self.declare("lm_head.weight", (self.spec.vocab_size, self.spec.hidden_size))

    def __call__(self, input_ids: Any) -> ModelOutput:
        """(B, T) -> `logits` (B, T, V)."""
        return ModelOutput(logits=super().__call__(input_ids).last_hidden_state @ self["lm_head.weight"].T)


add_classes(globals(), [ECHO], prefix="Plain")
