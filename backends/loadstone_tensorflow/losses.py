"""Losses, each as transformers computes it for the same labels."""

from __future__ import annotations

from typing import TypeAlias

from loadstone.architectures import ClassifierSpec
from loadstone.errors import ArgumentError
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.layers import sizes

Tensor: TypeAlias = tf.Tensor
IGNORED = -100


def causal_lm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of each token's logits (B, T, V) with the next label (B, T); -100 is ignored."""
    return token_loss(logits, tf.pad(labels, ((0, 0), (0, 1)), constant_values=IGNORED)[:, 1:])


def token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of logits (B, T, L) with labels (B, T); -100 is ignored."""
    return class_loss(tf.reshape(logits, (-1, logits.shape[-1])), tf.reshape(labels, (-1,)))


def class_loss(logits: Tensor, labels: Tensor, ignored: int | Tensor = IGNORED) -> Tensor:
    """Mean cross entropy of logits (N, L) with labels (N,), in float32, over those that are not `ignored`."""
    labels = tf.reshape(labels, (-1,))
    counted = tf.not_equal(labels, tf.cast(ignored, labels.dtype))
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.where(counted, labels, 0), logits=tf.cast(logits, tf.float32)
    )
    weights = tf.cast(counted, tf.float32)
    return tf.reduce_sum(losses * weights) / tf.reduce_sum(weights)


def sequence_loss(logits: Tensor, labels: Tensor, spec: ClassifierSpec) -> Tensor:
    """Loss of a sequence classifier's logits (B, L), in float32.

    The kind follows `spec.problem_type`; where it is None: one label is a regression, integer labels are one class per
    sequence, anything else is several.
    """
    logits = tf.cast(logits, tf.float32)
    problem = spec.problem_type or _problem_of(labels, spec.num_labels)
    if problem == "single_label_classification":
        return class_loss(logits, labels)
    values = tf.cast(labels, tf.float32)
    if spec.num_labels == 1:
        values = tf.reshape(values, (-1, 1))
    if not values.shape.is_compatible_with(logits.shape):
        raise ArgumentError(
            "labels do not fit the logits", expected=logits.shape.as_list(), found=values.shape.as_list()
        )
    if problem == "regression":
        return tf.reduce_mean(tf.math.squared_difference(logits, values))
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=values, logits=logits))


def _problem_of(labels: Tensor, num_labels: int) -> str:
    if num_labels == 1:
        return "regression"
    return "single_label_classification" if labels.dtype.is_integer else "multi_label_classification"


def binary_loss(logits: Tensor, labels: Tensor, mask: Tensor | None) -> Tensor:
    """Mean binary cross entropy of logits (B, T) with labels 0 or 1 (B, T), over the tokens that the mask (B, T) counts."""
    logits = tf.cast(logits, tf.float32)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.cast(labels, tf.float32), logits=logits)
    if mask is None:
        return tf.reduce_mean(losses)
    counted = tf.cast(tf.equal(mask, 1), tf.float32)
    return tf.reduce_sum(losses * counted) / tf.reduce_sum(counted)


def span_loss(starts: Tensor, ends: Tensor, start_positions: Tensor, end_positions: Tensor) -> Tensor:
    """Mean cross entropy of start and end logits (B, T) with positions (B,); positions beyond T are ignored."""
    tokens = sizes(starts)[1]

    def one(logits: Tensor, positions: Tensor) -> Tensor:
        last = tf.cast(tokens, positions.dtype)
        return class_loss(logits, tf.clip_by_value(positions, 0, last), ignored=last)

    return (one(starts, start_positions) + one(ends, end_positions)) / 2
