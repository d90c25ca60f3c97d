"""How TensorFlow's and Flax's classes of transformers call and turn the tensors of a checkpoint. Data; one rule for all
families, which say what differs in theirs (`Architecture.spoken`).

Source: transformers 4.56, modeling_tf_pytorch_utils.py and modeling_flax_pytorch_utils.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from loadstone.checkpoint.recipe import Step, Transpose

DENSE = Transpose((1, 0))
CONVOLUTION = Transpose((3, 2, 0, 1))
"""Height, width, in, out becomes out, in, height, width."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The names and axes of one framework's classes.

    Attributes:
        roots: First segments that say nothing: collections of variables.
        ending: What each name ends with.
        level: What joins a list and a number in one segment.
        renaming: What stands in a segment after a name that counts for nothing.
        leaves: Last segment -> the last segment in checkpoints.
        turned: Last segment and number of axes -> what happens to the tensor.
        embedding: Last segment of the weight of a table that is looked up.
        dense: Of any other weight of two axes or more.
        norm: Of the weight and of the bias of a norm.
        title: The framework's name for people.
        scoped: Whether names begin with that of the model, in which the base model has its prefix whatever the head.
        statistics: Last segments of what stands in the second of the roots; a model that has any has roots.
    """

    roots: tuple[str, ...] = ()
    ending: str = ""
    level: str = "/"
    renaming: str = ""
    leaves: Mapping[str, str]
    turned: Mapping[tuple[str, int], Step]
    title: str
    embedding: str
    scoped: bool = False
    dense: str = "kernel"
    norm: tuple[str, str]
    statistics: tuple[str, ...] = ()

    def name(self, stored: str) -> str:
        """Return the name that a tensor has in checkpoints.

        Example:
            >>> DIALECTS["tensorflow"].name("mlm___cls/encoder/layer_._0/output/LayerNorm/gamma:0")
            'cls.encoder.layer.0.output.LayerNorm.weight'
        """
        segments = stored.removesuffix(self.ending).replace(self.level, "/").split("/")
        if segments[0] in self.roots and len(segments) > 1:
            del segments[0]
        if self.renaming:
            segments = [segment.rpartition(self.renaming)[2] for segment in segments]
        return ".".join((*segments[:-1], self.leaves.get(segments[-1], segments[-1])))

    def steps(self, stored: str, axes: int) -> tuple[Step, ...]:
        """Return what happens to a tensor of so many axes, where its family says nothing else."""
        step = self.turned.get((stored.removesuffix(self.ending).rpartition("/")[2], axes))
        return () if step is None else (step,)

    def leaf(self, last: str, axes: int, *, embedding: bool, norm: bool) -> str:
        """Return the last segment that a tensor has here, where its family says nothing else.

        Args:
            last: Its last segment in checkpoints.
            axes: How many it has.
            embedding: Whether it is looked up.
            norm: Whether it is of a norm.

        Example:
            >>> DIALECTS["flax"].leaf("weight", 1, embedding=False, norm=True)
            'scale'
        """
        if last == "weight":
            return self.embedding if embedding else self.norm[0] if norm else self.dense if axes > 1 else last
        if last == "bias":
            return self.norm[1] if norm else last
        return next((own for own, told in self.leaves.items() if told == last), last)


_TURNED = {("kernel", 2): DENSE, ("kernel", 4): CONVOLUTION}

WORDS = "embeddings.word_embeddings.weight"
"""The table that the classes of BERT and its kin keep themselves in TensorFlow: it has another last segment there."""

DIALECTS = {
    "tensorflow": Dialect(
        ending=":0",
        level="_._",
        renaming="___",
        leaves={
            "kernel": "weight",
            "embeddings": "weight",
            "gamma": "weight",
            "beta": "bias",
            "moving_mean": "running_mean",
            "moving_variance": "running_var",
        },
        turned=_TURNED,
        title="TensorFlow",
        scoped=True,
        embedding="embeddings",
        norm=("gamma", "beta"),
    ),
    "flax": Dialect(
        roots=("params", "batch_stats"),
        leaves={
            "kernel": "weight",
            "embedding": "weight",
            "scale": "weight",
            "mean": "running_mean",
            "var": "running_var",
        },
        turned=_TURNED,
        title="Flax",
        embedding="embedding",
        norm=("scale", "bias"),
        statistics=("mean", "var"),
    ),
}
"""`TensorIndex.dialect` -> what it means."""
