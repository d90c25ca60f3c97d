"""The names that pickled weights have."""

from __future__ import annotations

import re

ENDINGS = (".bin", ".pt", ".pth")
"""How the files end, the preferred first."""

_STEM = "pytorch_model"
_NUMBERS = re.compile(r"-\d{5,}-of-\d{5,}")
_ANY = re.compile(r"(pytorch_model|model)[^/]*\.(bin|pt|pth)|pytorch_model[^/]*\.index[^/]*\.json")


def weight_names(variant: str | None) -> tuple[str, ...]:
    """Return the names under which weights are looked for, the preferred first.

    Example:
        >>> weight_names("fp16")[:3]
        ('pytorch_model.fp16.bin', 'pytorch_model.bin.index.fp16.json', 'pytorch_model.fp16.bin.index.json')
    """
    if variant is None:
        index: tuple[str, ...] = (f"{_STEM}.bin.index.json",)
    else:
        index = (f"{_STEM}.bin.index.{variant}.json", f"{_STEM}.{variant}.bin.index.json")
    part = "" if variant is None else f".{variant}"
    others = [f"{stem}{part}{ending}" for stem in (_STEM, "model") for ending in ENDINGS[1:]]
    return (f"{_STEM}{part}.bin", *index, *others)


def file_names(number: int, *, variant: str | None) -> list[str]:
    """Return the names of as many files of weights as are to be written."""
    stem = _STEM if variant is None else f"{_STEM}.{variant}"
    if number == 1:
        return [f"{stem}.bin"]
    return [f"{stem}-{part:05d}-of-{number:05d}.bin" for part in range(1, number + 1)]


def is_weights(name: str, variant: str | None) -> bool:
    """Return whether a file of this name holds weights of the variant, or is an index of them."""
    if name in weight_names(variant):
        return True
    stem = _STEM if variant is None else f"{_STEM}.{variant}"
    middle = name.removeprefix(f"{stem}").removesuffix(".bin")
    return name == f"{stem}{middle}.bin" and _NUMBERS.fullmatch(middle) is not None


def is_pickled(name: str) -> bool:
    """Return whether a file of this name is of the format, whatever its variant, or is an index of such files."""
    return _ANY.fullmatch(name) is not None
