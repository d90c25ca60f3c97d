"""What a checkpoint holds and what is wrong with it, told from config.json and headers alone; no framework is needed.

A load stops at damage with one error. An inspection goes on: it names every problem and lists all that can still be read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loadstone.architectures import generalise, meant, model_types
from loadstone.checkpoint.digest import Verification
from loadstone.checkpoint.digest import verify as verify_files
from loadstone.checkpoint.formats import Format, adapter_beside, formats
from loadstone.checkpoint.index import TensorIndex, TensorInfo
from loadstone.checkpoint.open import Weights, find_weights, open_checkpoint
from loadstone.checkpoint.settled import settle
from loadstone.config import CONFIG_NAME
from loadstone.errors import CheckpointError, ConfigError, LoadstoneError, PluginError
from loadstone.load.arguments import LoadArguments
from loadstone.load.configuration import Asked, read_config, read_values
from loadstone.load.custom_code import own_code
from loadstone.load.file_named import with_file_named
from loadstone.planning.fold import fold
from loadstone.plugins import answerable
from loadstone.read.progress import byte_bar
from loadstone.source import Name, Snapshot, resolve

_FETCH = "inspect it with network access, or fetch what is missing with `hf download`"
_REPLACE = "fetch the file again, or copy it again from where it is intact"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that keeps a checkpoint from being loaded; the fields are those of a `LoadstoneError`."""

    what: str
    where: str | None = None
    expected: str | None = None
    found: str | None = None
    hint: str | None = None

    @classmethod
    def all_of(cls, error: LoadstoneError) -> tuple[Problem, ...]:
        """Return the problems that an error collected, or the one that it is about."""
        where, hint = _text(error.where), error.hint
        if error.problems:
            return tuple(cls(what=line, where=where, hint=hint) for line in error.problems)
        expected, found = _text(error.expected), _text(error.found)
        return (cls(what=error.what, where=where, expected=expected, found=found, hint=hint),)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """One file of weights.

    Attributes:
        name: Its name.
        nbytes: Its length; None where it is absent.
        tensors: How many tensors its header lists; None where the header cannot be read.
    """

    name: str
    nbytes: int | None
    tensors: int | None

    @property
    def state(self) -> str:
        """Return "ok", "damaged" or "absent"; "ok" speaks of the header alone."""
        return "absent" if self.nbytes is None else "damaged" if self.tensors is None else "ok"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TensorGroup:
    """Tensors whose names differ in numbers only, all of one dtype, or packing, and shape."""

    label: str
    dtype: str
    shape: tuple[int, ...]
    members: tuple[TensorInfo, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all members together."""
        return sum(info.nbytes for info in self.members)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What a checkpoint holds.

    Attributes:
        location: The folder or repository, as it was named.
        commit: The Hub's commit; None for a folder.
        config: The content of config.json; None if there is none that can be read.
        files: The files of weights, in order.
        others: Names of all other files.
        tensors: Every tensor of every readable file, in file and offset order.
        aliases: Name -> the stored tensor that holds the same parameter.
        metadata: The other texts of `__metadata__`.
        problems: What keeps it from being loaded.
        notes: What is worth knowing and is no damage.
        verification: What summing the files found; None if that was not asked for.
    """

    location: str
    commit: str | None
    config: Mapping[str, Any] | None
    files: tuple[WeightFile, ...]
    others: tuple[str, ...]
    tensors: tuple[TensorInfo, ...]
    aliases: Mapping[str, str]
    metadata: Mapping[str, str]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    verification: Verification | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(info.nbytes for info in self.tensors)

    @property
    def elements(self) -> int:
        """How many numbers all tensors hold together."""
        return sum(math.prod(info.shape) for info in self.tensors)

    def dtypes(self) -> dict[str, int]:
        """Return dtype, or packing, -> bytes stored in it, the largest first."""
        sizes: Counter[str] = Counter()
        for info in self.tensors:
            sizes[info.kind] += info.nbytes
        return dict(sizes.most_common())

    def groups(self, *, folded: bool = True) -> list[TensorGroup]:
        """Return the tensors in order of appearance, folded over layers or each by itself."""
        alike: dict[tuple[str, str, tuple[int, ...]], list[TensorInfo]] = {}
        for info in self.tensors:
            pattern = generalise(info.name) if folded else f"{info.file}/{info.name}"
            alike.setdefault((pattern, info.kind, info.shape), []).append(info)
        return [
            TensorGroup(
                label=next(iter(fold(info.name for info in members))),
                dtype=dtype,
                shape=shape,
                members=tuple(members),
            )
            for (_, dtype, shape), members in alike.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the inspection as plain data for JSON."""
        config = self.config or {}
        return {
            "location": self.location,
            "commit": self.commit,
            "model_type": config.get("model_type"),
            "architectures": config.get("architectures"),
            "nbytes": self.nbytes,
            "elements": self.elements,
            "dtypes": self.dtypes(),
            "files": [{**dataclasses.asdict(file), "state": file.state} for file in self.files],
            "other_files": list(self.others),
            "tensors": [dataclasses.asdict(info) for info in self.tensors],
            "aliases": dict(self.aliases),
            "metadata": dict(self.metadata),
            "config": self.config,
            "problems": [dataclasses.asdict(problem) for problem in self.problems],
            "notes": list(self.notes),
            "verification": dataclasses.asdict(self.verification) if self.verification else None,
        }


def inspect(
    name_or_path: Name,
    *,
    variant: str | None = None,
    weights_format: str | None = None,
    gguf_file: str | None = None,
    verify: bool = False,
    **source: Any,
) -> Inspection:
    """Tell what a checkpoint holds and what is wrong with it. Of a repository only headers are fetched.

    Args:
        name_or_path: A folder, a repository id, or the path of a GGUF file.
        variant: As in `from_pretrained`.
        weights_format: As in `from_pretrained`.
        gguf_file: As in `from_pretrained`.
        verify: Sum every file of weights too, and compare. Files that are not on this machine are fetched for it.
        **source: `revision`, `subfolder`, `cache_dir`, `token`, `force_download`, `local_files_only`.

    Raises:
        SourceError: If there is no such folder, repository or revision, or a file cannot be fetched.

    Example:
        >>> inspect("path/to/checkpoint").dtypes()  # doctest: +SKIP
        {'bfloat16': 16060522496}
    """
    asked = LoadArguments(variant=variant, weights_format=weights_format, gguf_file=gguf_file, **source)
    name_or_path, asked = with_file_named(name_or_path, asked)
    snapshot = settle(resolve(name_or_path, **source))
    config, config_problems, told = _read_config(snapshot, asked)
    adapter = adapter_beside(snapshot.files, where=snapshot.location)
    weights = _read_weights(snapshot, asked)
    verification = _verify(snapshot, weights) if verify else None
    changed = verification.problems if verification else ()
    return Inspection(
        location=snapshot.location,
        commit=snapshot.commit,
        config=config,
        files=tuple(weights.file(name, snapshot) for name in weights.names),
        others=tuple(sorted(set(snapshot.files) - {*weights.names, CONFIG_NAME})),
        tensors=tuple(itertools.chain.from_iterable(weights.headers.values())),
        aliases=weights.aliases,
        metadata=weights.metadata,
        problems=(
            *config_problems,
            *weights.problems,
            *(Problem.all_of(adapter) if adapter is not None and weights.headers else ()),
            *(Problem(what=line, hint=_REPLACE) for line in changed),
        ),
        notes=(*told, *_notes(config or {}), *weights.notes),
        verification=verification,
    )


def _read_config(
    snapshot: Snapshot, given: LoadArguments
) -> tuple[Mapping[str, Any] | None, tuple[Problem, ...], tuple[str, ...]]:
    """Return config.json, or what stands for it in a file that was named, what is wrong with it and what is worth knowing of it.

    That its model type is unknown to us is no fault of its.
    """
    values: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    try:
        if given.gguf_file or snapshot.has(CONFIG_NAME):
            values = read_values(snapshot, given.weights())
        if values is None or not _unknown_type(values):
            config, notes = read_config(snapshot, Asked.by(given, None))
            config.get_text_config()  # which checks the nested one, where there is one
    except (ConfigError, PluginError) as error:
        return values, Problem.all_of(error), notes
    except CheckpointError:  # of a file that was named; it is told with the weights
        pass
    return values, (), notes


def _unknown_type(config: Mapping[str, Any]) -> bool:
    model_type = config.get("model_type")
    return isinstance(model_type, str) and model_type not in model_types()


def _notes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what loadstone cannot load yet, though nothing is wrong with it."""
    notes = []
    if _unknown_type(config):
        hint = meant(config["model_type"], model_types()) or f"it knows {', '.join(model_types())}"
        notes.append(f"loadstone has no architecture for the model type {config['model_type']!r}: {hint}")
        if (code := own_code(config.get("auto_map"))) is not None:
            notes.append(
                f"auto_map names code of the checkpoint's author ({code}), which runs only where you trust it"
            )
    for key in ("quantization_config", "compression_config"):
        if isinstance(config.get(key), dict):
            method = config[key].get("quant_method", "an unnamed method")
            notes.append(f"{key}: the weights are quantised by {method}, which is not read yet")
    return tuple(notes)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """What is known of the weights: the files that should be there, and the headers that could be read."""

    names: tuple[str, ...]
    headers: Mapping[str, Sequence[TensorInfo]]
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    def file(self, name: str, snapshot: Snapshot) -> WeightFile:
        size = snapshot.file(name).size if snapshot.has(name) else None
        return WeightFile(
            name=name, nbytes=size, tensors=len(self.headers[name]) if name in self.headers else None
        )


def _read_weights(snapshot: Snapshot, given: LoadArguments) -> _Weights:
    try:
        index = open_checkpoint(snapshot, **given.weights())
    except CheckpointError as error:
        return _salvage(snapshot, given, Problem.all_of(error))
    except PluginError as error:
        return _Weights(names=(), headers={}, problems=Problem.all_of(error))
    headers: dict[str, list[TensorInfo]] = {name: [] for name in index.files}
    for info in index.tensors.values():
        headers[info.file].append(info)
    absent = sorted(set(index.absent.values()))
    return _Weights(
        names=(*index.files, *absent),
        headers=headers,
        aliases=index.aliases,
        metadata=index.metadata,
        problems=tuple(Problem(what=f"{name} is not in the download cache", hint=_FETCH) for name in absent),
        notes=index.notes,
    )


def _salvage(snapshot: Snapshot, given: LoadArguments, problems: tuple[Problem, ...]) -> _Weights:
    """Read what can be read of a checkpoint that `open_checkpoint` refused."""
    variant = given.variant
    try:
        weights = find_weights(snapshot, **given.weights())
    except CheckpointError:
        return _left_over(snapshot, variant, problems)
    with answerable(weights.claim, "fails to tell what it can read"):
        names = _named(snapshot, weights, variant)
        return _Weights(names=names, headers=_headers(snapshot, names, weights.format), problems=problems)


def _named(snapshot: Snapshot, weights: Weights, variant: str | None) -> tuple[str, ...]:
    """Return the names of the files that should hold the weights, whether they are there or not."""
    try:
        return tuple(weights.format.files(snapshot, weights.entry))
    except CheckpointError:
        return tuple(_held(snapshot, weights.format, variant))


def _left_over(snapshot: Snapshot, variant: str | None, problems: tuple[Problem, ...]) -> _Weights:
    """Read files of weights that lie there without the one from which a load starts."""
    for claim, format in formats():
        with answerable(claim, "fails to tell what it can read"):
            if names := tuple(_held(snapshot, format, variant)):
                return _Weights(names=names, headers=_headers(snapshot, names, format), problems=problems)
    return _Weights(names=(), headers={}, problems=problems)


def _held(snapshot: Snapshot, format: Format, variant: str | None) -> Iterable[str]:
    entries = {name for name in format.weight_names(variant) if name.endswith(".json")}
    return [name for name in snapshot.files if format.is_weights(name, variant) and name not in entries]


def _headers(snapshot: Snapshot, names: Iterable[str], format: Format) -> dict[str, Sequence[TensorInfo]]:
    headers = {}
    for name in filter(snapshot.has, names):
        with contextlib.suppress(CheckpointError):  # It is among the problems already.
            headers[name] = format.salvage(snapshot, name)
    return headers


def _verify(snapshot: Snapshot, weights: _Weights) -> Verification:
    """Sum the files whose header can be read; of the others it is known already that they are damaged."""
    files = tuple(weights.headers)
    with byte_bar(total=sum(snapshot.file(name).size for name in files), what="Verifying") as advance:
        return verify_files(snapshot, TensorIndex(tensors={}, files=files), progress=advance)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
