"""What is added to attention scores for the distance of two tokens.

B batch, T query tokens, S key tokens, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from loadstone.architectures import BucketSpec, alibi_slopes
from loadstone_torch.layers import parameter


def alibi(num_heads: int, padding: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ALiBi's bias: padding (B, S), zero where a key is padding -> (B, H, 1, S).

    It counts the position of a key and not its distance to the query, which softmax cannot tell apart.
    """
    slopes = torch.tensor(alibi_slopes(num_heads), dtype=torch.float32, device=padding.device)
    positions = (padding.cumsum(-1) - 1) * padding
    return (slopes[:, None, None] * positions[:, None, None, :]).to(dtype)


class RelativeBias(nn.Module):
    """A learned bias for each head and bucket of relative positions."""

    def __init__(self, spec: BucketSpec, num_heads: int) -> None:
        """Build it."""
        super().__init__()
        self.spec = spec
        self.weight = parameter(spec.buckets, num_heads)

    def forward(self, queries: int, keys: int) -> Tensor:
        """Return the bias of the last `queries` among `keys` tokens, (1, H, T, S)."""
        device, reach = self.weight.device, self.spec.max_distance
        key = torch.arange(keys, device=device)
        distance = key - key[keys - queries :, None]  # (T, S)
        table = torch.tensor(self.spec.table, device=device)
        buckets = table[distance.clamp(-reach, reach) + reach]
        return self.weight[buckets].permute(2, 0, 1)[None]
