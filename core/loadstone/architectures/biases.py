"""Numbers that are added to attention scores for the distance of two tokens, computed once for all frameworks.

Sources: ALiBi: Press et al. 2021, https://arxiv.org/abs/2108.12409; buckets: Raffel et al. 2019,
https://arxiv.org/abs/1910.10683.
"""

from __future__ import annotations

import dataclasses
import math
import struct


def alibi_slopes(num_heads: int) -> tuple[float, ...]:
    """Return what each head multiplies a key's position by.

    A geometric sequence for a power of two; of other numbers the next smaller one's, and every other one of the next larger one's.

    Example:
        >>> alibi_slopes(4), alibi_slopes(3)
        ((0.25, 0.0625, 0.015625, 0.00390625), (0.0625, 0.00390625, 0.25))
    """
    power = 1 << (num_heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * (head + 1) / power) for head in range(power)]
    between = [2.0 ** (-4.0 * (head + 1) / power) for head in range(0, 2 * (num_heads - power), 2)]
    return (*slopes, *between)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BucketSpec:
    """Relative positions in buckets: single ones near by, ever wider ones up to a distance.

    Attributes:
        buckets: How many there are, of both directions together.
        max_distance: All that is farther shares a bucket.
        both_ways: A key may lie after its query too; else what does is in the bucket of the query itself.
    """

    buckets: int
    max_distance: int
    both_ways: bool

    @property
    def table(self) -> tuple[int, ...]:
        """The bucket of a key by its position less its query's, from `-max_distance` to `max_distance`."""
        reach = range(-self.max_distance, self.max_distance + 1)
        half = self.buckets // 2
        if self.both_ways:
            return tuple(self._bucket(abs(d), half) + (half if d > 0 else 0) for d in reach)
        return tuple(self._bucket(max(-d, 0), self.buckets) for d in reach)

    def _bucket(self, distance: int, buckets: int) -> int:
        exact = buckets // 2
        if distance < exact:
            return distance
        # Each operation is rounded to float32, as in the reference implementation.
        share = _float32(
            _float32(math.log(_float32(distance / exact))) / _float32(math.log(self.max_distance / exact))
        )
        return min(exact + int(_float32(share * (buckets - exact))), buckets - 1)


def _float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])
