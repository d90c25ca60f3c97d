"""ELECTRA: BERT's encoder with narrower words, and a head that finds words that were replaced.

Source: Clark et al. 2020, https://arxiv.org/abs/2003.10555.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from loadstone.architectures import bert
from loadstone.architectures.bert import BertConfig, encoder_spec
from loadstone.architectures.dialects import WORDS
from loadstone.architectures.names import ScoreNames
from loadstone.architectures.records import Accent, Architecture, Head, Tie
from loadstone.architectures.roberta import CLASSIFICATION
from loadstone.architectures.specs import EncoderSpec, check_rates, check_sizes
from loadstone.config import Config


class ElectraConfig(BertConfig):
    """Configuration of ELECTRA. Keys and defaults are transformers'."""

    model_type = "electra"
    neutral: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **BertConfig.neutral,
        "summary_type": ("first",),
        "summary_use_proj": (True,),
        "summary_proj_to_labels": (False,),
        "summary_activation": ("gelu",),
        "summary_first_dropout": (0,),
    }

    embedding_size: int = 128
    hidden_size: int = 256
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    summary_last_dropout: float = 0.1


NAMES = dataclasses.replace(
    bert.NAMES,
    pooler="",
    pre_classifier="sequence_summary.summary",
    scores=ScoreNames(
        dense="generator_predictions.dense",
        norm="generator_predictions.LayerNorm",
        decoder="generator_lm_head",
    ),
)


def electra_spec(config: Config) -> EncoderSpec:
    """Resolve an ELECTRA configuration; words as wide as the hidden states are not projected."""
    config = config.get_text_config()
    check_sizes(config, "embedding_size")
    check_rates(config, "summary_last_dropout")
    projected = config.embedding_size != config.hidden_size
    names = dataclasses.replace(
        NAMES,
        embeddings=dataclasses.replace(
            NAMES.embeddings, projection="embeddings_project" if projected else ""
        ),
    )
    spec = encoder_spec(
        config,
        names=names,
        score_act="gelu",
        classifier={"choice_dropout": config.summary_last_dropout or 0.0, "activation": "gelu"},
    )
    return dataclasses.replace(
        spec,
        pooler=None,
        embeddings=dataclasses.replace(spec.embeddings, size=config.embedding_size if projected else 0),
        scores=dataclasses.replace(spec.scores, size=config.embedding_size),
    )


SUMMARY = ("sequence_summary.summary.weight", "sequence_summary.summary.bias")
GENERATOR = (
    "generator_predictions.dense.weight",
    "generator_predictions.dense.bias",
    "generator_predictions.LayerNorm.weight",
    "generator_predictions.LayerNorm.bias",
    "generator_lm_head.weight",
    "generator_lm_head.bias",
)
DISCRIMINATOR = tuple(
    f"discriminator_predictions.{name}.{kind}"
    for name in ("dense", "dense_prediction")
    for kind in ("weight", "bias")
)


def _head(task: str, *new: tuple[str, ...]) -> Head:
    tie = Tie(name="generator_lm_head.weight", to="electra.embeddings.word_embeddings.weight")
    scores = GENERATOR in new
    return Head(
        task=task,
        class_name=f"ElectraFor{task}",
        prefix="electra",
        new=new,
        ties=(tie,) if scores else (),
        output="generator_lm_head" if scores else "",
    )


ARCHITECTURES = (
    Architecture(
        model_type="electra",
        family="electra",
        config=ElectraConfig,
        spec=electra_spec,
        heads=(
            Head(task="", class_name="ElectraModel", prefix=""),
            _head("PreTraining", DISCRIMINATOR),
            _head("MaskedLM", GENERATOR),
            _head("SequenceClassification", CLASSIFICATION),
            _head("TokenClassification", bert.CLASSIFIER),
            _head("QuestionAnswering", ("qa_outputs.weight", "qa_outputs.bias")),
            _head("MultipleChoice", SUMMARY, bert.CLASSIFIER),
        ),
        embedding="embeddings.word_embeddings",
        optional=("embeddings_project.weight", "embeddings_project.bias"),
        ignored=("embeddings.position_ids", "embeddings.token_type_ids"),
        renamed=bert.RENAMED,
        spoken={
            "tensorflow": Accent(leaves={WORDS: "weight"}, holders=("generator_lm_head",)),
            "flax": Accent(),
        },
        no_split=("encoder.layer.{}", "embeddings"),
        sizes=(*bert.SIZES, "embedding_size"),
    ),
)
