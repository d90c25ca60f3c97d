"""BERT. Source: Devlin et al. 2018, https://arxiv.org/abs/1810.04805."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from loadstone.architectures.records import Architecture, Head, Tie
from loadstone.architectures.specs import (
    NEUTRAL,
    TIED_STATES,
    EncoderSpec,
    activation,
    check_between,
    check_pad_token,
    check_rates,
    check_sizes,
    classifier_spec,
    divides,
    refuse_causal,
)
from loadstone.config import Config


class BertConfig(Config):
    """Configuration of BERT. Keys and defaults are transformers'."""

    model_type = "bert"
    neutral: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **NEUTRAL,
        **TIED_STATES,
        "text_config": (),
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
    }

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    position_embedding_type: str = "absolute"
    classifier_dropout: float | None = None
    is_decoder: bool = False
    add_cross_attention: bool = False


SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "type_vocab_size",
)


def encoder_spec(config: Config) -> EncoderSpec:
    """Resolve a BERT configuration."""
    config = config.get_text_config()
    check_sizes(config, *SIZES)
    divides(config, "hidden_size", "num_attention_heads")
    check_rates(config, "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
    check_between(config, "layer_norm_eps", "initializer_range")
    check_pad_token(config)
    refuse_causal(config)
    dropout = config.classifier_dropout
    return EncoderSpec(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        activation=activation(config.hidden_act),
        norm_eps=config.layer_norm_eps,
        max_positions=config.max_position_embeddings,
        type_vocab_size=config.type_vocab_size,
        hidden_dropout=config.hidden_dropout_prob,
        attention_dropout=config.attention_probs_dropout_prob,
        initializer_range=config.initializer_range,
        pad_token_id=config.pad_token_id,
        classifier=classifier_spec(
            config, dropout=config.hidden_dropout_prob if dropout is None else dropout
        ),
    )


POOLER = ("pooler.dense.weight", "pooler.dense.bias")
TRANSFORM = (
    "cls.predictions.transform.dense.weight",
    "cls.predictions.transform.dense.bias",
    "cls.predictions.transform.LayerNorm.weight",
    "cls.predictions.transform.LayerNorm.bias",
)
MASKED_LM = (
    *TRANSFORM,
    "cls.predictions.bias",
    "cls.predictions.decoder.weight",
    "cls.predictions.decoder.bias",
)
NEXT_SENTENCE = ("cls.seq_relationship.weight", "cls.seq_relationship.bias")
CLASSIFIER = ("classifier.weight", "classifier.bias")
DECODER_TIES = (
    Tie(name="cls.predictions.decoder.weight", to="bert.embeddings.word_embeddings.weight"),
    Tie(name="cls.predictions.decoder.bias", to="cls.predictions.bias"),
)


def _heads() -> tuple[Head, ...]:
    pooler = tuple(f"bert.{name}" for name in POOLER)

    def head(task: str, *new: tuple[str, ...]) -> Head:
        scores = MASKED_LM in new
        return Head(
            task=task,
            class_name=f"BertFor{task}",
            prefix="bert",
            new=new,
            ties=DECODER_TIES if scores else (),
            output="cls.predictions.decoder" if scores else "",
        )

    return (
        Head(task="", class_name="BertModel", prefix="", new=(POOLER,), options=("add_pooling_layer",)),
        head("PreTraining", pooler, MASKED_LM, NEXT_SENTENCE),
        head("MaskedLM", MASKED_LM),
        head("NextSentencePrediction", pooler, NEXT_SENTENCE),
        head("SequenceClassification", pooler, CLASSIFIER),
        head("TokenClassification", CLASSIFIER),
        head("QuestionAnswering", ("qa_outputs.weight", "qa_outputs.bias")),
        head("MultipleChoice", pooler, CLASSIFIER),
    )


ARCHITECTURES = (
    Architecture(
        model_type="bert",
        family="bert",
        config=BertConfig,
        spec=encoder_spec,
        heads=_heads(),
        embedding="embeddings.word_embeddings",
        ignored=("embeddings.position_ids", "embeddings.token_type_ids"),
        renamed=(("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")),
        no_split=("encoder.layer.{}", "embeddings"),
        sizes=SIZES,
    ),
)
