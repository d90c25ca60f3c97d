"""The names that the files of weights have, and the keys of what our saves note in them."""

from __future__ import annotations

import re

DEFAULT = "safetensors"
"""What weights are written as, unless the caller names another format."""

GENERATION = "loadstone.generation"
"""Key of `__metadata__` and of an index's `metadata`: the save to which a file belongs, 32 hexadecimal digits."""

SHA256 = "loadstone.sha256"
"""Key of `__metadata__`: SHA-256 of the whole file, taken while the values of these two keys were all zeros."""

BLANK = {GENERATION: "0" * 32, SHA256: "0" * 64}
"""What stands in `__metadata__` until the file's sum and the generation are known."""

IMPOSTORS = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer",
        "run `git lfs pull` in the folder, or download the file again",
    ),
    (b"<!DO", "a web page", "download the file again: a server sent a page in its place"),
    (b"<htm", "a web page", "download the file again: a server sent a page in its place"),
)
"""What is found under the name of weights: how it begins, what it is, and what is to be done."""

NPZ = ("model.npz", "weights.npz")
"""Names of an archive of numpy's, the preferred first."""

DCP = ".metadata"
"""Name of what describes a distributed checkpoint of torch's."""

ORBAX = ("_METADATA", "params/_METADATA")
"""Names of what describes the arrays of an Orbax checkpoint, the preferred first."""

_FOREIGN = re.compile(r"(tf_model[^/]*\.h5|flax_model[^/]*\.msgpack)(\.index\.json)?|model\.weights\.h5")
_ANY = re.compile(
    r"model[^/]*\.safetensors[^/]*|(pytorch_model|model)[^/]*\.(bin|pt|pth)|pytorch_model[^/]*\.index[^/]*\.json"
)
_NUMBERS = re.compile(r"-\d{5,}-of-\d{5,}")


ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".npz", ".distcp")
"""How the names of files of weights end, of whatever format."""


def weight_names(variant: str | None) -> tuple[str, ...]:
    """Return the names under which weights are looked for, the preferred first.

    The first is the one file of all weights, the others are an index of shards, which a variant has in two
    spellings: transformers' and the one that follows from the shards' names.

    Example:
        >>> weight_names(None)
        ('model.safetensors', 'model.safetensors.index.json')
    """
    if variant is None:
        return "model.safetensors", "model.safetensors.index.json"
    return (
        f"model.{variant}.safetensors",
        f"model.safetensors.index.{variant}.json",
        f"model.{variant}.safetensors.index.json",
    )


def file_names(number: int, *, variant: str | None) -> list[str]:
    """Return the names of as many files of weights as are to be written."""
    stem = _stem(variant)
    if number == 1:
        return [f"{stem}.safetensors"]
    return [f"{stem}-{part:05d}-of-{number:05d}.safetensors" for part in range(1, number + 1)]


def is_weights(name: str, variant: str | None) -> bool:
    """Return whether a file of this name holds weights of the variant, or is an index of them."""
    return name in weight_names(variant) or (
        name.startswith(f"{_stem(variant)}-")
        and name.endswith(".safetensors")
        and _NUMBERS.fullmatch(name.removeprefix(_stem(variant)).removesuffix(".safetensors")) is not None
    )


def is_stored(name: str) -> bool:
    """Return whether a file of this name is of the format, whatever its variant, or is an index of such files."""
    return ".safetensors" in name


def is_model_weights(name: str) -> bool:
    """Return whether a file of this name is of a model's weights in any of our formats and variants, or an index of them."""
    return _ANY.fullmatch(name) is not None or is_foreign(name)


def is_foreign(name: str) -> bool:
    """Return whether a file of this name is of transformers' TensorFlow or Flax classes, or an index of such files."""
    return _FOREIGN.fullmatch(name) is not None


def weight_patterns(variant: str | None) -> list[str]:
    """Return shell patterns of the names that `is_weights` takes, for a server to match.

    Example:
        >>> weight_patterns(None)[-1]
        'model-?????-of-?????.safetensors'
    """
    return [*weight_names(variant), f"{_stem(variant)}-?????-of-?????.safetensors"]


def _stem(variant: str | None) -> str:
    return "model" if variant is None else f"model.{variant}"
