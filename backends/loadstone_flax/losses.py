"""Losses, each as transformers computes it for the same labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from loadstone.architectures import ClassifierSpec
from loadstone.errors import ArgumentError

IGNORED = -100


def cross_entropy(logits: Array, labels: Array, ignored: int | Array = IGNORED) -> Array:
    """Mean cross entropy of logits (N, L) with labels (N,), those that equal `ignored` left out.

    Any other label below zero or beyond L makes it not-a-number.

    Raises:
        ArgumentError: If labels are no integers, or not as many as the rows of logits.
    """
    labels = _integers(labels)
    _check_shape(labels, logits.shape[:1])
    counted = labels != ignored
    scores = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    # JAX would count a label below zero from the end.
    column = jnp.where(labels < 0, scores.shape[-1], labels)
    chosen = jnp.take_along_axis(scores, jnp.where(counted, column, 0)[:, None], axis=-1)[:, 0]
    return (-jnp.where(counted, chosen, 0).sum() / counted.sum()).astype(logits.dtype)


def causal_lm_loss(logits: Array, labels: Array) -> Array:
    """Cross entropy of each token's logits (B, T, V) with the next label (B, T); -100 is ignored."""
    shifted = jnp.pad(_integers(labels), ((0, 0), (0, 1)), constant_values=IGNORED)[:, 1:]
    return token_loss(logits.astype(jnp.float32), shifted)


def token_loss(logits: Array, labels: Array) -> Array:
    """Cross entropy of logits (B, T, L) with labels (B, T); -100 is ignored."""
    return cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))


def sequence_loss(logits: Array, labels: Array, spec: ClassifierSpec) -> Array:
    """Loss of a sequence classifier's logits (B, L).

    The kind follows `spec.problem_type`; where it is None: one label is a regression, integer labels are one class per
    sequence, anything else is several.

    Raises:
        ArgumentError: If labels do not have the shape that goes with the logits.
    """
    problem = spec.problem_type or _problem_of(labels, spec.num_labels)
    if problem == "single_label_classification":
        return cross_entropy(logits, labels.reshape(-1))
    labels = labels.astype(logits.dtype)
    if spec.num_labels == 1 and labels.size == logits.size:
        labels = labels.reshape(logits.shape)
    _check_shape(labels, logits.shape)
    if problem == "regression":
        return jnp.square(logits - labels).mean()
    return (jax.nn.softplus(logits) - logits * labels).mean()


def _problem_of(labels: Array, num_labels: int) -> str:
    if num_labels == 1:
        return "regression"
    if jnp.issubdtype(labels.dtype, jnp.integer):
        return "single_label_classification"
    return "multi_label_classification"


def binary_loss(logits: Array, labels: Array, mask: Array | None) -> Array:
    """Mean binary cross entropy of logits (B, T) with labels 0 or 1 (B, T), over the tokens that the mask (B, T) counts."""
    _check_shape(labels, logits.shape)
    losses = jax.nn.softplus(logits) - logits * labels.astype(logits.dtype)
    return losses.mean(where=None if mask is None else mask == 1)


def span_loss(starts: Array, ends: Array, start_positions: Array, end_positions: Array) -> Array:
    """Mean cross entropy of start and end logits (B, T) with positions (B,); positions beyond T are ignored."""
    tokens = starts.shape[1]

    def one(logits: Array, positions: Array) -> Array:
        return cross_entropy(logits, _integers(positions).reshape(-1).clip(0, tokens), ignored=tokens)

    return (one(starts, start_positions) + one(ends, end_positions)) / 2


def _integers(labels: Array) -> Array:
    """Return labels in an integer dtype that holds a negative one, and any class."""
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ArgumentError("labels of classes are integers", found=labels.dtype)
    return labels.astype(int)


def _check_shape(labels: Array, expected: tuple[int, ...]) -> None:
    if labels.shape != expected:
        raise ArgumentError("the labels do not fit the logits", expected=expected, found=labels.shape)
