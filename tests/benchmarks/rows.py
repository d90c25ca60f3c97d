"""What is measured, against whom, and what we promised: a table of data, one row for each measure.

A further framework or peer is a further line here and a loader in `measure.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.checkpoints import CHECKPOINTS

MIB = 1 << 20
OURS = "ours"
"""The environment that runs the benchmark; a peer's is the name of a folder below `--peers`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to do what a row measures.

    Attributes:
        label: What the table calls it.
        loader: A function of `measure.py`.
        environment: Where it runs.
        options: What the loader is given; "dtype", "read", "task", "touch".
        module: What `imports` imports, "module" or "module:name", in place of a path.
    """

    label: str
    loader: str
    environment: str = OURS
    options: Mapping[str, Any] = field(default_factory=dict)
    module: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a contender took: medians over the rounds.

    Attributes:
        seconds: From the call to the last byte touched; of a forward, one compiled call.
        load_seconds: Of it, until the call returned.
        peak_bytes: Anonymous memory above what the process had after importing; of a forward, above what it had before.
        temporary_bytes: What a compiled forward needs beside its arguments and results, where the compiler tells.
    """

    seconds: float
    load_seconds: float
    peak_bytes: float
    temporary_bytes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A bound that a row must keep, or, with neither bound, a figure that it tells.

    Attributes:
        text: As the table shows it, with `{}` where the measured value stands.
        value: From label -> cost (ours is the row's first contender) and the bytes of the model.
        at_most: The bound; None where `at_least` is given.
        at_least: Likewise.
    """

    text: str
    value: Callable[[Mapping[str, Cost], Row], float]
    at_most: float | None = None
    at_least: float | None = None

    def kept(self, value: float) -> bool | None:
        """Return whether a measured value keeps the bound; None where there is none."""
        if self.at_most is None and self.at_least is None:
            return None
        return value <= self.at_most if self.at_most is not None else value >= (self.at_least or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        name: What `--rows` selects.
        title: What the table says.
        checkpoint: A generated checkpoint, `MINILM`, `SAVED`, or "" for none.
        contenders: Ours first.
        promises: What ours must keep.
        cold: Drop the files from the page cache before each load.
        rounds: How often each contender runs, in turns.
        widening: Bytes of an element of the model for each byte of the file's.
    """

    name: str
    title: str
    checkpoint: str
    contenders: tuple[Contender, ...]
    promises: tuple[Promise, ...] = ()
    cold: bool = False
    rounds: int = 5
    widening: int = 1

    @property
    def model_bytes(self) -> int:
        """Bytes of the finished model's parameters."""
        return CHECKPOINTS[self.checkpoint].nbytes * self.widening

    @property
    def ours(self) -> str:
        """Label of our contender."""
        return self.contenders[0].label


def times_faster_than(peer: str, factor: float) -> Promise:
    return Promise(
        text=f"{{:.1f}}x as fast as {peer} (>= {factor:g})",
        value=lambda costs, row: costs[peer].seconds / costs[row.ours].seconds,
        at_least=factor,
    )


def at_most_seconds(limit: float) -> Promise:
    return Promise(
        text=f"{{:.3g}} s (<= {limit:g})", value=lambda costs, row: costs[row.ours].seconds, at_most=limit
    )


def at_most_times(baseline: str, factor: float) -> Promise:
    return Promise(
        text=f"{{:.2f}}x the time of {baseline} (<= {factor:g})",
        value=lambda costs, row: costs[row.ours].load_seconds / costs[baseline].load_seconds,
        at_most=factor,
    )


def at_least_the_rate_of(baseline: str, part: float) -> Promise:
    return Promise(
        text=f"{{:.0%}} of the rate of {baseline} (>= {part:.0%})",
        value=lambda costs, row: costs[baseline].load_seconds / costs[row.ours].load_seconds,
        at_least=part,
    )


def peak_at_most(factor: float, buffer: int = 64 * MIB) -> Promise:
    return Promise(
        text=f"peak {{:.2f}}x of the allowed {factor:g}x model + {buffer // MIB} MiB (<= 1)",
        value=lambda costs, row: costs[row.ours].peak_bytes / (factor * row.model_bytes + buffer),
        at_most=1,
    )


def peak_bytes_at_most(limit: int) -> Promise:
    return Promise(
        text=f"peak {{:.0f}} MiB (<= {limit // MIB})",
        value=lambda costs, row: costs[row.ours].peak_bytes / MIB,
        at_most=limit // MIB,
    )


def temporary_bytes(label: str) -> Promise:
    return Promise(
        text=f"{label} compiles to {{:.0f}} MiB of temporaries",
        value=lambda costs, row: (costs[label].temporary_bytes or 0) / MIB,
    )


TRANSFORMERS5, TRANSFORMERS4, KERASHUB = "transformers 5", "transformers 4.56", "KerasHub"
RAW_READ, READ_AND_CONVERT = "a raw two-thread read", "a plain two-thread read-and-convert"
MINILM = "minilm"
SAVED = "saved"
"""The fp32 checkpoint as our own `save_pretrained` wrote it."""
TOKENS = 128
"""Length of the one row of a forward."""
NO_TOUCH: Mapping[str, Any] = {"touch": False}


def _torch(*, label: str = "loadstone", **options: Any) -> Contender:
    return Contender(label=label, loader="loadstone_torch", options=options)


def _transformers(**options: Any) -> Contender:
    return Contender(label=TRANSFORMERS5, loader="transformers_torch", environment="env5", options=options)


def _baseline(label: str, loader: str) -> Contender:
    return Contender(label=label, loader=loader, options=NO_TOUCH)


def _kerashub(backend: str, **options: Any) -> Contender:
    return Contender(label=KERASHUB, loader=f"kerashub_{backend}", environment="envkh", options=options)


def _transformers4(framework: str, **options: Any) -> Contender:
    return Contender(
        label=TRANSFORMERS4, loader=f"transformers_{framework}", environment="env456", options=options
    )


def _ours(framework: str, **options: Any) -> Contender:
    return Contender(label="loadstone", loader=f"loadstone_{framework}", options=options)


ROWS = (
    *(
        Row(
            name=f"torch-bf16-{'cold' if cold else 'warm'}",
            title=f"PyTorch, 2.2 GB bf16 in 5 shards, {'cold' if cold else 'warm'}: load and touch",
            checkpoint="llama-1b-bf16",
            contenders=(
                _torch(),
                _transformers(),
                _torch(label="loadstone, read='copy'", read="copy"),
                _baseline(RAW_READ, "read"),
            ),
            promises=() if cold else (times_faster_than(TRANSFORMERS5, 5),),
            cold=cold,
            rounds=3 if cold else 5,
        )
        for cold in (False, True)
    ),
    Row(
        name="torch-fp32",
        title="PyTorch, the same as float32 (upcast), warm: load and touch",
        checkpoint="llama-1b-bf16",
        contenders=(
            _torch(dtype="float32"),
            _transformers(dtype="float32"),
            _baseline(READ_AND_CONVERT, "read_and_convert"),
        ),
        promises=(at_most_times(READ_AND_CONVERT, 1.3), peak_at_most(1.05)),
        widening=2,
    ),
    Row(
        name="minilm",
        title="PyTorch, MiniLM (91 MB), warm: load and touch",
        checkpoint=MINILM,
        contenders=(_torch(task="base"), _transformers(task="base")),
        promises=(at_most_seconds(0.06),),
    ),
    Row(
        name="torch-70b",
        title="PyTorch, 70B in 28 shards (sparse): load",
        checkpoint="llama-70b-sparse",
        contenders=(_torch(touch=False), _transformers(touch=False)),
        promises=(at_most_seconds(0.5),),
        rounds=3,
    ),
    Row(
        name="torch-99003",
        title="PyTorch, 99,003 tensors in 78 shards: load",
        checkpoint="llama-99003-tensors",
        contenders=(_torch(touch=False), _transformers(touch=False)),
        promises=(at_most_seconds(8), peak_bytes_at_most(400 * MIB)),
        rounds=2,
    ),
    Row(
        name="import",
        title="import loadstone, against from transformers import AutoModelForCausalLM",
        checkpoint="",
        contenders=(
            Contender(label="loadstone", loader="imports", module="loadstone"),
            Contender(
                label=TRANSFORMERS5,
                loader="imports",
                environment="env5",
                module="transformers:AutoModelForCausalLM",
            ),
            Contender(
                label="loadstone's Auto class",
                loader="imports",
                module="loadstone:AutoModelForCausalLM",
            ),
        ),
        promises=(at_most_seconds(0.05),),
    ),
    Row(
        name="flax-fp32",
        title="Flax, 1.6 GB fp32, warm: load",
        checkpoint="llama-0.4b-fp32",
        contenders=(
            _ours("flax", touch=False),
            _transformers4("flax"),
            _kerashub("jax"),
            _baseline(RAW_READ, "read"),
        ),
        promises=(at_least_the_rate_of(RAW_READ, 0.9), peak_at_most(1.02)),
        rounds=3,
    ),
    Row(
        name="flax-sharded",
        title="Flax, the same in 5 shards, warm: load",
        checkpoint="llama-0.4b-fp32-sharded",
        contenders=(
            _ours("flax", touch=False),
            _transformers4("flax"),
        ),
        promises=(peak_at_most(1.02),),
        rounds=3,
    ),
    Row(
        name="tensorflow-fp32",
        title="TensorFlow, 1.6 GB fp32, warm: load",
        checkpoint="llama-0.4b-fp32",
        contenders=(
            _ours("tensorflow", touch=False),
            _kerashub("tensorflow"),
            _baseline(RAW_READ, "read"),
        ),
        promises=(at_least_the_rate_of(RAW_READ, 0.9), peak_at_most(1.02)),
        rounds=3,
    ),
    Row(
        name="tensorflow-minilm",
        title="TensorFlow, MiniLM (91 MB), warm: load",
        checkpoint=MINILM,
        contenders=(
            _ours("tensorflow", task="base", touch=False),
            _transformers4("tensorflow", touch=False),
        ),
    ),
    *(
        Row(
            name=f"{framework}-saved",
            title=f"{title}, 1.6 GB fp32 as we saved it: load",
            checkpoint=SAVED,
            contenders=(_ours(framework, touch=False),),
            promises=(at_most_seconds(limit), peak_bytes_at_most(64 * MIB)),
            rounds=3,
        )
        for framework, title, limit in (
            ("torch", "PyTorch", 0.1),
            ("flax", "Flax", 0.1),
            ("tensorflow", "TensorFlow", 0.15),
        )
    ),
    *(
        Row(
            name=f"{framework}-forward",
            title=f"{title}, forward of 0.4 B in fp32, {TOKENS} tokens, {how}",
            checkpoint="llama-0.4b-fp32",
            contenders=(_ours(framework, forward=TOKENS), peer),
            promises=(times_faster_than(peer.label, 1),),
        )
        for framework, title, how, peer in (
            ("flax", "Flax", "jit", _transformers4("flax", forward=TOKENS)),
            ("tensorflow", "TensorFlow", "tf.function", _kerashub("tensorflow", forward=TOKENS)),
        )
    ),
    Row(
        name="flax-forward-bf16",
        title=f"Flax, forward of 0.4 B in bf16, {TOKENS} tokens, jit",
        checkpoint="llama-0.4b-fp32",
        contenders=(
            _ours("flax", forward=TOKENS, dtype="bfloat16"),
            _transformers4("flax", forward=TOKENS, dtype="bfloat16"),
        ),
        promises=(temporary_bytes("loadstone"), temporary_bytes(TRANSFORMERS4)),
        rounds=3,
    ),
)
