"""ResNet in TensorFlow.

B batch, C channels, L labels. Between the first and the last layer channels come last; checkpoints, inputs and outputs
have them first.
Source: He et al. 2015, https://arxiv.org/abs/1512.03385.
"""

from __future__ import annotations

from typing import TypeAlias

from loadstone.architectures.resnet import ARCHITECTURES, BlockSpec, ResNetSpec
from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone.model.outputs import ModelOutput
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.heads import ForImageClassification, Output
from loadstone_tensorflow.layers import (
    ACTIVATIONS,
    BatchNorm,
    Convolution,
    Layer,
    Linear,
    channels_first,
    channels_last,
)
from loadstone_tensorflow.modeling import PreTrainedModel

Tensor: TypeAlias = tf.Tensor
Shape = tuple[int, int, int, int]
"""Channels in, channels out, side of the kernel, stride."""


class ResNetConvolution(Layer):
    """A convolution, normalised over the batch, and activated where it says so."""

    def __init__(self, shape: Shape, activation: str | None) -> None:
        super().__init__()
        before, after, kernel, stride = shape
        self.convolution = Convolution(
            before, after, (kernel, kernel), stride=(stride, stride), padding=kernel // 2
        )
        self.normalization = BatchNorm(after)
        self.activation = ACTIVATIONS[activation] if activation else None

    def call(self, x: Tensor, training: bool) -> Tensor:
        """(B, height, width, C in) -> (B, height / stride, width / stride, C out)."""
        x = self.normalization(self.convolution(x), training)
        return x if self.activation is None else self.activation(x)


class ResNetBlock(Layer):
    """Convolutions, added to their input or to its projection."""

    def __init__(self, block: BlockSpec, activation: str) -> None:
        super().__init__()
        last = len(block.convolutions) - 1
        self.shortcut = ResNetConvolution(block.shortcut, None) if block.shortcut else None
        # Every convolution but the last is activated by relu, whatever the blocks are.
        self.layer = [
            ResNetConvolution(shape, "relu" if number < last else None)
            for number, shape in enumerate(block.convolutions)
        ]
        self.activation = ACTIVATIONS[activation]

    def call(self, x: Tensor, training: bool) -> Tensor:
        """(B, height, width, C in) -> (B, height / stride, width / stride, C out)."""
        residual = x if self.shortcut is None else self.shortcut(x, training)
        for layer in self.layer:
            x = layer(x, training)
        return self.activation(x + residual)


class ResNetStage(Layer):
    """Blocks of one width."""

    def __init__(self, blocks: tuple[BlockSpec, ...], activation: str) -> None:
        super().__init__()
        self.layers_ = [ResNetBlock(block, activation) for block in blocks]

    def call(self, x: Tensor, training: bool) -> Tensor:
        """Run the blocks."""
        for block in self.layers_:
            x = block(x, training)
        return x


class ResNetEmbeddings(Layer):
    """The stem: one large convolution and a pooling."""

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.embedder = ResNetConvolution(spec.stem, spec.activation)

    def call(self, pixels: Tensor, training: bool) -> Tensor:
        """(B, height, width, channels) -> (B, height / 4, width / 4, C)."""
        x = self.embedder(pixels, training)
        around = ((0, 0), (1, 1), (1, 1), (0, 0))
        return tf.nn.max_pool2d(tf.pad(x, around, constant_values=x.dtype.min), 3, 2, "VALID")


class ResNetEncoder(Layer):
    """The stages."""

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.stages = [ResNetStage(blocks, spec.activation) for blocks in spec.stages]

    def call(self, x: Tensor, training: bool) -> tuple[Tensor, list[Tensor]]:
        """Return the last state, and all states from the input on."""
        states = [x]
        for stage in self.stages:
            x = stage(x, training)
            states.append(x)
        return x, states


class TFResNetModel(PreTrainedModel):
    """ResNet without a head: images to feature maps."""

    spec: ResNetSpec

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.embedder = ResNetEmbeddings(self.spec)
        self.encoder = ResNetEncoder(self.spec)

    def forward(
        self,
        pixel_values: Tensor,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> Output:
        """Run the stages.

        Args:
            pixel_values: (B, channels, height, width), normalised as the checkpoint's processor says.
            output_hidden_states: Return the stem's and each stage's output.
            return_dict: False returns a tuple.
            training: Normalise by the batch's statistics, which the running ones follow.

        Returns:
            `last_hidden_state` (B, C, height / 32, width / 32), `pooler_output` (B, C, 1, 1), `hidden_states`.
        """
        pixels = channels_last(tf.cast(pixel_values, self.compute_dtype))
        x, states = self.encoder(self.embedder(pixels, training), training)
        wanted = self.wants("output_hidden_states", output_hidden_states)
        return self.result(
            return_dict,
            last_hidden_state=channels_first(x),
            pooler_output=channels_first(tf.reduce_mean(x, axis=(1, 2), keepdims=True)),
            hidden_states=tuple(channels_first(state) for state in states) if wanted else None,
        )


class ResNetFlatten(Layer):
    """Drops the axes of an image of one pixel; checkpoints count it among the classifier's layers."""

    def call(self, x: Tensor) -> Tensor:
        """(B, C, 1, 1) -> (B, C)."""
        return tf.squeeze(x, axis=(2, 3))


class TFResNetForImageClassification(ForImageClassification):
    """ResNet with a head that classifies an image by its mean features."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        linear = Linear(self.spec.out_channels, self.spec.classifier.num_labels)
        self.classifier = [ResNetFlatten(), linear]

    def image_scores(self, base: ModelOutput) -> Tensor:
        """The mean features, classified: (B, L)."""
        logits = base.pooler_output
        for layer in self.classifier:
            logits = layer(logits)
        return logits


add_classes(globals(), ARCHITECTURES, prefix="TF")
