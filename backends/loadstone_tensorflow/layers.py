"""Layers that models are made of: Keras layers with the checkpoint's names and shapes, built without drawing weights.

B batch, T tokens, D head size, C hidden size.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import types
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Self, TypeAlias

import numpy as np

from loadstone.architectures import NormSpec, RopeSpec
from loadstone.errors import ArgumentError
from loadstone_tensorflow.framework import keras, tf

Tensor: TypeAlias = tf.Tensor
Size: TypeAlias = int | Tensor


def _in_float32(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the function computed in float32 and rounded once, as other frameworks do inside their kernels."""

    def computed(x: Tensor) -> Tensor:
        return tf.cast(function(tf.cast(x, tf.float32)), x.dtype)

    return computed


ACTIVATIONS = {
    "silu": _in_float32(lambda x: x * tf.sigmoid(x)),
    "gelu": _in_float32(lambda x: tf.nn.gelu(x, approximate=False)),
    "gelu_tanh": _in_float32(lambda x: tf.nn.gelu(x, approximate=True)),
    "quick_gelu": _in_float32(lambda x: x * tf.sigmoid(1.702 * x)),
    "mish": _in_float32(lambda x: x * tf.tanh(tf.nn.softplus(x))),
    "relu": tf.nn.relu,
    "relu2": lambda x: tf.square(tf.nn.relu(x)),
    "tanh": tf.tanh,
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How new layers are made: the dtypes of their parameters and of what they compute."""

    policy: keras.DTypePolicy


_build: ContextVar[Build | None] = ContextVar("build", default=None)
_asked_policy: ContextVar[keras.DTypePolicy | None] = ContextVar("asked_policy", default=None)


def is_building() -> bool:
    """Return whether a model is being built without memory; then nobody draws weights."""
    return _build.get() is not None


@contextlib.contextmanager
def without_memory(dtype: str) -> Iterator[None]:
    """Build layers whose parameters have a shape, a dtype and no value.

    They compute in the dtype of their parameters, unless the policy that was asked for, the user's global one else,
    mixes this dtype with another.
    """
    chosen = _asked_policy.get() or keras.config.dtype_policy()
    policy = chosen if chosen.variable_dtype == dtype else keras.DTypePolicy(dtype)
    token = _build.set(Build(policy=policy))
    try:
        yield
    finally:
        _build.reset(token)


@contextlib.contextmanager
def under_policy(name: str) -> Iterator[None]:
    """Build models with a policy in place of the user's global one."""
    token = _asked_policy.set(keras.DTypePolicy(name))
    try:
        yield
    finally:
        _asked_policy.reset(token)


def policy() -> keras.DTypePolicy | None:
    """Return what new layers are made with; None is Keras's global choice."""
    build = _build.get()
    return build.policy if build else None


class Parameter(keras.Variable):
    """A Keras variable that has no value before it is filled, and then shares the value's memory.

    Keras would keep such a variable in a global list, and compute with its initializer until it has a value.

    Attributes:
        is_buffer: Whether it is state that no optimiser changes.
        asked: The initializer that a class of somebody's own asked for; None for one of ours, whose values core draws.
    """

    is_buffer = False
    asked: Any = None

    def _initialize_with_initializer(self, initializer: Callable[..., Tensor]) -> None:
        self._value = None
        if initializer is not undrawn:
            self.asked = initializer
        if not is_building():
            super()._initialize_with_initializer(initializer)

    @property
    def is_filled(self) -> bool:
        """Whether it has a value."""
        return self._value is not None

    def fill(self, value: Tensor) -> bool:
        """Take a tensor as the value, its dtype included, and share its memory.

        Returns:
            Whether there is a new TensorFlow variable behind this one. A value of the same kind as the old one goes into
            the old one's variable, so that compiled functions see it.
        """
        held = self._value
        if held is not None and held.dtype == value.dtype:
            held.assign(value)
            return False
        self._value = None
        self._dtype = value.dtype.name
        self._initialize(value)
        return True

    def _direct_assign(self, value: Tensor) -> None:
        if self.is_filled:
            super()._direct_assign(value)
        else:
            self.fill(value)

    def resize(self, shape: tuple[int, ...]) -> None:
        """Take another shape; there is no value until it is filled."""
        self._value = None
        self._shape = shape
        self._ndim = len(shape)


def undrawn(shape: tuple[int, ...], dtype: str | None = None) -> Tensor:
    """Return zeros, in the place of values that are not yet drawn."""
    return tf.zeros(shape, dtype or "float32")


def parameter(*shape: int) -> Parameter:
    """Return a parameter whose values are not yet drawn."""
    chosen = policy() or keras.config.dtype_policy()
    return Parameter(undrawn, shape=shape, dtype=chosen.variable_dtype)


class Buffer(Parameter):
    """State that checkpoints hold and no optimiser changes: statistics and counters."""

    is_buffer = True


def buffer(*shape: int, dtype: str | None = None) -> Buffer:
    """Return a buffer whose values are not yet set."""
    chosen = dtype or (policy() or keras.config.dtype_policy()).variable_dtype
    # Replicas agree on the mean of their statistics; they count alike, and TensorFlow has no mean of integers.
    aggregation = "mean" if dtype is None else "only_first_replica"
    return Buffer(
        undrawn, shape=shape, dtype=chosen, trainable=False, autocast=False, aggregation=aggregation
    )


PLAIN = (bool, int, float, str, type(None), types.FunctionType, keras.DTypePolicy)
"""Types of attributes that neither Keras nor TensorFlow tracks; nor do they look into dataclasses."""


class InLists:
    """Shows TensorFlow's checkpoints the layers that lie in lists: Keras 3 makes lists that it cannot look into."""

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> dict[str, Any]:
        found: dict[str, Any] = super()._trackable_children(save_type, **kwargs)  # type: ignore[misc]
        return {**found, **self._in_lists()} if save_type == "checkpoint" else found

    def _lookup_dependency(self, name: str, cached_dependencies: Any = None) -> Any:
        found = super()._lookup_dependency(name, cached_dependencies)  # type: ignore[misc]
        return self._in_lists().get(name) if found is None else found

    def _in_lists(self) -> dict[str, Any]:
        lists = [
            (name, held) for name, held in vars(self).items() if isinstance(held, list) and name[0] != "_"
        ]
        return {
            f"{name}.{index}": layer
            for name, held in lists
            for index, layer in enumerate(held)
            if isinstance(layer, keras.layers.Layer)
        }


class Layer(InLists, keras.layers.Layer):
    """A Keras layer that has all its parameters from the start and is called as the plain function that it is.

    What Keras does around a call (converting inputs, mixing dtypes) it does once, around the model's.

    Attributes:
        visit: What calls it, where it runs on a device that its parameters or its inputs come to; None: nothing need come.
    """

    visit: Callable[..., Any] | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make it without what Keras prepares for layers that are built later, or made again from their arguments."""
        return object.__new__(cls)

    def __init__(self) -> None:
        super().__init__(dtype=policy())
        self.built = True

    def __setattr__(self, name: str, value: Any) -> None:
        # Keras, and then TensorFlow, look for something to track in each of the forty attributes that a layer sets;
        # those that Keras's constructor sets before it has a tracker are its own.
        untracked = isinstance(value, PLAIN) or "_tracker" not in vars(self)
        if untracked or hasattr(value, "__dataclass_fields__"):
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute."""
        return self.call(*args, **kwargs) if self.visit is None else self.visit(self, *args, **kwargs)


@functools.cache
def attribute(name: str) -> str:
    """Return the attribute for what checkpoints call `name`.

    Keras reserves `layers`, `output`, `input`, `path` and others: there the attribute takes a trailing underscore.
    """
    return f"{name}_" if hasattr(keras.Model, name) else name


class Linear(Layer):
    """x weight' + bias; the weight is (out, in), as checkpoints hold it."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = parameter(out_features, in_features)
        self.bias = parameter(out_features) if bias else None

    def call(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        y = project(x, self.weight.value)
        return y if self.bias is None else tf.nn.bias_add(y, self.bias.value)


class Projection(Layer):
    """x @ weight + bias, with `weight` [in, out], as GPT-2 stores it."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = parameter(in_features, out_features)
        self.bias = parameter(out_features) if bias else None

    def call(self, x: Tensor) -> Tensor:
        """(B, T, in) -> (B, T, out)."""
        batch, tokens, width = sizes(x)
        flat = tf.matmul(tf.reshape(x, (-1, width)), self.weight.value)
        if self.bias is not None:
            flat = tf.nn.bias_add(flat, self.bias.value)
        return tf.reshape(flat, (batch, tokens, flat.shape[-1]))


class Embedding(Layer):
    """Rows of a table; the row of the padding token is not trained through this layer."""

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        super().__init__()
        self.padding_idx = padding_idx
        self.weight = parameter(num_embeddings, embedding_dim)

    def call(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, C)."""
        # Gathering from the variable itself would copy the table, and from then on at every other read of it.
        x = tf.gather(tf.convert_to_tensor(self.weight.value), ids)
        if self.padding_idx is None:
            return x
        return tf.where(tf.expand_dims(ids == self.padding_idx, -1), tf.stop_gradient(x), x)


class LayerNorm(Layer):
    """Layer norm, computed in float32. Source: Ba et al. 2016, https://arxiv.org/abs/1607.06450."""

    def __init__(self, size: int, eps: float, bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = parameter(size)
        self.bias = parameter(size) if bias else None

    def call(self, x: Tensor) -> Tensor:
        """Normalise the last axis of `x`."""
        y = tf.cast(x, tf.float32)
        y = y - tf.reduce_mean(y, axis=-1, keepdims=True)
        y = y * tf.math.rsqrt(tf.reduce_mean(tf.square(y), axis=-1, keepdims=True) + self.eps)
        y = y * tf.cast(self.weight.value, tf.float32)
        if self.bias is not None:
            y = y + tf.cast(self.bias.value, tf.float32)
        return tf.cast(y, x.dtype)


class Convolution(Layer):
    """A convolution of images (B, height, width, channels); the weight is (out, in, height, width), as in checkpoints."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        *,
        stride: tuple[int, int],
        padding: int = 0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, ((0, 0), (padding, padding), (padding, padding), (0, 0))
        self.weight = parameter(out_channels, in_channels, *kernel_size)
        self.bias = parameter(out_channels) if bias else None

    def call(self, x: Tensor) -> Tensor:
        """(B, height, width, in) -> (B, height / stride, width / stride, out)."""
        kernel = tf.transpose(self.weight.value, (2, 3, 1, 0))
        y = tf.nn.conv2d(x, kernel, self.stride, self.padding)
        return y if self.bias is None else tf.nn.bias_add(y, self.bias.value)


class BatchNorm(Layer):
    """Batch norm over the last axis, computed in float32. Source: Ioffe and Szegedy 2015, arXiv:1502.03167."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.eps, self.momentum = 1e-5, 0.1
        self.weight, self.bias = parameter(channels), parameter(channels)
        self.running_mean, self.running_var = buffer(channels), buffer(channels)
        self.num_batches_tracked = buffer(dtype="int64")

    def call(self, x: Tensor, training: bool) -> Tensor:
        """Normalise by the running statistics; in training by the batch's own, which the running ones follow."""
        y = tf.cast(x, tf.float32)
        if training and self.trainable:  # in Keras, a frozen one infers
            mean, variance = tf.nn.moments(y, axes=(0, 1, 2))
            self._follow(mean, variance, tf.size(y) // tf.size(mean))
        else:
            mean, variance = (tf.cast(v.value, tf.float32) for v in (self.running_mean, self.running_var))
        factor = tf.cast(self.weight.value, tf.float32) * tf.math.rsqrt(variance + self.eps)
        return tf.cast((y - mean) * factor + tf.cast(self.bias.value, tf.float32), x.dtype)

    def _follow(self, mean: Tensor, variance: Tensor, number: Tensor) -> None:
        """Move the running statistics towards those of a batch of `number` values a channel."""
        number = tf.cast(number, tf.float32)
        unbiased = variance * number / tf.maximum(number - 1, 1)
        for running, seen in ((self.running_mean, mean), (self.running_var, unbiased)):
            running.assign(running.value + self.momentum * (tf.cast(seen, running.dtype) - running.value))
        self.num_batches_tracked.assign(self.num_batches_tracked.value + 1)


class RMSNorm(Layer):
    """Root mean square norm, computed in float32. Source: Zhang and Sennrich 2019, arXiv:1910.07467."""

    def __init__(self, size: int, eps: float, offset: bool = False, wide: bool = False) -> None:
        super().__init__()
        self.eps, self.offset, self.wide = eps, offset, wide
        self.weight = parameter(size)

    def call(self, x: Tensor) -> Tensor:
        """Normalise the last axis of `x`; an offset makes the factor one plus the weight, in float32; wide it is float32 too."""
        y = tf.cast(x, tf.float32)
        y = y * tf.math.rsqrt(tf.reduce_mean(tf.square(y), axis=-1, keepdims=True) + self.eps)
        if self.offset:
            return tf.cast(y * (1.0 + tf.cast(self.weight.value, tf.float32)), x.dtype)
        if self.wide:
            return tf.cast(y * tf.cast(self.weight.value, tf.float32), x.dtype)
        return self.weight.value * tf.cast(y, x.dtype)


def norm(spec: NormSpec, size: int) -> Layer:
    """Return a norm over `size` channels."""
    return (
        LayerNorm(size, spec.eps, spec.bias)
        if spec.kind == "layer"
        else RMSNorm(size, spec.eps, spec.offset, spec.wide)
    )


class RotaryEmbedding(Layer):
    """Cosines and sines of rotary positions. Its frequencies are a float32 constant whatever the model's dtype."""

    def __init__(self, rope: RopeSpec) -> None:
        super().__init__()
        self.rope = rope
        self.inv_freq = np.array(rope.inverse_frequencies, np.float32)

    def call(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosine and sine for `positions` (B, T), each (B, 1, T, R), of R rotated channels, in the dtype of `x`."""
        angles = tf.cast(positions, tf.float32)[:, None, :, None] * self._frequencies(
            positions
        )  # (B, 1, T, R/2)
        interleaved = self.rope.interleaved
        angles = tf.repeat(angles, 2, axis=-1) if interleaved else tf.concat((angles, angles), axis=-1)
        scale = self.rope.attention_scaling
        return tf.cast(tf.cos(angles) * scale, x.dtype), tf.cast(tf.sin(angles) * scale, x.dtype)

    def _frequencies(self, positions: Tensor) -> Tensor:
        """Return radians per position, (R/2,), for a sequence that reaches the largest of `positions`."""
        rope, tokens = self.rope, tf.reduce_max(positions) + 1
        if rope.beyond is not None:
            return tf.where(tokens > rope.limit, np.array(rope.beyond, np.float32), self.inv_freq)
        if rope.growth is not None:
            tokens = tf.cast(tf.maximum(tokens, rope.growth.limit), tf.float32)
            return 1.0 / rope.growth.base(tokens) ** np.array(rope.growth.exponents, np.float32)
        return tf.constant(self.inv_freq)


_draws: ContextVar[Iterator[Tensor] | None] = ContextVar("draws", default=None)


@contextlib.contextmanager
def drawing_from(seed: Tensor) -> Iterator[None]:
    """Let dropout draw from a seed (2,), int32: the same each time, for what is computed twice."""
    token = _draws.set(tf.random.experimental.stateless_fold_in(seed, draw) for draw in itertools.count())
    try:
        yield
    finally:
        _draws.reset(token)


@dataclasses.dataclass(frozen=True, slots=True)
class Dropout:
    """Zeroes a part of its input in training; it has no state, TensorFlow's global seed rules it."""

    rate: float

    def __call__(self, x: Tensor, training: bool) -> Tensor:
        """Drop entries of `x` with probability `rate` and scale up the others."""
        if not training or not self.rate:
            return x
        draws = _draws.get()
        if draws is None:
            return tf.nn.dropout(x, self.rate)
        return tf.nn.experimental.stateless_dropout(x, self.rate, seed=next(draws))


def sizes(x: Tensor) -> list[Size]:
    """Return the sizes of the axes: numbers where they are known, scalar tensors where they are not."""
    known: list[int | None] = x.shape.as_list()
    if None not in known:
        return known
    dynamic = tf.unstack(tf.shape(x))
    return [d if k is None else k for k, d in zip(known, dynamic, strict=True)]


def check_length(tokens: Size, positions: int) -> None:
    """Raise an ArgumentError if there are more tokens than learned positions: XLA would take the last one's in silence."""
    if isinstance(tokens, int) and tokens > positions:
        raise ArgumentError("the model has no positions for so many tokens", expected=positions, found=tokens)


def project(x: Tensor, weight: Tensor) -> Tensor:
    """x (..., in) and weight (out, in) -> x weight' (..., out).

    On the CPU TensorFlow packs a transposed right operand anew at each call, which takes 3 to 15 times as long as the
    product itself; a left operand it reads as it lies. So the product is computed transposed. For one token in half
    precision its matrix product is slow either way, and its `einsum` is not.
    """
    *leading, width = sizes(x)
    rows = tf.reshape(x, (-1, width))
    if x.shape[-2] == 1 and x.dtype.size == 2:
        y = tf.einsum("ri,oi->ro", rows, weight)
    else:
        y = tf.transpose(tf.matmul(weight, rows, transpose_b=True))
    return tf.reshape(y, (*leading, weight.shape[0]))


def channels_last(x: Tensor) -> Tensor:
    """(B, channels, height, width) -> (B, height, width, channels), the order that TensorFlow computes in anywhere."""
    return tf.transpose(x, (0, 2, 3, 1))


def channels_first(x: Tensor) -> Tensor:
    """(B, height, width, channels) -> (B, channels, height, width)."""
    return tf.transpose(x, (0, 3, 1, 2))
