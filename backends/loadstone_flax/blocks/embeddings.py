"""What an encoder reads and gives: words, positions and types, or patches; one vector for a sequence.

B batch, P patches, T tokens (P + 1 of an image), C hidden size.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax import Array

from loadstone.architectures import EmbeddingNames, EmbeddingSpec, PatchSpec, PoolerSpec, leaf, owner
from loadstone.errors import ArgumentError
from loadstone_flax.blocks.run import place
from loadstone_flax.layers import (
    ACTIVATIONS,
    Convolution,
    Dropout,
    Embedding,
    Linear,
    bicubic,
    norm,
    parameter,
)


class Embeddings(nnx.Module):
    """Words, positions and token types, added and normalised."""

    def __init__(self, spec: EmbeddingSpec, names: EmbeddingNames, hidden_size: int) -> None:
        """Build it.

        Args:
            spec: Its part of the spec.
            names: Where checkpoints have the parts.
            hidden_size: Channels that it gives.
        """
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
            place(self, names.dropout, Dropout(spec.dropout))

    def __call__(self, words: Array, token_type_ids: Array | None, position_ids: Array) -> Array:
        """Word embeddings (B, T, C) and ids (B, T) -> (B, T, C)."""
        spec, names, x = self.spec, self.names, words
        if spec.types:
            if token_type_ids is None:
                token_type_ids = jnp.zeros(words.shape[:2], jnp.int32)
            x = x + getattr(self, names.types)(token_type_ids)
        if spec.positions:
            x = x + getattr(self, names.positions)(position_ids + spec.positions_offset)
        if spec.norm is not None:
            x = getattr(self, names.norm)(x)
        return getattr(self, names.dropout)(x) if names.dropout else x

    def positions(self, input_ids: Array | None, words: Array) -> Array:
        """Return positions (B or 1, T) where the caller gave none."""
        if not self.spec.positions_skip_padding:
            return jnp.arange(words.shape[1])[None]
        pad = self.spec.pad_token_id or 0
        if input_ids is None:
            return jnp.arange(pad + 1, pad + 1 + words.shape[1])[None]
        real = (input_ids != pad).astype(jnp.int32)
        return real.cumsum(-1) * real + pad


class Patches(nnx.Module):
    """Patches of an image, each projected to a vector."""

    def __init__(self, spec: PatchSpec, name: str, hidden_size: int) -> None:
        """Build it; the name of the projection is relative to it."""
        self.name = name
        projection = Convolution(
            spec.num_channels, hidden_size, spec.patch_size, stride=spec.patch_size, bias=True
        )
        place(self, name, projection)

    def __call__(self, pixels: Array) -> Array:
        """(B, channels, height, width) -> (B, P, C)."""
        patches: Array = getattr(self, self.name)(pixels)
        return patches.reshape(*patches.shape[:2], -1).swapaxes(1, 2)


class PatchEmbeddings(nnx.Module):
    """A first token and the patches of an image, with positions added."""

    def __init__(self, spec: PatchSpec, names: EmbeddingNames, hidden_size: int) -> None:
        """Build it; the arguments are those of `Embeddings`."""
        self.spec, self.names = spec, names.within(owner(names.positions))
        self.projects = leaf(owner(names.patches))
        height, width = spec.grid
        place(self, self.names.first, parameter(1, 1, hidden_size))
        place(self, self.names.positions, parameter(1, height * width + 1, hidden_size))
        place(self, self.projects, Patches(spec, leaf(names.patches), hidden_size))
        place(self, self.names.dropout, Dropout(spec.dropout))

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
        patches = getattr(self, self.projects)(pixels)
        first = getattr(self, self.names.first)[...]
        first = jnp.broadcast_to(first, (len(pixels), 1, patches.shape[2]))
        x = jnp.concatenate((first, patches), axis=1) + self._positions(size)
        dropped: Array = getattr(self, self.names.dropout)(x)
        return dropped

    def _positions(self, size: tuple[int, int]) -> Array:
        """Return the positions (1, T, C) for images of a size in pixels, interpolated where it is not the trained one."""
        held: Array = getattr(self, self.names.positions)[...]
        if size == self.spec.image_size:
            return held
        patch, grid = self.spec.patch_size, held[0, 1:].reshape(*self.spec.grid, -1)  # (height, width, C)
        grid = bicubic(grid, (size[0] // patch[0], size[1] // patch[1]))
        return jnp.concatenate((held[:, :1], grid.reshape(1, -1, grid.shape[-1])), axis=1)


class Pooler(nnx.Module):
    """act(dense(first token))."""

    def __init__(self, spec: PoolerSpec, name: str, hidden_size: int) -> None:
        """Build it.

        Args:
            spec: Its part of the spec.
            name: Name of the projection, relative to it.
            hidden_size: Channels that it reads.
        """
        self.name, self.activation = name, spec.activation
        place(self, name, Linear(hidden_size, spec.size))

    def __call__(self, x: Array) -> Array:
        """(B, T, C) -> (B, size)."""
        pooled: Array = ACTIVATIONS[self.activation](getattr(self, self.name)(x[:, 0]))
        return pooled
