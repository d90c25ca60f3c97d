"""`fit` and `evaluate`: the model's own loss where no other is compiled, batches of a strategy, and layers computed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from loadstone.errors import ArgumentError
from loadstone.model.outputs import ModelOutput
from loadstone_tensorflow.blocks.run import Block
from loadstone_tensorflow.checks import check_takes_values
from loadstone_tensorflow.framework import keras, tf

Tensor: TypeAlias = tf.Tensor


class Trained(keras.Model):
    """A Keras model that knows its own loss: where `compile` got none, that for `labels` is lowered, as in transformers 4.

    Attributes:
        gradient_checkpointing: Whether layers are computed again in the backward pass; no cache is returned then.
    """

    gradient_checkpointing: bool = False

    @property
    def supports_gradient_checkpointing(self) -> bool:
        """Whether there are layers that can be computed again."""
        return next(self.blocks(), None) is not None

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether layers are computed again in the backward pass."""
        return self.gradient_checkpointing

    def gradient_checkpointing_enable(self, every_n_layers: int = 1) -> None:
        """Keep no activations of the layers in training: compute them again in the backward pass.

        In calls with `training=True`, `use_cache` then counts as False: a layer that runs twice would fill a cache twice.
        Copies and files do not say that it is on.

        Args:
            every_n_layers: Compute only each n-th layer again.

        Raises:
            ArgumentError: If the model has no such layers, or their number cannot be.
        """
        if not self.supports_gradient_checkpointing:
            raise ArgumentError(f"{type(self).__name__} has no layers that could be computed again")
        if every_n_layers < 1:
            raise ArgumentError("every_n_layers must be 1 or more", found=every_n_layers)
        for index, block in enumerate(self.blocks()):
            block.gradient_checkpointing = index % every_n_layers == 0
        self._tell_models(gradient_checkpointing=True)

    def gradient_checkpointing_disable(self) -> None:
        """Keep the activations again."""
        for block in self.blocks():
            block.gradient_checkpointing = False
        self._tell_models(gradient_checkpointing=False)

    def blocks(self) -> Iterator[Block]:
        """Yield the layers that can be computed again, in their order."""
        raise NotImplementedError

    def _tell_models(self, *, gradient_checkpointing: bool) -> None:
        for model in self._flatten_layers():
            if isinstance(model, Trained):
                model.gradient_checkpointing = gradient_checkpointing
                model.forget_compiled()

    def forget_compiled(self) -> None:
        """Drop every function that was compiled with what the model no longer has."""
        raise NotImplementedError

    def load_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Do what `keras.Model.load_weights` does, where every parameter has memory to load into."""
        check_takes_values(self)
        super().load_weights(filepath, *args, **kwargs)

    def set_weights(self, weights: Any) -> None:
        """Do what `keras.Model.set_weights` does, where every parameter has memory to take a value."""
        check_takes_values(self)
        super().set_weights(weights)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Train on a batch; targets go among the inputs where the model computes the loss."""
        return super().train_step(self._with_labels(data))

    def test_step(self, data: Any) -> dict[str, Any]:
        """Evaluate a batch; targets go among the inputs where the model computes the loss."""
        return super().test_step(self._with_labels(data))

    def _with_labels(self, data: Any) -> Any:
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        if self._compile_loss is not None or y is None:
            return data
        inputs = x if isinstance(x, Mapping) else self.named_inputs(x)
        if "labels" not in inputs:
            inputs = {**inputs, **(y if isinstance(y, Mapping) else {"labels": y})}
        elif self._compile_metrics is None:
            raise ArgumentError("labels are given twice", hint="among the inputs, or as y")
        return inputs, y, weights

    def named_inputs(self, x: Any) -> dict[str, Any]:
        """Return inputs that were given by position by their names."""
        raise NotImplementedError

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Return the loss that `fit` lowers: the compiled one, else the model's own, for labels among its inputs.

        Raises:
            ArgumentError: If samples have weights, which the model's own loss knows nothing of.
        """
        if self._compile_loss is None and isinstance(y_pred, ModelOutput) and "loss" in y_pred:
            if sample_weight is not None:
                raise ArgumentError(
                    "the model's own loss weighs no samples", hint="compile(loss=...) with one that does"
                )
            # Keras adds gradients up over replicas, and each has the mean of its own part of the batch.
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            return tf.add_n([y_pred["loss"], *self.losses]) / replicas
        return super().compute_loss(x, y, _predictions(y_pred, y), sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Update the compiled metrics and return their results; labels among the inputs are their targets too."""
        if y is None and isinstance(x, Mapping):
            y = x.get("labels")
        return super().compute_metrics(x, y, _predictions(y_pred, y), sample_weight)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # Under a strategy Keras takes the mean of the replicas' batches, and so makes numbers with a point of token ids.
        strategy = self._distribute_strategy
        if strategy is not None and iterator is not None:
            batch = next(next(iter(iterator))[2])
            data_batch = keras.tree.map_structure(lambda v: strategy.experimental_local_results(v)[0], batch)
        super()._maybe_symbolic_build(data_batch=data_batch)


def _predictions(output: Any, targets: Any) -> Any:
    """Return what compiled losses and metrics compare with the targets: the fields of their names, or the first ones."""
    if not isinstance(output, ModelOutput):
        return output
    fields = [value for name, value in output.items() if name != "loss"]
    if isinstance(targets, Mapping):
        return {name: output.get(name, fields[0]) for name in targets}
    if isinstance(targets, list | tuple):
        return type(targets)(fields[: len(targets)])
    return fields[0]
