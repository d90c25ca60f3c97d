"""What an encoder reads and gives: words, positions and types, or patches; one vector for a sequence.

B batch, P patches, T tokens (P + 1 of an image), C hidden size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loadstone.architectures import EmbeddingNames, EmbeddingSpec, PatchSpec, PoolerSpec, leaf, owner
from loadstone.errors import ArgumentError
from loadstone_torch.blocks.run import place
from loadstone_torch.layers import ACTIVATIONS, Convolution, Embedding, Linear, norm, parameter


class Embeddings(nn.Module):
    """Words, positions and token types, added and normalised."""

    def __init__(self, spec: EmbeddingSpec, names: EmbeddingNames, hidden_size: int) -> None:
        """Build it.

        Args:
            spec: Its part of the spec.
            names: Where checkpoints have the parts.
            hidden_size: Channels that it gives.
        """
        super().__init__()
        self.spec, self.names = spec, names.within(owner(names.words))
        names = self.names
        place(self, names.words, Embedding(spec.vocab_size, hidden_size, padding_idx=spec.pad_token_id))
        if spec.positions:
            place(self, names.positions, Embedding(spec.positions, hidden_size))
        if spec.types:
            place(self, names.types, Embedding(spec.types, hidden_size))
        if spec.norm is not None:
            place(self, names.norm, norm(spec.norm, hidden_size))
        if names.dropout:
            place(self, names.dropout, nn.Dropout(spec.dropout))

    def forward(self, words: Tensor, token_type_ids: Tensor | None, position_ids: Tensor) -> Tensor:
        """Word embeddings (B, T, C) and ids (B, T) -> (B, T, C)."""
        spec, names, x = self.spec, self.names, words
        if spec.types:
            if token_type_ids is None:
                token_type_ids = torch.zeros(words.shape[:2], dtype=torch.long, device=words.device)
            x = x + getattr(self, names.types)(token_type_ids)
        if spec.positions:
            x = x + getattr(self, names.positions)(position_ids + spec.positions_offset)
        if spec.norm is not None:
            x = getattr(self, names.norm)(x)
        return getattr(self, names.dropout)(x) if names.dropout else x

    def positions(self, input_ids: Tensor | None, words: Tensor) -> Tensor:
        """Return positions (B or 1, T) where the caller gave none."""
        if not self.spec.positions_skip_padding:
            return torch.arange(words.shape[1], device=words.device)[None]
        pad = self.spec.pad_token_id or 0
        if input_ids is None:
            return torch.arange(pad + 1, pad + 1 + words.shape[1], device=words.device)[None]
        real = input_ids != pad
        return real.cumsum(-1) * real + pad


class Patches(nn.Module):
    """Patches of an image, each projected to a vector."""

    def __init__(self, spec: PatchSpec, name: str, hidden_size: int) -> None:
        """Build it; the name of the projection is relative to it."""
        super().__init__()
        self.name = name
        projection = Convolution(
            spec.num_channels, hidden_size, spec.patch_size, stride=spec.patch_size, bias=True
        )
        place(self, name, projection)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, channels, height, width) -> (B, P, C)."""
        patches: Tensor = getattr(self, self.name)(pixels)
        return patches.flatten(2).transpose(1, 2)


class PatchEmbeddings(nn.Module):
    """A first token and the patches of an image, with positions added."""

    def __init__(self, spec: PatchSpec, names: EmbeddingNames, hidden_size: int) -> None:
        """Build it; the arguments are those of `Embeddings`."""
        super().__init__()
        self.spec, self.names = spec, names.within(owner(names.positions))
        self.projects = leaf(owner(names.patches))
        height, width = spec.grid
        self.register_parameter(self.names.first, parameter(1, 1, hidden_size))
        self.register_parameter(self.names.positions, parameter(1, height * width + 1, hidden_size))
        place(self, self.projects, Patches(spec, leaf(names.patches), hidden_size))
        place(self, self.names.dropout, nn.Dropout(spec.dropout))

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
        patches = getattr(self, self.projects)(pixels)
        first = getattr(self, self.names.first).expand(len(pixels), -1, -1)
        x = torch.cat((first, patches), dim=1) + self._positions(size)
        dropped: Tensor = getattr(self, self.names.dropout)(x)
        return dropped

    def _positions(self, size: tuple[int, int]) -> Tensor:
        """Return the positions (1, T, C) for images of a size in pixels, interpolated where it is not the trained one."""
        held: Tensor = getattr(self, self.names.positions)
        if size == self.spec.image_size:
            return held
        (height, width), patch = self.spec.grid, self.spec.patch_size
        first, grid = held[:, :1], held[:, 1:]
        grid = grid.view(1, height, width, -1).permute(0, 3, 1, 2)  # (1, C, height, width)
        target = (size[0] // patch[0], size[1] // patch[1])
        grid = F.interpolate(grid, size=target, mode="bicubic", align_corners=False)
        return torch.cat((first, grid.flatten(2).transpose(1, 2)), dim=1)


class Pooler(nn.Module):
    """act(dense(first token))."""

    def __init__(self, spec: PoolerSpec, name: str, hidden_size: int) -> None:
        """Build it.

        Args:
            spec: Its part of the spec.
            name: Name of the projection, relative to it.
            hidden_size: Channels that it reads.
        """
        super().__init__()
        self.name, self.activation = name, ACTIVATIONS[spec.activation]
        place(self, name, Linear(hidden_size, spec.size))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, size)."""
        pooled: Tensor = self.activation(getattr(self, self.name)(x[:, 0]))
        return pooled
