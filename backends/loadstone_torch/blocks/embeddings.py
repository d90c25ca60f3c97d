"""What an encoder reads and gives: words, positions and types; one vector for a sequence.

B batch, T tokens, C hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from loadstone.architectures import EmbeddingNames, EmbeddingSpec, PoolerSpec, owner
from loadstone_torch.blocks.run import place
from loadstone_torch.layers import ACTIVATIONS, Embedding, Linear, norm


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
            x = x + getattr(self, names.positions)(position_ids)
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
