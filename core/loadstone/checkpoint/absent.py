"""What to say of a folder or repository in which no readable weights lie."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from loadstone.errors import NoWeightsError
from loadstone.source.snapshot import summary

# Weights that are known and not read yet: a pattern for their file name, and what they are.
_NOT_READ_YET = (
    (r"pytorch_model.*\.bin(\.index\.json)?|consolidated.*\.pth", "PyTorch pickle"),
    (r"tf_model.*\.h5(\.index\.json)?", "TensorFlow HDF5"),
    (r"flax_model.*\.msgpack(\.index\.json)?", "Flax msgpack"),
    (r".*\.gguf", "GGUF"),
)
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


def no_weights(
    files: Collection[str], wanted: Sequence[str], *, variant: str | None, where: object
) -> NoWeightsError:
    """Make the error for a checkpoint none of whose files is what was looked for.

    Args:
        files: Names of all its files.
        wanted: Names that were looked for.
        variant: The variant that was asked for.
        where: The folder or repository.
    """
    adapter = adapter_alone(files, wanted, where=where)
    if adapter is not None:
        return adapter
    others = {title: found for pattern, title in _NOT_READ_YET if (found := _matching(pattern, files))}
    if variant is None and others:
        return NoWeightsError(
            f"the weights are in a format that is not read yet: {', '.join(others)}",
            where=where,
            expected=" or ".join(wanted),
            found=summary(name for found in others.values() for name in found),
            hint="open them with transformers and write them as safetensors with its save_pretrained",
        )
    variants = sorted(
        {match[1] for name in files if (match := re.fullmatch(r"model\.([^/]+)\.safetensors", name))}
    )
    if variant is not None or variants:
        return NoWeightsError(
            f"there are no weights of the variant {variant!r}"
            if variant
            else "there are only variants of the weights",
            where=where,
            expected=" or ".join(wanted),
            found=f"the variants {', '.join(variants)}" if variants else summary(files),
            hint=f'pass variant="{variants[0]}"' if variants else "leave `variant` out",
        )
    return NoWeightsError(
        "there are no weights here",
        where=where,
        expected=" or ".join(wanted),
        found=summary(files),
        hint="check the path or id; `subfolder=` if the weights lie deeper",
    )


def adapter_alone(files: Collection[str], wanted: Sequence[str], *, where: object) -> NoWeightsError | None:
    """Make the error for an adapter in a model's place; None where there is none.

    Args:
        files: Names of all files of the checkpoint, none of which is wanted.
        wanted: Names that were looked for.
        where: The folder or repository.
    """
    adapter = [name for name in _ADAPTER if name in files]
    if not adapter:
        return None
    return NoWeightsError(
        "this is a PEFT adapter, not a model: it holds only what is added to one",
        where=where,
        expected=" or ".join(wanted),
        found=", ".join(adapter),
        hint="load the base model that adapter_config.json names, then add the adapter with PEFT",
    )


def _matching(pattern: str, files: Collection[str]) -> list[str]:
    return sorted(name for name in files if re.fullmatch(pattern, name))
