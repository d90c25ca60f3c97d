"""Generation: one token after the other, with a key-value cache, all of it in one compiled program."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from loadstone.backend import get_backend
from loadstone.backend.seeds import choose_seed
from loadstone.errors import ArgumentError
from loadstone_flax.blocks.away import copied, visited
from loadstone_flax.layers import full_precision

if TYPE_CHECKING:
    from loadstone.generate.decoding import NextLogits, Prompts, Streamer

# What `generate` does is imported when it is first called: naming a class costs none of it.


@jax.tree_util.register_pytree_with_keys_class
class Cache:
    """Keys and values of the tokens seen, per layer: each (B, S, K, D).

    A cache grows with each update, and a program that takes it is compiled anew for each size. One with reserved
    slots keeps its size: then S counts empty slots too, `length` those that are filled, and a token too many makes
    every later output not-a-number.
    """

    def __init__(self, layers: list[tuple[Array, Array]] | None = None, length: Array | None = None) -> None:
        self.layers = layers or []
        self.length = length
        self.memory: dict[int, tuple[Array, Array]] = {}  # of an encoder's states: they do not grow

    def update(self, k: Array, v: Array, layer: int) -> tuple[Array, Array]:
        """Append keys and values (B, T, K, D) of new tokens to a layer and return all of that layer's."""
        # `nnx.tabulate` gives each layer a copy, without what earlier layers have added.
        if layer >= len(self.layers):
            self.layers.append((k, v))
            return k, v
        if self.length is None:
            old_k, old_v = self.layers[layer]
            self.layers[layer] = jnp.concatenate((old_k, k), axis=1), jnp.concatenate((old_v, v), axis=1)
        else:
            self.layers[layer] = self._written(k, v, *self.layers[layer])
        return self.layers[layer]

    def _written(self, k: Array, v: Array, old_k: Array, old_v: Array) -> tuple[Array, Array]:
        # JAX would move a write beyond the end back to the last slots: make it seen.
        fits = self.length + k.shape[1] <= old_k.shape[1]
        k, v = (jnp.where(fits, new, jnp.nan).astype(new.dtype) for new in (k, v))
        write = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=self.length, axis=1)
        return write(old_k, k), write(old_v, v)

    def part(self, layer: int) -> Cache:
        """Return a cache that holds a layer's alone, as its first one."""
        part = Cache(self.layers[layer : layer + 1], self.length)
        part.memory = {0: self.memory[layer]} if layer in self.memory else {}
        return part

    def join(self, layer: int, part: Cache) -> None:
        """Take back what `part` gave, with what the layer has added to it."""
        self.layers[layer : layer + 1] = part.layers
        if part.memory:
            self.memory[layer] = part.memory[0]

    def advance(self, tokens: int) -> None:
        """Count the tokens that all layers have been updated with."""
        if self.length is not None:
            self.length = self.length + tokens

    def reserve(self, tokens: int) -> Cache:
        """Return a cache with empty slots for as many more tokens, which will not grow.

        Raises:
            ArgumentError: If it is empty: it does not know yet what it will hold.
        """
        if not self.layers:
            raise ArgumentError(
                "an empty cache cannot reserve slots",
                hint="reserve them in the past_key_values that a first call returned",
            )
        behind = ((0, 0), (0, tokens), (0, 0), (0, 0))
        layers = [(jnp.pad(k, behind), jnp.pad(v, behind)) for k, v in self.layers]
        cache = Cache(layers, jnp.asarray(self.get_seq_length(), jnp.int32))
        cache.memory = dict(self.memory)
        return cache

    def get_seq_length(self) -> Any:
        """Return how many tokens are held."""
        return self.get_size() if self.length is None else self.length

    def keys(self, new: int) -> int:
        """Return S once `new` tokens are added."""
        return self.get_size() + (new if self.length is None else 0)

    def get_size(self) -> int:
        """Return S, empty slots included."""
        return self.layers[0][0].shape[1] if self.layers else 0

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, layer: int) -> tuple[Array, Array]:
        return self.layers[layer]

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        return iter(self.layers)

    def tree_flatten_with_keys(self) -> tuple[tuple[tuple[Any, Any], ...], None]:
        """Return the children by name, as `jax.tree` asks."""
        names = ("layers", "length", "memory")
        return tuple((jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple[Any, Any, Any]) -> Cache:
        """Return a cache of these children, as `jax.tree` asks."""
        cache = object.__new__(cls)
        cache.layers, cache.length, cache.memory = children
        return cache


def generate(
    model: Any,
    input_ids: Any = None,
    *,
    attention_mask: Any = None,
    inputs: Any = None,
    use_cache: bool = True,
    streamer: Streamer | None = None,
    rngs: Any = None,
    **arguments: Any,
) -> Array:
    """Continue prompts of a causal language model; `PreTrainedModel.generate` tells the arguments and errors."""
    from loadstone.generate.decoding import decode, read_prompts

    given = inputs if input_ids is None else input_ids
    if isinstance(given, jax.core.Tracer):
        raise ArgumentError("generate() is compiled already", hint="call it outside jax.jit")
    if rngs is not None:
        arguments["seed"] = choose_seed(get_backend(model.backend_name), arguments.get("seed"), rngs)
    prompts = read_prompts(model, given, attention_mask, arguments)
    call, calls = prompts.call, model.calls
    if calls:
        model = copied(model)
    if not call.is_greedy or streamer is not None or calls:
        steps = _steps(model, prompts, use_cache)
        return jax.device_put(decode(steps, prompts, streamer=streamer).astype(np.int32))
    grown, end = _continue(
        model,
        prompts.ids.astype(np.int32),
        prompts.mask.astype(np.int32),
        _ends(call.eos_token_ids),
        np.int32(call.pad_token_id),
        _all_types(prompts),
        new_tokens=call.max_new_tokens,
        use_cache=use_cache,
    )
    # Cut on the host: on the device, each length would be a program of its own.
    return jax.device_put(np.asarray(grown)[:, : int(end)])


def _ends(tokens: tuple[int, ...]) -> np.ndarray:
    """Return the ids that end a sequence, filled up with an id that no token has: four of them are one shape."""
    return np.array([*tokens, *[-1] * (-len(tokens) % 4)], np.int32)


def _all_types(prompts: Prompts) -> np.ndarray | None:
    """Return the types (B, T + new) of the prompts' tokens and of those to come, or None."""
    if prompts.types is None:
        return None
    return prompts.types_of(prompts.ids.shape[1] + prompts.call.max_new_tokens).astype(np.int32)


def _steps(model: Any, prompts: Prompts, use_cache: bool) -> NextLogits:
    """Return the function that computes the logits after the last token; with a cache only unseen tokens are run."""
    cache: Cache | None = None
    new_tokens, types = prompts.call.max_new_tokens, _all_types(prompts)
    room = prompts.ids.shape[1] + new_tokens

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        nonlocal cache
        behind = ((0, 0), (0, room - ids.shape[1]))
        unseen = ids.shape[1] if use_cache and cache is None else 1
        logits, cache = (_next if model.calls else _step)(
            model,
            np.pad(ids.astype(np.int32), behind),
            np.pad(mask.astype(np.int32), behind, constant_values=1),
            types,
            cache,
            np.int32(ids.shape[1] - unseen),
            tokens=unseen,
            new_tokens=new_tokens,
            use_cache=use_cache,
        )
        return np.asarray(logits)

    return run


@full_precision()
def _next(
    model: Any,
    ids: Array,
    mask: Array,
    types: Array | None,
    cache: Cache | None,
    start: Array,
    *,
    tokens: int,
    new_tokens: int,
    use_cache: bool,
) -> tuple[Array, Cache | None]:
    """Return the float32 logits (B, V) that follow `tokens` tokens from `start` on, and the cache for the next step."""
    model.eval()
    with visited(model, model.calls):
        logits, grown = (_with_cache if use_cache else _without_cache)(
            model, ids, mask, types, cache, start, tokens
        )
    if cache is None and grown is not None:
        grown = grown.reserve(new_tokens)
    return logits.astype(jnp.float32), grown


_step = jax.jit(_next, static_argnames=("tokens", "new_tokens", "use_cache"), donate_argnames="cache")
"""The same as one program, for a model that lies in one place."""


@functools.partial(jax.jit, static_argnames=("new_tokens", "use_cache"))
@full_precision()
def _continue(
    model: Any,
    ids: Array,
    mask: Array,
    eos: Array,
    pad: Array,
    types: Array | None = None,
    *,
    new_tokens: int,
    use_cache: bool,
) -> tuple[Array, Array]:
    """Return the prompts (B, T) with room for `new_tokens`, filled, and where the last token ends."""
    model.eval()  # it is a copy, as jax makes one for each program
    prompt = ids.shape[1]
    ids = jnp.pad(ids, ((0, 0), (0, new_tokens)))
    mask = jnp.pad(mask, ((0, 0), (0, new_tokens)), constant_values=1)
    step = _with_cache if use_cache else _without_cache

    def append(end: Array, ids: Array, running: Array, logits: Array) -> tuple[Array, Array, Array]:
        chosen = jnp.where(running, logits.argmax(-1).astype(ids.dtype), pad)
        ids = jax.lax.dynamic_update_slice_in_dim(ids, chosen[:, None], end, axis=1)
        return end + 1, ids, running & ~jnp.isin(chosen, eos)

    def more(state: tuple[Any, ...]) -> Array:
        end, _, running, _ = state
        return (end < prompt + new_tokens) & running.any()

    def body(state: tuple[Any, ...]) -> tuple[Any, ...]:
        end, ids, running, cache = state
        logits, cache = step(model, ids, mask, types, cache, end - 1, 1)
        return *append(end, ids, running, logits), cache

    logits, cache = step(model, ids, mask, types, None, 0, prompt)
    running = jnp.ones(len(ids), bool)
    cache = None if cache is None else cache.reserve(new_tokens)
    state = *append(jnp.int32(prompt), ids, running, logits), cache
    end, ids, *_ = jax.lax.while_loop(more, body, state)
    return ids, end


def _with_cache(
    model: Any,
    ids: Array,
    mask: Array,
    types: Array | None,
    cache: Cache | None,
    start: int | Array,
    tokens: int,
) -> tuple[Array, Cache]:
    """Return the logits (B, V) that follow `tokens` tokens from `start` on, and a cache that holds these too."""
    cut = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=start, slice_size=tokens, axis=1)
    output = model.forward(
        input_ids=cut(ids),
        attention_mask=mask if cache is not None else mask[:, :tokens],
        position_ids=cut(_positions(mask)),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
        return_dict=True,
        **({} if types is None else {"token_type_ids": cut(types)}),
    )
    return output.logits[:, -1], output.past_key_values


def _without_cache(
    model: Any,
    ids: Array,
    mask: Array,
    types: Array | None,
    cache: Cache | None,
    start: int | Array,
    tokens: int,
) -> tuple[Array, Cache | None]:
    """Return the same logits, every token computed; `cache` stays None."""
    last = start + tokens - 1
    positions = _positions(mask)
    output = model.forward(
        input_ids=ids,
        attention_mask=mask,
        # The tokens to come must not lengthen the sequence: some rotary frequencies depend on its length.
        position_ids=jnp.minimum(positions, positions[:, last, None]),
        use_cache=False,
        logits_to_keep=jnp.atleast_1d(last),
        return_dict=True,
        **({} if types is None else {"token_type_ids": types}),
    )
    return output.logits[:, -1], cache


def _positions(mask: Array) -> Array:
    return (mask.cumsum(-1) - 1).clip(0)
