"""The base class of all PyTorch models: an ordinary `nn.Module` that can load, save and generate."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from loadstone.architectures import architecture_of
from loadstone.config import Config
from loadstone.errors import ArgumentError
from loadstone.generation import GenerationConfig
from loadstone.outputs import ModelOutput
from loadstone_torch import trees  # noqa: F401  # so that PyTorch can walk what models return
from loadstone_torch.ecosystem import Ecosystem
from loadstone_torch.generation import generate
from loadstone_torch.layers import is_building

ATTENTION = ("sdpa", "eager")


class _DrawnWhenCalled(type):
    """Makes `LlamaModel(config)` a model with fresh weights, drawn as `from_config` draws them."""

    def __call__(cls, config: Config, **options: Any) -> Any:
        if is_building():
            return super().__call__(config, **options)
        return cls.from_config(config, dtype=torch.get_default_dtype(), **options)  # type: ignore[attr-defined]


class PreTrainedModel(nn.Module, Ecosystem, metaclass=_DrawnWhenCalled):
    """Base of every PyTorch model class.

    Attributes:
        config: What the model was built from.
        spec: The same, with every quirk resolved; the modules read only this.
        attn_implementation: "sdpa" or "eager"; `output_attentions` always computes eagerly.
        base_model_prefix: Where the base model sits in this one; "" for the base model itself.
    """

    backend_name: ClassVar[str] = "torch"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.spec = architecture_of(config).spec(config)
        self.generation_config = GenerationConfig.from_model_config(config)
        self.attn_implementation = ATTENTION[0]
        self.base_model_prefix = self.base_prefix  # looked up once: a compiled call cannot ask the plugins
        self.load_report = None

    @property
    def device(self) -> torch.device:
        """Where the first parameter is."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first floating-point parameter."""
        return next(p.dtype for p in self.parameters() if p.is_floating_point())

    @property
    def base_model(self) -> nn.Module:
        """The model without its task head; the model itself where it has none."""
        found: nn.Module = getattr(self, self.base_model_prefix) if self.base_model_prefix else self
        return found

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return how many numbers the parameters hold, those of embeddings included or not; tied ones count once."""
        tables = {id(module.weight) for module in self.modules() if isinstance(module, nn.Embedding)}
        counted = (p for p in self.parameters() if not (exclude_embeddings and id(p) in tables))
        return sum(p.numel() for p in counted if p.requires_grad or not only_trainable)

    def set_attn_implementation(self, name: str) -> None:
        """Choose how attention is computed: "sdpa" or "eager".

        Raises:
            ArgumentError: If it is neither.
        """
        if name not in ATTENTION:
            raise ArgumentError(
                f"unknown attn_implementation {name!r}",
                expected=f"one of: {', '.join(ATTENTION)}",
                hint="leave it out for the fastest one",
            )
        for module in self.modules():
            if isinstance(module, PreTrainedModel):
                module.attn_implementation = name

    def output(self, return_dict: bool | None, **fields: Any) -> ModelOutput | tuple[Any, ...]:
        """Return the fields that are not None, as a ModelOutput or, with `return_dict=False`, a tuple."""
        found = ModelOutput(**fields)
        wanted = self.config.return_dict if return_dict is None else return_dict
        return found if wanted else found.to_tuple()

    def wants(self, name: str, given: bool | None) -> bool:
        """Return what a call says of an output flag, or else the configuration."""
        if name == "use_cache" and self.gradient_checkpointing and self.training:
            return False
        return bool(getattr(self.config, name)) if given is None else given

    def embed(self, table: nn.Embedding, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """Return the embeddings (B, T, C) of exactly one of the two inputs."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ArgumentError("pass exactly one of input_ids and inputs_embeds")
        if inputs_embeds is not None:
            return inputs_embeds
        found: Tensor = table(input_ids)
        return found

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the layer that looks tokens up.

        Raises:
            ArgumentError: If the model reads no tokens.
        """
        architecture, head = self.architecture_and_head()
        if not architecture.embedding:
            raise ArgumentError(f"{type(self).__name__} reads no tokens, and has no embedding of them")
        path = ".".join(part for part in (head.prefix, architecture.embedding) if part)
        return self.get_submodule(path)  # type: ignore[return-value]

    def get_output_embeddings(self) -> nn.Module | None:
        """Return the layer that scores every token of the vocabulary, or None."""
        output = self.architecture_and_head()[1].output
        return self.get_submodule(output) if output else None

    def set_input_embeddings(self, embeddings: nn.Module) -> None:
        """Replace the layer that looks tokens up."""
        architecture, head = self.architecture_and_head()
        self.set_submodule(
            ".".join(part for part in (head.prefix, architecture.embedding) if part), embeddings
        )

    def set_output_embeddings(self, embeddings: nn.Module) -> None:
        """Replace the layer that scores every token of the vocabulary.

        Raises:
            ArgumentError: If the model has none.
        """
        output = self.architecture_and_head()[1].output
        if not output:
            raise ArgumentError(f"{type(self).__name__} scores no vocabulary")
        self.set_submodule(output, embeddings)

    def generate(self, input_ids: Tensor | None = None, **arguments: Any) -> Tensor:
        """Continue prompts; `loadstone_torch.generation.generate` tells the arguments.

        Raises:
            ArgumentError: If the model has no head for it, or an argument is unknown.
        """
        if self.architecture_and_head()[1].task != "CausalLM":
            raise ArgumentError(
                f"{type(self).__name__} cannot generate", hint="load it with AutoModelForCausalLM"
            )
        return generate(self, input_ids, **arguments)
