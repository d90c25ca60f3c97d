"""A checkpoint that transformers' TensorFlow classes wrote: one file, or shards and the index that says which tensor lies where.

Beside them, what `save_weights` of one of our Keras models writes.
"""

from __future__ import annotations

import dataclasses

from loadstone.checkpoint.formats.fault import Place
from loadstone.checkpoint.formats.foreign import Foreign
from loadstone.checkpoint.formats.hdf5 import keras
from loadstone.checkpoint.formats.hdf5.files import read_layers, shortened
from loadstone.checkpoint.formats.hdf5.writer import Hdf5Writer
from loadstone.checkpoint.formats.safetensors import Header
from loadstone.checkpoint.formats.writer import Writer
from loadstone.checkpoint.index import TensorIndex, TensorInfo
from loadstone.source import Snapshot


class Hdf5(Foreign):
    """`tf_model.h5` is taken before `tf_model.h5.index.json`, and both before `model.weights.h5`.

    A tensor is called as TensorFlow calls the variable, without the model that all of them are in:
    "bert/pooler/dense/kernel:0". The one file has it below a group for the layer ("bert") and the model
    ("tf_bert_model"), a shard without both, and the index below the model.
    """

    stem, ending, dialect = "tf_model", ".h5", "tensorflow"

    def weight_names(self, variant: str | None) -> tuple[str, ...]:
        """Return the one file, the index, and that of a Keras model."""
        names = super().weight_names(variant)
        return (*names, keras.FILE) if names else ()

    def is_weights(self, name: str, variant: str | None) -> bool:
        """Return whether a file is one that transformers' classes write: a save that replaces them leaves a Keras file alone."""
        return name != keras.FILE and super().is_weights(name, variant)

    def read_index(self, snapshot: Snapshot, entry: str) -> TensorIndex:
        """Read each file's description of its tensors."""
        index = super().read_index(snapshot, entry)
        return dataclasses.replace(index, dialect="") if entry == keras.FILE else index

    def read(self, snapshot: Snapshot, file: str) -> Header:
        """Read one file's groups, and name its tensors."""
        infos, texts, layers = read_layers(snapshot, file)
        place = Place(file=file, where=snapshot.location)
        if file == keras.FILE:
            infos = keras.as_checkpoint(infos, layers, place)
        elif file in self.weight_names(None):
            infos = _once(infos, place)
        return sorted(infos, key=lambda info: (info.offset, info.nbytes)), texts

    def writer(self) -> Writer:
        """Return what writes it."""
        return Hdf5Writer()

    def listed(self, name: str) -> str:
        """Return a variable's name without that of the model, which is left where the whole of it stands in the shard."""
        return shortened(name)


def _once(infos: list[TensorInfo], place: Place) -> list[TensorInfo]:
    """Return the variables of one file, each once: layers that share one have a copy each."""
    found: dict[str, TensorInfo] = {}
    for info in infos:
        _, _, variable = info.name.partition("/")
        _, _, inside = variable.partition("/")
        named = dataclasses.replace(info, name=inside or variable or info.name)
        first = found.setdefault(named.name, named)
        if (first.shape, first.dtype) != (named.shape, named.dtype):
            place.fail("holds two different tensors of one variable", key=info.name, hint="save it again")
    return list(found.values())
