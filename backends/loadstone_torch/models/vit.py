"""ViT in PyTorch.

B batch, P patches, T = P + 1 tokens, H heads, D head size, C hidden size, L labels.
Source: Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loadstone.architectures import EmbeddingNames, PatchSpec
from loadstone.architectures.vit import ViTSpec
from loadstone.config import Config
from loadstone.errors import ArgumentError
from loadstone.model.outputs import ModelOutput
from loadstone_torch.blocks.encoder import Encoder
from loadstone_torch.blocks.layer import NestedLayer
from loadstone_torch.heads import ForImageClassification, Output
from loadstone_torch.layers import Convolution, Linear, parameter


class ViTPatchEmbeddings(nn.Module):
    """Patches of an image, each projected to a vector."""

    def __init__(self, spec: PatchSpec, hidden_size: int) -> None:
        """Build it."""
        super().__init__()
        self.projection = Convolution(
            spec.num_channels, hidden_size, spec.patch_size, stride=spec.patch_size, bias=True
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, channels, height, width) -> (B, P, C)."""
        patches: Tensor = self.projection(pixels)
        return patches.flatten(2).transpose(1, 2)


class ViTEmbeddings(nn.Module):
    """A class token and the patches, with positions added."""

    def __init__(self, spec: PatchSpec, names: EmbeddingNames, hidden_size: int) -> None:
        """Build it."""
        super().__init__()
        self.spec = spec
        self.cls_token = parameter(1, 1, hidden_size)
        self.position_embeddings = parameter(1, spec.grid[0] * spec.grid[1] + 1, hidden_size)
        self.patch_embeddings = ViTPatchEmbeddings(spec, hidden_size)
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, pixels: Tensor, interpolate: bool) -> Tensor:
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
        x = torch.cat((self.cls_token.expand(len(pixels), -1, -1), patches), dim=1)
        mixed: Tensor = self.dropout(x + self._positions(size))
        return mixed

    def _positions(self, size: tuple[int, int]) -> Tensor:
        """Return the positions (1, T, C) for images of a size in pixels, interpolated where it is not the trained one."""
        if size == self.spec.image_size:
            return self.position_embeddings
        (height, width), patch = self.spec.grid, self.spec.patch_size
        first, grid = self.position_embeddings[:, :1], self.position_embeddings[:, 1:]
        grid = grid.view(1, height, width, -1).permute(0, 3, 1, 2)  # (1, C, height, width)
        target = (size[0] // patch[0], size[1] // patch[1])
        grid = F.interpolate(grid, size=target, mode="bicubic", align_corners=False)
        return torch.cat((first, grid.flatten(2).transpose(1, 2)), dim=1)


class ViTLayer(NestedLayer):
    """Attention and feed-forward, each normalised before and added to its input."""


class ViTModel(Encoder):
    """ViT without a head: images to hidden states."""

    spec: ViTSpec  # type: ignore[assignment]
    embeddings_class, layer_class = ViTEmbeddings, ViTLayer

    def forward(  # type: ignore[override]
        self,
        pixel_values: Tensor,
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
        x = self.embeddings(pixel_values.to(self.dtype), bool(interpolate_pos_encoding))
        return self.encode(x, None, output_attentions, output_hidden_states, return_dict)


class ViTForImageClassification(ForImageClassification):
    """ViT with a head that classifies an image by its class token."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.classifier = Linear(self.spec.hidden_size, self.spec.classifier.num_labels)

    def image_scores(self, base: ModelOutput) -> Tensor:
        """The class token, classified: (B, L)."""
        logits: Tensor = self.classifier(base.last_hidden_state[:, 0])
        return logits
