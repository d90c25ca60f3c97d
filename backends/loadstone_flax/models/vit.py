"""ViT in Flax.

B batch, P patches, T = P + 1 tokens, H heads, D head size, C hidden size, L labels.
Source: Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax import Array

from loadstone.architectures.vit import ARCHITECTURES, ViTSpec
from loadstone.config import Config
from loadstone.errors import ArgumentError
from loadstone.model.classes import add_classes
from loadstone.model.outputs import ModelOutput
from loadstone_flax.heads import ForImageClassification, Output
from loadstone_flax.layers import (
    ACTIVATIONS,
    Convolution,
    Dropout,
    LayerNorm,
    Linear,
    attention,
    bicubic,
    merge_heads,
    parameter,
    split_heads,
    stack,
)
from loadstone_flax.modeling import PreTrainedModel


class ViTPatchEmbeddings(nnx.Module):
    """Patches of an image, each projected to a vector."""

    def __init__(self, spec: ViTSpec) -> None:
        self.projection = Convolution(
            spec.num_channels, spec.hidden_size, spec.patch_size, stride=spec.patch_size, bias=True
        )

    def __call__(self, pixels: Array) -> Array:
        """(B, channels, height, width) -> (B, P, C)."""
        patches = self.projection(pixels)
        return patches.reshape(*patches.shape[:2], -1).swapaxes(1, 2)


class ViTEmbeddings(nnx.Module):
    """A class token and the patches, with positions added."""

    def __init__(self, spec: ViTSpec) -> None:
        self.spec = spec
        self.cls_token = parameter(1, 1, spec.hidden_size)
        self.position_embeddings = parameter(1, spec.grid[0] * spec.grid[1] + 1, spec.hidden_size)
        self.patch_embeddings = ViTPatchEmbeddings(spec)
        self.dropout = Dropout(spec.hidden_dropout)

    def __call__(self, pixels: Array, interpolate: bool) -> Array:
        """(B, channels, height, width) -> (B, T, C)."""
        size = (pixels.shape[2], pixels.shape[3])
        if size != self.spec.image_size and not interpolate:
            raise ArgumentError(
                "the images are of another size than the model's",
                expected=f"{self.spec.image_size} pixels",
                found=size,
                hint="pass interpolate_pos_encoding=True",
            )
        patches = self.patch_embeddings(pixels)
        first = jnp.broadcast_to(self.cls_token[...], (len(pixels), 1, patches.shape[2]))
        x = jnp.concatenate((first, patches), axis=1)
        mixed = self.dropout(x + self._positions(size))
        return mixed

    def _positions(self, size: tuple[int, int]) -> Array:
        """Return the positions (1, T, C) for images of a size in pixels, interpolated where it is not the trained one."""
        positions = self.position_embeddings[...]
        if size == self.spec.image_size:
            return positions
        patch = self.spec.patch_size
        grid = positions[0, 1:].reshape(*self.spec.grid, -1)  # (height, width, C)
        grid = bicubic(grid, (size[0] // patch[0], size[1] // patch[1]))
        return jnp.concatenate((positions[:, :1], grid.reshape(1, -1, grid.shape[-1])), axis=1)


class ViTSelfAttention(nnx.Module):
    """Attention of all tokens to all tokens."""

    def __init__(self, spec: ViTSpec) -> None:
        self.head_dim = spec.hidden_size // spec.num_heads
        self.dropout = Dropout(spec.attention_dropout)
        self.query = Linear(spec.hidden_size, spec.hidden_size, bias=spec.attention_bias)
        self.key = Linear(spec.hidden_size, spec.hidden_size, bias=spec.attention_bias)
        self.value = Linear(spec.hidden_size, spec.hidden_size, bias=spec.attention_bias)

    def __call__(self, x: Array, eager: bool) -> tuple[Array, Array | None]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, T) where eager."""
        q, k, v = (split_heads(project(x), self.head_dim) for project in (self.query, self.key, self.value))
        mixed, weights = attention(
            q, k, v, None, scale=self.head_dim**-0.5, dropout=self.dropout, eager=eager
        )
        return merge_heads(mixed), weights


class ViTDense(nnx.Module):
    """A projection, under the name that checkpoints have for it."""

    def __init__(self, spec: ViTSpec, in_features: int, out_features: int) -> None:
        self.dense = Linear(in_features, out_features)
        self.dropout = Dropout(spec.hidden_dropout)

    def __call__(self, x: Array) -> Array:
        """(B, T, in_features) -> (B, T, out_features)."""
        mixed = self.dropout(self.dense(x))
        return mixed


class ViTAttention(nnx.Module):
    """Self-attention and its projection."""

    def __init__(self, spec: ViTSpec) -> None:
        self.attention = ViTSelfAttention(spec)
        self.output = ViTDense(spec, spec.hidden_size, spec.hidden_size)

    def __call__(self, x: Array, eager: bool) -> tuple[Array, Array | None]:
        """(B, T, C) -> (B, T, C), and the weights where eager."""
        mixed, weights = self.attention(x, eager)
        return self.output(mixed), weights


class ViTIntermediate(nnx.Module):
    """The widening half of the feed-forward."""

    def __init__(self, spec: ViTSpec) -> None:
        self.dense = Linear(spec.hidden_size, spec.intermediate_size)
        self.activation = spec.activation

    def __call__(self, x: Array) -> Array:
        """(B, T, C) -> (B, T, intermediate)."""
        widened = ACTIVATIONS[self.activation](self.dense(x))
        return widened


class ViTLayer(nnx.Module):
    """Attention and feed-forward, each normalised before and added to its input."""

    def __init__(self, spec: ViTSpec) -> None:
        self.attention = ViTAttention(spec)
        self.intermediate = ViTIntermediate(spec)
        self.output = ViTDense(spec, spec.intermediate_size, spec.hidden_size)
        self.layernorm_before = LayerNorm(spec.hidden_size, spec.norm_eps)
        self.layernorm_after = LayerNorm(spec.hidden_size, spec.norm_eps)

    def __call__(self, x: Array, eager: bool) -> tuple[Array, Array | None]:
        """(B, T, C) -> (B, T, C), and the attention weights where eager."""
        mixed, weights = self.attention(self.layernorm_before(x), eager)
        x = x + mixed
        return x + self.output(self.intermediate(self.layernorm_after(x))), weights


class ViTEncoder(nnx.Module):
    """The stack of layers."""

    def __init__(self, spec: ViTSpec) -> None:
        self.layer = stack(spec.num_layers, lambda: ViTLayer(spec))

    def __call__(self, x: Array, eager: bool) -> tuple[Array, list[Array], list[Array | None]]:
        """(B, T, C) -> the last state, all states from the input on, and all attention weights."""
        states, weights = [x], []
        for layer in self.layer:
            x, attended = layer(x, eager)
            states.append(x)
            weights.append(attended)
        return x, states, weights


class ViTPooler(nnx.Module):
    """act(dense(first token))."""

    def __init__(self, spec: ViTSpec) -> None:
        self.dense = Linear(spec.hidden_size, spec.pooler_size)
        self.activation = spec.pooler_activation

    def __call__(self, x: Array) -> Array:
        """(B, T, C) -> (B, pooler size)."""
        pooled = ACTIVATIONS[self.activation](self.dense(x[:, 0]))
        return pooled


class FlaxViTModel(PreTrainedModel):
    """ViT without a head: images to hidden states."""

    spec: ViTSpec

    def __init__(self, config: Config, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.embeddings = ViTEmbeddings(self.spec)
        self.encoder = ViTEncoder(self.spec)
        self.layernorm = LayerNorm(self.spec.hidden_size, self.spec.norm_eps)
        self.pooler = ViTPooler(self.spec) if add_pooling_layer else None

    def forward(
        self,
        pixel_values: Array,
        interpolate_pos_encoding: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Output:
        """Run the encoder.

        Args:
            pixel_values: (B, channels, height, width), normalised as the checkpoint's processor says.
            interpolate_pos_encoding: Take images of another size than the trained one.
            output_attentions: Return the weights of each layer, (B, H, T, T).
            output_hidden_states: Return the embeddings and each layer's output, (B, T, C).
            return_dict: False returns a tuple.

        Returns:
            `last_hidden_state` (B, T, C), `pooler_output` (B, pooler size), `hidden_states`, `attentions`.

        Raises:
            ArgumentError: If the images are of another size, and that was not asked for.
        """
        x = self.embeddings(pixel_values.astype(self.dtype), bool(interpolate_pos_encoding))
        want_weights = self.wants("output_attentions", output_attentions)
        eager = want_weights or self.attn_implementation == "eager"
        x, states, weights = self.encoder(x, eager)
        x = self.layernorm(x)
        return self.result(
            return_dict,
            last_hidden_state=x,
            pooler_output=None if self.pooler is None else self.pooler(x),
            hidden_states=tuple(states) if self.wants("output_hidden_states", output_hidden_states) else None,
            attentions=tuple(weights) if want_weights else None,
        )


class FlaxViTForImageClassification(ForImageClassification):
    """ViT with a head that classifies an image by its class token."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.classifier = Linear(self.spec.hidden_size, self.spec.classifier.num_labels)

    def image_scores(self, base: ModelOutput) -> Array:
        """The class token, classified: (B, L)."""
        return self.classifier(base.last_hidden_state[:, 0])


add_classes(globals(), ARCHITECTURES, prefix="Flax")
