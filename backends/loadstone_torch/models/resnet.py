"""ResNet in PyTorch.

B batch, C channels, L labels.
Source: He et al. 2015, https://arxiv.org/abs/1512.03385.
"""

from __future__ import annotations

from torch import Tensor, nn

from loadstone.architectures.resnet import ARCHITECTURES, BlockSpec, ResNetSpec
from loadstone.config import Config
from loadstone.model.classes import add_classes
from loadstone.model.outputs import ModelOutput
from loadstone_torch.heads import ForImageClassification, Output
from loadstone_torch.layers import ACTIVATIONS, BatchNorm, Convolution, Linear
from loadstone_torch.modeling import PreTrainedModel

Shape = tuple[int, int, int, int]
"""Channels in, channels out, side of the kernel, stride."""


class ResNetConvolution(nn.Module):
    """A convolution, normalised over the batch, and activated where it says so."""

    def __init__(self, shape: Shape, activation: str | None) -> None:
        super().__init__()
        before, after, kernel, stride = shape
        self.convolution = Convolution(
            before, after, (kernel, kernel), stride=(stride, stride), padding=kernel // 2
        )
        self.normalization = BatchNorm(after)
        self.activation = ACTIVATIONS[activation] if activation else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C in, height, width) -> (B, C out, height / stride, width / stride)."""
        x = self.normalization(self.convolution(x))
        return x if self.activation is None else self.activation(x)


class ResNetBlock(nn.Module):
    """Convolutions, added to their input or to its projection."""

    def __init__(self, block: BlockSpec, activation: str) -> None:
        super().__init__()
        last = len(block.convolutions) - 1
        self.shortcut = ResNetConvolution(block.shortcut, None) if block.shortcut else None
        # Every convolution but the last is activated by relu, whatever the blocks are.
        self.layer = nn.Sequential(
            *(
                ResNetConvolution(shape, "relu" if number < last else None)
                for number, shape in enumerate(block.convolutions)
            )
        )
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C in, height, width) -> (B, C out, height / stride, width / stride)."""
        residual = x if self.shortcut is None else self.shortcut(x)
        mixed: Tensor = self.activation(self.layer(x) + residual)
        return mixed


class ResNetStage(nn.Module):
    """Blocks of one width."""

    def __init__(self, blocks: tuple[BlockSpec, ...], activation: str) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(ResNetBlock(block, activation) for block in blocks))

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks."""
        mixed: Tensor = self.layers(x)
        return mixed


class ResNetEmbeddings(nn.Module):
    """The stem: one large convolution and a pooling."""

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.embedder = ResNetConvolution(spec.stem, spec.activation)
        self.pooler = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, channels, height, width) -> (B, C, height / 4, width / 4)."""
        x: Tensor = self.pooler(self.embedder(pixels))
        return x


class ResNetEncoder(nn.Module):
    """The stages."""

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.stages = nn.ModuleList(ResNetStage(blocks, spec.activation) for blocks in spec.stages)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the last state, and all states from the input on."""
        states = [x]
        for stage in self.stages:
            x = stage(x)
            states.append(x)
        return x, states


class ResNetModel(PreTrainedModel):
    """ResNet without a head: images to feature maps."""

    spec: ResNetSpec

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.embedder = ResNetEmbeddings(self.spec)
        self.encoder = ResNetEncoder(self.spec)
        self.pooler = nn.AdaptiveAvgPool2d((1, 1))

    def forward(
        self, pixel_values: Tensor, output_hidden_states: bool | None = None, return_dict: bool | None = None
    ) -> Output:
        """Run the stages.

        Args:
            pixel_values: (B, channels, height, width), normalised as the checkpoint's processor says.
            output_hidden_states: Return the stem's and each stage's output.
            return_dict: False returns a tuple.

        Returns:
            `last_hidden_state` (B, C, height / 32, width / 32), `pooler_output` (B, C, 1, 1), `hidden_states`.
        """
        x, states = self.encoder(self.embedder(pixel_values.to(self.dtype)))
        return self.result(
            return_dict,
            last_hidden_state=x,
            pooler_output=self.pooler(x),
            hidden_states=tuple(states) if self.wants("output_hidden_states", output_hidden_states) else None,
        )


class ResNetForImageClassification(ForImageClassification):
    """ResNet with a head that classifies an image by its mean features."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.classifier = nn.Sequential(
            nn.Flatten(), Linear(self.spec.out_channels, self.spec.classifier.num_labels)
        )

    def image_scores(self, base: ModelOutput) -> Tensor:
        """The mean features, classified: (B, L)."""
        logits: Tensor = self.classifier(base.pooler_output)
        return logits


add_classes(globals(), ARCHITECTURES)
