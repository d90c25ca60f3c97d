"""Generation: one token after the other, with a key-value cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from loadstone.errors import ArgumentError
from loadstone.generation import Generation, resolve_generation


class Cache:
    """Keys and values of the tokens seen, per layer: each (B, K, S, D)."""

    def __init__(self) -> None:
        self.layers: list[tuple[Tensor, Tensor]] = []

    def update(self, k: Tensor, v: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Append keys and values (B, K, T, D) of new tokens to a layer and return all of that layer's."""
        if layer < len(self.layers):
            old_k, old_v = self.layers[layer]
            k, v = torch.cat((old_k, k), dim=2), torch.cat((old_v, v), dim=2)
            self.layers[layer] = (k, v)
        else:
            self.layers.append((k, v))
        return k, v

    def get_seq_length(self) -> int:
        """Return how many tokens are held."""
        return self.layers[0][0].shape[2] if self.layers else 0

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, layer: int) -> tuple[Tensor, Tensor]:
        return self.layers[layer]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.layers)


@torch.no_grad()
def generate(
    model: Any,
    input_ids: Any = None,
    *,
    attention_mask: Any = None,
    inputs: Any = None,
    use_cache: bool = True,
    **arguments: Any,
) -> Tensor:
    """Continue prompts greedily.

    Args:
        model: A causal language model.
        input_ids: (B, T), a tensor or nested lists; shorter prompts are padded on the left.
        attention_mask: (B, T), zero at padding; None: nothing is padding.
        inputs: The same as `input_ids`.
        use_cache: Keep keys and values; False computes every token again at each step.
        **arguments: `max_new_tokens`, `max_length`, `eos_token_id` (one or several), `pad_token_id`; where absent,
            generation_config.json decides.

    Returns:
        Prompts and continuations (B, T + new); sequences that ended early are filled with the pad token.

    Raises:
        ArgumentError: If an argument is unknown, or the prompt leaves no room.
    """
    given = input_ids if input_ids is not None else inputs
    if given is None:
        raise ArgumentError("generate() needs input_ids", expected="token ids (B, T)")
    ids = given if isinstance(given, Tensor) else torch.tensor(given, device=model.device)
    plan = resolve_generation(model.generation_config, arguments, prompt_length=ids.shape[1])
    mask = (
        torch.ones_like(ids) if attention_mask is None else torch.as_tensor(attention_mask, device=ids.device)
    )
    running = torch.ones(ids.shape[0], dtype=torch.bool, device=ids.device)
    cache = Cache() if use_cache else None
    for _ in range(plan.max_new_tokens):
        logits = _next_logits(model, ids, mask, cache)
        chosen = torch.where(running, logits.argmax(-1), plan.pad_token_id)
        ids = torch.cat((ids, chosen[:, None]), dim=1)
        mask = torch.cat((mask, torch.ones_like(mask[:, :1])), dim=1)
        running = running & ~_ends(chosen, plan)
        if not running.any():
            break
    return ids


def _next_logits(model: Any, ids: Tensor, mask: Tensor, cache: Cache | None) -> Tensor:
    """Return the logits (B, V) that follow the last token; with a cache only unseen tokens are computed."""
    seen = cache.get_seq_length() if cache is not None else 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    output = model(
        input_ids=ids[:, seen:],
        attention_mask=None if mask.all() else mask,
        position_ids=positions[:, seen:],
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=1,
        return_dict=True,
    )
    logits: Tensor = output.logits[:, -1]
    return logits


def _ends(chosen: Tensor, plan: Generation) -> Tensor:
    eos = torch.tensor(plan.eos_token_ids, device=chosen.device, dtype=chosen.dtype)
    return torch.isin(chosen, eos)
