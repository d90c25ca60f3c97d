"""Converting, told in order: what the files hold, what each tensor becomes, then one switch to the new files.

No framework is needed, and no model is built. A tensor at a time goes from its file to the new one: mapped where its bytes
stay, read through the engine where they are cast, turned or unpacked, or lie far away.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from loadstone.checkpoint.formats.names import DEFAULT, is_model_weights
from loadstone.checkpoint.formats.target import Target, target_named
from loadstone.checkpoint.formats.writer import StoredTensor
from loadstone.checkpoint.index import TensorIndex
from loadstone.checkpoint.open import Weights, find_weights, open_checkpoint
from loadstone.checkpoint.recipe import Recipe
from loadstone.checkpoint.settled import CONFIG, GENERATION_CONFIG, is_staging
from loadstone.errors import CheckpointError, human_bytes, memory_told
from loadstone.load.arguments import LoadArguments, parse_arguments
from loadstone.load.configuration import Asked
from loadstone.load.file_named import with_file_named
from loadstone.load.watch import Watched, steadily, watch
from loadstone.read.engine import Traffic, read_tensors
from loadstone.read.files import OpenFiles, identity, is_mappable
from loadstone.read.pieces import Request
from loadstone.read.progress import byte_bar
from loadstone.read.tensor import HostTensor
from loadstone.save.become import Becoming, become, config_with
from loadstone.save.layout import DEFAULT_SIZE
from loadstone.save.told import told
from loadstone.save.write import refuse_unheld, save_checkpoint
from loadstone.source import Name, Snapshot, resolve

_BLOCK = 8 * 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What a conversion did.

    Attributes:
        location: Where the checkpoint came from.
        folder: Where it is now.
        format: Of the weights, as it was asked for.
        tensors: How many were written.
        nbytes: Their bytes together.
        files: Names of all files written.
        notes: What is to be told of it, in sentences: what was left out, and what the source's own files say.
        seconds: How long it took.
    """

    location: str
    folder: Path
    format: str
    tensors: int
    nbytes: int
    files: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, object]:
        """Return it as values that JSON has."""
        return dataclasses.asdict(self) | {"folder": str(self.folder)}

    def __str__(self) -> str:
        """Tell it in a few lines."""
        head = (
            f"{self.location} -> {self.folder} as {self.format}: {self.tensors:,} tensors, "
            f"{human_bytes(self.nbytes)}, {len(self.files):,} files in {self.seconds:.1f} s"
        )
        return "\n".join((head, *(f"note: {note}" for note in self.notes)))


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    """A checkpoint that is to be converted, of which headers alone have been read."""

    watched: Watched
    weights: Weights
    index: TensorIndex
    config: str
    becoming: Becoming
    alone: bool
    """Whether a file was named, not the folder around it: then nothing of that comes along."""

    @property
    def snapshot(self) -> Snapshot:
        return self.watched.snapshot


@memory_told("to convert the checkpoint")
def convert(
    source: Name,
    destination: str | os.PathLike[str],
    *,
    format: str = DEFAULT,
    dtype: object = None,
    max_shard_size: int | str = DEFAULT_SIZE,
    layout: str = "aligned",
    metadata: Mapping[str, str] | None = None,
    variant: str | None = None,
    weights_format: str | None = None,
    gguf_file: str | None = None,
    model_type: str | None = None,
    revision: str | None = None,
    subfolder: str = "",
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Conversion:
    """Write a checkpoint in another format, dtype or division into files. No framework is needed.

    Tensors keep their names and bits, unless the format has other names (h5 and msgpack those of transformers' TensorFlow and
    Flax classes), they are packed (numbers of a GGUF file become floats) or `dtype` casts them. config.json keeps every key;
    tokenizer and other files come along. Killed at any point, the destination loads as what it held before, or as the new
    checkpoint. What lies far away is read there, and lands nowhere else.

    Args:
        source: A folder, a repository on the Hub, an address, or a `loadstone.source.Snapshot`, in any format that can be read;
            or a GGUF file, of whose folder nothing but generation_config.json comes along.
        destination: A folder; made where absent. It may be the source's own.
        format: `safetensors`, "bin" (`pytorch_model.bin`), "h5" (`tf_model.h5`), "msgpack" (`flax_model.msgpack`), or what
            a plugin writes.
        dtype: What floats become, "bfloat16" say; those that the architecture keeps wide become float32. None: they stay.
        max_shard_size: Bytes of tensors in a file, as a number or a text such as "5GB".
        layout: Of safetensors: "aligned", which every framework maps, or "torch", that of the safetensors library.
        metadata: Texts to hold beside the tensors in the place of the source's.
        variant: Part of the names of the source's weights, e.g. "fp16"; those that are written have none.
        weights_format: The format to read, where the source has several; None: the first that is there.
        gguf_file: The GGUF file of the folder or repository to read; what it says of the model goes before config.json.
        model_type: The model type, where config.json does not say it.
        revision: Branch, tag or commit of a repository.
        subfolder: The folder below the source that holds the checkpoint.
        cache_dir: Where downloads are kept.
        token: An access token; None: the stored one.
        local_files_only: Use the download cache alone.

    Returns:
        What was done.

    Raises:
        SourceError: If the source cannot be found or read, or the destination not written.
        ConfigError: If config.json is missing, or names must change and its model type is not known.
        CheckpointError: If the files are damaged.
        ArgumentError: If the format cannot hold what is there, or an argument cannot be used. Nothing is written then.
        ChangedFileError: If the source changes meanwhile.
        PluginError: If a format or source is a plugin's, which fails.

    Example:
        >>> import loadstone
        >>> print(loadstone.convert("org/name", "folder", format="bin", dtype="float16"))  # doctest: +SKIP
    """
    started = time.perf_counter()
    target, folder = target_named(format, layout), Path(destination)
    given, _ = parse_arguments(
        {
            "variant": variant,
            "weights_format": weights_format,
            "gguf_file": gguf_file,
            "model_type": model_type,
            "revision": revision,
            "subfolder": subfolder,
            "cache_dir": cache_dir,
            "token": token,
            "local_files_only": local_files_only,
        }
    )
    name, given = with_file_named(source, given)

    def found() -> _Found:
        watched = watch(resolve(name, **given.source()))
        with watched.unchanged(variant):
            return _find(watched, given, target, dtype, alone=name is not source)

    one = steadily(found)
    texts = dict(one.index.metadata if metadata is None else metadata)
    reader = _Reader()
    tensors, target, notes = _told(one, target, reader)
    refuse_unheld(target, tensors, texts, variant=None)
    files = _write(one, folder, target, (tensors, reader), texts, max_shard_size, variant)
    return Conversion(
        location=one.snapshot.location,
        folder=folder,
        format=format,
        tensors=len(tensors),
        nbytes=sum(tensor.nbytes for tensor in tensors),
        files=tuple(path.relative_to(folder).as_posix() for path in files),
        notes=(*one.index.notes, *one.becoming.notes, *notes),
        seconds=time.perf_counter() - started,
    )


def _find(watched: Watched, given: LoadArguments, target: Target, dtype: object, *, alone: bool) -> _Found:
    snapshot, asked = watched.snapshot, Asked.by(given, None)
    weights, index = find_weights(snapshot, **asked.weights), open_checkpoint(snapshot, **asked.weights)
    if index.absent:
        raise CheckpointError(
            "some files of the weights are not here",
            where=snapshot.location,
            found=", ".join(sorted(set(index.absent.values()))[:4]),
            hint="fetch the whole repository first",
        )
    becoming = become(index, snapshot, weights.claim.name, target, dtype, asked)
    config = config_with(snapshot, becoming.dtype, asked)
    return _Found(watched, weights, index, config, becoming, alone)


def _told(one: _Found, target: Target, reader: _Reader) -> tuple[list[StoredTensor], Target, tuple[str, ...]]:
    """Return the tensors to write, which are read when their turn has come, who writes them, and what is to be told of it."""
    tensors = [
        StoredTensor(
            name=name,
            dtype=recipe.dtype,
            shape=recipe.shape,
            read=functools.partial(reader.read, name, recipe),
        )
        for name, recipe in one.becoming.recipes.items()
    ]
    config = one.becoming.config
    return (tensors, target, ()) if config is None else told(tensors, target, config)


def _write(
    one: _Found,
    folder: Path,
    target: Target,
    what: tuple[list[StoredTensor], _Reader],
    texts: Mapping[str, str],
    max_shard_size: int | str,
    variant: str | None,
) -> list[Path]:
    """Write what was found; the source's files are held against what they were."""
    snapshot, (tensors, reader) = one.snapshot, what
    far = one.index.files if snapshot.reads_at_once else ()
    paths = {} if far else snapshot.fetch(one.index.files)
    identities = {name: one.watched.identities.get(name) or identity(path) for name, path in paths.items()}
    copies = _copies(one, folder)
    with (
        OpenFiles(
            paths, identities, far=snapshot, far_names=far, when="while it was being converted"
        ) as files,
        byte_bar(total=sum(tensor.nbytes for tensor in tensors), what="Converting") as advance,
    ):
        reader.files, reader.mappable = files, {name: is_mappable(path) for name, path in paths.items()}
        written = save_checkpoint(
            folder,
            tensors,
            config_json=one.config,
            metadata=texts,
            max_shard_size=max_shard_size,
            progress=advance,
            target=target,
            aliases=one.becoming.aliases,
            copies=copies,
            before_switch=functools.partial(_check_unchanged, one.watched, files, variant),
        )
    return written


def _check_unchanged(watched: Watched, files: OpenFiles, variant: str | None) -> None:
    """Raise if the source is no longer what it was; once the files have switched, it may be what was written."""
    with watched.unchanged(variant):
        files.check_unchanged()


class _Reader:
    """Brings one tensor at a time to host memory; of those whose bytes stay as they are, a mapping.

    Attributes:
        files: The files, once they are open; until then tensors are only announced.
        mappable: File -> whether it lies where mapping is safe; none of one that lies far away.
    """

    def __init__(self) -> None:
        self.files: OpenFiles | None = None
        self.mappable: Mapping[str, bool] = {}
        self._traffic = Traffic()

    def read(self, name: str, recipe: Recipe) -> HostTensor:
        """Return the tensor that a recipe makes."""
        assert self.files is not None
        mappable = self.mappable.get(recipe.sources[0].file, False)
        request = Request(name=name, recipe=recipe, shape=recipe.shape, mappable=mappable)
        [tensor] = read_tensors(self.files, [request], alignment=1, traffic=self._traffic)
        return tensor


def _copies(one: _Found, folder: Path) -> dict[str, Callable[[], Iterator[bytes]]]:
    """Return the files that come along: all but weights, and what is hidden or below the destination."""
    snapshot, held = one.snapshot, one.weights.format
    inside = folder.resolve()
    here = snapshot.root is not None and snapshot.root.resolve() == inside
    names = [GENERATION_CONFIG] if here or one.alone else sorted(snapshot.files)
    return {
        name: functools.partial(_blocks, snapshot, name)
        for name in names
        if snapshot.has(name)
        and name != CONFIG
        and not (is_model_weights(name) or name in one.index.files or held.is_weights(name, None))
        and not is_staging(name)
        and not any(part.startswith(".") for part in name.split("/"))
        and not (snapshot.root is not None and not here and _below(snapshot.root / name, inside))
    }


def _below(path: Path, folder: Path) -> bool:
    return folder in path.resolve().parents


def _blocks(snapshot: Snapshot, name: str) -> Iterator[bytes]:
    size = snapshot.file(name).size
    for start in range(0, size, _BLOCK):
        yield snapshot.read_range(name, start, min(_BLOCK, size - start))
