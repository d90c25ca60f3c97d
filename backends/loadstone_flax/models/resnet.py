"""ResNet in Flax.

B batch, C channels, L labels.
Source: He et al. 2015, https://arxiv.org/abs/1512.03385.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from loadstone.architectures.resnet import ARCHITECTURES, BlockSpec, ResNetSpec
from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone.model.outputs import ModelOutput
from loadstone_flax.heads import ForImageClassification, Output
from loadstone_flax.layers import ACTIVATIONS, BatchNorm, Convolution, Linear
from loadstone_flax.modeling import PreTrainedModel

Shape = tuple[int, int, int, int]
"""Channels in, channels out, side of the kernel, stride."""


class ResNetConvolution(nnx.Module):
    """A convolution, normalised over the batch, and activated where it says so."""

    def __init__(self, shape: Shape, activation: str | None) -> None:
        before, after, kernel, stride = shape
        self.convolution = Convolution(
            before, after, (kernel, kernel), stride=(stride, stride), padding=kernel // 2
        )
        self.normalization = BatchNorm(after)
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        """(B, C in, height, width) -> (B, C out, height / stride, width / stride)."""
        x = self.normalization(self.convolution(x))
        return x if self.activation is None else ACTIVATIONS[self.activation](x)


class ResNetBlock(nnx.Module):
    """Convolutions, added to their input or to its projection."""

    def __init__(self, block: BlockSpec, activation: str) -> None:
        last = len(block.convolutions) - 1
        self.shortcut = ResNetConvolution(block.shortcut, None) if block.shortcut else None
        # Every convolution but the last is activated by relu, whatever the blocks are.
        self.layer = nnx.List(
            [
                ResNetConvolution(shape, "relu" if number < last else None)
                for number, shape in enumerate(block.convolutions)
            ]
        )
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        """(B, C in, height, width) -> (B, C out, height / stride, width / stride)."""
        residual = x if self.shortcut is None else self.shortcut(x)
        for convolution in self.layer:
            x = convolution(x)
        return ACTIVATIONS[self.activation](x + residual)


class ResNetStage(nnx.Module):
    """Blocks of one width."""

    def __init__(self, blocks: tuple[BlockSpec, ...], activation: str) -> None:
        self.layers = nnx.List([ResNetBlock(block, activation) for block in blocks])

    def __call__(self, x: Array) -> Array:
        """Run the blocks."""
        for block in self.layers:
            x = block(x)
        return x


class ResNetEmbeddings(nnx.Module):
    """The stem: one large convolution and a pooling."""

    def __init__(self, spec: ResNetSpec) -> None:
        self.embedder = ResNetConvolution(spec.stem, spec.activation)

    def __call__(self, pixels: Array) -> Array:
        """(B, channels, height, width) -> (B, C, height / 4, width / 4)."""
        x = self.embedder(pixels)
        sides = ((0, 0), (0, 0), (1, 1), (1, 1))
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 3, 3), (1, 1, 2, 2), sides)


class ResNetEncoder(nnx.Module):
    """The stages."""

    def __init__(self, spec: ResNetSpec) -> None:
        self.stages = nnx.List([ResNetStage(blocks, spec.activation) for blocks in spec.stages])

    def __call__(self, x: Array) -> tuple[Array, list[Array]]:
        """Return the last state, and all states from the input on."""
        states = [x]
        for stage in self.stages:
            x = stage(x)
            states.append(x)
        return x, states


class FlaxResNetModel(PreTrainedModel):
    """ResNet without a head: images to feature maps."""

    spec: ResNetSpec

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.embedder = ResNetEmbeddings(self.spec)
        self.encoder = ResNetEncoder(self.spec)

    def forward(
        self, pixel_values: Array, output_hidden_states: bool | None = None, return_dict: bool | None = None
    ) -> Output:
        """Run the stages.

        Args:
            pixel_values: (B, channels, height, width), normalised as the checkpoint's processor says.
            output_hidden_states: Return the stem's and each stage's output.
            return_dict: False returns a tuple.

        Returns:
            `last_hidden_state` (B, C, height / 32, width / 32), `pooler_output` (B, C, 1, 1), `hidden_states`.
        """
        x, states = self.encoder(self.embedder(pixel_values.astype(self.dtype)))
        return self.result(
            return_dict,
            last_hidden_state=x,
            pooler_output=x.mean((2, 3), keepdims=True),
            hidden_states=tuple(states) if self.wants("output_hidden_states", output_hidden_states) else None,
        )


class FlaxResNetForImageClassification(ForImageClassification):
    """ResNet with a head that classifies an image by its mean features."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        labels = self.spec.classifier.num_labels
        # Checkpoints count a flattening, which holds nothing, as the first of two layers.
        self.classifier = nnx.List([None, Linear(self.spec.out_channels, labels)])

    def image_scores(self, base: ModelOutput) -> Array:
        """The mean features, classified: (B, L)."""
        return self.classifier[1](base.pooler_output[..., 0, 0])


add_classes(globals(), ARCHITECTURES, prefix="Flax")
