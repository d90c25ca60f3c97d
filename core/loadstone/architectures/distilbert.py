"""DistilBERT. Source: Sanh et al. 2019, https://arxiv.org/abs/1910.01108."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from loadstone.architectures.dialects import WORDS
from loadstone.architectures.names import AttentionNames, EmbeddingNames, FeedForwardNames, Names, ScoreNames
from loadstone.architectures.parts import (
    AttentionSpec,
    EmbeddingSpec,
    FeedForwardSpec,
    LayerSpec,
    NormSpec,
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


class DistilBertConfig(Config):
    """Configuration of DistilBERT. Keys and defaults are transformers'."""

    model_type = "distilbert"
    spellings: ClassVar[Mapping[str, str]] = {
        **Config.spellings,
        "hidden_size": "dim",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
    }
    neutral: ClassVar[Mapping[str, tuple[object, ...]]] = {**NEUTRAL, **TIED_STATES, "text_config": ()}

    vocab_size: int = 30522
    max_position_embeddings: int = 512
    sinusoidal_pos_embds: bool = False
    n_layers: int = 6
    n_heads: int = 12
    dim: int = 768
    hidden_dim: int = 4 * 768
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation: str = "gelu"
    qa_dropout: float = 0.1
    seq_classif_dropout: float = 0.2
    pad_token_id: int | None = 0


SIZES = ("vocab_size", "dim", "hidden_dim", "n_layers", "n_heads", "max_position_embeddings")


NAMES = Names(
    embeddings=EmbeddingNames(
        words="embeddings.word_embeddings",
        positions="embeddings.position_embeddings",
        norm="embeddings.LayerNorm",
        dropout="embeddings.dropout",
    ),
    layers="transformer.layer",
    attention=AttentionNames(
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        output="attention.out_lin",
        after="sa_layer_norm",
    ),
    feed_forward=FeedForwardNames(
        up="ffn.lin1", down="ffn.lin2", dropout="ffn.dropout", after="output_layer_norm"
    ),
    scores=ScoreNames(dense="vocab_transform", norm="vocab_layer_norm", decoder="vocab_projector"),
    pre_classifier="pre_classifier",
)


def distilbert_spec(config: Config) -> EncoderSpec:
    """Resolve a DistilBERT configuration."""
    config = config.get_text_config()
    check_sizes(config, *SIZES)
    head_dim = divides(config, "dim", "n_heads")
    check_rates(config, "dropout", "attention_dropout", "qa_dropout", "seq_classif_dropout")
    check_between(config, "initializer_range")
    check_pad_token(config)
    refuse_causal(config)
    norm = NormSpec(kind="layer", eps=1e-12, of_sum=True)
    layer = LayerSpec(
        attention=AttentionSpec(
            num_heads=config.n_heads,
            num_kv_heads=config.n_heads,
            head_dim=head_dim,
            scale=head_dim**-0.5,
            dropout=config.attention_dropout,
        ),
        feed_forward=FeedForwardSpec(
            size=config.hidden_dim, activation=activation(config.activation), dropout=config.dropout
        ),
        norm=norm,
    )
    return EncoderSpec(
        hidden_size=config.dim,
        layers=(layer,) * config.n_layers,
        norm=None,
        names=NAMES,
        embeddings=EmbeddingSpec(
            vocab_size=config.vocab_size,
            pad_token_id=config.pad_token_id,
            positions=config.max_position_embeddings,
            norm=norm,
            dropout=config.dropout,
        ),
        scores=ScoreSpec(size=config.dim, activation=activation(config.activation), norm=norm),
        classifier=classifier_spec(
            config,
            dropout=config.seq_classif_dropout,
            token_dropout=config.dropout,
            answer_dropout=config.qa_dropout,
            activation="relu",
        ),
    )


CLASSIFIER = ("classifier.weight", "classifier.bias")
PRE_CLASSIFIER = ("pre_classifier.weight", "pre_classifier.bias")
MASKED_LM = (
    "vocab_transform.weight",
    "vocab_transform.bias",
    "vocab_layer_norm.weight",
    "vocab_layer_norm.bias",
    "vocab_projector.weight",
    "vocab_projector.bias",
)


def _head(task: str, *new: tuple[str, ...]) -> Head:
    tie = Tie(name="vocab_projector.weight", to="distilbert.embeddings.word_embeddings.weight")
    scores = MASKED_LM in new
    return Head(
        task=task,
        class_name=f"DistilBertFor{task}",
        prefix="distilbert",
        new=new,
        ties=(tie,) if scores else (),
        output="vocab_projector" if scores else "",
    )


ARCHITECTURES = (
    Architecture(
        model_type="distilbert",
        family="distilbert",
        config=DistilBertConfig,
        spec=distilbert_spec,
        heads=(
            Head(task="", class_name="DistilBertModel", prefix=""),
            _head("MaskedLM", MASKED_LM),
            _head("SequenceClassification", PRE_CLASSIFIER, CLASSIFIER),
            _head("TokenClassification", CLASSIFIER),
            _head("QuestionAnswering", ("qa_outputs.weight", "qa_outputs.bias")),
            _head("MultipleChoice", PRE_CLASSIFIER, CLASSIFIER),
        ),
        embedding="embeddings.word_embeddings",
        ignored=("embeddings.position_ids",),
        spoken={
            "tensorflow": Accent(leaves={WORDS: "weight"}, holders=("vocab_projector",)),
            "flax": Accent(),
        },
        no_split=("transformer.layer.{}",),
        layers=("n_layers",),
        sizes=SIZES,
    ),
)
