"""Layers that models are made of: PyTorch's own, built without drawing weights, and the few that it lacks.

B batch, T tokens, D head size, C hidden size.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loadstone.architectures import NormSpec, RopeSpec
from loadstone.model.kin import Kin


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), an approximation of gelu."""
    return x * torch.sigmoid(1.702 * x)


def squared_relu(x: Tensor) -> Tensor:
    """relu(x) ** 2."""
    return torch.square(F.relu(x))


ACTIVATIONS = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),  # models that hold it can be pickled
    "quick_gelu": quick_gelu,
    "mish": F.mish,
    "relu": F.relu,
    "relu2": squared_relu,
    "tanh": torch.tanh,
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How new layers allocate: on which device, in which dtype (None: PyTorch's defaults)."""

    device: str | None = None
    dtype: torch.dtype | None = None
    shapes: dict[tuple[int, ...], Tensor] = dataclasses.field(default_factory=dict)

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """Return a tensor of undefined values; without memory, all of a shape are one."""
        if self.device != "meta":
            return torch.empty(shape, device=self.device, dtype=self.dtype)
        if shape not in self.shapes:
            self.shapes[shape] = torch.empty(shape, device=self.device, dtype=self.dtype)
        return self.shapes[shape]


_build: ContextVar[Build | None] = ContextVar("build", default=None)


def is_building() -> bool:
    """Return whether a model is being built without memory; then nobody draws weights."""
    return _build.get() is not None


@contextlib.contextmanager
def without_memory(dtype: torch.dtype) -> Iterator[None]:
    """Build layers on the meta device, in `dtype`."""
    token = _build.set(Build(device="meta", dtype=dtype))
    try:
        yield
    finally:
        _build.reset(token)


def parameter(*shape: int) -> nn.Parameter:
    """Return a parameter whose values are not yet drawn."""
    build = _build.get() or Build()
    return nn.Parameter(build.empty(shape))


class Linear(nn.Linear):
    """`nn.Linear` that leaves its weights undrawn."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        nn.Module.__init__(self)
        # Past `nn.Module.__setattr__`, which takes longer than all else here: there can be 100,000 layers.
        object.__setattr__(self, "in_features", in_features)
        object.__setattr__(self, "out_features", out_features)
        self._parameters["weight"] = parameter(out_features, in_features)
        self._parameters["bias"] = parameter(out_features) if bias else None


class Projection(nn.Module, Kin):
    """x @ weight + bias, with `weight` [in, out], as GPT-2 stores it."""

    kin = "transformers.pytorch_utils:Conv1D"  # so that PEFT knows which axis is which

    bias: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = parameter(in_features, out_features)
        self.bias = parameter(out_features) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, in) -> (B, T, out)."""
        flat = x.flatten(0, -2)
        flat = flat @ self.weight if self.bias is None else torch.addmm(self.bias, flat, self.weight)
        return flat.view(*x.shape[:-1], -1)


class Embedding(nn.Embedding):
    """`nn.Embedding` that leaves its weights undrawn."""

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.max_norm, self.norm_type = None, 2.0
        self.scale_grad_by_freq, self.sparse = False, False
        self.weight = parameter(num_embeddings, embedding_dim)


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` that leaves its weights undrawn."""

    def __init__(self, size: int, eps: float, bias: bool = True) -> None:
        nn.Module.__init__(self)
        self.normalized_shape, self.eps, self.elementwise_affine = (size,), eps, True
        self.weight = parameter(size)
        self.register_parameter("bias", parameter(size) if bias else None)


class Convolution(nn.Conv2d):
    """`nn.Conv2d` that leaves its weights undrawn."""

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
        nn.Module.__init__(self)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding = kernel_size, stride, (padding, padding)
        self.dilation, self.groups = (1, 1), 1
        self.transposed, self.output_padding, self.padding_mode = False, (0, 0), "zeros"
        self._reversed_padding_repeated_twice = [padding] * 4
        self.weight = parameter(out_channels, in_channels, *kernel_size)
        self.register_parameter("bias", parameter(out_channels) if bias else None)


class BatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` that leaves its weights and running statistics undrawn."""

    def __init__(self, channels: int) -> None:
        nn.Module.__init__(self)
        self.num_features, self.eps, self.momentum = channels, 1e-5, 0.1
        self.affine, self.track_running_stats = True, True
        self.weight, self.bias = parameter(channels), parameter(channels)
        self.register_buffer("running_mean", parameter(channels).detach())
        self.register_buffer("running_var", parameter(channels).detach())
        counter = torch.zeros((), dtype=torch.int64, device=self.weight.device)
        self.register_buffer("num_batches_tracked", counter)

    def compute(self, device: torch.device) -> None:
        """Give the running statistics the values that they start with, on `device`."""
        for name, held in self._buffers.items():
            assert held is not None
            self._buffers[name] = torch.empty_like(held, device=device)
        self.reset_running_stats()


class RMSNorm(nn.Module):
    """Root mean square norm, computed in float32. Source: Zhang and Sennrich 2019, arXiv:1910.07467."""

    eps: float
    offset: bool
    wide: bool

    def __init__(self, size: int, eps: float, offset: bool = False, wide: bool = False) -> None:
        super().__init__()
        # Past `nn.Module.__setattr__`, as in `Linear`.
        object.__setattr__(self, "eps", eps)
        object.__setattr__(self, "offset", offset)
        object.__setattr__(self, "wide", wide)
        self._parameters["weight"] = parameter(size)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis of `x`; an offset makes the factor one plus the weight, in float32; wide it is float32 too."""
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        if self.offset:
            return (y * (1.0 + self.weight.float())).to(x.dtype)
        if self.wide:
            return (y * self.weight.float()).to(x.dtype)
        return self.weight * y.to(x.dtype)


def norm(spec: NormSpec, size: int) -> nn.Module:
    """Return a norm over `size` channels."""
    return (
        LayerNorm(size, spec.eps, spec.bias)
        if spec.kind == "layer"
        else RMSNorm(size, spec.eps, spec.offset, spec.wide)
    )


class RotaryEmbedding(nn.Module):
    """Cosines and sines of rotary positions. Its frequencies stay float32 whatever the model is cast to."""

    inv_freq: Tensor

    def __init__(self, rope: RopeSpec) -> None:
        super().__init__()
        self.rope = rope
        build = _build.get() or Build()
        empty = torch.empty(len(rope.inverse_frequencies), device=build.device, dtype=torch.float32)
        self.register_buffer("inv_freq", empty, persistent=False)
        if not is_building():
            self.compute(empty.device)

    def compute(self, device: torch.device) -> None:
        """Fill the frequencies from the spec, on `device`."""
        self.inv_freq = torch.tensor(self.rope.inverse_frequencies, dtype=torch.float32, device=device)

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        # `.to(dtype)` would round the frequencies: recompute them where the module went.
        super()._apply(fn, recurse)
        if self.inv_freq.device.type != "meta":
            self.compute(self.inv_freq.device)
        return self

    def forward(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosine and sine for `positions` (B, T), each (B, 1, T, R), of R rotated channels, in the dtype of `x`."""
        with torch.autocast(device_type=x.device.type, enabled=False):
            frequencies = self._frequencies(positions).to(x.device)
            angles = positions[:, None, :, None].float() * frequencies  # (B, 1, T, D/2)
            angles = (
                angles.repeat_interleave(2, -1) if self.rope.interleaved else torch.cat((angles, angles), -1)
            )
            scale = self.rope.attention_scaling
            return (angles.cos() * scale).to(x.dtype), (angles.sin() * scale).to(x.dtype)

    def _frequencies(self, positions: Tensor) -> Tensor:
        """Return radians per position, (D/2,), for a sequence that reaches the largest of `positions`."""
        rope = self.rope
        if rope.beyond is not None:
            beyond = torch.tensor(rope.beyond, dtype=torch.float32, device=self.inv_freq.device)
            return torch.where(positions.max() + 1 > rope.limit, beyond, self.inv_freq)
        if rope.growth is not None:
            exponents = torch.tensor(rope.growth.exponents, dtype=torch.float32, device=self.inv_freq.device)
            return 1.0 / rope.growth.base((positions.max() + 1).clamp(min=rope.growth.limit)) ** exponents
        return self.inv_freq
