"""RoBERTa and XLM-RoBERTa: BERT's encoder with positions counted from the padding token.

Sources: Liu et al. 2019, https://arxiv.org/abs/1907.11692; Conneau et al. 2019, https://arxiv.org/abs/1911.02116.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from loadstone.architectures import bert
from loadstone.architectures.bert import POOLER, RENAMED, SIZES, BertConfig, encoder_spec
from loadstone.architectures.dialects import WORDS
from loadstone.architectures.names import ScoreNames
from loadstone.architectures.records import Accent, Architecture, Head, Tie
from loadstone.architectures.specs import EncoderSpec
from loadstone.config import Config


class RobertaConfig(BertConfig):
    """Configuration of RoBERTa. Keys and defaults are transformers'."""

    model_type = "roberta"

    vocab_size: int = 50265
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2


class XLMRobertaConfig(RobertaConfig):
    """Configuration of XLM-RoBERTa."""

    model_type = "xlm-roberta"

    vocab_size: int = 30522


NAMES = dataclasses.replace(
    bert.NAMES,
    scores=ScoreNames(
        dense="lm_head.dense", norm="lm_head.layer_norm", decoder="lm_head.decoder", bias="lm_head.bias"
    ),
)


def roberta_spec(config: Config) -> EncoderSpec:
    """Resolve a RoBERTa configuration."""
    return encoder_spec(
        config,
        names=NAMES,
        positions_skip_padding=True,
        score_act="gelu",
        classifier={"choice_dropout": config.get_text_config().hidden_dropout_prob},
    )


MASKED_LM = (
    "lm_head.dense.weight",
    "lm_head.dense.bias",
    "lm_head.layer_norm.weight",
    "lm_head.layer_norm.bias",
    "lm_head.bias",
    "lm_head.decoder.weight",
    "lm_head.decoder.bias",
)
CLASSIFICATION = (
    "classifier.dense.weight",
    "classifier.dense.bias",
    "classifier.out_proj.weight",
    "classifier.out_proj.bias",
)
CLASSIFIER = ("classifier.weight", "classifier.bias")
TIES = (
    Tie(name="lm_head.decoder.weight", to="roberta.embeddings.word_embeddings.weight"),
    Tie(name="lm_head.decoder.bias", to="lm_head.bias"),
)


def _heads(stem: str) -> tuple[Head, ...]:
    pooler = tuple(f"roberta.{name}" for name in POOLER)

    def head(task: str, *new: tuple[str, ...], ties: tuple[Tie, ...] = (), output: str = "") -> Head:
        return Head(
            task=task, class_name=f"{stem}For{task}", prefix="roberta", new=new, ties=ties, output=output
        )

    return (
        Head(task="", class_name=f"{stem}Model", prefix="", new=(POOLER,), options=("add_pooling_layer",)),
        head("MaskedLM", MASKED_LM, ties=TIES, output="lm_head.decoder"),
        head("SequenceClassification", CLASSIFICATION),
        head("TokenClassification", CLASSIFIER),
        head("QuestionAnswering", ("qa_outputs.weight", "qa_outputs.bias")),
        head("MultipleChoice", pooler, CLASSIFIER),
    )


TENSORFLOW = Accent(leaves={WORDS: "weight"}, holders=("lm_head",))
SPOKEN = {"tensorflow": TENSORFLOW, "flax": Accent()}


def like_roberta(stem: str, config: type[Config], *, spoken: Mapping[str, Accent] = SPOKEN) -> Architecture:
    """Return the architecture of RoBERTa under another name.

    Args:
        stem: What its class names begin with.
        config: Its configuration class.
        spoken: Which frameworks transformers had classes of it for, and how these speak.
    """
    return Architecture(
        model_type=config.model_type,
        family="roberta",
        config=config,
        spec=roberta_spec,
        heads=_heads(stem),
        embedding="embeddings.word_embeddings",
        ignored=("embeddings.position_ids", "embeddings.token_type_ids"),
        renamed=RENAMED,
        spoken=spoken,
        no_split=("encoder.layer.{}", "embeddings"),
        sizes=SIZES,
    )


ARCHITECTURES = (like_roberta("Roberta", RobertaConfig), like_roberta("XLMRoberta", XLMRobertaConfig))
