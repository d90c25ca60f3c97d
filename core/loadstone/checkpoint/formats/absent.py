"""What to say of a folder or repository in which no readable weights lie."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from loadstone.checkpoint.formats import names
from loadstone.checkpoint.formats.names import is_foreign
from loadstone.checkpoint.formats.pickle import names as pickle_names
from loadstone.errors import CheckpointError, NoWeightsError
from loadstone.source.snapshot import summary

_EXPORTED = (
    "this is a program made from a model, not its weights: load the checkpoint that it was exported from"
)
# Weights that are known and not read yet: a pattern for their file name, what they are, and what is to be done.
_NOT_READ_YET = (
    (
        r"consolidated.*\.pth",
        "checkpoint in its authors' own names",
        "load the model's repository in transformers' format",
    ),
    (
        r"(.*/)?[^/]+\.ckpt(-\d+)?\.(index|meta|data-\d+-of-\d+)|(.*/)?checkpoint",
        "TensorFlow 1 checkpoint",
        "convert it with the scripts of transformers 4 (convert_bert_original_tf_checkpoint_to_pytorch, say)",
    ),
    (
        r"(.*/)?[^/]+\.npz",
        "NumPy .npz",
        "load the model's repository in transformers' format: these are its authors' own names",
    ),
    (r"(.*/)?[^/]+\.onnx(_data)?", "ONNX", _EXPORTED),
    (r"(.*/)?[^/]+\.tflite", "TensorFlow Lite", _EXPORTED),
    (r"(.*/)?saved_model\.pb", "TensorFlow SavedModel", _EXPORTED),
    (r"(.*/)?[^/]+\.mlmodel|.*\.mlpackage/.*", "Core ML", _EXPORTED),
    (r"(.*/)?openvino_[^/]*\.(xml|bin)", "OpenVINO", _EXPORTED),
    (
        r"[^/]+\.(weights\.h5|keras)",
        "Keras file",
        "if save_weights of a loadstone model wrote it, call it model.weights.h5; else load it where it was written",
    ),
)
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


def no_weights(
    files: Collection[str],
    wanted: Sequence[str],
    *,
    variant: str | None,
    where: object,
    asked: str = "use_safetensors",
) -> NoWeightsError:
    """Make the error for a checkpoint none of whose files is what was looked for.

    Args:
        files: Names of all its files.
        wanted: Names that were looked for.
        variant: The variant that was asked for.
        where: The folder or repository.
        asked: The argument that leaves formats out, where one does.
    """
    adapter = adapter_alone(files, wanted, where=where)
    if adapter is not None:
        return adapter
    known = {*names.weight_names(variant), *pickle_names.weight_names(variant), *filter(is_foreign, files)}
    known |= {*names.NPZ, names.DCP, *names.ORBAX}
    left_out = sorted(known & set(files))
    if left_out:
        return NoWeightsError(
            f"the weights are in a format that {asked}= leaves out",
            where=where,
            expected=" or ".join(wanted),
            found=summary(left_out),
            hint=f"leave {asked} out",
        )
    named = sorted(name for name in files if name.endswith(".gguf"))
    if variant is None and named:
        return NoWeightsError(
            "there are only GGUF files, each of them a model, which are loaded by their names",
            where=where,
            expected=" or ".join(wanted),
            found=summary(named),
            hint=f"pass gguf_file={named[0]!r}",
        )
    others = {
        title: (found, hint) for pattern, title, hint in _NOT_READ_YET if (found := _matching(pattern, files))
    }
    if variant is None and others:
        return NoWeightsError(
            f"the weights are in a format that is not read yet: {', '.join(others)}",
            where=where,
            expected=" or ".join(wanted),
            found=summary(name for found, _ in others.values() for name in found),
            hint=next(iter(others.values()))[1],
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


def none_of_format(
    name: str, files: Collection[str], wanted: Sequence[str], *, where: object
) -> NoWeightsError:
    """Make the error for a checkpoint without weights of the format that the caller asked for by name.

    Args:
        name: The format, as it was asked for.
        files: Names of all files of the checkpoint.
        wanted: Names that were looked for.
        where: The folder or repository.
    """
    return NoWeightsError(
        f"there are no weights of the format {name!r} here",
        where=where,
        expected=" or ".join(wanted) or "a variant that the format has",
        found=summary(files),
        hint="leave weights_format (from_tf, from_flax) out, name the file where its format has files of any name"
        " (gguf_file=), or check the path or id",
    )


def not_of_format(name: str, file: str, variant: str | None, *, where: object) -> NoWeightsError:
    """Make the error for a file that the caller named, and that the format would not be looked for in.

    Args:
        name: The format, as it was asked for.
        file: The file.
        variant: The variant that was asked for.
        where: The folder or repository.
    """
    return NoWeightsError(
        f"this is no file of the format {name!r}"
        + (f", which has no variant {variant!r}" if variant else ""),
        where=f"{where}: {file}",
        expected=f"a file of {name}, by its whole name",
        found=file,
        hint="leave variant out" if variant else "check the name",
    )


def adapter_alone(files: Collection[str], wanted: Sequence[str], *, where: object) -> NoWeightsError | None:
    """Make the error for an adapter in a model's place; None where there is none.

    Args:
        files: Names of all files of the checkpoint, none of which is wanted.
        wanted: Names that were looked for.
        where: The folder or repository.
    """
    adapter = adapters(files)
    if not adapter:
        return None
    return NoWeightsError(
        "this is a PEFT adapter, not a model: it holds only what is added to one",
        where=where,
        expected=" or ".join(wanted),
        found=", ".join(adapter),
        hint="load the base model that adapter_config.json names, then add the adapter with PEFT",
    )


def adapter_beside(files: Collection[str], *, where: object) -> CheckpointError | None:
    """Make the error for an adapter that lies beside whole weights and would change what they compute.

    Args:
        files: Names of all files of the checkpoint, whole weights among them.
        where: The folder or repository.

    Returns:
        None where there is none; adapter weights without their adapter_config.json belong to nobody, as in PEFT.
    """
    if _ADAPTER[0] not in files:
        return None
    return CheckpointError(
        "a PEFT adapter lies beside the weights: the model that was trained here is both together",
        where=where,
        expected="whole weights alone",
        found=", ".join(adapters(files)),
        hint="pass ignore_adapter=True for the whole weights alone, then add the adapter with PEFT's"
        " PeftModel.from_pretrained(model, folder); or merge the two with its merge_and_unload",
    )


def adapters(files: Collection[str]) -> list[str]:
    """Return the files of an adapter, in the order in which they are told of."""
    return [name for name in _ADAPTER if name in files]


def _matching(pattern: str, files: Collection[str]) -> list[str]:
    return sorted(name for name in files if re.fullmatch(pattern, name))
