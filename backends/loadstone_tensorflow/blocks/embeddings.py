"""What an encoder reads and gives: words, positions and types, or patches; one vector for a sequence.

B batch, P patches, T tokens (P + 1 of an image), C hidden size.
"""

from __future__ import annotations

from typing import TypeAlias

from loadstone.architectures import EmbeddingNames, EmbeddingSpec, PatchSpec, PoolerSpec, leaf, owner
from loadstone.errors import ArgumentError
from loadstone_tensorflow.blocks.run import part, place
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.layers import (
    ACTIVATIONS,
    Convolution,
    Dropout,
    Embedding,
    Layer,
    Linear,
    channels_last,
    check_length,
    norm,
    parameter,
    sizes,
)
from loadstone_tensorflow.resample import bicubic

Tensor: TypeAlias = tf.Tensor


class Embeddings(Layer):
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
            place(self, names.dropout, Dropout(spec.dropout))

    def call(
        self, words: Tensor, token_type_ids: Tensor | None, position_ids: Tensor, training: bool
    ) -> Tensor:
        """Word embeddings (B, T, C) and ids (B, T) -> (B, T, C)."""
        spec, names, x = self.spec, self.names, words
        if spec.types:
            if token_type_ids is None:
                token_type_ids = tf.zeros((1, 1), tf.int32)
            x = x + part(self, names.types)(token_type_ids)
        if spec.positions:
            x = x + part(self, names.positions)(position_ids + spec.positions_offset)
        if spec.norm is not None:
            x = part(self, names.norm)(x)
        return part(self, names.dropout)(x, training) if names.dropout else x

    def positions(self, input_ids: Tensor | None, words: Tensor) -> Tensor:
        """Return positions (B or 1, T) where the caller gave none."""
        tokens = sizes(words)[1]
        counted = tf.range(tokens)[None]
        if not self.spec.positions_skip_padding:
            if self.spec.positions:
                check_length(tokens, self.spec.positions)
            return counted
        pad = self.spec.pad_token_id or 0
        if input_ids is None:
            return counted + pad + 1
        real = tf.cast(input_ids != pad, tf.int32)
        return tf.cumsum(real, axis=-1) * real + pad


class Patches(Layer):
    """Patches of an image, each projected to a vector."""

    def __init__(self, spec: PatchSpec, name: str, hidden_size: int) -> None:
        """Build it; the name of the projection is relative to it."""
        super().__init__()
        self.projects = name
        projection = Convolution(
            spec.num_channels, hidden_size, spec.patch_size, stride=spec.patch_size, bias=True
        )
        place(self, name, projection)

    def call(self, pixels: Tensor) -> Tensor:
        """(B, channels, height, width) -> (B, P, C)."""
        patches = part(self, self.projects)(channels_last(pixels))
        batch, height, width, channels = sizes(patches)
        return tf.reshape(patches, (batch, height * width, channels))


class PatchEmbeddings(Layer):
    """A first token and the patches of an image, with positions added."""

    def __init__(self, spec: PatchSpec, names: EmbeddingNames, hidden_size: int) -> None:
        """Build it; the arguments are those of `Embeddings`."""
        super().__init__()
        self.spec, self.names = spec, names.within(owner(names.positions))
        self.projects = leaf(owner(names.patches))
        height, width = spec.grid
        place(self, self.names.first, parameter(1, 1, hidden_size))
        place(self, self.names.positions, parameter(1, height * width + 1, hidden_size))
        place(self, self.projects, Patches(spec, leaf(names.patches), hidden_size))
        place(self, self.names.dropout, Dropout(spec.dropout))

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
        patches = part(self, self.projects)(pixels)
        batch, _, channels = sizes(patches)
        first = tf.broadcast_to(part(self, self.names.first).value, (batch, 1, channels))
        x = tf.concat((first, patches), axis=1) + self._positions(pixels)
        return part(self, self.names.dropout)(x, training)

    def _positions(self, pixels: Tensor) -> Tensor:
        """Return the positions (1, T, C) for images of that size, interpolated where it is not the trained one."""
        held = tf.convert_to_tensor(part(self, self.names.positions).value)
        if tuple(pixels.shape[2:]) == self.spec.image_size:
            return held
        (height, width), patch = self.spec.grid, self.spec.patch_size
        first, grid = held[:, :1], tf.reshape(held[:, 1:], (1, height, width, -1))
        target = (sizes(pixels)[2] // patch[0], sizes(pixels)[3] // patch[1])
        grid = tf.reshape(bicubic(grid, *target), (1, target[0] * target[1], held.shape[2]))
        return tf.concat((first, grid), axis=1)


class Pooler(Layer):
    """act(dense(first token))."""

    def __init__(self, spec: PoolerSpec, name: str, hidden_size: int) -> None:
        """Build it.

        Args:
            spec: Its part of the spec.
            name: Name of the projection, relative to it.
            hidden_size: Channels that it reads.
        """
        super().__init__()
        self.projects, self.activation = name, ACTIVATIONS[spec.activation]
        place(self, name, Linear(hidden_size, spec.size))

    def call(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, size)."""
        return self.activation(part(self, self.projects)(x[:, 0]))
