"""Classes of one's own in PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loadstone.config import Config
from loadstone_torch.layers import Embedding, Linear
from loadstone_torch.modeling import PreTrainedModel
from tests.own_classes import PebbleConfig, check, check_elsewhere, registered


class PebbleModel(PreTrainedModel):
    """Token ids to rows of a table."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.tokens = Embedding(self.spec.vocab_size, self.spec.hidden_size)

    def forward(self, input_ids: Tensor) -> Any:
        """(B, T) -> `last_hidden_state` (B, T, C)."""
        return self.result(True, last_hidden_state=self.tokens(input_ids))


class PebbleForCausalLM(PreTrainedModel):
    """Scores every token of the vocabulary."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.model = self.build_base(config)
        self.lm_head = Linear(self.spec.hidden_size, self.spec.vocab_size)

    def forward(self, input_ids: Tensor) -> Any:
        """(B, T) -> `logits` (B, T, V)."""
        return self.result(True, logits=self.lm_head(self.model(input_ids).last_hidden_state))


def test_classes_of_ones_own(tmp_path: Path) -> None:
    check("torch", PebbleModel, PebbleForCausalLM, tmp_path)
    check_elsewhere("torch", tmp_path)


def test_they_are_modules_as_ours_are(tmp_path: Path) -> None:
    with registered({"torch": {"": PebbleModel, "CausalLM": PebbleForCausalLM}}):
        model = PebbleForCausalLM(PebbleConfig()).eval()
        ids = torch.tensor([[1, 2, 3]])
        torch.save(model, tmp_path / "model.pt")
        again = torch.load(tmp_path / "model.pt", weights_only=False)
        assert torch.equal(again(ids).logits, model(ids).logits)
        exported = torch.export.export(model, (ids,)).module()
        assert torch.equal(exported(ids).logits, model(ids).logits)
