"""GPT-2, whose projections are stored as [in, out]. Source: Radford et al. 2019, "Language Models are Unsupervised
Multitask Learners".
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import ClassVar

from loadstone.architectures.names import AttentionNames, EmbeddingNames, FeedForwardNames, Names
from loadstone.architectures.parts import (
    AttentionSpec,
    EmbeddingSpec,
    FeedForwardSpec,
    LayerSpec,
    NormSpec,
)
from loadstone.architectures.records import Accent, Architecture, Head, Tie
from loadstone.architectures.specs import (
    NEUTRAL,
    NEUTRAL_CACHE,
    NEUTRAL_WINDOWS,
    TIED_STATES,
    DecoderSpec,
    activation,
    check_between,
    check_rates,
    check_sizes,
    classifier_spec,
    divides,
    is_causal,
)
from loadstone.checkpoint.recipe import Unstack
from loadstone.config import Config, derived


class GPT2Config(Config):
    """Configuration of GPT-2. Keys and defaults are transformers'."""

    model_type = "gpt2"
    spellings: ClassVar[Mapping[str, str]] = {
        **Config.spellings,
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }
    neutral: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **NEUTRAL,
        **TIED_STATES,
        **NEUTRAL_CACHE,
        **NEUTRAL_WINDOWS,
        "add_cross_attention": (False,),
    }

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int = derived(lambda config: 4 * config.n_embd)
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    add_cross_attention: bool = False
    classifier_dropout: float | None = None
    hidden_dropout: float | None = None
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256


SIZES = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner")


NAMES = Names(
    embeddings=EmbeddingNames(words="wte", positions="wpe", types="wte", dropout="drop"),
    layers="h",
    attention=AttentionNames(
        qkv="attn.c_attn", output="attn.c_proj", dropout="attn.resid_dropout", before="ln_1"
    ),
    feed_forward=FeedForwardNames(up="mlp.c_fc", down="mlp.c_proj", dropout="mlp.dropout", before="ln_2"),
    norm="ln_f",
)


PROJECTIONS = (
    "h.{}.attn.c_attn.weight",
    "h.{}.attn.c_proj.weight",
    "h.{}.mlp.c_fc.weight",
    "h.{}.mlp.c_proj.weight",
)
"""TensorFlow's have them as they are stored."""

BIASES = ("h.{}.attn.c_attn.bias", "h.{}.attn.c_proj.bias", "h.{}.mlp.c_fc.bias", "h.{}.mlp.c_proj.bias")
"""Of the projections; TensorFlow's have an axis of one more."""


def gpt2_spec(config: Config) -> DecoderSpec:
    """Resolve a GPT-2 configuration."""
    config = config.get_text_config()
    check_sizes(config, *SIZES)
    check_rates(config, "resid_pdrop", "embd_pdrop", "attn_pdrop", "classifier_dropout", "hidden_dropout")
    check_between(config, "layer_norm_epsilon", "initializer_range")
    head_dim = divides(config, "n_embd", "n_head")
    dropout = next((d for d in (config.classifier_dropout, config.hidden_dropout) if d is not None), 0.1)
    scale = head_dim**-0.5 if config.scale_attn_weights else 1.0
    norm = NormSpec(kind="layer", eps=config.layer_norm_epsilon)

    @functools.cache
    def layer(divisor: int) -> LayerSpec:
        return LayerSpec(
            attention=AttentionSpec(
                num_heads=config.n_head,
                num_kv_heads=config.n_head,
                head_dim=head_dim,
                scale=scale / divisor,
                dropout=config.attn_pdrop,
                output_dropout=config.resid_pdrop,
                transposed=True,
            ),
            feed_forward=FeedForwardSpec(
                size=config.n_inner,
                activation=activation(config.activation_function),
                dropout=config.resid_pdrop,
                transposed=True,
            ),
            norm=norm,
        )

    by_layer = config.scale_attn_by_inverse_layer_idx
    return DecoderSpec(
        hidden_size=config.n_embd,
        layers=tuple(layer(index + 1 if by_layer else 1) for index in range(config.n_layer)),
        norm=norm,
        names=NAMES,
        embeddings=EmbeddingSpec(
            vocab_size=config.vocab_size,
            pad_token_id=None,
            positions=config.n_positions,
            dropout=config.embd_pdrop,
        ),
        causal=is_causal(config),
        classifier=classifier_spec(config, dropout=dropout),
    )


def _head(task: str, *new: str, class_name: str = "", ties: tuple[Tie, ...] = (), output: str = "") -> Head:
    name = class_name or f"GPT2For{task}"
    return Head(task=task, class_name=name, prefix="transformer", new=(new,), ties=ties, output=output)


ARCHITECTURES = (
    Architecture(
        model_type="gpt2",
        family="gpt2",
        config=GPT2Config,
        spec=gpt2_spec,
        heads=(
            Head(task="", class_name="GPT2Model", prefix=""),
            _head(
                "CausalLM",
                "lm_head.weight",
                class_name="GPT2LMHeadModel",
                ties=(Tie(name="lm_head.weight", to="transformer.wte.weight"),),
                output="lm_head",
            ),
            _head("SequenceClassification", "score.weight"),
            _head("TokenClassification", "classifier.weight", "classifier.bias"),
            _head("QuestionAnswering", "qa_outputs.weight", "qa_outputs.bias"),
        ),
        embedding="wte",
        ignored=("h.{}.attn.bias", "h.{}.attn.masked_bias"),
        spoken={
            "tensorflow": Accent(
                steps=dict.fromkeys(BIASES, (Unstack(0, 0),)), leaves=dict.fromkeys(PROJECTIONS, "weight")
            ),
            "flax": Accent(),
        },
        no_split=("h.{}",),
        layers=("n_layer",),
        sizes=SIZES,
    ),
)
