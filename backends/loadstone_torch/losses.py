"""Losses, each as transformers computes it for the same labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from loadstone.architectures import ClassifierSpec


def causal_lm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of each token's logits (B, T, V) with the next label (B, T); -100 is ignored."""
    shifted = F.pad(labels, (0, 1), value=-100)[:, 1:]
    return token_loss(logits.float(), shifted)


def token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of logits (B, T, L) with labels (B, T); -100 is ignored."""
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten().to(logits.device))


def sequence_loss(logits: Tensor, labels: Tensor, spec: ClassifierSpec) -> Tensor:
    """Loss of a sequence classifier's logits (B, L).

    The kind follows `spec.problem_type`; where it is None: one label is a regression, integer labels are one class per
    sequence, anything else is several.
    """
    labels = labels.to(logits.device)
    problem = spec.problem_type or _problem_of(labels, spec.num_labels)
    if problem == "regression":
        if spec.num_labels == 1:
            return F.mse_loss(logits.squeeze(), labels.squeeze().to(logits.dtype))
        return F.mse_loss(logits, labels.to(logits.dtype))
    if problem == "single_label_classification":
        return F.cross_entropy(logits, labels.flatten())
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


def _problem_of(labels: Tensor, num_labels: int) -> str:
    if num_labels == 1:
        return "regression"
    if labels.dtype in (torch.int64, torch.int32):
        return "single_label_classification"
    return "multi_label_classification"


def binary_loss(logits: Tensor, labels: Tensor, mask: Tensor | None) -> Tensor:
    """Mean binary cross entropy of logits (B, T) with labels 0 or 1 (B, T), over the tokens that the mask (B, T) counts."""
    losses = F.binary_cross_entropy_with_logits(logits, labels.to(logits), reduction="none")
    return losses.mean() if mask is None else losses[mask == 1].mean()


def span_loss(starts: Tensor, ends: Tensor, start_positions: Tensor, end_positions: Tensor) -> Tensor:
    """Mean cross entropy of start and end logits (B, T) with positions (B,); positions beyond T are ignored."""
    tokens = starts.shape[1]

    def one(logits: Tensor, positions: Tensor) -> Tensor:
        positions = positions.flatten().to(logits.device).clamp(0, tokens)
        return F.cross_entropy(logits, positions, ignore_index=tokens)

    return (one(starts, start_positions) + one(ends, end_positions)) / 2
