"""Architectures: one file per family, holding what is true of it in every framework.

A family's file defines its configuration classes, the function that resolves a configuration into a typed spec,
and `ARCHITECTURES`, the records that the engine reads. Adding a family takes one file here and one in each
backend's `models` folder, and `make names`, which writes the table of names by which both are found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadstone.architectures.biases import BucketSpec, alibi_slopes
from loadstone.architectures.names import (
    AttentionNames,
    EmbeddingNames,
    FeedForwardNames,
    Names,
    ScoreNames,
    leaf,
    owner,
)
from loadstone.architectures.parts import (
    AttentionSpec,
    EmbeddingSpec,
    FeedForwardSpec,
    GrowthSpec,
    LayerSpec,
    NormSpec,
    PatchSpec,
    PoolerSpec,
    ScoreSpec,
)
from loadstone.architectures.records import Accent, Architecture, Head, Tie, generalise, matches
from loadstone.architectures.registry import (
    architecture_for,
    architecture_of,
    architectures,
    family,
    find_head,
    head_for,
    made_for,
    model_types,
    passed_over,
    unlisted,
)
from loadstone.architectures.rope import RopeGrowth, RopeSpec, rope_parameters, rope_spec
from loadstone.architectures.specs import (
    ClassifierSpec,
    DecoderSpec,
    EncoderSpec,
    StackSpec,
    activation,
    check_sizes,
    classifier_spec,
    divides,
    resolve_spec,
    said_numbers,
)
from loadstone.architectures.typos import meant
from loadstone.architectures.unfollowed import refuse_unfollowed
from loadstone.lazily import lazily

if TYPE_CHECKING:
    from loadstone.architectures.arrangements import Arrangement, Split
    from loadstone.architectures.dialects import DIALECTS, Dialect

__all__ = [
    "DIALECTS",
    "Accent",
    "Architecture",
    "Arrangement",
    "AttentionNames",
    "AttentionSpec",
    "BucketSpec",
    "ClassifierSpec",
    "DecoderSpec",
    "Dialect",
    "EmbeddingNames",
    "EmbeddingSpec",
    "EncoderSpec",
    "FeedForwardNames",
    "FeedForwardSpec",
    "GrowthSpec",
    "Head",
    "LayerSpec",
    "Names",
    "NormSpec",
    "PatchSpec",
    "PoolerSpec",
    "RopeGrowth",
    "RopeSpec",
    "ScoreNames",
    "ScoreSpec",
    "Split",
    "StackSpec",
    "Tie",
    "activation",
    "alibi_slopes",
    "architecture_for",
    "architecture_of",
    "architectures",
    "check_sizes",
    "classifier_spec",
    "divides",
    "family",
    "find_head",
    "generalise",
    "head_for",
    "leaf",
    "made_for",
    "matches",
    "meant",
    "model_types",
    "owner",
    "passed_over",
    "refuse_unfollowed",
    "resolve_spec",
    "rope_parameters",
    "rope_spec",
    "said_numbers",
    "unlisted",
]

# What files hold otherwise than models do: only loads and saves ask for it.
_HOMES = {
    "Arrangement": "loadstone.architectures.arrangements",
    "Split": "loadstone.architectures.arrangements",
    "DIALECTS": "loadstone.architectures.dialects",
    "Dialect": "loadstone.architectures.dialects",
}
__getattr__ = lazily(__name__, _HOMES)
