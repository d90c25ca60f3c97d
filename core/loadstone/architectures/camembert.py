"""CamemBERT: RoBERTa under another name. Source: Martin et al. 2019, https://arxiv.org/abs/1911.03894."""

from __future__ import annotations

from loadstone.architectures.roberta import TENSORFLOW, RobertaConfig, like_roberta


class CamembertConfig(RobertaConfig):
    """Configuration of CamemBERT. Keys and defaults are transformers'."""

    model_type = "camembert"

    vocab_size: int = 30522


ARCHITECTURES = (like_roberta("Camembert", CamembertConfig, spoken={"tensorflow": TENSORFLOW}),)
