"""The parts that specs are composed of, one for each of the backends' blocks."""

from __future__ import annotations

import dataclasses

from loadstone.architectures.rope import RopeSpec
from loadstone.errors import ArgumentError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NormSpec:
    """A norm.

    Attributes:
        kind: "layer" or "rms".
        eps: Added to the variance.
        offset: It multiplies by one plus its weight, in float32.
        wide: It multiplies by its weight in float32 too, and rounds once.
        bias: A layer norm adds one.
        of_sum: In a layer, the norm after a part is that of the part's output and its input together (BERT); else the
            output alone is normalised, and added then.
    """

    kind: str
    eps: float
    offset: bool = False
    wide: bool = False
    bias: bool = True
    of_sum: bool = False

    def __post_init__(self) -> None:
        """Check that it is one of the two kinds, and says nothing that only the other can do.

        Raises:
            ArgumentError: If not.
        """
        unlike = {"layer": self.offset or self.wide, "rms": not self.bias}
        if unlike.get(self.kind, True):
            raise ArgumentError(
                "there is no such norm",
                expected='kind="layer", with a bias or without, or kind="rms", with an offset or wide',
                found=f"kind={self.kind!r}, bias={self.bias}, offset={self.offset}, wide={self.wide}",
            )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GrowthSpec:
    """Queries grow with their position, by `1 + rate * log(1 + floor(position / span))`: attention over many tokens stays sharp.

    Attributes:
        rate: How fast.
        span: The factor stays for so many tokens.
    """

    rate: float
    span: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSpec:
    """Attention of a layer.

    Attributes:
        num_kv_heads: Heads of keys and values; each serves as many heads of queries.
        head_dim: Channels of one head; `num_heads * head_dim` need not be the hidden size.
        scale: Factor on the scores.
        bias: Whether the projections to queries, keys and values have a bias.
        output_bias: Whether the projection back has one.
        dropout: Probability of dropping a weight, in training.
        output_dropout: Probability after the projection back, in training.
        window: How many tokens back a token attends, or None for all.
        softcap: Bounds scores smoothly: `cap * tanh(score / cap)`.
        rope: How queries and keys are rotated by their positions, or None.
        qk_norm: The norm of queries and keys, where they have one.
        qk_norm_whole: It is over all heads together; else over each head.
        growth: How queries grow with their position, once they are rotated, or None.
        transposed: The projections are stored as [in, out].
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    bias: bool = True
    output_bias: bool = True
    dropout: float = 0.0
    output_dropout: float = 0.0
    window: int | None = None
    softcap: float | None = None
    rope: RopeSpec | None = None
    qk_norm: NormSpec | None = None
    qk_norm_whole: bool = False
    growth: GrowthSpec | None = None
    transposed: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FeedForwardSpec:
    """The feed-forward of a layer: `down(act(up(x)))`, or with a gate `down(act(gate(x)) * up(x))`.

    Attributes:
        size: Channels in its middle.
        activation: Name of the function.
        bias: Whether its projections have a bias.
        dropout: Probability after the last projection, in training.
        transposed: The projections are stored as [in, out].
    """

    size: int
    activation: str
    bias: bool = True
    dropout: float = 0.0
    transposed: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """One layer: attention, feed-forward, and the norms that `Names` has before and after each.

    Attributes:
        cross_attention: Attention to the states of an encoder, between the two.
        residual: Factor on what a part gives, before it is added to its input.
        parallel: Attention and feed-forward read the same input, and are both added to it.
    """

    attention: AttentionSpec
    feed_forward: FeedForwardSpec
    norm: NormSpec
    cross_attention: AttentionSpec | None = None
    residual: float = 1.0
    parallel: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingSpec:
    """How tokens become vectors: the sum of what is looked up in each table.

    Attributes:
        pad_token_id: Row of the table of tokens that is zero when drawn afresh.
        size: Channels of the tables, where a projection to the hidden size follows; 0: there is none.
        scale: Factor on what is looked up of a token.
        scale_given: It is on embeddings too that are given in the place of tokens.
        positions: Rows of the table of positions; 0: there is none.
        positions_offset: The row of the first position; none looks up the rows before it.
        positions_skip_padding: Positions count the tokens that are not padding, from the padding token's id on.
        types: Rows of the table of token types; 0: there is none.
        norm: Of the sum, or None.
        dropout: Probability after it, in training.
    """

    vocab_size: int
    pad_token_id: int | None
    size: int = 0
    scale: float = 1.0
    scale_given: bool = False
    positions: int = 0
    positions_offset: int = 0
    positions_skip_padding: bool = False
    types: int = 0
    norm: NormSpec | None = None
    dropout: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PatchSpec:
    """How the patches of an image become vectors, a class token before them.

    Attributes:
        image_size: Height and width of the images that the positions were trained for, in pixels.
        patch_size: Height and width of a patch, in pixels.
        num_channels: Channels of an image.
        dropout: Probability after positions are added, in training.
    """

    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    num_channels: int
    dropout: float

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along the height and the width of an image."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSpec:
    """How a masked-token head scores every token of the vocabulary: `decoder(norm(act(dense(x))))`.

    Attributes:
        size: Channels that the decoder reads.
        activation: Name of the function.
        norm: The norm before the decoder.
    """

    size: int
    activation: str
    norm: NormSpec


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolerSpec:
    """One vector for a sequence: `act(dense(first token))`."""

    size: int
    activation: str
