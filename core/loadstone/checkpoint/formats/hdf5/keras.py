"""What `save_weights` of one of our Keras models writes: the names that its tensors have in checkpoints.

A group stands for each layer, under the attribute that holds it or, where Keras met it in a list, under its class; its own name
is noted beside its variables, which are numbered. Axes are those of checkpoints.

Source: keras/src/saving/saving_lib.py
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from loadstone.checkpoint.formats.fault import Place
from loadstone.checkpoint.formats.hdf5.files import VARIABLES
from loadstone.checkpoint.index import TensorInfo

FILE = "model.weights.h5"
OF_ALL_LAYERS = "layers"
"""The list in which Keras holds the layers of a model, which is no part of a name."""
LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
"""What a layer without others in it has, in this order."""
AROUND = {1: ("bias",), 2: ("cls_token", "position_embeddings")}
"""Number of variables of a layer around others -> what they are: the bias of a head, the tokens of ViT."""


def as_checkpoint(infos: Sequence[TensorInfo], layers: Mapping[str, str], place: Place) -> list[TensorInfo]:
    """Return tensors under the names that checkpoints give them.

    Args:
        infos: The variables, each under its whole path.
        layers: Path of a layer -> its own name.
        place: Refuses the file.

    Raises:
        CheckpointError: If the file is of something else than a model of ours.
    """
    own: dict[str, dict[int, TensorInfo]] = {}
    for info in infos:
        path, _, number = info.name.rpartition(f"/{VARIABLES}/")
        if path not in layers or not number.isdecimal():
            place.fail(
                "holds a variable that is no layer's",
                key=info.name,
                expected="what save_weights of one of loadstone's Keras models writes",
                hint="load it with the code that wrote it, and save it with save_pretrained",
            )
        own.setdefault(path, {})[int(number)] = info
    found: dict[str, TensorInfo] = {}
    for path, variables in own.items():
        ordered = [variables[number] for number in sorted(variables)]
        ordered.sort(key=lambda info: -len(info.shape))  # a weight that was tied comes after its bias
        for leaf, info in zip(_leaves(path, len(ordered), layers, place), ordered, strict=True):
            name = f"{_name(path, layers)}.{leaf}"
            if name in found:
                place.fail("holds two variables of one name", key=path, found=name)
            found[name] = dataclasses.replace(info, name=name)
    return list(found.values())


def _name(path: str, layers: Mapping[str, str]) -> str:
    """Return what a module is called.

    Example:
        >>> names = {"layers/tf_model": "model", "layers/tf_model/layers/block_1": "1"}
        >>> _name("layers/tf_model/layers/block_1", names)
        'model.layers.1'
    """
    found: list[str] = []
    around, held = "", ""
    for segment in path.split("/"):
        around = f"{around}/{segment}" if around else segment
        if around not in layers:
            held = segment
            continue
        name = layers[around]
        if held and (held != OF_ALL_LAYERS or name.isdigit()):
            found.append(held.rstrip("_"))  # which keeps an attribute apart from one of Keras's own
        found.append(name)
        held = ""
    return ".".join(found)


def _leaves(path: str, number: int, layers: Mapping[str, str], place: Place) -> tuple[str, ...]:
    if any(layer.startswith(f"{path}/") for layer in layers):
        leaves = AROUND.get(number)
    else:
        leaves = LEAVES[:number] if number in (1, 2, len(LEAVES)) else None
    if leaves is None:
        place.fail(
            "holds a layer that is none of loadstone's",
            key=path,
            found=f"{number} variables",
            hint="load it with the code that wrote it, and save it with save_pretrained",
        )
    return leaves
