"""Generation: one token after the other, with a key-value cache of fixed size, compiled once for all shapes."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from loadstone.errors import ArgumentError
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.layers import Size, sizes

if TYPE_CHECKING:
    from loadstone.generate.decoding import NextLogits, Prompts, Streamer

# What `generate` does is imported when it is first called: naming a class costs none of it.
Tensor: TypeAlias = tf.Tensor
Layers = Sequence[tuple[Tensor, Tensor]]


class Cache:
    """Keys and values of the tokens seen, per layer: each (B, K, S, D).

    It grows with each call; or, where `filled` is given, it has S slots of which that many are taken.

    A call takes a cache, or the tuple of pairs that an earlier call returned, and returns such a tuple.
    """

    def __init__(self, layers: Layers = (), filled: Size | None = None) -> None:
        self.layers = list(layers)
        self.filled = filled
        self.memory: dict[int, tuple[Tensor, Tensor]] = {}  # of an encoder's states: they do not grow

    @classmethod
    def of(cls, past: Cache | Layers | None, *, wanted: bool) -> Cache | None:
        """Return what a call works with: its own argument as a cache, else a new one where one is wanted."""
        if isinstance(past, Cache):
            return past
        return cls(past or ()) if past is not None or wanted else None

    def update(self, k: Tensor, v: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Add keys and values (B, K, T, D) of new tokens to a layer and return all of that layer's."""
        if layer < len(self.layers):
            old_k, old_v = self.layers[layer]
            self.layers[layer] = (self._add(old_k, k), self._add(old_v, v))
        else:
            self.layers.append((k, v))
        return self.layers[layer]

    def _add(self, old: Tensor, new: Tensor) -> Tensor:
        return _append(old, new) if self.filled is None else _write(old, new, self.filled)

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


def _write(slots: Tensor, new: Tensor, start: Size) -> Tensor:
    # Bits 0, 1 and 3 are set: these axes are taken whole. TensorFlow writes in place where nobody else holds `slots`.
    return tf.raw_ops.TensorStridedSliceUpdate(
        input=slots,
        begin=(0, 0, start, 0),
        end=(0, 0, start + sizes(new)[2], 0),
        strides=(1, 1, 1, 1),
        value=new,
        begin_mask=0b1011,
        end_mask=0b1011,
    )


def generate(
    model: Any,
    input_ids: Any = None,
    *,
    attention_mask: Any = None,
    inputs: Any = None,
    use_cache: bool = True,
    streamer: Streamer | None = None,
    **arguments: Any,
) -> Tensor:
    """Continue prompts of a causal language model; `PreTrainedModel.generate` tells the arguments and errors."""
    from loadstone.generate.decoding import decode, read_prompts

    given = inputs if input_ids is None else input_ids
    traced = given is not None and tf.is_symbolic_tensor(given)
    prompts = (_traced_prompts if traced else read_prompts)(model, given, attention_mask, arguments)
    call = prompts.call
    if traced and not (call.is_greedy and streamer is None):
        raise ArgumentError(
            "inside tf.function only the likeliest token can be taken", hint="call generate() outside"
        )
    plain = call.is_greedy and streamer is None and prompts.types is None
    if plain and (traced or not model.generator.awaits):
        arrays = (
            tf.cast(prompts.ids, tf.int32),
            tf.cast(prompts.mask, tf.int32),
            tf.constant(call.max_new_tokens),
            tf.constant(call.eos_token_ids, tf.int32, shape=(len(call.eos_token_ids),)),
            tf.constant(call.pad_token_id),
        )
        try:
            tokens = model.generator.loop(use_cache)(*arrays)
        except _NothingKept:
            tokens = model.generator.loop(False)(*arrays)
    else:
        step = model.generator.steps(use_cache, prompts)
        tokens = tf.constant(decode(step, prompts, streamer=streamer))
    # Lists of numbers are int32 in TensorFlow; a dtype that holds the prompts need not hold what follows.
    wide = hasattr(given, "dtype") and tf.as_dtype(given.dtype) == tf.int64
    return tf.cast(tokens, tf.int64 if wide else tf.int32)


def _traced_prompts(
    model: Any, ids: Tensor, attention_mask: Tensor | None, arguments: Mapping[str, Any]
) -> Prompts:
    """Return the prompts of a function that is being traced, whose tokens nobody knows yet."""
    from loadstone.generate.decoding import Prompts
    from loadstone.generate.settings import resolve_generation

    length = ids.shape[1]
    if length is None and arguments.get("max_new_tokens") is None:
        raise ArgumentError("generate() does not know how long its prompts are", hint="pass max_new_tokens=")
    if arguments.get("token_type_ids") is not None:
        raise ArgumentError("inside tf.function generate() reads no token_type_ids", hint="leave them out")
    call = resolve_generation(model.generation_config, arguments, prompt_length=length or 0)
    mask = tf.ones_like(ids) if attention_mask is None else attention_mask
    return Prompts(ids=ids, mask=mask, call=call)


NUMBER, ROW, TABLE = (tf.TensorSpec((None,) * axes, tf.int32) for axes in range(3))


class _NothingKept(Exception):
    """A class of somebody's own has no cache: it computes all tokens at each step, as in the other frameworks."""


class Generator:
    """The compiled functions of one model, each traced once whatever the shapes."""

    def __init__(self, model: Any) -> None:
        self._model = weakref.ref(model)
        self._compiled: dict[str, Any] = {}
        self._layers: list[int] = []

    def forget(self) -> None:
        """Drop what is compiled: the model has new variables."""
        self._compiled.clear()

    @property
    def awaits(self) -> bool:
        """Whether the model is still being read."""
        model = self._model()
        report = None if model is None else model.load_report
        return report is not None and report.on_its_way is not None

    def _look(self) -> None:
        """Drop what is compiled if the model has other layers than before: somebody has replaced one."""
        model = self._model()
        assert model is not None
        layers = [id(layer) for layer in model._flatten_layers()]
        if layers != self._layers:
            self.forget()
        self._layers = layers

    def loop(self, use_cache: bool) -> Any:
        """Return the whole of greedy generation: (ids, mask, new tokens, ends, pad) -> tokens (B, T + new)."""
        self._look()
        function = self._loop_with_cache if use_cache else self._loop_without_cache
        return self._compile(function, TABLE, TABLE, NUMBER, ROW, NUMBER)

    def steps(self, use_cache: bool, prompts: Prompts) -> NextLogits:
        """Return the function that computes the logits after the last token; with a cache only unseen tokens are run."""
        self._look()
        slots: Layers = ()
        new, typed = prompts.call.max_new_tokens, prompts.types is not None

        def run(ids: Tensor, mask: Tensor) -> np.ndarray:
            nonlocal slots, new, use_cache
            types = [_int32(prompts.types_of(ids.shape[1]))] if typed else []
            if use_cache and not slots:
                start = self._compile(self._start, TABLE, TABLE, NUMBER, typed=typed)
                try:
                    logits, slots = start(ids, mask, new, *types)
                except _NothingKept:
                    use_cache = False
            elif use_cache:
                kept = tf.nest.map_structure(_any_size, slots)
                step = self._compile(self._step, TABLE, TABLE, NUMBER, kept, typed=typed)
                logits, slots = step(ids, mask, new, slots, *types)
            if not use_cache:
                logits = self._compile(self._whole, TABLE, TABLE, typed=typed)(ids, mask, *types)
            new -= 1
            return logits.numpy()

        return lambda ids, mask: run(_int32(ids), _int32(mask))

    def _compile(self, function: Any, *signature: Any, typed: bool = False) -> Any:
        """Return a function compiled; as it is as long as the model is being read, since a trace would wait for all."""
        if self.awaits:
            return function
        name = function.__name__
        if typed:  # another function, which takes the tokens' types behind all else
            name, signature = f"{name}_typed", (*signature, TABLE)
        if name not in self._compiled:
            self._compiled[name] = tf.function(function, input_signature=signature, autograph=False)
        return self._compiled[name]

    def _call(self, types: Tensor | None, **inputs: Any) -> Any:
        model = self._model()
        assert model is not None
        if types is not None:
            inputs["token_type_ids"] = types
        return model(**inputs, logits_to_keep=1, return_dict=True, training=False)

    def _whole(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        """Ids, mask and types (B, T) -> the logits (B, V) that follow, in float32."""
        output = self._call(
            types, input_ids=ids, attention_mask=mask, position_ids=_positions(mask), use_cache=False
        )
        return tf.cast(output.logits[:, -1], tf.float32)

    def _start(
        self, ids: Tensor, mask: Tensor, new: Tensor, types: Tensor | None = None
    ) -> tuple[Tensor, Layers]:
        """The same, and keys and values with slots for `new` tokens to come."""
        output = self._call(
            types, input_ids=ids, attention_mask=mask, position_ids=_positions(mask), use_cache=True
        )
        if output.get("past_key_values") is None:
            raise _NothingKept
        behind = ((0, 0), (0, 0), (0, new), (0, 0))
        slots = tf.nest.map_structure(lambda held: tf.pad(held, behind), output.past_key_values)
        return tf.cast(output.logits[:, -1], tf.float32), slots

    def _step(
        self, ids: Tensor, mask: Tensor, new: Tensor, slots: Layers, types: Tensor | None = None
    ) -> tuple[Tensor, Layers]:
        """The same, where keys and values of all tokens but the last are there."""
        last = sizes(ids)[1] - 1
        output = self._call(
            None if types is None else types[:, last, None],
            input_ids=ids[:, last, None],  # one token, which TensorFlow does not know of a slice
            attention_mask=tf.pad(mask, ((0, 0), (0, new)), constant_values=1),
            position_ids=_positions(mask)[:, last, None],
            past_key_values=Cache(slots, filled=last),
            use_cache=True,
        )
        return tf.cast(output.logits[:, -1], tf.float32), output.past_key_values

    def _loop_with_cache(self, ids: Tensor, mask: Tensor, new: Tensor, ends: Tensor, pad: Tensor) -> Tensor:
        writer = _Writer(sizes(ids)[1], new, ends, pad)
        logits, slots = self._start(ids, mask, new)

        def body(tokens: Tensor, length: Tensor, running: Tensor, slots: Layers) -> tuple[Any, ...]:
            seen = tokens[:, :length]
            logits, slots = self._step(seen, writer.mask(mask)[:, :length], writer.total - length, slots)
            return *writer.write(logits, tokens, length, running), slots

        state = writer.write(logits, *writer.start(ids))
        tokens, length, *_ = tf.while_loop(writer.goes_on, body, (*state, slots))
        return tokens[:, :length]

    def _loop_without_cache(
        self, ids: Tensor, mask: Tensor, new: Tensor, ends: Tensor, pad: Tensor
    ) -> Tensor:
        writer = _Writer(sizes(ids)[1], new, ends, pad)

        def body(tokens: Tensor, length: Tensor, running: Tensor) -> tuple[Any, ...]:
            logits = self._whole(tokens[:, :length], writer.mask(mask)[:, :length])
            return writer.write(logits, tokens, length, running)

        tokens, length, _ = tf.while_loop(writer.goes_on, body, writer.start(ids))
        return tokens[:, :length]


class _Writer:
    """Writes the likeliest token of each running sequence down, and stops sequences at their ends.

    Its state is `tokens` (B, prompt + new), of which `length` are there, and `running` (B,).
    """

    def __init__(self, prompt: Size, new: Tensor, ends: Tensor, pad: Tensor) -> None:
        self.new, self.ends, self.pad = new, ends, pad
        self.total = prompt + new

    def start(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the state that prompts (B, T) begin with."""
        return tf.pad(ids, ((0, 0), (0, self.new))), sizes(ids)[1], tf.ones_like(ids[:, 0], tf.bool)

    def mask(self, mask: Tensor) -> Tensor:
        """Return the prompts' mask (B, T) with the tokens to come, (B, prompt + new)."""
        return tf.pad(mask, ((0, 0), (0, self.new)), constant_values=1)

    def goes_on(self, tokens: Tensor, length: Tensor, running: Tensor, *more: Any) -> Tensor:
        """Return whether there is a token to write."""
        return (length < self.total) & tf.reduce_any(running)

    def write(
        self, logits: Tensor, tokens: Tensor, length: Tensor, running: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the state one token on, given the logits (B, V) that follow."""
        chosen = tf.where(running, tf.argmax(logits, axis=-1, output_type=tf.int32), self.pad)
        here = tf.range(self.total) == length
        ended = tf.reduce_any(chosen[:, None] == self.ends, axis=-1)
        return tf.where(here, chosen[:, None], tokens), length + 1, running & ~ended


def _positions(mask: Tensor) -> Tensor:
    """Return each token's position (B, T): how many tokens that are not padding precede it."""
    return tf.maximum(tf.cumsum(mask, axis=-1) - 1, 0)


def _int32(held: np.ndarray) -> Tensor:
    return tf.constant(held, tf.int32)


def _any_size(held: Tensor) -> tf.TensorSpec:
    """(B, K, S, D) -> the same for any B and S."""
    return tf.TensorSpec((None, held.shape[1], None, held.shape[3]), held.dtype)
