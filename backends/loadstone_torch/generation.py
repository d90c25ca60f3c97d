"""Generation: one token after the other, with a key-value cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from loadstone.errors import ArgumentError
from loadstone.generate.decoding import NextLogits, Prompts, Streamer, decode, positions, read_prompts


class Cache:
    """Keys and values of the tokens seen, per layer: each (B, K, S, D)."""

    def __init__(self) -> None:
        self.layers: list[tuple[Tensor, Tensor]] = []
        self.memory: dict[int, tuple[Tensor, Tensor]] = {}  # of an encoder's states: they do not grow

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


def check_cache(cache: Any) -> None:
    """Raise an ArgumentError for a cache of transformers' that hands out room for later tokens beside the keys it holds."""
    if getattr(cache, "is_compileable", False):
        raise ArgumentError(
            f"past_key_values is a {type(cache).__name__}, which has room for a fixed number of tokens",
            expected="a cache that grows: loadstone_torch.generation.Cache() or transformers' DynamicCache()",
            hint="leave past_key_values out, or pass one of these",
        )


@torch.no_grad()
def generate(
    model: Any,
    input_ids: Tensor | None = None,
    *,
    attention_mask: Tensor | None = None,
    inputs: Tensor | None = None,
    use_cache: bool = True,
    streamer: Streamer | None = None,
    **arguments: Any,
) -> Tensor:
    """Continue prompts.

    Args:
        model: A causal language model.
        input_ids: (B, T), a tensor or lists of numbers; shorter prompts are padded on the left.
        attention_mask: (B, T), zero at padding; None: nothing is padding.
        inputs: The same as `input_ids`.
        use_cache: Keep keys and values; False computes every token again at each step.
        streamer: Gets tokens as they are made, e.g. transformers' `TextStreamer`.
        **arguments: `max_new_tokens`, `do_sample`, `temperature`, ...: see `loadstone.generate.settings.resolve_generation`; where
            absent, generation_config.json decides.

    Returns:
        Prompts and continuations (B, T + new); sequences that ended early are filled with the pad token.

    Raises:
        ArgumentError: As `loadstone.generate.decoding.read_prompts` tells.
    """
    given = inputs if input_ids is None else input_ids
    arguments = {name: _on_host(value) for name, value in arguments.items()}
    prompts = read_prompts(model, _on_host(given), _on_host(attention_mask), arguments)
    # What an adapter of PEFT puts before the prompt it puts there at each step: it knows no cache of ours.
    adapted = "prepare_inputs_for_generation" in vars(model)
    step = _step(model, Cache() if use_cache and not adapted else None, prompts)
    sequences = torch.from_numpy(decode(step, prompts, streamer=streamer))
    return sequences.to(given.device) if isinstance(given, Tensor) else sequences


def _on_host(given: Any) -> Any:
    return given.cpu() if isinstance(given, Tensor) else given


def _step(model: Any, cache: Cache | None, prompts: Prompts) -> NextLogits:
    """Return the function that computes the logits after the last token; with a cache only unseen tokens are run."""

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(model.device)

        typed = {}
        if prompts.types is not None:
            typed["token_type_ids"] = tensor(prompts.types_of(ids.shape[1]))
        inputs = model.prepare_inputs_for_generation(
            tensor(ids),
            attention_mask=None if mask.all() else tensor(mask),
            position_ids=tensor(positions(mask)),
            past_key_values=cache,
            use_cache=cache is not None,
            **typed,
        )
        output = model(**inputs, logits_to_keep=1, return_dict=True)
        logits: np.ndarray = output.logits[:, -1].float().cpu().numpy()
        return logits

    return run
