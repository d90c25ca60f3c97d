"""The base class of all Flax models: an ordinary `nnx.Module` that can load, save and generate."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, Unpack

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from loadstone.config import Config
from loadstone.errors import ArgumentError
from loadstone.generate.arguments import GenerateArguments
from loadstone.keywords import said, told
from loadstone.model.outputs import ModelOutput
from loadstone.model.pretrained import Pretrained
from loadstone_flax.blocks.away import Away, Called, at_home, copied, is_traced, settle, untraced
from loadstone_flax.blocks.run import Block
from loadstone_flax.calls import apart, by_name, check_tokens, compiled, computed, sorted_out
from loadstone_flax.devices import spellings
from loadstone_flax.generation import generate
from loadstone_flax.layers import (
    BatchNorm,
    Dropout,
    Embedding,
    is_building,
    named_modules,
    named_parameters,
    submodule,
)

if TYPE_CHECKING:
    from loadstone.generate._keywords import Keywords
    from loadstone.generate.decoding import Streamer
    from loadstone.generate.settings import GenerationConfig
    from loadstone.load.report import LoadReport

SETTINGS = (
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "pad_token_id",
    "problem_type",
)

PARTS = frozenset(
    {
        "check_generates",
        "check_saves",
        "classifier_spec",
        "decode",
        "describe",
        "embed",
        "encode",
        "eval",
        "forward",
    }
    | {
        "gradient_checkpointing_disable",
        "gradient_checkpointing_enable",
        "image_scores",
        "module_at",
        "pooled",
        "result",
        "run_base",
        "set_attn_implementation",
        "set_attributes",
        "set_calls",
        "set_module_at",
    }
    | {"token_scores", "train", "wait", "wants", "words"}
)
"""Methods that a load or a call of a model is made of: what they take and return is not all arrays."""

jax.tree_util.register_pytree_with_keys(
    ModelOutput,
    lambda output: ([(jax.tree_util.DictKey(name), value) for name, value in output.items()], tuple(output)),
    lambda names, values: ModelOutput(zip(names, values, strict=True)),
    lambda output: (tuple(output.values()), tuple(output)),
)


def _no_settings() -> GenerationConfig:
    from loadstone.generate.settings import GenerationConfig

    return GenerationConfig()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a model knows of itself beside its arrays; its copies share it.

    jax compares it to find the program that it compiled for a model, so what decides is that configurations are equal,
    not that they are one object; a report decides nothing.
    """

    config: Config
    generation_config: GenerationConfig = dataclasses.field(default_factory=_no_settings)
    load_report: LoadReport | None = dataclasses.field(default=None, compare=False)
    calls: tuple[Called, ...] = ()

    def __hash__(self) -> int:
        return hash(type(self.config))


class _DrawnWhenCalled(type(nnx.Module)):  # type: ignore[misc]
    """Makes `FlaxLlamaModel(config)` a model with fresh weights, drawn as `from_config` draws them."""

    def __call__(cls, config: Config, **options: Any) -> Any:
        if is_building():
            return super().__call__(config, **options)
        options.setdefault("dtype", "float32")
        return cls.from_config(config, **options)

    def __dir__(cls) -> list[str]:
        # `nnx.tabulate` makes a compiled program of each public method that it finds here, which these cannot be.
        return [name for name in super().__dir__() if name not in PARTS]


class PreTrainedModel(nnx.Module, Pretrained, metaclass=_DrawnWhenCalled):
    """Base of every Flax model class.

    Plain calls, `generate`, `jax.jit` over `params=` or over `nnx.split`, and `nnx.jit(..., graph_updates=False)` use the
    parameters where they lie. `nnx.jit` alone returns the model's state, and so copies all of it.

    Attributes:
        gradient_checkpointing: Whether layers are computed again in the backward pass.
    """

    backend_name: ClassVar[str] = "flax"
    framework: ClassVar[str] = "flax"
    gradient_checkpointing: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__call__" in vars(cls):  # of a class that somebody wrote: it does not come through ours
            cls.__call__ = apart(cls.__call__)  # type: ignore[method-assign]

    def __init__(self, config: Config) -> None:
        self._facts = Facts(config=config)
        self.describe(config)

    def __call__(
        self,
        *inputs: Any,
        params: Mapping[str, Array] | None = None,
        dropout_rng: Array | None = None,
        **named_inputs: Any,
    ) -> ModelOutput | tuple[Any, ...]:
        """Compute `forward`, compiled once for each shape of the inputs; it tells inputs and outputs.

        Inside a program of the caller's own (`jax.jit`, `jax.grad`, ...) it becomes a part of that program.

        Args:
            *inputs: jax arrays, numpy arrays or lists, as `forward` takes them.
            params: Parameters to compute with in place of the model's own, keyed as `model.params`.
            dropout_rng: A key from which dropout draws in place of the model's own streams: the call is then a pure
                function, as `jax.grad` needs it. In training mode only.
            **named_inputs: Further inputs of `forward`. Cached keys and values may be a tuple of pairs too.

        Raises:
            ArgumentError: If `params` or the shapes of inputs do not fit, or training would change what it may not.
        """
        model = self if params is None else self.with_params(params)
        arrays, choices = sorted_out(by_name(type(self), inputs, named_inputs))
        check_tokens(type(self), arrays)
        settings = tuple(getattr(self.config, name) for name in SETTINGS)
        compute = compiled
        if model._runs_apart():
            model, arrays, compute = copied(model), at_home(model.calls, arrays), computed
        output, changed = compute(model, arrays, dropout_rng, choices=choices, settings=settings)
        if changed is not None:
            self._remember(changed)
        return output

    def forward(self, *inputs: Any, **named_inputs: Any) -> ModelOutput | tuple[Any, ...]:
        """Compute, an operation at a time or as a part of the program that is being traced."""
        raise NotImplementedError

    def _remember(self, changed: Any) -> None:
        """Keep what training changes beside parameters: how often dropout has drawn, running statistics."""
        try:
            nnx.update(self, changed)
        except flax.errors.TraceContextError as error:
            raise ArgumentError(
                "in training mode this call would change a model that the traced function does not own",
                hint="take the model as an argument of nnx.jit or nnx.grad, or call model.eval(); "
                "for dropout alone, pass dropout_rng=",
            ) from error

    @property
    def params(self) -> dict[str, Array]:
        """The parameters by their names in checkpoints, a tied one once; running statistics are none.

        Setting them puts others in their place. Raises as `with_params` does.
        """
        self.wait()
        return {name: variable.get_value() for name, variable in self._parameters()}

    @params.setter
    def params(self, params: Mapping[str, Array]) -> None:
        for variable, value in self._paired(params):
            variable.set_value(value if isinstance(value, Away) else jnp.asarray(value))

    def __setattr__(self, name: str, value: Any) -> None:
        # nnx would take the values of `params` for data of an attribute, and refuse them.
        if name == "params":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def with_params(self, params: Mapping[str, Array]) -> Self:
        """Return a model like this one that computes with `params`, keyed as `model.params`.

        Raises:
            ArgumentError: If names or shapes are not those of `model.params`.
        """
        new = {id(variable): variable.replace(value) for variable, value in self._paired(params)}
        return jax.tree.map(lambda leaf: new.get(id(leaf), leaf), self, is_leaf=lambda leaf: id(leaf) in new)

    def _paired(self, params: Mapping[str, Array]) -> list[tuple[nnx.Param[Any], Array]]:
        """Return each parameter with the value that `params` has for it."""
        self.wait()
        own = dict(self._parameters())
        problems = [f"missing: {name}" for name in own if name not in params]
        problems += [f"unknown: {name}" for name in params if name not in own]
        problems += [
            f"{name}: expected {variable.shape}, found {jnp.shape(params[name])}"
            for name, variable in own.items()
            if name in params and jnp.shape(params[name]) != variable.shape
        ]
        if problems:
            raise ArgumentError(f"these params do not fit {type(self).__name__}", problems=problems)
        return [(variable, params[name]) for name, variable in own.items()]

    def _parameters(self) -> Iterator[tuple[str, nnx.Param[Any]]]:
        """Yield each parameter once, under the name that the architecture ties the others to."""
        tied = {tie.name for tie in self.architecture_and_head()[1].ties}
        seen = set()
        for name, variable in sorted(named_parameters(self), key=lambda item: item[0] in tied):
            if isinstance(variable, nnx.Param) and id(variable) not in seen:
                seen.add(id(variable))
                yield name, variable

    @property
    def config(self) -> Config:
        """The model's configuration."""
        return self._facts.config

    @config.setter
    def config(self, config: Config) -> None:
        self._facts = dataclasses.replace(self._facts, config=config)

    @property
    def generation_config(self) -> GenerationConfig:
        """Its settings for `generate`."""
        return self._facts.generation_config

    @generation_config.setter
    def generation_config(self, generation_config: GenerationConfig) -> None:
        self._facts = dataclasses.replace(self._facts, generation_config=generation_config)

    @property
    def load_report(self) -> LoadReport | None:
        """What became of every parameter and stored tensor; None for a model that was not loaded."""
        return self._facts.load_report

    @load_report.setter
    def load_report(self, load_report: LoadReport | None) -> None:
        self._facts = dataclasses.replace(self._facts, load_report=load_report)

    @property
    def calls(self) -> tuple[Called, ...]:
        """The modules that are called as one, where the model lies in several places; none where it is one program."""
        return self._facts.calls

    def set_calls(self, calls: Iterable[Called]) -> None:
        """Say which modules are called as one; models below this one are told of theirs."""
        for path, module in named_modules(self):
            if isinstance(module, PreTrainedModel):
                own = tuple(
                    one._replace(path=one.path.removeprefix(path))
                    for one in calls
                    if one.path.startswith(path)
                )
                module._facts = dataclasses.replace(module._facts, calls=own)

    def _runs_apart(self) -> bool:
        """Return whether a call computes a part at a time; training, and a program of the caller's, wait for all parameters."""
        if self.calls and (self.training or is_traced()):
            self.wait()
        return bool(self.calls)

    def wait(self) -> None:
        """Wait until all parameters have come of a model that was loaded with `wait=False`; `Pretrained.wait` tells the errors."""
        if self.load_report is not None and self.load_report.on_its_way is not None:
            untraced(super().wait)
        if self.calls:
            settle(self)

    def _graph_node_flatten(self) -> Any:
        self.wait()  # what nnx makes of a model (`nnx.split`, `nnx.state`, a copy) is of one that is all there
        return super()._graph_node_flatten()

    def __getstate__(self) -> Any:
        self.wait()
        return super().__getstate__()

    @property
    def device(self) -> jax.Device:
        """Where the first parameter is that JAX holds, or comes when it is used; what JAX would narrow stays a numpy array."""
        values = (variable.get_value() for _, variable in named_parameters(self))
        first = next(value for value in values if isinstance(value, Array | Away))
        return spellings()[first.runs_on] if isinstance(first, Away) else next(iter(first.devices()))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the first floating-point parameter."""
        dtypes = (variable.dtype for _, variable in named_parameters(self))
        return next(dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating))

    def num_parameters(self) -> int:
        """Return how many numbers the parameters hold; tied ones count once."""
        return sum(variable.size for _, variable in self._parameters())

    def train(self, **attributes: Any) -> None:
        """Switch dropout on, as nnx does, and give it random numbers where it has none; `nnx.reseed` changes them."""
        streams = nnx.Rngs(dropout=0)
        for _, module in named_modules(self):
            if isinstance(module, Dropout) and module.rate > 0 and module.rngs is None:
                module.rngs = streams.dropout.fork()
        super().train(**attributes)

    @property
    def training(self) -> bool:
        """Whether dropout or batch statistics are switched on; False for a model that has neither."""
        return any(
            (isinstance(module, Dropout) and not module.deterministic)
            or (isinstance(module, BatchNorm) and not module.use_running_average)
            for _, module in named_modules(self)
        )

    @property
    def supports_gradient_checkpointing(self) -> bool:
        """Whether there are layers that can be computed again."""
        return next(self._layers(), None) is not None

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether layers are computed again in the backward pass."""
        return self.gradient_checkpointing

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None, every_n_layers: int = 1
    ) -> None:
        """Keep no activations of the layers for gradients: compute them again in the backward pass.

        `use_cache` then counts as False where a call does not say: what a layer that is computed again puts into a cache
        is lost. With a cache nothing is computed again.

        Args:
            gradient_checkpointing_kwargs: Keyword arguments of `nnx.remat`, such as a `policy` of `jax.checkpoint_policies`.
            every_n_layers: Compute only each n-th layer again.

        Raises:
            ArgumentError: If the model has no such layers.
        """
        if not self.supports_gradient_checkpointing:
            raise ArgumentError(f"{type(self).__name__} has no layers that could be computed again")
        for index, layer in enumerate(self._layers()):
            layer.gradient_checkpointing = index % every_n_layers == 0
            layer.checkpoint_options = tuple((gradient_checkpointing_kwargs or {}).items())
        self._tell_models(gradient_checkpointing=True)

    def gradient_checkpointing_disable(self) -> None:
        """Keep the activations again."""
        for layer in self._layers():
            layer.gradient_checkpointing = False
        self._tell_models(gradient_checkpointing=False)

    def _layers(self) -> Iterator[Block]:
        return (module for _, module in named_modules(self) if isinstance(module, Block))

    def _tell_models(self, *, gradient_checkpointing: bool) -> None:
        for _, module in named_modules(self):
            if isinstance(module, PreTrainedModel):
                module.gradient_checkpointing = gradient_checkpointing

    def wants(self, name: str, given: bool | None) -> bool:
        """Return what a call says of an output flag, or else the configuration; recomputed layers keep no cache."""
        if name == "use_cache" and self.gradient_checkpointing and (given is None or self.training):
            return False
        return super().wants(name, given)

    def module_at(self, path: str) -> Any:
        """Return the module that checkpoints call `path`; "" is the model itself."""
        return submodule(self, path)

    def set_module_at(self, path: str, module: nnx.Module) -> None:
        """Replace the module that checkpoints call `path`."""
        owner, _, name = path.rpartition(".")
        setattr(submodule(self, owner), name, module)

    def embed(self, table: Embedding, input_ids: Array | None, inputs_embeds: Array | None) -> Array:
        """Return the embeddings (B, T, C) of exactly one of the two inputs."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ArgumentError("pass exactly one of input_ids and inputs_embeds")
        return table(input_ids) if inputs_embeds is None else inputs_embeds

    def check_saves(self, values: Mapping[str, Any] | None = None) -> None:
        """Raise an ArgumentError if there are arrays that checkpoints have no name for, or that are not here as a whole."""
        if values is None:
            held = dict(named_parameters(self))
            if others := foreign_variables(self, held.values()):
                raise ArgumentError(
                    f"the model holds {len(others)} array(s) of layers that are not its own",
                    problems=others,
                    hint="take them out first, or save all with Orbax: nnx.state(model)",
                )
            values = {name: variable.get_raw_value() for name, variable in held.items()}
        if odd := [name for name, value in values.items() if not _is_whole(value)]:
            raise ArgumentError(
                "values that are no arrays, or lie in other processes too, cannot be saved as they are",
                problems=[f"{name}: {type(values[name]).__qualname__}" for name in odd],
                hint="dequantise or gather them, and pass the arrays as state_dict=",
            )

    @told(GenerateArguments)
    def generate(
        self,
        input_ids: Any = None,
        *,
        attention_mask: Any = None,
        inputs: Any = None,
        use_cache: bool = True,
        streamer: Streamer | None = None,
        params: Mapping[str, Array] | None = None,
        rngs: Any = None,
        **arguments: Unpack[Keywords],
    ) -> Array:
        """Continue prompts.

        Dropout is switched off. Where the likeliest token is taken each time, the whole loop is one compiled program; else
        each step is. Either is compiled for each shape of prompt and number of new tokens, and kept.

        Args:
            input_ids: (B, T), an array or lists of numbers; shorter prompts are padded on the left.
            attention_mask: (B, T), zero at padding; None: what `pad_token_id` says is padding.
            inputs: The same as `input_ids`.
            use_cache: Keep keys and values; False computes every token again at each step.
            streamer: Gets tokens as they are made, e.g. transformers' `TextStreamer`.
            params: Parameters to compute with in place of the model's own, keyed as `model.params`.
            rngs: An `nnx.Rngs` or a key of JAX's, in place of `seed`: it decides which tokens are drawn.
            **arguments: What transformers has beside them, where it asks for nothing (`num_beams=1`).

        Returns:
            Prompts and continuations (B, T + new); sequences that ended early are filled with the pad token.

        Raises:
            ArgumentError: If the model has no head for it, or as `loadstone.generate.decoding.read_prompts` tells.
        """
        self.check_generates()
        return generate(
            self if params is None else self.with_params(params),
            input_ids,
            attention_mask=attention_mask,
            inputs=inputs,
            use_cache=use_cache,
            streamer=streamer,
            rngs=rngs,
            **said(arguments),
        )


def foreign_variables(model: nnx.Module, known: Iterable[nnx.Variable[Any]]) -> list[str]:
    """Return the paths of what nnx would train or keep and checkpoints have no name for: variables of somebody's layers."""
    named = {id(variable) for variable in known}
    kinds = (nnx.Param, nnx.BatchStat)
    found = ((path, node) for path, node in nnx.iter_graph(model) if isinstance(node, kinds))
    return [".".join(map(str, path)) for path, node in found if id(node) not in named]


def _is_whole(value: object) -> bool:
    return isinstance(value, np.ndarray | Away) or (isinstance(value, Array) and value.is_fully_addressable)
