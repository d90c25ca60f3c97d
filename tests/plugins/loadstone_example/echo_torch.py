"""Echo in PyTorch."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone_example.architecture import ECHO
from loadstone_torch.layers import Embedding, Linear, RMSNorm
from loadstone_torch.modeling import PreTrainedModel


class EchoModel(PreTrainedModel):
    """Token ids to normalised embeddings."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.tokens = Embedding(self.spec.vocab_size, self.spec.hidden_size)
        self.norm = RMSNorm(self.spec.hidden_size, 1e-6)

    def forward(self, input_ids: Tensor) -> Any:
        """(B, T) -> `last_hidden_state` (B, T, C)."""
        return self.result(True, last_hidden_state=self.norm(self.tokens(input_ids)))


class EchoForCausalLM(PreTrainedModel):
    """Scores every token of the vocabulary."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.model = EchoModel(config)
        self.lm_head = Linear(self.spec.hidden_size, self.spec.vocab_size, bias=False)

    def forward(self, input_ids: Tensor) -> Any:
        """(B, T) -> `logits` (B, T, V)."""
        return self.result(True, logits=self.lm_head(self.model(input_ids).last_hidden_state))


add_classes(globals(), [ECHO])
