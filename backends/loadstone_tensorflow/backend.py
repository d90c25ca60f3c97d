"""The backend contract in TensorFlow."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from loadstone.backend import (
    Backend,
    Capabilities,
    Device,
    Parameter,
    Placement,
    host_memory,
    must_fit,
    unknown_device,
)
from loadstone.config import Config
from loadstone.errors import BackendError
from loadstone.read.tensor import HostTensor
from loadstone_tensorflow import layers
from loadstone_tensorflow.blocks.away import Away, takes_no_other_value
from loadstone_tensorflow.framework import device_lib, keras, tf
from loadstone_tensorflow.layers import RotaryEmbedding, without_memory
from loadstone_tensorflow.modeling import (
    attribute_of,
    children,
    device_name,
    foreign_weights,
    named_layers,
    named_parameters,
    submodule,
)
from loadstone_tensorflow.spread import Leaf, spread

if TYPE_CHECKING:
    from loadstone.backend.adoption import Adoption
    from loadstone.read.on_disk import OnDisk

# A tensor at any other address makes TensorFlow abort the process at the first operation that reads it.
ALIGNMENT = 64

DTYPES = frozenset(
    {"float64", "float32", "float16", "bfloat16"}
    | {"int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"}
)


class TensorFlowBackend(Backend):
    """TensorFlow: variables alias host memory that is aligned to 64 bytes."""

    name = "tensorflow"
    capabilities = Capabilities(alignment=ALIGNMENT, aliases=True, dtypes=DTYPES, spreads=True, arrives=True)

    def devices(self) -> tuple[Device, ...]:
        """Return the GPUs, then the CPUs; what TensorFlow's allocator may use is all that a GPU has here."""
        free, total = host_memory()
        hosts = [
            Device(name=device_name(device.name), is_host=True, free=free, total=total)
            for device in tf.config.list_logical_devices("CPU")
        ]
        return (*_gpus(), *hosts)

    def device(self, requested: object) -> Device:
        """Return a device from a name ("GPU:0", "/GPU:0", "cpu", "cuda:0") or a `tf.config.LogicalDevice`.

        None is where TensorFlow puts variables now: as `tf.device` says, else on a GPU where there is one.
        """
        known = {device.name: device for device in self.devices()}
        if requested is None:
            requested = _default_device() or next(iter(known))
        given = str(getattr(requested, "name", requested)).replace("cuda", "GPU")
        try:
            name = device_name(given if given.startswith("/") else f"/{given}")
        except ValueError as error:
            raise unknown_device(requested, self.devices()) from error
        if name not in known:
            raise unknown_device(name, self.devices())
        return known[name]

    def build(
        self,
        model_class: type,
        config: Config,
        *,
        dtype: str,
        attn_implementation: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Build with variables that have no value; Keras shows them and the layers by their names in checkpoints."""
        with without_memory(dtype):
            model = model_class(config, **(options or {}))
        if attn_implementation is not None:
            model.set_attn_implementation(attn_implementation)
        for name, variable in named_parameters(model):
            variable._path = name.replace(".", "/")
            variable._name = name.rpartition(".")[2]
        for path, layer in named_layers(model):
            layer.name = path.rpartition(".")[2] or layer.name
        return model

    def parameters(self, model: keras.Model) -> dict[str, Parameter]:
        """List the variables by walking the model's attributes."""
        return {
            name: Parameter(
                name=name, shape=tuple(variable.shape), dtype=variable.dtype, identity=id(variable)
            )
            for name, variable in named_parameters(model)
        }

    def put(self, model: keras.Model, name: str, tensor: HostTensor, device: Device) -> None:
        """Fill a variable; on the CPU it shares the tensor's memory.

        Inside the scope of a `tf.distribute` strategy the strategy decides where the variable lives.
        """
        variable = submodule(model, name)
        must_fit(tensor, tuple(variable.shape))
        if isinstance(variable, Away) and variable.comes_once:
            with tf.device(device.name):
                variable.become(_as_tensorflow(tensor))
            return
        _in_memory(name, variable)
        with tf.device(device.name):
            renewed = variable.fill(_as_tensorflow(tensor))
        if renewed:
            model.forget_compiled()

    def resize(self, model: keras.Model, name: str, shape: tuple[int, ...]) -> None:
        """Give a variable another shape, and take its value away."""
        variable = submodule(model, name)
        _in_memory(name, variable)
        variable.resize(shape)

    def tie(self, model: keras.Model, name: str, to: str) -> None:
        """Make both layers hold one variable."""
        path, _, leaf = name.rpartition(".")
        layer, variable = submodule(model, path), submodule(model, to)
        attribute = attribute_of(layer, leaf)
        layer._untrack_variable(getattr(layer, attribute))
        setattr(layer, attribute, variable)
        model.forget_compiled()

    def spread(
        self,
        model: keras.Model,
        placement: Placement,
        *,
        blocks: Callable[[str], str],
        on_disk: OnDisk | None,
    ) -> None:
        """Have the layers called by what brings their parameters and their inputs to them."""
        leaves = [
            Leaf(layer, name, f"{path}.{name}" if path else name)
            for path, layer in named_layers(model)
            for name, held in children(layer)
            if isinstance(held, layers.Parameter)
        ]
        spread(model, leaves, placement, blocks=blocks, on_disk=on_disk, as_tensorflow=_as_tensorflow)

    def compute(self, model: keras.Model, placement: Placement) -> tuple[str, ...]:
        """Name the rotary frequencies: constants that the layers computed when they were made."""
        return tuple(
            f"{name}.inv_freq" for name, layer in named_layers(model) if isinstance(layer, RotaryEmbedding)
        )

    def finish(self, model: keras.Model, *, training: bool) -> None:
        """Check that every variable has a value. A Keras model has no mode: each call says whether it trains."""
        left = [name for name, variable in named_parameters(model) if not variable.is_filled]
        if left:
            raise BackendError(f"{len(left)} parameter(s) have no value", problems=left)
        if others := foreign_weights(model):
            raise BackendError(
                f"{len(others)} weight(s) of {type(model).__name__} are not loadstone's, and no checkpoint has names for them",
                problems=others,
                hint="make them of loadstone_tensorflow.layers (Linear, Parameter), or take a keras.Model of your own around the model",
            )

    def read(self, model: keras.Model, name: str) -> HostTensor:
        """Return a variable's bytes: its own memory on the CPU, a copy of it elsewhere."""
        variable = submodule(model, name)
        if isinstance(variable, Away) and not variable.arrived():
            return dataclasses.replace(variable.on_disk.read(variable.stored), name=name)
        with tf.device("CPU:0"):
            value = tf.convert_to_tensor(variable.value)
            data = np.asarray(memoryview(tf.bitcast(value, tf.uint8)))
        return HostTensor(name=name, dtype=value.dtype.name, shape=tuple(value.shape), data=data.reshape(-1))

    def adopt(
        self, model_class: type, config: Config, *, task: str, stored: Collection[str] | None
    ) -> Adoption:
        """Adopt classes on our own base class."""
        from loadstone.backend.own import adopted

        return adopted(self, model_class, config, task, stored, self._drawn)

    def _drawn(
        self, model_class: type, config: Config, dtypes: Mapping[str, str], seed: int
    ) -> Mapping[str, HostTensor]:
        """Take the values, or ask the initializers, of the class's own `Parameter`s, and what its `_init_weights` assigns.

        Those of our layers have none.
        """
        model = self.build(model_class, copy.deepcopy(config), dtype="float32")
        held = {name: variable for name, variable in named_parameters(model) if name in dtypes}
        with tf.device("CPU:0"):
            for variable in held.values():
                if not variable.is_filled and variable.asked is not None:
                    variable.fill(variable.asked(variable.shape, "float32"))
            from loadstone.backend.own import last_word

            last_word(model, held)
            return {
                name: self.to_host(name, tf.cast(variable.value, dtypes[name]))
                for name, variable in held.items()
                if variable.is_filled
            }

    def draw_seed(self, rngs: object = None) -> int:
        """Draw from TensorFlow's global generator, which `tf.random.set_seed` sets."""
        if rngs is not None:
            return super().draw_seed(rngs)
        with tf.init_scope(), tf.device("CPU:0"):
            return int(tf.random.uniform((), maxval=tf.int64.max, dtype=tf.int64))


def _in_memory(name: str, variable: layers.Parameter) -> None:
    """Make sure that a parameter does not stay on disk, from where it would come again in the place of another value."""
    if isinstance(variable, Away):
        raise takes_no_other_value(name)


def _default_device() -> str | None:
    """Return where a variable made now would lie; None where a strategy of `tf.distribute` decides."""
    if tf.distribute.has_strategy():
        return None
    with tf.init_scope():
        return device_name(tf.Variable(0.0).device)


def _gpus() -> list[Device]:
    found = []
    held = device_lib.list_local_devices() if tf.config.list_logical_devices("GPU") else []
    for device in held:
        if device.device_type == "GPU":
            name, total = device_name(device.name), device.memory_limit
            used = tf.config.experimental.get_memory_info(name)["current"]
            found.append(Device(name=name, is_host=False, free=total - used, total=total))
    return found


def _as_tensorflow(tensor: HostTensor) -> Any:
    """Return the tensor on the CPU, sharing its memory where the address and the permissions suit TensorFlow."""
    array = tensor.numpy()
    if tensor.dtype == "bfloat16":  # numpy exports none of its own
        array = array.view(np.uint16)
    with tf.device("CPU:0"):
        if tensor.address % ALIGNMENT or not array.flags.writeable or not array.size:
            value = tf.constant(array)
        else:
            value = tf.experimental.dlpack.from_dlpack(array.__dlpack__())
        return tf.bitcast(value, tf.bfloat16) if tensor.dtype == "bfloat16" else value
