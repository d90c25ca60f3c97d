"""Resampling of images as transformers does it: TensorFlow's own bicubic kernel is another one.

Source: Keys 1981, https://doi.org/10.1109/TASSP.1981.1163711, with the slope -0.75 that PyTorch takes.
"""

from __future__ import annotations

from typing import TypeAlias

from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.layers import Size, sizes

Tensor: TypeAlias = tf.Tensor
SLOPE = -0.75


def bicubic(grid: Tensor, height: Size, width: Size) -> Tensor:
    """Resample a grid (B, h, w, C) to (B, height, width, C); corners are not aligned, edges are repeated."""
    _, rows, columns, _ = sizes(grid)
    vertical, horizontal = _weights(rows, height), _weights(columns, width)
    resampled = tf.einsum("yh,bhwc,xw->byxc", vertical, tf.cast(grid, tf.float32), horizontal)
    return tf.cast(resampled, grid.dtype)


def _weights(before: Size, after: Size) -> Tensor:
    """Return what each of `before` points contributes to each of `after` points, (after, before)."""
    scale = tf.cast(before, tf.float32) / tf.cast(after, tf.float32)
    centres = (tf.range(tf.cast(after, tf.float32)) + 0.5) * scale - 0.5
    left = tf.floor(centres)
    weights = 0.0
    for offset in (-1.0, 0.0, 1.0, 2.0):
        point = tf.clip_by_value(tf.cast(left + offset, tf.int32), 0, before - 1)
        weight = _kernel(tf.abs(centres - left - offset))
        weights += weight[:, None] * tf.one_hot(point, before)
    return weights


def _kernel(distance: Tensor) -> Tensor:
    near = ((SLOPE + 2) * distance - (SLOPE + 3)) * distance * distance + 1
    far = ((SLOPE * distance - 5 * SLOPE) * distance + 8 * SLOPE) * distance - 4 * SLOPE
    return tf.where(distance <= 1, near, far)
