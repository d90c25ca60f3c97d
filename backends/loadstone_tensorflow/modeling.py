"""The base class of all TensorFlow models: an ordinary `keras.Model` that can load, save and generate."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar, Unpack

import numpy as np
import optree

from loadstone.config import Config
from loadstone.errors import ArgumentError
from loadstone.generate.arguments import GenerateArguments
from loadstone.keywords import said, told
from loadstone.model.outputs import ModelOutput
from loadstone.model.pretrained import Pretrained
from loadstone_tensorflow.blocks.away import Away, faults_told
from loadstone_tensorflow.blocks.run import Block
from loadstone_tensorflow.checks import check_exports, check_trains
from loadstone_tensorflow.framework import keras, tf
from loadstone_tensorflow.generation import Generator, generate
from loadstone_tensorflow.layers import (
    Embedding,
    InLists,
    Parameter,
    is_building,
    policy,
    under_policy,
)
from loadstone_tensorflow.training import Trained

if TYPE_CHECKING:
    from loadstone.generate._keywords import Keywords
    from loadstone.generate.decoding import Streamer

Tensor: TypeAlias = tf.Tensor
Function = TypeVar("Function", bound=Callable[..., Any])


_exporting: ContextVar[bool] = ContextVar("exporting", default=False)


def as_written(function: Function) -> Function:
    """Keep `tf.function` from rewriting a function; a type checker sees the same one."""
    found: Function = tf.autograph.experimental.do_not_convert(function)
    return found


def _fields(output: Any) -> tuple[tuple[Any, ...], tuple[str, ...], tuple[str, ...]]:
    return output.to_tuple(), tuple(output), tuple(output)


def _output(names: Any, values: Iterable[Any]) -> Any:
    return ModelOutput(zip(names, values, strict=True))


# Keras walks outputs with optree, in a namespace of its own; TensorFlow takes any mapping.
optree.register_pytree_node(
    ModelOutput,
    _fields,
    _output,
    namespace="keras",
)


def checkpoint_name(attribute: str) -> str:
    """Return the checkpoint's name for an attribute: what `loadstone_tensorflow.layers.attribute` undone."""
    return attribute.removesuffix("_")


HELD = (Parameter, keras.layers.Layer, list)
"""Types of what has a name in checkpoints."""


def children(layer: keras.layers.Layer | list[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the checkpoint's name and value of each parameter and each layer that a layer, or a list of such, holds."""
    held = enumerate(layer) if isinstance(layer, list) else vars(layer).items()
    for attribute, value in held:
        name = str(attribute)
        if isinstance(value, HELD) and not name.startswith("_"):
            yield checkpoint_name(name), value


def attribute_of(layer: keras.layers.Layer, name: str) -> str:
    """Return the attribute that holds the child of that checkpoint name.

    Raises:
        ArgumentError: If there is none.
    """
    for attribute in (name, f"{name}_"):
        if attribute in vars(layer):
            return attribute
    known = ", ".join(known for known, _ in children(layer))
    raise ArgumentError(f"{type(layer).__name__} holds no {name!r}", expected=f"one of: {known}")


def child(layer: keras.layers.Layer | list[Any], name: str) -> Any:
    """Return the child of that checkpoint name."""
    return layer[int(name)] if isinstance(layer, list) else getattr(layer, attribute_of(layer, name))


def submodule(model: keras.Model, path: str) -> Any:
    """Return the layer at a path of checkpoint names; "" is the model itself."""
    return functools.reduce(child, path.split(".") if path else (), model)


def named_parameters(
    layer: keras.layers.Layer | list[Any], prefix: str = ""
) -> Iterator[tuple[str, Parameter]]:
    """Yield every parameter under its checkpoint name, a layer's own before its children's; tied ones under each name."""
    found = list(children(layer))
    yield from ((prefix + name, value) for name, value in found if isinstance(value, Parameter))
    for name, value in found:
        if not isinstance(value, Parameter):
            yield from named_parameters(value, f"{prefix}{name}.")


def named_layers(layer: keras.layers.Layer | list[Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every layer under its path of checkpoint names, itself first."""
    if not isinstance(layer, list):
        yield path, layer
    for name, value in children(layer):
        if not isinstance(value, Parameter):
            yield from named_layers(value, f"{path}.{name}" if path else name)


def foreign_weights(model: keras.Model) -> list[str]:
    """Return the paths of the weights that Keras knows of and checkpoints have no name for: those of somebody's layers."""
    known = {id(variable) for _, variable in named_parameters(model)}
    return [weight.path for weight in model.weights if id(weight) not in known]


class _DrawnWhenCalled(type):
    """Makes `TFLlamaModel(config)` a model with fresh weights, drawn as `from_config` draws them."""

    def __call__(cls, config: Config, **options: Any) -> Any:
        if is_building():
            model = super().__call__(config, **options)
            model.options = options
            return model
        options.setdefault("dtype", keras.config.dtype_policy().variable_dtype)
        return cls.from_config(config, **options)  # type: ignore[attr-defined]


class PreTrainedModel(Pretrained, InLists, Trained, metaclass=_DrawnWhenCalled):
    """Base of every TensorFlow model class.

    A model is called with token ids, with a dict of inputs, or with keywords; arrays and lists will do for tensors.

    Attributes:
        attn_implementation: "sdpa" or "eager", for other backends' sake: TensorFlow computes both the same way.
        generator: The compiled loops of `generate`.
        input_axes: How many axes token ids have.
        options: The keyword arguments that it was built with.
    """

    backend_name: ClassVar[str] = "tensorflow"
    framework: ClassVar[str] = "tf"
    input_axes: ClassVar[int] = 2
    options: Mapping[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Keras makes models again by these names: from a .keras file, in `copy.deepcopy` and in pickle.
        keras.saving.register_keras_serializable("loadstone")(cls)

    def __init__(self, config: Config) -> None:
        super().__init__(dtype=policy())
        self.describe(config)
        self.generator = Generator(self)
        self._convert_input_args = False  # `__call__` converts them
        self.built = True

    @as_written
    def __call__(self, input_ids: Any = None, *positional: Any, **named: Any) -> Any:
        """Run the model; `forward` tells the arguments."""
        inputs, options = _arranged(type(self), (input_ids, *positional), named)
        if options.get("training"):
            check_trains(self)
        with faults_told(self):
            return super().__call__(inputs, **options)

    def call(self, inputs: dict[str, Any], training: bool | None = None, **options: Any) -> Any:
        """Run the model as Keras calls it: the tensors in one dict, everything else beside it."""
        if _takes_training(type(self)):
            options["training"] = bool(training)
        return self.forward(**inputs, **options)

    def forward(self, *inputs: Any, **named_inputs: Any) -> Any:
        """Run the model; each class tells its arguments."""
        raise NotImplementedError

    @property
    def device(self) -> str:
        """Where the first parameter is, or comes from disk when it is used, e.g. "CPU:0"."""
        first = self.weights[0]
        return first.runs_on if isinstance(first, Away) else device_name(first.value.device)

    def __dir__(self) -> list[str]:
        # Keras saves whatever it finds here, and would find the base model a second time, or this model in itself.
        return [name for name in super().__dir__() if name != "base_model"]

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return how many numbers the parameters hold, those of embeddings included or not; tied ones count once."""
        tables = {id(layer.weight) for layer in self._flatten_layers() if isinstance(layer, Embedding)}
        held = self.trainable_weights if only_trainable else self.weights
        counted = (v for v in held if not getattr(v, "is_buffer", False))
        return sum(v.shape.num_elements() for v in counted if not (exclude_embeddings and id(v) in tables))

    def module_at(self, path: str) -> Any:
        """Return the layer that checkpoints call `path`; "" is the model itself."""
        return submodule(self, path)

    def set_module_at(self, path: str, module: keras.layers.Layer) -> None:
        """Replace the layer that checkpoints call `path`."""
        parent, _, name = path.rpartition(".")
        owner = submodule(self, parent)
        attribute = attribute_of(owner, name)
        owner._tracker.untrack(getattr(owner, attribute))
        setattr(owner, attribute, module)
        self.forget_compiled()

    def wants(self, name: str, given: bool | None) -> bool:
        """Return what a call says of an output flag, or else the configuration; exports have no such outputs."""
        return super().wants(name, False if _exporting.get() and given is None else given)

    def embed(self, table: Embedding, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """Return the embeddings (B, T, C) of exactly one of the two inputs."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ArgumentError("pass exactly one of input_ids and inputs_embeds")
        if inputs_embeds is not None:
            return tf.cast(inputs_embeds, self.compute_dtype)
        return table(input_ids)

    def blocks(self) -> Iterator[Block]:
        """Yield the layers that can be computed again, in their order."""
        return (layer for _, layer in named_layers(self) if isinstance(layer, Block))

    def forget_compiled(self) -> None:
        """Drop every function that was compiled with variables that the model no longer has."""
        self.generator.forget()
        self.train_function = self.test_function = self.predict_function = None

    @told(GenerateArguments)
    @as_written
    def generate(
        self,
        input_ids: Any = None,
        *,
        attention_mask: Any = None,
        inputs: Any = None,
        use_cache: bool = True,
        streamer: Streamer | None = None,
        **arguments: Unpack[Keywords],
    ) -> Tensor:
        """Continue prompts.

        Where the likeliest token is taken each time, the whole loop is one compiled function; else each step is.

        Args:
            input_ids: (B, T), a tensor or lists of numbers; shorter prompts are padded on the left.
            attention_mask: (B, T), zero at padding; None: what `pad_token_id` says is padding.
            inputs: The same as `input_ids`.
            use_cache: Keep keys and values; False computes every token again at each step.
            streamer: Gets tokens as they are made, e.g. transformers' `TextStreamer`.
            **arguments: What transformers has beside them, where it asks for nothing (`num_beams=1`).

        Returns:
            Prompts and continuations (B, T + new); sequences that ended early are filled with the pad token.

        Raises:
            ArgumentError: If the model has no head for it, or as `loadstone.generate.decoding.read_prompts` tells.
            ChangedFileError: If a file changed that a part of the model stays in.
        """
        self.check_generates()
        with faults_told(self):
            return generate(
                self,
                input_ids,
                attention_mask=attention_mask,
                inputs=inputs,
                use_cache=use_cache,
                streamer=streamer,
                **said(arguments),
            )

    def export(
        self,
        filepath: Any,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> None:
        """Export for inference, as `keras.Model.export`; without a signature: see `input_specs`.

        Raises:
            ArgumentError: If parameters stay on disk.
        """
        check_exports(self)
        if input_signature is None:
            input_signature = [self.input_specs()]
        # A signature returns tensors, and not the tuples that optional outputs are.
        token = _exporting.set(True)
        try:
            super().export(filepath, format, verbose=verbose, input_signature=input_signature, **kwargs)
        finally:
            _exporting.reset(token)

    def input_specs(self) -> dict[str, tf.TensorSpec]:
        """Return what an exported model takes: ids, mask and types of any batch and length, or images."""
        if _positional(type(self))[0] == "pixel_values":
            embeddings = getattr(self.spec, "embeddings", None)
            sides = (None, None) if embeddings is None else embeddings.image_size
            shape = (None, self.config.num_channels, *sides)
            return {"pixel_values": tf.TensorSpec(shape, tf.float32, name="pixel_values")}
        names = ["input_ids", "attention_mask"]
        if self.spec.embeddings.types > 1:
            names.append("token_type_ids")
        shape = (None,) * self.input_axes
        return {name: tf.TensorSpec(shape, tf.int32, name=name) for name in names}

    def named_inputs(self, x: Any) -> dict[str, Any]:
        """Return inputs that were given by position by their names."""
        return _by_name(type(self), x if isinstance(x, list | tuple) else (x,))

    def check_saves(self, values: Mapping[str, Any] | None = None) -> None:
        """Raise an ArgumentError if the model holds layers that are not of its class: no checkpoint has names for them."""
        if values is None and (others := foreign_weights(self)):
            raise ArgumentError(
                f"the model holds {len(others)} weight(s) of layers that are not its own",
                problems=others,
                hint="take a keras.Model of your own around this model, and save it with Keras",
            )

    def get_config(self) -> dict[str, Any]:
        """Return what Keras makes the model from again."""
        return {
            "config": self.config.to_dict(),
            "generation_config": dict(self.generation_config.values),
            "dtype": self.variable_dtype,
            "policy": self.dtype_policy.name,
            "options": dict(self.options),
        }

    @classmethod
    def from_config(cls, config: Config | Mapping[str, Any], **arguments: Any) -> Any:
        """Return a model with fresh weights, from a configuration or from what `get_config` returned."""
        if isinstance(config, Config):
            return super().from_config(config, **arguments)
        described = cls.architecture_and_head()[0].config.from_dict(config["config"])
        with under_policy(config["policy"]):
            model = super().from_config(described, dtype=config["dtype"], **config["options"])
        from loadstone.generate.settings import GenerationConfig

        model.generation_config = GenerationConfig(config["generation_config"])
        return model


def device_name(name: str) -> str:
    """Return the short name of a TensorFlow device: "/job:localhost/replica:0/task:0/device:CPU:0" is "CPU:0"."""
    spec = tf.DeviceSpec.from_string(name)
    return f"{spec.device_type}:{spec.device_index or 0}"


@functools.cache
def _positional(model_class: type[PreTrainedModel]) -> tuple[str, ...]:
    """Return the inputs of a class in their order; one whose `forward` names none has its parent's."""
    for ancestor in model_class.__mro__:
        if "forward" in vars(ancestor):
            parameters = inspect.signature(vars(ancestor)["forward"]).parameters.values()
            names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]
            if names:
                return tuple(names)
    return ()


@functools.cache
def _takes_training(model_class: type[PreTrainedModel]) -> bool:
    """Return whether a class computes otherwise in training: its `forward` takes the flag. One of somebody's own may not."""
    taken = inspect.signature(model_class.forward).parameters.values()
    return any(one.name == "training" or one.kind is one.VAR_KEYWORD for one in taken)


def _by_name(model_class: type[PreTrainedModel], values: Sequence[Any]) -> dict[str, Any]:
    """Return inputs that were given by position by their names."""
    names = _positional(model_class)
    if len(values) > len(names):
        raise ArgumentError(
            f"{model_class.__name__} takes {len(names)} positional inputs", expected=", ".join(names)
        )
    return dict(zip(names, values, strict=False))


def _is_several(model_class: type[PreTrainedModel], given: Any) -> bool:
    """Return whether a first argument holds several inputs: a tuple, or a list of tables of token ids."""
    if not isinstance(given, list):
        return isinstance(given, tuple)
    axes = [len(v.shape) for v in given if isinstance(v, np.ndarray | keras.KerasTensor) or tf.is_tensor(v)]
    return len(axes) == len(given) and set(axes) == {model_class.input_axes}


def _arranged(
    model_class: type[PreTrainedModel], positional: tuple[Any, ...], named: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of a call by name: what Keras shall see as tensors, and the rest; absent ones left out."""
    first, *more = positional
    if isinstance(first, Mapping):
        given = dict(first)
    else:
        several = _is_several(model_class, first)
        given = _by_name(model_class, (*first, *more) if several else positional)
    given.update(named)
    inputs, options = {}, {}
    for name, value in given.items():
        if isinstance(value, list | np.ndarray):
            inputs[name] = tf.convert_to_tensor(value)
        elif isinstance(value, tuple) or tf.is_tensor(value) or isinstance(value, keras.KerasTensor):
            inputs[name] = value
        elif value is not None:
            options[name] = value.item() if isinstance(value, np.generic) else value
    return inputs, options
