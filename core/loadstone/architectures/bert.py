"""BERT. Source: Devlin et al. 2018, https://arxiv.org/abs/1810.04805."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from loadstone.architectures.dialects import WORDS
from loadstone.architectures.names import AttentionNames, EmbeddingNames, FeedForwardNames, Names, ScoreNames
from loadstone.architectures.parts import (
    AttentionSpec,
    EmbeddingSpec,
    FeedForwardSpec,
    LayerSpec,
    NormSpec,
    PoolerSpec,
    ScoreSpec,
)
from loadstone.architectures.records import Accent, Architecture, Head, Tie
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


NAMES = Names(
    embeddings=EmbeddingNames(
        words="embeddings.word_embeddings",
        positions="embeddings.position_embeddings",
        types="embeddings.token_type_embeddings",
        norm="embeddings.LayerNorm",
        dropout="embeddings.dropout",
    ),
    layers="encoder.layer",
    attention=AttentionNames(
        query="attention.self.query",
        key="attention.self.key",
        value="attention.self.value",
        output="attention.output.dense",
        dropout="attention.output.dropout",
        after="attention.output.LayerNorm",
    ),
    feed_forward=FeedForwardNames(
        up="intermediate.dense",
        down="output.dense",
        dropout="output.dropout",
        after="output.LayerNorm",
    ),
    pooler="pooler.dense",
    scores=ScoreNames(
        dense="cls.predictions.transform.dense",
        norm="cls.predictions.transform.LayerNorm",
        decoder="cls.predictions.decoder",
        bias="cls.predictions.bias",
    ),
)


def encoder_spec(
    config: Config,
    *,
    names: Names = NAMES,
    positions_skip_padding: bool = False,
    score_act: str | None = None,
    classifier: Mapping[str, Any] | None = None,
) -> EncoderSpec:
    """Resolve a configuration as BERT's are.

    Args:
        config: The configuration.
        names: Where checkpoints have the parts.
        positions_skip_padding: Positions are counted as RoBERTa counts them.
        score_act: The activation in the masked-token head, where it is not that of the layers.
        classifier: Fields of `ClassifierSpec` that a family has otherwise.
    """
    config = config.get_text_config()
    check_sizes(config, *SIZES)
    head_dim = divides(config, "hidden_size", "num_attention_heads")
    check_rates(config, "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
    check_between(config, "layer_norm_eps", "initializer_range")
    check_pad_token(config)
    refuse_causal(config)
    norm = NormSpec(kind="layer", eps=config.layer_norm_eps, of_sum=True)
    layer = LayerSpec(
        attention=AttentionSpec(
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_attention_heads,
            head_dim=head_dim,
            scale=head_dim**-0.5,
            dropout=config.attention_probs_dropout_prob,
            output_dropout=config.hidden_dropout_prob,
        ),
        feed_forward=FeedForwardSpec(
            size=config.intermediate_size,
            activation=activation(config.hidden_act),
            dropout=config.hidden_dropout_prob,
        ),
        norm=norm,
    )
    embeddings = EmbeddingSpec(
        vocab_size=config.vocab_size,
        pad_token_id=config.pad_token_id,
        positions=config.max_position_embeddings,
        positions_skip_padding=positions_skip_padding,
        types=config.type_vocab_size,
        norm=norm,
        dropout=config.hidden_dropout_prob,
    )
    dropout = config.classifier_dropout
    dropout = config.hidden_dropout_prob if dropout is None else dropout
    return EncoderSpec(
        hidden_size=config.hidden_size,
        layers=(layer,) * config.num_hidden_layers,
        norm=None,
        names=names,
        embeddings=embeddings,
        pooler=PoolerSpec(size=config.hidden_size, activation="tanh"),
        scores=ScoreSpec(
            size=config.hidden_size, activation=activation(score_act or config.hidden_act), norm=norm
        ),
        classifier=classifier_spec(config, **{"dropout": dropout, **(classifier or {})}),
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
RENAMED = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
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
        renamed=RENAMED,
        spoken={
            "tensorflow": Accent(
                leaves={WORDS: "weight"},
                roots={"cls.predictions": "mlm___cls", "cls.seq_relationship": "nsp___cls"},
                holders=("mlm___cls",),
            ),
            "flax": Accent(),
        },
        no_split=("encoder.layer.{}", "embeddings"),
        sizes=SIZES,
    ),
)
