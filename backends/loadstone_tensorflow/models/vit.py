"""ViT in TensorFlow.

B batch, P patches, T = P + 1 tokens, H heads, D head size, C hidden size, L labels.
Source: Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929.
"""

from __future__ import annotations

from typing import TypeAlias

from loadstone.architectures.vit import ARCHITECTURES, ViTSpec
from loadstone.config import Config
from loadstone.errors import ArgumentError
from loadstone.model.classes import add_classes
from loadstone.model.outputs import ModelOutput
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.heads import ForImageClassification, Output
from loadstone_tensorflow.layers import (
    ACTIVATIONS,
    Convolution,
    Dropout,
    Layer,
    LayerNorm,
    Linear,
    attention,
    channels_last,
    merge_heads,
    parameter,
    sizes,
    split_heads,
)
from loadstone_tensorflow.modeling import PreTrainedModel
from loadstone_tensorflow.resample import bicubic

Tensor: TypeAlias = tf.Tensor


class ViTPatchEmbeddings(Layer):
    """Patches of an image, each projected to a vector."""

    def __init__(self, spec: ViTSpec) -> None:
        super().__init__()
        self.projection = Convolution(
            spec.num_channels, spec.hidden_size, spec.patch_size, stride=spec.patch_size, bias=True
        )

    def call(self, pixels: Tensor) -> Tensor:
        """(B, channels, height, width) -> (B, P, C)."""
        patches = self.projection(channels_last(pixels))
        batch, height, width, channels = sizes(patches)
        return tf.reshape(patches, (batch, height * width, channels))


class ViTEmbeddings(Layer):
    """A class token and the patches, with positions added."""

    def __init__(self, spec: ViTSpec) -> None:
        super().__init__()
        self.spec = spec
        self.cls_token = parameter(1, 1, spec.hidden_size)
        self.position_embeddings = parameter(1, spec.grid[0] * spec.grid[1] + 1, spec.hidden_size)
        self.patch_embeddings = ViTPatchEmbeddings(spec)
        self.dropout = Dropout(spec.hidden_dropout)

    def call(self, pixels: Tensor, interpolate: bool, training: bool) -> Tensor:
        """(B, channels, height, width) -> (B, T, C)."""
        size = tuple(pixels.shape[2:])
        if size != self.spec.image_size and not interpolate:
            raise ArgumentError(
                "the images are of another size than the model's",
                expected=f"{self.spec.image_size} pixels",
                found=size,
                hint="pass interpolate_pos_encoding=True",
            )
        patches = self.patch_embeddings(pixels)
        batch, _, channels = sizes(patches)
        first = tf.broadcast_to(self.cls_token.value, (batch, 1, channels))
        return self.dropout(tf.concat((first, patches), axis=1) + self._positions(pixels), training)

    def _positions(self, pixels: Tensor) -> Tensor:
        """Return the positions (1, T, C) for images of that size, interpolated where it is not the trained one."""
        positions = tf.convert_to_tensor(self.position_embeddings.value)
        if tuple(pixels.shape[2:]) == self.spec.image_size:
            return positions
        (height, width), patch = self.spec.grid, self.spec.patch_size
        first, grid = positions[:, :1], tf.reshape(positions[:, 1:], (1, height, width, -1))
        target = (sizes(pixels)[2] // patch[0], sizes(pixels)[3] // patch[1])
        grid = tf.reshape(bicubic(grid, *target), (1, target[0] * target[1], positions.shape[2]))
        return tf.concat((first, grid), axis=1)


class ViTSelfAttention(Layer):
    """Attention of all tokens to all tokens."""

    def __init__(self, spec: ViTSpec) -> None:
        super().__init__()
        self.head_dim = spec.hidden_size // spec.num_heads
        self.query = Linear(spec.hidden_size, spec.hidden_size, bias=spec.attention_bias)
        self.key = Linear(spec.hidden_size, spec.hidden_size, bias=spec.attention_bias)
        self.value = Linear(spec.hidden_size, spec.hidden_size, bias=spec.attention_bias)
        self.dropout = Dropout(spec.attention_dropout)

    def call(self, x: Tensor, training: bool) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> (B, T, C), and the weights (B, H, T, T)."""
        q, k, v = (split_heads(project(x), self.head_dim) for project in (self.query, self.key, self.value))
        mixed, weights = attention(
            q, k, v, None, scale=self.head_dim**-0.5, dropout=self.dropout, training=training
        )
        return merge_heads(mixed), weights


class ViTDense(Layer):
    """A projection, under the name that checkpoints have for it."""

    def __init__(self, spec: ViTSpec, in_features: int, out_features: int) -> None:
        super().__init__()
        self.dense = Linear(in_features, out_features)
        self.dropout = Dropout(spec.hidden_dropout)

    def call(self, x: Tensor, training: bool) -> Tensor:
        """(B, T, in_features) -> (B, T, out_features)."""
        return self.dropout(self.dense(x), training)


class ViTAttention(Layer):
    """Self-attention and its projection."""

    def __init__(self, spec: ViTSpec) -> None:
        super().__init__()
        self.attention = ViTSelfAttention(spec)
        self.output_ = ViTDense(spec, spec.hidden_size, spec.hidden_size)

    def call(self, x: Tensor, training: bool) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> (B, T, C), and the weights."""
        mixed, weights = self.attention(x, training)
        return self.output_(mixed, training), weights


class ViTIntermediate(Layer):
    """The widening half of the feed-forward."""

    def __init__(self, spec: ViTSpec) -> None:
        super().__init__()
        self.dense = Linear(spec.hidden_size, spec.intermediate_size)
        self.activation = ACTIVATIONS[spec.activation]

    def call(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, intermediate)."""
        return self.activation(self.dense(x))


class ViTLayer(Layer):
    """Attention and feed-forward, each normalised before and added to its input."""

    def __init__(self, spec: ViTSpec) -> None:
        super().__init__()
        self.attention = ViTAttention(spec)
        self.intermediate = ViTIntermediate(spec)
        self.output_ = ViTDense(spec, spec.intermediate_size, spec.hidden_size)
        self.layernorm_before = LayerNorm(spec.hidden_size, spec.norm_eps)
        self.layernorm_after = LayerNorm(spec.hidden_size, spec.norm_eps)

    def call(self, x: Tensor, training: bool) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> (B, T, C), and the attention weights."""
        mixed, weights = self.attention(self.layernorm_before(x), training)
        x = x + mixed
        return x + self.output_(self.intermediate(self.layernorm_after(x)), training), weights


class ViTEncoder(Layer):
    """The stack of layers."""

    def __init__(self, spec: ViTSpec) -> None:
        super().__init__()
        self.layer = [ViTLayer(spec) for _ in range(spec.num_layers)]

    def call(
        self, x: Tensor, training: bool, want_weights: bool
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """(B, T, C) -> the last state, all states from the input on, and all attention weights where wanted."""
        states, weights = [x], []
        for layer in self.layer:
            x, attended = layer(x, training)
            states.append(x)
            if want_weights:  # they are large: nothing else shall hold them
                weights.append(attended)
        return x, states, weights


class ViTPooler(Layer):
    """act(dense(first token))."""

    def __init__(self, spec: ViTSpec) -> None:
        super().__init__()
        self.dense = Linear(spec.hidden_size, spec.pooler_size)
        self.activation = ACTIVATIONS[spec.pooler_activation]

    def call(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, pooler size)."""
        return self.activation(self.dense(x[:, 0]))


class TFViTModel(PreTrainedModel):
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
        pixel_values: Tensor,
        interpolate_pos_encoding: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> Output:
        """Run the encoder.

        Args:
            pixel_values: (B, channels, height, width), normalised as the checkpoint's processor says.
            interpolate_pos_encoding: Take images of another size than the trained one.
            output_attentions: Return the weights of each layer, (B, H, T, T).
            output_hidden_states: Return the embeddings and each layer's output, (B, T, C).
            return_dict: False returns a tuple.
            training: Apply dropout.

        Returns:
            `last_hidden_state` (B, T, C), `pooler_output` (B, pooler size), `hidden_states`, `attentions`.

        Raises:
            ArgumentError: If the images are of another size, and that was not asked for.
        """
        pixels = tf.cast(pixel_values, self.compute_dtype)
        x = self.embeddings(pixels, bool(interpolate_pos_encoding), training)
        want_weights = self.wants("output_attentions", output_attentions)
        x, states, weights = self.encoder(x, training, want_weights)
        x = self.layernorm(x)
        return self.result(
            return_dict,
            last_hidden_state=x,
            pooler_output=None if self.pooler is None else self.pooler(x),
            hidden_states=tuple(states) if self.wants("output_hidden_states", output_hidden_states) else None,
            attentions=tuple(weights) if want_weights else None,
        )


class TFViTForImageClassification(ForImageClassification):
    """ViT with a head that classifies an image by its class token."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.classifier = Linear(self.spec.hidden_size, self.spec.classifier.num_labels)

    def image_scores(self, base: ModelOutput) -> Tensor:
        """The class token, classified: (B, L)."""
        return self.classifier(base.last_hidden_state[:, 0])


add_classes(globals(), ARCHITECTURES, prefix="TF")
