"""Names: where checkpoints have the parts that a family is composed of. A part that has a name is there.

Names of a layer's parts are relative to the layer, all others to the base model:

```
model.layers.3.self_attn.q_proj.weight        bert.encoder.layer.3.attention.self.query.weight
      ~~~~~~   ~~~~~~~~~~~~~~~~                    ~~~~~~~~~~~~~   ~~~~~~~~~~~~~~~~~~~~
      layers   attention.query                     layers          attention.query
```

The dots are modules, and those are called: a module's hooks fire where checkpoints have the module.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Self


class PartNames:
    """Where a part is, piece by piece."""

    __slots__ = ()

    def within(self, module: str) -> Self:
        """Return the names relative to a module; "" for what does not lie in it directly.

        Example:
            >>> names = FeedForwardNames(up="mlp.up", down="mlp.down", before="norm")
            >>> names.within("mlp")
            FeedForwardNames(gate='', up='up', gate_up='', down='down', dropout='', before='', after='')
        """
        return _within(self, module)  # type: ignore[no-any-return]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttentionNames(PartNames):
    """Where a layer has its attention.

    Attributes:
        query: The projection to queries; "" where one projection, `qkv`, makes all three.
        key: The projection to keys.
        value: The projection to values.
        qkv: The one projection.
        output: The projection back to the hidden size.
        query_norm: The norm of queries, before they are rotated.
        key_norm: The norm of keys.
        sinks: A score for each head that no token gets.
        dropout: What drops some of the output in training.
        before: The norm of what attention reads.
        after: The norm of what it gives, or, with `NormSpec.of_sum`, of that and its input.
    """

    query: str = ""
    key: str = ""
    value: str = ""
    qkv: str = ""
    output: str
    query_norm: str = ""
    key_norm: str = ""
    sinks: str = ""
    dropout: str = ""
    before: str = ""
    after: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FeedForwardNames(PartNames):
    """Where a layer has its feed-forward.

    Attributes:
        gate: The projection whose activation multiplies that of `up`; "": there is none.
        up: The widening projection.
        gate_up: One projection that makes both, the gate first; `gate` and `up` are "" then.
        down: The narrowing projection.
        dropout: What drops some of the output in training.
        before: The norm of what it reads.
        after: The norm of what it gives, or, with `NormSpec.of_sum`, of that and its input.
    """

    gate: str = ""
    up: str = ""
    gate_up: str = ""
    down: str
    dropout: str = ""
    before: str = ""
    after: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingNames(PartNames):
    """Where a model has what it reads tokens, or the patches of an image, with.

    Attributes:
        words: The table of tokens.
        patches: The projection of patches.
        first: The vector of the token that stands before the patches.
        positions: The table of positions.
        types: The table of token types; it may be that of the tokens.
        norm: The norm of their sum.
        dropout: What drops some of it in training.
        projection: What brings it to the hidden size.
    """

    words: str = ""
    patches: str = ""
    first: str = ""
    positions: str = ""
    types: str = ""
    norm: str = ""
    dropout: str = ""
    projection: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ScoreNames(PartNames):
    """Where a model with a masked-token head has it, relative to that model.

    Attributes:
        dense: The projection of hidden states.
        norm: The norm after its activation.
        decoder: The projection to the vocabulary.
        bias: A bias that is stored beside the decoder's own, and tied to it.
    """

    dense: str = ""
    norm: str = ""
    decoder: str = ""
    bias: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Where a family has everything.

    Attributes:
        embeddings: Before the layers.
        layers: The layers, each below its number.
        attention: In each layer.
        cross_attention: In each layer, after it.
        feed_forward: In each layer.
        norm: The norm after the last layer.
        pooler: The projection of the first token.
        rotary: The cosines and sines, of which checkpoints hold nothing.
        scores: The masked-token head.
        classifier: What classifies each token, relative to the model with that head.
        pre_classifier: What makes one vector of a sequence for a head, where the base model has no pooler.
        norms_last: A layer's norms are listed after its parts, else in the order in which they are computed.
    """

    embeddings: EmbeddingNames
    layers: str
    attention: AttentionNames
    cross_attention: AttentionNames | None = None
    feed_forward: FeedForwardNames
    norm: str = ""
    pooler: str = ""
    rotary: str = "rotary_emb"
    scores: ScoreNames = ScoreNames()
    classifier: str = "classifier"
    pre_classifier: str = ""
    norms_last: bool = False

    def in_layers(self, *names: str) -> tuple[str, ...]:
        """Return patterns of parts of all layers; those without a name are left out.

        Example:
            >>> names = Names(
            ...     embeddings=EmbeddingNames(words="words"),
            ...     layers="h",
            ...     attention=AttentionNames(output="attn.out"),
            ...     feed_forward=FeedForwardNames(down="mlp.down"),
            ... )
            >>> names.in_layers(names.attention.output, names.attention.query)
            ('h.{}.attn.out',)
        """
        return tuple(f"{self.layers}.{{}}.{name}" for name in names if name)


@functools.cache
def _within(names: Any, module: str) -> Any:
    found = {field.name: getattr(names, field.name) for field in dataclasses.fields(names)}
    return type(names)(
        **{field: leaf(name) if owner(name) == module else "" for field, name in found.items()}
    )


def owner(name: str) -> str:
    """Return the module that a name lies in, "" where it lies in none: `self_attn` of `self_attn.q_proj`."""
    return name.rpartition(".")[0]


def leaf(name: str) -> str:
    """Return the last segment of a name: `q_proj` of `self_attn.q_proj`."""
    return name.rpartition(".")[2]
