"""The demonstration: load a small checkpoint, tell where each byte went, and let the model write.

The checkpoint that ships in `demo_checkpoint/` is a byte-level Llama that tells stories of a harbour: its token ids are
the bytes of UTF-8, so no tokenizer is needed. `tests/demo` holds the script and the text that trained it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from loadstone import plugins
from loadstone.architectures import generalise
from loadstone.dtypes import nbytes
from loadstone.errors import MissingFrameworkError, PluginError
from loadstone.load.arguments import LoadArguments
from loadstone.load.decide import prepare
from loadstone.load.report import LoadReport
from loadstone.planning.fold import fold
from loadstone.planning.records import Assignment

CHECKPOINT = Path(__file__).parents[1] / "demo_checkpoint"
ALL = "all"

PROMPTS = (
    "The Swallow was late. Silas stood",
    "Hazel had the smallest kitchen in Saltby, but when the Hopeful",
    "There was a blue glass float in the bottom of the Juniper, and Emil",
)
"""What the demo asks the model to go on from. Each names a hero and a boat that never meet in the training text."""

NEW_TOKENS = 200
"""Bytes that the model adds to a prompt at most; a story that ends earlier ends there."""

BYTE_VALUES = 256
"""Size of the vocabulary by which a byte-level model is recognised."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A group of parameters and what became of them.

    Attributes:
        layers: The numbered layers that it is part of, e.g. "model.layers.{0...2}"; "" for none.
        name: Its name, within a layer where it is part of one.
        tensors: How many parameters it holds.
        nbytes: Their bytes; 0 for those that are another's.
        state: "loaded", "cast", "new" or "tied to NAME".
    """

    layers: str
    name: str
    tensors: int
    nbytes: int
    state: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A prompt and how the model went on; `ended` says whether it came to an end by itself."""

    prompt: str
    continuation: str
    ended: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The demo in one framework.

    Attributes:
        backend: Its name.
        versions: The framework's modules, with their versions.
        model_class: The class that was loaded.
        dtype: Canonical float dtype.
        device: Where the model is.
        tensors: Stored tensors that became parameters.
        nbytes: Bytes of the parameters.
        bytes_mapped: Bytes that were mapped and not read.
        bytes_read: Bytes that were read.
        seconds: Wall time of the load; the framework had been imported before.
        peak_memory: Bytes by which the process grew at most during the load; None where the system does not tell.
        parts: Where each byte went.
        texts: What the model wrote; empty if it is not byte-level.
        error: What went wrong; the other fields then are empty.
    """

    backend: str
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    model_class: str = ""
    dtype: str = ""
    device: str = ""
    tensors: int = 0
    nbytes: int = 0
    bytes_mapped: int = 0
    bytes_read: int = 0
    seconds: float = 0.0
    peak_memory: int | None = None
    parts: tuple[Part, ...] = ()
    texts: tuple[Written, ...] = ()
    error: str = ""

    @property
    def framework(self) -> str:
        """The framework for people, e.g. "flax 0.12.8"."""
        name = self.backend if self.backend in self.versions else next(iter(self.versions), self.backend)
        return f"{name} {self.versions.get(name, '')}".rstrip()

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """Return the run that `dataclasses.asdict` made plain."""
        parts = tuple(Part(**part) for part in facts["parts"])
        return cls(**{**facts, "parts": parts, "texts": tuple(Written(**text) for text in facts["texts"])})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """The demo in one framework or in all.

    Attributes:
        checkpoint: The folder that was loaded.
        runs: One for each framework.
        not_installed: Backend -> the command that installs its framework, for those that were left out.
    """

    checkpoint: str
    runs: tuple[Run, ...]
    not_installed: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        """Whether it is the checkpoint that ships with loadstone."""
        return self.checkpoint == str(CHECKPOINT)

    @property
    def same_text(self) -> bool:
        """Whether every framework wrote the same."""
        return len({run.texts for run in self.runs if not run.error}) <= 1

    @property
    def failed(self) -> bool:
        """Whether a framework failed, or wrote something else than the others."""
        return not self.same_text or any(run.error for run in self.runs)

    def to_dict(self) -> dict[str, Any]:
        """Return the demo as plain data for JSON."""
        return {
            "checkpoint": self.checkpoint,
            "runs": [dataclasses.asdict(run) for run in self.runs],
            "same_text": self.same_text,
            "not_installed": dict(self.not_installed),
        }


def run_demo(backend: str | None = None, checkpoint: str | os.PathLike[str] | None = None) -> Demo:
    """Run the demo.

    Args:
        backend: The framework; None: the default one; "all": every installed one, each in a process of its own.
        checkpoint: What to load, as in `from_pretrained`; None: the checkpoint that ships with loadstone.

    Raises:
        LoadstoneError: If the checkpoint cannot be loaded; with "all" the run's `error` says so instead.
    """
    path = str(checkpoint or CHECKPOINT)
    if backend != ALL:
        return Demo(checkpoint=path, runs=(_run(backend or plugins.default_backend(), path),))
    installed, missing = _backends()
    if not installed:
        raise MissingFrameworkError("no framework is installed", hint=next(iter(missing.values()), None))
    runs = tuple(_run_apart(name, path) for name in installed)
    return Demo(checkpoint=path, runs=runs, not_installed=missing)


def _backends() -> tuple[list[str], dict[str, str]]:
    """Return the backends whose framework is installed, best first, and the others with the command to install it."""
    offered = sorted(plugins.claims_of("backend").items(), key=lambda item: -item[1][0].priority)
    installed, missing = [], {}
    for name, _ in offered:
        try:
            record = plugins.backend_record(name)
        except PluginError as error:
            missing[name] = error.hint or error.what
            continue
        if plugins.is_installed(record):
            installed.append(name)
        else:
            missing[name] = record.install
    return installed, missing


def _run_apart(backend: str, path: str) -> Run:
    """Run the demo in a process of its own, because frameworks that are imported side by side can crash."""
    command = [sys.executable, "-m", "loadstone", "demo", "--json", "--backend", backend, "--path", path]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        complaint = process.stderr.strip() or f"the process ended with status {process.returncode}"
        return Run(backend=backend, error="\n".join(complaint.splitlines()[-15:]))
    return Run.from_dict(json.loads(process.stdout)["runs"][0])


def _run(backend: str, path: str) -> Run:
    # Preparing imports the framework and the model's module, so that the load is timed without them.
    prepared = prepare(path, LoadArguments(), {}, None, None, backend)
    with PeakMemory() as peak:
        model = prepared.target.model_class.from_pretrained(path)  # type: ignore[attr-defined]
    report: LoadReport = model.load_report
    return Run(
        backend=backend,
        versions=_versions(backend),
        model_class=report.model_class,
        dtype=report.dtype,
        device=report.device,
        tensors=sum(1 for _ in report.plan.reads()),
        nbytes=report.nbytes,
        bytes_mapped=report.bytes_mapped or 0,
        bytes_read=report.bytes_read or 0,
        seconds=report.seconds or 0.0,
        peak_memory=peak.growth,
        parts=tuple(_parts(report.plan.assignments.values())),
        texts=write(model, PROMPTS) if _is_byte_level(model) else (),
    )


def _versions(backend: str) -> dict[str, str]:
    """Return the modules that the backend stands on, with their versions; they have been imported."""
    modules = {name: sys.modules.get(name) for name in plugins.backend_record(backend).requires}
    return {name: str(getattr(module, "__version__", "?")) for name, module in modules.items()}


def _parts(assignments: Iterable[Assignment]) -> Iterator[Part]:
    """Yield the parameters grouped by module: down to the one below a numbered layer, else to the last."""
    groups: dict[tuple[str, str], list[Assignment]] = {}
    for assignment in assignments:
        layers, name = _module(assignment.name)
        groups.setdefault((generalise(layers), name), []).append(assignment)
    for (_, name), group in groups.items():
        states = {f"tied to {a.to.rpartition('.')[0]}" if a.state == "tied" else a.state: None for a in group}
        yield Part(
            layers=next(iter(fold(dict.fromkeys(_module(a.name)[0] for a in group)))),
            name=name,
            tensors=len(group),
            nbytes=sum(nbytes(a.dtype, a.shape) for a in group if a.dtype),
            state=", ".join(states),
        )


def _module(name: str) -> tuple[str, str]:
    """Return the numbered layer that a parameter is part of, and its module there, else ("", its module)."""
    segments = name.split(".")
    number = next((i for i, segment in enumerate(segments[:-2]) if segment.isdigit()), None)
    if number is None:
        return "", ".".join(segments[:-1])
    return ".".join(segments[: number + 1]), segments[number + 1]


def _is_byte_level(model: Any) -> bool:
    return hasattr(model, "generate") and model.config.get_text_config().vocab_size == BYTE_VALUES


def write(model: Any, prompts: Sequence[str], *, new_tokens: int = NEW_TOKENS) -> tuple[Written, ...]:
    """Let a byte-level model go on from each prompt, all at once and greedily.

    Args:
        model: A causal language model of any backend, whose token ids are bytes.
        prompts: What it goes on from.
        new_tokens: Bytes that it adds at most.
    """
    begin, ends = model.config.get_text_config().bos_token_id, model.generation_config.eos_token_id
    first = [] if begin is None else [begin]
    rows = [[*first, *prompt.encode()] for prompt in prompts]
    width = max(map(len, rows))
    told = model.generate(
        [[0] * (width - len(row)) + row for row in rows],
        attention_mask=[[0] * (width - len(row)) + [1] * len(row) for row in rows],
        max_new_tokens=new_tokens,
    )
    return tuple(
        _written(prompt, [int(token) for token in row[width:]], ends if isinstance(ends, list) else [ends])
        for prompt, row in zip(prompts, told, strict=True)
    )


def _written(prompt: str, new: Sequence[int], ends: Sequence[int | None]) -> Written:
    length = next((i for i, token in enumerate(new) if token in ends), len(new))
    continuation = bytes(new[:length]).decode("utf-8", errors="replace")
    return Written(prompt=prompt, continuation=continuation, ended=length < len(new))


class PeakMemory:
    """Measures by how much this process grew at most while a block ran, in bytes of resident memory.

    Linux alone tells; elsewhere `growth` stays None.
    """

    growth: int | None = None

    def __enter__(self) -> Self:
        self._before = None
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # Forgets the old peak; see proc(5).
            self._before = _resident("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            self.growth = max(0, _resident("VmHWM") - self._before)


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
