"""Parameters that are not where they are used: each comes when the layer runs that needs it, and goes after.

A layer that needs some is called through a `Visit`, so that whoever calls it (`run_blocks`, a head, a layer that is computed
again) need not know. What stays on disk is an `Away`: a variable with a shape and a dtype, whose value is in its file.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from loadstone.errors import ArgumentError, LoadstoneError
from loadstone_tensorflow.blocks.run import Block
from loadstone_tensorflow.framework import keras, record, tf
from loadstone_tensorflow.layers import Buffer, Embedding, Layer, Parameter
from loadstone_tensorflow.programs import Programs, can_share

if TYPE_CHECKING:
    from loadstone.read.arriving import Names
    from loadstone.read.on_disk import OnDisk
    from loadstone.read.tensor import HostTensor

Tensor: TypeAlias = tf.Tensor
AsTensorFlow = Callable[["HostTensor"], Tensor]

HOST = "CPU:0"
"""Where what comes from disk is first."""

_there: ContextVar[Mapping[int, Tensor]] = ContextVar("there", default=MappingProxyType({}))
"""The values of those that have come for the layers that run now, by the identity of each `Away`."""


class Away(Parameter):
    """A parameter or buffer that stays on disk, is absent, or is still being read.

    Its value comes with the others that its layer needs, where that is called; whoever asks for it elsewhere gets it too,
    read for that alone.

    Attributes:
        on_disk: What brings it.
        stored: Its name there.
        runs_on: The device that it comes to.
        as_tensorflow: Makes a tensor of what comes.
    """

    is_filled = True  # in its file

    def __init__(
        self, on_disk: OnDisk, stored: str, runs_on: str, as_tensorflow: AsTensorFlow, held: Parameter
    ) -> None:
        """Make it in the place of what a layer holds; it takes no memory."""
        self.on_disk, self.stored, self.runs_on = on_disk, stored, runs_on
        self.as_tensorflow, self.is_buffer = as_tensorflow, held.is_buffer
        request = on_disk.requests[stored]
        super().__init__(
            "zeros",
            shape=request.shape,
            dtype=request.dtype,
            trainable=held.trainable,
            autocast=held._autocast,
            aggregation=held.aggregation,
            name=held.name,
        )
        self._path = held.path

    @property
    def comes_once(self) -> bool:
        """Whether it is still being read, and then stays in the model."""
        return self.stored in self.on_disk.awaited

    def become(self, value: Tensor) -> None:
        """Turn into a parameter, or a buffer, with a value: whoever holds it (an optimiser, a tie) holds that then."""
        self.__class__ = Buffer if self.is_buffer else Parameter
        self.fill(value)

    def arrived(self) -> bool:
        """Wait for it if it is still being read; return whether it is a parameter now."""
        receive([self])
        return not isinstance(self, Away)

    def _initialize_with_initializer(self, initializer: Callable[..., Tensor]) -> None:
        self._value = None

    @property
    def value(self) -> Tensor:
        """Its value; in a graph, what that is when the graph runs."""
        found = _there.get().get(id(self))
        if found is None and self.arrived():
            return self.value
        if found is None:
            [found] = _come([self])
        return self._maybe_autocast(found)

    @property
    def handle(self) -> Any:
        """What gradients are asked for by: there is none."""
        if self.arrived():
            return self.handle
        raise cannot_be_trained([self.stored])

    def assign(self, value: Any) -> Any:
        """Refuse it: what comes from disk is what lies there."""
        if self.arrived():
            return self.assign(value)
        raise takes_no_other_value(self.stored)

    @property
    def _shared_name(self) -> str:
        return self.path

    def _export_to_saved_model_graph(self, *args: Any, **kwargs: Any) -> Any:
        if self.arrived():
            return self._export_to_saved_model_graph(*args, **kwargs)
        raise ArgumentError(
            "a parameter that stays on disk is in no SavedModel",
            where=self.stored,
            hint="load the model with all of it on a device",
        )

    def _restore_from_tensors(self, restored_tensors: Any) -> Any:
        if self.arrived():
            return self._restore_from_tensors(restored_tensors)
        raise takes_no_other_value(self.stored)

    def _serialize_to_tensors(self) -> dict[str, Tensor]:
        return {"VARIABLE_VALUE": self.value}

    def __repr__(self) -> str:
        return f"{self.on_disk.where(self.stored)}: {self.stored}, {self._dtype}, {list(self._shape)}"


def receive(held: Sequence[Parameter]) -> None:
    """Wait for those of some parameters that are still being read; they are parameters as any other then.

    While a function is traced too: what it then sees are variables, that it need not bring.
    """
    if names := tuple(one.stored for one in held if isinstance(one, Away) and one.comes_once):
        [on_disk] = {id(one.on_disk): one.on_disk for one in held if isinstance(one, Away)}.values()
        with tf.init_scope():
            on_disk.receive(names)


def stays_on_disk(model: keras.Model) -> Iterator[Away]:
    """Yield what stays on disk of a model."""
    for held in model.weights:
        if isinstance(held, Away):
            yield held


def cannot_be_trained(names: Sequence[str]) -> ArgumentError:
    """Make the error for what comes and goes, and so keeps no change."""
    return ArgumentError(
        "parameters that only come when their block runs cannot be trained",
        problems=names,
        hint="freeze them (trainable = False), run the model with training=False, or give their blocks a device in device_map=",
    )


def takes_no_other_value(name: str) -> ArgumentError:
    """Make the error for what is on disk, from where it would come again in the place of another value."""
    return ArgumentError(
        "a parameter that stays on disk takes no other value",
        where=name,
        hint="load the model with all of it on a device",
    )


_faults: weakref.WeakKeyDictionary[OnDisk, LoadstoneError] = weakref.WeakKeyDictionary()
"""What went wrong last in a compiled program, which tells only the text of it."""


@contextlib.contextmanager
def faults_told(model: keras.Model) -> Iterator[None]:
    """Raise an error of ours as it is, and not the words that Keras makes of it, or TensorFlow of one in a compiled program."""
    try:
        yield
    except LoadstoneError as error:
        if isinstance(error.__context__, LoadstoneError) and hasattr(error, "_keras_call_info_injected"):
            raise error.__context__ from None
        raise
    except tf.errors.OpError as error:
        away = next(stays_on_disk(model), None)
        fault = None if away is None else _faults.pop(away.on_disk, None)
        if fault is None:
            raise
        raise fault from error


class Visit:
    """How one layer is called: what it needs comes before it runs, and is let go of after.

    Args:
        stays: What comes from disk.
        device: The device that computes the layer.
        hops: Whether what the layer is given may lie on another device.
        programs: What is compiled for blocks.
    """

    def __init__(self, stays: Iterable[Away], device: str, *, hops: bool, programs: Programs) -> None:
        self.stays = list({id(one): one for one in stays}.values())
        self.device, self.hops, self.programs = device, hops, programs
        self.awaits = any(one.comes_once for one in self.stays)

    @property
    def names(self) -> Names:
        """What comes from disk."""
        return tuple(one.stored for one in self.stays)

    def __call__(self, layer: Layer, *args: Any, **kwargs: Any) -> Any:
        """Compute the layer on its device with what it needs; each thread brings its own."""
        with tf.device(self.device):
            if self.hops:
                args, kwargs = tf.nest.map_structure(_here, (args, kwargs))
            given = [one for one in tf.nest.flatten((args, kwargs)) if tf.is_tensor(one)]
            if (rows := self._looked_up(layer, given)) is not None:
                with rows:
                    return layer.call(*args, **kwargs)
            stays = self._staying(layer)
            values, having = _come(stays, given[:1]) if stays else [], functools.partial(_having, stays)
            if _shares(stays, layer, *args):
                return self.programs.run(layer, having, values, *args)
            with having(values):
                return layer.call(*args, **kwargs)

    def _looked_up(self, layer: Layer, given: Sequence[Tensor]) -> AbstractContextManager[None] | None:
        """Have an embedding a table with the rows that it looks up, where the whole is still to come; else None."""
        stays = self.stays
        if not (self.awaits and stays and given and is_table(layer, self.device) and tf.executing_eagerly()):
            return None
        if record.could_possibly_record():  # gradients are of the parameter, which is not there
            return None
        [held] = stays
        table = held.on_disk.rows(held.stored, np.unique(given[0]).tolist())
        return None if table is None else _having(stays, [held.as_tensorflow(table)])

    def _staying(self, layer: Layer) -> list[Away]:
        """Return what comes from disk, once all is there that comes once; a layer that needs no more is called as any other."""
        if self.awaits:
            receive(self.stays)
            self.stays, self.awaits = [one for one in self.stays if isinstance(one, Away)], False
            layer.visit = self if self.stays or self.hops else None
        return self.stays


def is_table(layer: Any, device: str) -> bool:
    """Return whether a layer looks rows of its parameter up, where rows may be read."""
    return type(layer) is Embedding and device == HOST


@contextlib.contextmanager
def _having(stays: Sequence[Away], values: Sequence[Tensor]) -> Iterator[None]:
    """Have what stays on disk these values, as long as it lasts."""
    came = {id(one): value for one, value in zip(stays, values, strict=True)}
    token = _there.set({**_there.get(), **came})
    try:
        yield
    finally:
        _there.reset(token)


def _shares(stays: Sequence[Away], layer: Layer, *args: Any) -> bool:
    """Return whether a program runs the layer: in a graph, a block that holds nothing but what comes."""
    if tf.executing_eagerly() or not isinstance(layer, Block) or not can_share(args[1]):
        return False
    come = {id(one) for one in stays}
    return all(id(held) in come for held in layer.variables)


def _here(given: Any) -> Any:
    """Return a tensor on the device that is in scope; anything else as it is."""
    return tf.identity(given) if tf.is_tensor(given) else given


def _come(stays: Sequence[Away], after: Sequence[Tensor] = ()) -> list[Tensor]:
    """Return the values of what stays on disk.

    Args:
        stays: Of one device.
        after: In a graph they come when it runs, and not before these tensors are there: else all blocks came at once.
    """
    first, names = stays[0], tuple(one.stored for one in stays)
    first.on_disk.refuse_absent(names, "run")  # where a function is traced, and not each time that it runs

    def bring() -> list[Tensor]:
        tensors = first.on_disk.bring(names)
        return [one.as_tensorflow(tensors[one.stored]) for one in stays]

    values = bring() if tf.executing_eagerly() else _when_run(bring, stays, after)
    if first.runs_on == HOST:
        return values
    with tf.device(first.runs_on):
        return [tf.identity(value) for value in values]


def _when_run(
    bring: Callable[[], list[Tensor]], stays: Sequence[Away], after: Sequence[Tensor]
) -> list[Tensor]:
    requests = [one.on_disk.requests[one.stored] for one in stays]
    name = f"from_disk/{stays[0].stored.rpartition('.')[0] or 'parameter'}"

    def tried(*_: Tensor) -> list[Tensor]:
        try:
            return bring()
        except LoadstoneError as error:
            _faults[stays[0].on_disk] = error
            raise

    # As inputs: what only waits for a compiled function does not wait for what that returns.
    waits = [tf.stop_gradient(one) for one in after]
    with tf.device(HOST):
        values = tf.py_function(tried, waits, [tf.as_dtype(one.dtype) for one in requests], name=name)
    for value, request in zip(values, requests, strict=True):
        value.set_shape(request.shape)
    return list(values)
