"""Layers that models are made of: nnx modules whose parameters have the names and shapes of checkpoints.

B batch, T tokens, D head size, C hidden size.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from loadstone.architectures import NormSpec, RopeSpec
from loadstone.errors import ArgumentError


def quick_gelu(x: Array) -> Array:
    """x * sigmoid(1.702 x), an approximation of gelu."""
    return x * jax.nn.sigmoid(1.702 * x)


def squared_relu(x: Array) -> Array:
    """relu(x) ** 2."""
    return jnp.square(jax.nn.relu(x))


ACTIVATIONS = {
    "silu": jax.nn.silu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "quick_gelu": quick_gelu,
    "mish": jax.nn.mish,
    "relu": jax.nn.relu,
    "relu2": squared_relu,
    "tanh": jnp.tanh,
}

_dtype: ContextVar[Any] = ContextVar("dtype", default=None)


def is_building() -> bool:
    """Return whether a model is being built without memory; then nobody draws weights."""
    return _dtype.get() is not None


@contextlib.contextmanager
def without_memory(dtype: Any) -> Iterator[None]:
    """Build layers whose parameters are shapes of `dtype`."""
    token = _dtype.set(dtype)
    try:
        yield
    finally:
        _dtype.reset(token)


def parameter(*shape: int) -> nnx.Param[Any]:
    """Return a parameter without memory: a shape and a dtype in the place of its value."""
    return nnx.Param(jax.ShapeDtypeStruct(shape, _dtype.get() or jnp.float32))


def stack(specs: Iterable[Any], make: Callable[[Any], nnx.Module]) -> nnx.List[Any]:
    """Return the block that `make` returns of each spec.

    nnx checks each attribute that a constructor sets; so of one spec one block is constructed, and the others are copies.
    """
    built: dict[int, Any] = {}
    blocks = []
    for spec in specs:
        if id(spec) not in built:
            built[id(spec)] = jax.tree.flatten(make(spec))
        leaves, structure = built[id(spec)]
        blocks.append(jax.tree.unflatten(structure, leaves))
    return nnx.List(blocks)


def named_modules(module: nnx.Module) -> Iterator[tuple[str, nnx.Module]]:
    """Yield a module and all modules below it, each by its path in checkpoints with a dot at its end; it has ""."""
    pending = [("", module)]
    while pending:
        path, found = pending.pop()
        yield path, found
        children = [(f"{path}{name}.", m) for name, m in vars(found).items() if _is_a(m, nnx.Module)]
        pending += reversed(children)


def named_parameters(module: nnx.Module) -> Iterator[tuple[str, nnx.Variable[Any]]]:
    """Yield what checkpoints hold by its names there, a tied parameter under each of its names."""
    for path, owner in named_modules(module):
        for leaf, value in vars(owner).items():
            if _is_a(value, nnx.Variable):
                yield path + leaf, value


def _is_a(value: object, kind: type) -> bool:
    # `isinstance` asks nnx's metaclasses, which take ten times as long: there can be 100,000 layers.
    return kind in type(value).__mro__


def submodule(module: nnx.Module, path: str) -> Any:
    """Return the module below `module` that checkpoints call `path`; "" is itself."""
    return functools.reduce(getattr, path.split("."), module) if path else module


def changed_state(module: nnx.Module, *, counted: bool = True) -> Any:
    """Return what a call in training changes beside parameters, or None where nothing does.

    Args:
        module: It.
        counted: Dropout draws from the module's own streams, which count.
    """
    found = [each for _, each in named_modules(module)]
    draws = counted and any(isinstance(each, Dropout) and each.drops for each in found)
    learns = any(isinstance(each, BatchNorm) and not each.use_running_average for each in found)
    kinds = [kind for kind, changes in ((nnx.RngCount, draws), (RunningStatistic, learns)) if changes]
    return nnx.state(module, nnx.Any(*kinds)) if kinds else None


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Multiply float32 matrices as float32, as PyTorch does, where the caller has not asked JAX for something else."""
    asked = jax.config.jax_default_matmul_precision
    with jax.default_matmul_precision(asked or "highest"):
        yield


def contract(equation: str, a: Array, b: Array) -> Array:
    """Return an einsum of `a` and `b` in the dtype of `a`; half precision accumulates in float32, as in PyTorch."""
    return contract_wide(equation, a, b).astype(a.dtype)


def contract_wide(equation: str, a: Array, b: Array) -> Array:
    """Return the same in float32 at least."""
    return jnp.einsum(equation, a, b, preferred_element_type=jnp.promote_types(a.dtype, jnp.float32))


class Linear(nnx.Module):
    """A linear map whose weight is [out, in], as checkpoints store it."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.weight = parameter(out_features, in_features)
        self.bias = parameter(out_features) if bias else None

    def __call__(self, x: Array) -> Array:
        """(..., in) -> (..., out)."""
        # For a single row XLA on the CPU would convert all of a half precision weight to float32, and keep it.
        single = x.size == x.shape[-1] and x.dtype.itemsize < 4
        rows = jnp.pad(x.reshape(1, -1), ((0, 1), (0, 0))) if single else x
        wide = jnp.promote_types(x.dtype, jnp.float32)
        last = (((rows.ndim - 1,), (1,)), ((), ()))
        y = jax.lax.dot_general(rows, self.weight[...], last, preferred_element_type=wide)
        if self.bias is not None:
            y = y + self.bias[...]
        y = y.astype(x.dtype)
        return y[:1].reshape(*x.shape[:-1], -1) if single else y


class Projection(nnx.Module):
    """x @ weight + bias, with `weight` [in, out], as GPT-2 stores it."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.weight = parameter(in_features, out_features)
        self.bias = parameter(out_features) if bias else None

    def __call__(self, x: Array) -> Array:
        """(B, T, in) -> (B, T, out)."""
        y = contract("...i,io->...o", x, self.weight[...])
        return y if self.bias is None else y + self.bias[...]


class Embedding(nnx.Module):
    """A table of vectors; an id below zero or beyond its end gives not-a-number.

    The row of the padding token is not trained through this layer.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        self.padding_idx = padding_idx
        self.weight = parameter(num_embeddings, embedding_dim)

    def __call__(self, ids: Array) -> Array:
        """(...) -> (..., C)."""
        if ids.dtype.itemsize < 4:
            ids = ids.astype(jnp.int32)  # one byte cannot hold the id of the padding token
        # Without it, XLA on the CPU converts all of a half precision table before a loop that looks single ids up.
        table, ids = jax.lax.optimization_barrier((self.weight[...], ids))
        x = table.at[ids].get(mode="fill", wrap_negative_indices=False)
        if self.padding_idx is None:
            return x
        return jnp.where((ids == self.padding_idx)[..., None], jax.lax.stop_gradient(x), x)


class LayerNorm(nnx.Module):
    """Layer norm, computed in float32. Source: Ba et al. 2016, arXiv:1607.06450."""

    def __init__(self, size: int, eps: float, bias: bool = True) -> None:
        self.eps = eps
        self.weight = parameter(size)
        self.bias = parameter(size) if bias else None

    def __call__(self, x: Array) -> Array:
        """Normalise the last axis of `x`."""
        y = x.astype(jnp.float32)
        y = y - y.mean(-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.eps)
        y = y * self.weight[...]
        return (y if self.bias is None else y + self.bias[...]).astype(x.dtype)


class Convolution(nnx.Module):
    """A convolution of images (B, C, height, width) whose weight is [out, in, height, width], as checkpoints store it."""

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
        self.stride, self.padding = stride, padding
        self.weight = parameter(out_channels, in_channels, *kernel_size)
        self.bias = parameter(out_channels) if bias else None

    def __call__(self, x: Array) -> Array:
        """(B, in, height, width) -> (B, out, ...)."""
        sides = [(self.padding, self.padding)] * 2
        y = jax.lax.conv_general_dilated(
            x.astype(jnp.float32), self.weight[...].astype(jnp.float32), self.stride, sides
        )
        if self.bias is not None:
            y = y + self.bias[...].astype(jnp.float32)[:, None, None]
        return y.astype(x.dtype)


class RunningStatistic(nnx.BatchStat[Any]):
    """What batch normalisation learns by looking."""


class BatchNorm(nnx.Module):
    """Normalises each channel of (B, C, height, width) over the batch, or by running statistics in inference.

    Training updates the statistics as PyTorch does, but not the counter of batches, which nothing reads: JAX has no
    integers of 64 bits, and it stays on the host as it was stored. Source: Ioffe and Szegedy 2015, arXiv:1502.03167.
    """

    momentum, eps = 0.1, 1e-5

    def __init__(self, channels: int) -> None:
        self.use_running_average = True
        self.weight, self.bias = parameter(channels), parameter(channels)
        shape = jax.ShapeDtypeStruct((channels,), _dtype.get() or jnp.float32)
        self.running_mean, self.running_var = RunningStatistic(shape), RunningStatistic(shape)
        self.num_batches_tracked = nnx.BatchStat(jax.ShapeDtypeStruct((), np.int64))

    def __call__(self, x: Array) -> Array:
        """Normalise."""
        y = x.astype(jnp.float32)
        mean, variance = self.running_mean[...], self.running_var[...]
        if not self.use_running_average:
            mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3))
            count = y.size // y.shape[1]
            self._remember(self.running_mean, mean)
            self._remember(self.running_var, variance * count / max(1, count - 1))
        mean, variance, weight, bias = (
            part.astype(jnp.float32)[:, None, None]
            for part in (mean, variance, self.weight[...], self.bias[...])
        )
        return ((y - mean) * jax.lax.rsqrt(variance + self.eps) * weight + bias).astype(x.dtype)

    def _remember(self, running: nnx.Variable[Any], new: Array) -> None:
        old = running[...]
        running.set_value((old * (1 - self.momentum) + new * self.momentum).astype(old.dtype))


def bicubic(grid: Array, size: tuple[int, int]) -> Array:
    """Resize (height, width, C) as PyTorch's bicubic interpolation does: a kernel of -0.75, pixel centres aligned."""
    rows, columns = (
        jnp.asarray(_bicubic_weights(old, new)) for old, new in zip(grid.shape[:2], size, strict=True)
    )
    wide = jnp.einsum("rh,hwc->rwc", rows, grid.astype(jnp.float32))
    return jnp.einsum("sw,rwc->rsc", columns, wide).astype(grid.dtype)


def _bicubic_weights(old: int, new: int) -> np.ndarray:
    """Return what each of `new` pixels takes of each of `old` ones, (new, old). Source: Keys 1981."""
    sharpness = -0.75
    weights = np.zeros((new, old), np.float32)
    for pixel in range(new):
        centre = (pixel + 0.5) * old / new - 0.5
        for tap in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            d = abs(centre - tap)
            near = (sharpness + 2) * d**3 - (sharpness + 3) * d**2 + 1
            far = sharpness * (d**3 - 5 * d**2 + 8 * d - 4)
            weights[pixel, min(max(tap, 0), old - 1)] += near if d <= 1 else far
    return weights


class RMSNorm(nnx.Module):
    """Root mean square norm, computed in float32. Source: Zhang and Sennrich 2019, arXiv:1910.07467."""

    def __init__(self, size: int, eps: float, offset: bool = False, wide: bool = False) -> None:
        self.eps, self.offset, self.wide = eps, offset, wide
        self.weight = parameter(size)

    def __call__(self, x: Array) -> Array:
        """Normalise the last axis of `x`; an offset makes the factor one plus the weight, in float32; wide it is float32 too."""
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.eps)
        if self.offset:
            return (y * (1.0 + self.weight[...].astype(jnp.float32))).astype(x.dtype)
        if self.wide:
            return (y * self.weight[...].astype(jnp.float32)).astype(x.dtype)
        return self.weight[...] * y.astype(x.dtype)


def norm(spec: NormSpec, size: int) -> nnx.Module:
    """Return a norm over `size` channels."""
    return (
        LayerNorm(size, spec.eps, spec.bias)
        if spec.kind == "layer"
        else RMSNorm(size, spec.eps, spec.offset, spec.wide)
    )


class Dropout(nnx.Dropout):
    """`nnx.Dropout` that starts switched off; `model.train()` gives it its random numbers."""

    def __init__(self, rate: float) -> None:
        super().__init__(rate, deterministic=True)

    @property
    def drops(self) -> bool:
        """Whether it does anything now."""
        return self.rate > 0 and not self.deterministic

    def __call__(self, x: Array) -> Array:
        """Drop some of `x`, of any shape, where it is switched on.

        Raises:
            ArgumentError: If it has no random numbers.
        """
        if self.drops and self.rngs is None:
            raise ArgumentError(
                "dropout is switched on, and has no random numbers",
                hint="call train() on the loadstone model itself once, or pass it dropout_rng=",
            )
        return super().__call__(x)


class RotaryEmbedding(nnx.Module):
    """Cosines and sines of rotary positions. Its frequencies are constants, float32 whatever the model is cast to."""

    def __init__(self, rope: RopeSpec) -> None:
        self.rope = rope

    def __call__(self, x: Array, positions: Array) -> tuple[Array, Array]:
        """Return cosine and sine for `positions` (B, T), each (B, T, 1, R), of R rotated channels, in the dtype of `x`."""
        frequencies = self._frequencies(positions)
        angles = positions[:, :, None, None].astype(jnp.float32) * frequencies  # (B, T, 1, R/2)
        angles = jnp.repeat(angles, 2, -1) if self.rope.interleaved else jnp.concatenate((angles, angles), -1)
        scale = self.rope.attention_scaling
        return (jnp.cos(angles) * scale).astype(x.dtype), (jnp.sin(angles) * scale).astype(x.dtype)

    def _frequencies(self, positions: Array) -> Array:
        """Return radians per position, (D/2,), for a sequence that reaches the largest of `positions`."""
        rope = self.rope
        frequencies = jnp.asarray(rope.inverse_frequencies, jnp.float32)
        if rope.beyond is not None:
            return jnp.where(
                positions.max() + 1 > rope.limit, jnp.asarray(rope.beyond, jnp.float32), frequencies
            )
        if rope.growth is not None:
            exponents = jnp.asarray(rope.growth.exponents, jnp.float32)
            return 1.0 / rope.growth.base((positions.max() + 1).clip(rope.growth.limit)) ** exponents
        return frequencies
