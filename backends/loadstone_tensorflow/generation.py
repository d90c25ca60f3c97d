"""Generation: one token after the other, with a key-value cache of fixed size, compiled once for all shapes."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from loadstone.errors import ArgumentError
from loadstone.generation import resolve_generation
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.layers import Size, sizes

Tensor = tf.Tensor
Layers = Sequence[tuple[Tensor, Tensor]]


class Cache:
    """Keys and values of the tokens seen, per layer: each (B, K, S, D).

    It grows with each call; or, where `filled` is given, it has S slots of which that many are taken.

    A call takes a cache, or the tuple of pairs that an earlier call returned, and returns such a tuple.
    """

    def __init__(self, layers: Layers = (), filled: Size | None = None) -> None:
        self.layers = list(layers)
        self.filled = filled

    @classmethod
    def of(cls, past: Cache | Layers | None, *, wanted: bool) -> Cache | None:
        """Return what a call works with: its own argument as a cache, else a new one where one is wanted."""
        if isinstance(past, Cache):
            return past
        return cls(past or ()) if past is not None or wanted else None

    def update(self, k: Tensor, v: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Add keys and values (B, K, T, D) of new tokens to a layer and return all of that layer's."""
        if layer < len(self.layers):
            add = _append if self.filled is None else self._write
            old_k, old_v = self.layers[layer]
            self.layers[layer] = (add(old_k, k), add(old_v, v))
        else:
            self.layers.append((k, v))
        return self.layers[layer]

    def _write(self, slots: Tensor, new: Tensor) -> Tensor:
        end = self.filled + sizes(new)[2]
        # Bits 0, 1 and 3 are set: these axes are taken whole. TensorFlow writes in place where nobody else holds `slots`.
        return tf.raw_ops.TensorStridedSliceUpdate(
            input=slots,
            begin=(0, 0, self.filled, 0),
            end=(0, 0, end, 0),
            strides=(1, 1, 1, 1),
            value=new,
            begin_mask=0b1011,
            end_mask=0b1011,
        )

    def get_seq_length(self) -> Size:
        """Return how many tokens are held."""
        if self.filled is not None:
            return self.filled
        return sizes(self.layers[0][0])[2] if self.layers else 0

    def keys(self, new: Size) -> Size:
        """Return how many keys a query sees or is shielded from once `new` tokens are added."""
        return self.get_seq_length() + new if self.filled is None else sizes(self.layers[0][0])[2]

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, layer: int) -> tuple[Tensor, Tensor]:
        return self.layers[layer]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.layers)


def _append(old: Tensor, new: Tensor) -> Tensor:
    return tf.concat((old, new), axis=2)


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
        input_ids: (B, T); shorter prompts are padded on the left.
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
    ids = tf.convert_to_tensor(given)
    plan = resolve_generation(model.generation_config, arguments, prompt_length=int(ids.shape[1]))
    mask = tf.ones_like(ids) if attention_mask is None else tf.convert_to_tensor(attention_mask)
    tokens = model.generator.function(use_cache)(
        tf.cast(ids, tf.int32),
        tf.cast(mask, tf.int32),
        tf.constant(plan.max_new_tokens),
        tf.constant(plan.eos_token_ids, tf.int32, shape=(len(plan.eos_token_ids),)),
        tf.constant(plan.pad_token_id),
    )
    return tf.cast(tokens, ids.dtype)


class Generator:
    """The compiled loops of one model: one with a cache and one without, each traced once whatever the shapes."""

    def __init__(self, model: Any) -> None:
        self._model = weakref.ref(model)
        self._functions: dict[bool, Any] = {}

    def function(self, use_cache: bool) -> Any:
        """Return the `tf.function` (ids, mask, new tokens, ends, pad) -> tokens (B, T + new)."""
        if use_cache not in self._functions:
            number, row, table = (tf.TensorSpec((None,) * axes, tf.int32) for axes in range(3))
            self._functions[use_cache] = tf.function(
                self._with_cache if use_cache else self._without_cache,
                input_signature=(table, table, number, row, number),
                autograph=False,
            )
        return self._functions[use_cache]

    def forget(self) -> None:
        """Drop what is compiled: the model has new variables."""
        self._functions.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> Generator:
        return Generator(memo[id(self._model())])

    def _with_cache(self, ids: Tensor, mask: Tensor, new: Tensor, ends: Tensor, pad: Tensor) -> Tensor:
        prompt, total = sizes(ids)[1], sizes(ids)[1] + new
        mask, positions = _spread(mask, new)
        output = self._call(
            input_ids=ids,
            attention_mask=mask[:, :prompt],
            position_ids=positions[:, :prompt],
            use_cache=True,
        )
        slots = tf.nest.map_structure(
            lambda held: tf.pad(held, ((0, 0), (0, 0), (0, new), (0, 0))), output.past_key_values
        )
        choose = _Chooser(ends, pad)
        start = choose(
            output.logits, tf.pad(ids, ((0, 0), (0, new))), prompt, tf.ones_like(ids[:, 0], tf.bool)
        )

        def step(tokens: Tensor, length: Tensor, running: Tensor, slots: Layers) -> tuple[Any, ...]:
            output = self._call(
                input_ids=tokens[:, length - 1, None],  # one token, which TensorFlow does not know of a slice
                attention_mask=mask,
                position_ids=positions[:, length - 1, None],
                past_key_values=Cache(slots, filled=length - 1),
                use_cache=True,
            )
            return *choose(output.logits, tokens, length, running), output.past_key_values

        tokens, length, *_ = tf.while_loop(
            lambda tokens, length, running, slots: (length < total) & tf.reduce_any(running),
            step,
            (*start, slots),
        )
        return tokens[:, :length]

    def _without_cache(self, ids: Tensor, mask: Tensor, new: Tensor, ends: Tensor, pad: Tensor) -> Tensor:
        total = sizes(ids)[1] + new
        mask, positions = _spread(mask, new)
        choose = _Chooser(ends, pad)

        def step(tokens: Tensor, length: Tensor, running: Tensor) -> tuple[Any, ...]:
            output = self._call(
                input_ids=tokens[:, :length],
                attention_mask=mask[:, :length],
                position_ids=positions[:, :length],
                use_cache=False,
            )
            return choose(output.logits, tokens, length, running)

        tokens, length, _ = tf.while_loop(
            lambda tokens, length, running: (length < total) & tf.reduce_any(running),
            step,
            (tf.pad(ids, ((0, 0), (0, new))), sizes(ids)[1], tf.ones_like(ids[:, 0], tf.bool)),
        )
        return tokens[:, :length]

    def _call(self, **inputs: Any) -> Any:
        model = self._model()
        assert model is not None
        return model(**inputs, logits_to_keep=1, return_dict=True, training=False)


class _Chooser:
    """Takes the best token of each running sequence, writes it down, and stops sequences at their ends."""

    def __init__(self, ends: Tensor, pad: Tensor) -> None:
        self.ends, self.pad = ends, pad

    def __call__(
        self, logits: Tensor, tokens: Tensor, length: Tensor, running: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, 1, V), tokens (B, S) of which `length` are taken, running (B,) -> the same, one token on."""
        best = tf.argmax(logits[:, -1], axis=-1, output_type=tf.int32)
        chosen = tf.where(running, best, self.pad)
        here = tf.range(sizes(tokens)[1]) == length
        tokens = tf.where(here, chosen[:, None], tokens)
        ended = tf.reduce_any(chosen[:, None] == self.ends, axis=-1)
        return tokens, length + 1, running & ~ended


def _spread(mask: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """Mask (B, T) -> the mask with `new` tokens to come (B, T + new), and the position of each token in it."""
    mask = tf.pad(mask, ((0, 0), (0, new)), constant_values=1)
    return mask, tf.maximum(tf.cumsum(mask, axis=-1) - 1, 0)
