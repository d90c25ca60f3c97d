"""The base class of all PyTorch models: an ordinary `nn.Module` that can load, save and generate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import torch
from torch import Tensor, nn

from loadstone.config import Config
from loadstone.errors import ArgumentError
from loadstone.generate.arguments import GenerateArguments
from loadstone.keywords import said, told
from loadstone_torch import trees  # noqa: F401  # so that PyTorch can walk what models return
from loadstone_torch.blocks.away import Away, stays_on_disk
from loadstone_torch.ecosystem import Ecosystem
from loadstone_torch.generation import generate
from loadstone_torch.layers import is_building

if TYPE_CHECKING:
    from loadstone.generate._keywords import Keywords
    from loadstone.generate.decoding import Streamer


class _DrawnWhenCalled(type):
    """Makes `LlamaModel(config)` a model with fresh weights, drawn as `from_config` draws them."""

    def __call__(cls, config: Config, **options: Any) -> Any:
        if is_building():
            return super().__call__(config, **options)
        options.setdefault("dtype", torch.get_default_dtype())
        return cls.from_config(config, **options)  # type: ignore[attr-defined]


class PreTrainedModel(nn.Module, Ecosystem, metaclass=_DrawnWhenCalled):
    """Base of every PyTorch model class."""

    backend_name: ClassVar[str] = "torch"
    framework: ClassVar[str] = "pt"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.warnings_issued: dict[str, bool] = {}
        self.describe(config)

    @property
    def device(self) -> torch.device:
        """Where the first parameter is, or comes when it is used: from disk, or by a hook of accelerate's."""
        first = next(self.parameters())
        if isinstance(first, Away):
            return first.runs_on
        hooks = (getattr(module, "_hf_hook", None) for module in self.modules()) if first.is_meta else ()
        runs_on = (getattr(hook, "execution_device", None) for hook in hooks)
        return next((torch.device(device) for device in runs_on if device is not None), first.device)

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        # What `to`, `half`, `cuda` and others come down to.
        self.wait()
        away = next(stays_on_disk(self), None)
        if away is None:
            return super()._apply(fn, recurse)
        probe = torch.empty(0, dtype=away.dtype, device=away.runs_on)
        changed = fn(probe)
        if (changed.device, changed.dtype) != (probe.device, probe.dtype):
            raise ArgumentError(
                f"this {type(self).__name__} is not all in memory, and cannot be moved or cast",
                expected=f"{probe.dtype} on {probe.device}, as it runs now",
                found=f"{changed.dtype} on {changed.device}",
                hint="load it anew with from_pretrained(..., device_map=, dtype=)",
            )
        return self  # what is on disk comes to this device, in this dtype

    def __reduce_ex__(self, protocol):  # type: ignore[no-untyped-def]
        self.wait()  # copies and pickles are of a model that is all there
        return super().__reduce_ex__(protocol)

    def load_state_dict(self, state_dict, *args, **kwargs):  # type: ignore[no-untyped-def]
        """Do what `torch.nn.Module.load_state_dict` does, where every parameter has memory to load into."""
        self.wait()
        if (away := next(stays_on_disk(self), None)) is not None:
            raise ArgumentError(
                f"this {type(self).__name__} is not all in memory, and takes no other values",
                found=repr(away),
                hint="load it without a device_map first",
            )
        return super().load_state_dict(state_dict, *args, **kwargs)

    def state_dict(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        """Do what `torch.nn.Module.state_dict` does, once all parameters are there."""
        self.wait()
        return super().state_dict(*args, **kwargs)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first floating-point parameter."""
        return next(p.dtype for p in self.parameters() if p.is_floating_point())

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return how many numbers the parameters hold, those of embeddings included or not; tied ones count once."""
        tables = {id(module.weight) for module in self.modules() if isinstance(module, nn.Embedding)}
        counted = (p for p in self.parameters() if not (exclude_embeddings and id(p) in tables))
        return sum(p.numel() for p in counted if p.requires_grad or not only_trainable)

    def module_at(self, path: str) -> nn.Module:
        """Return the module that checkpoints call `path`; "" is the model itself."""
        return self.get_submodule(path)

    def set_module_at(self, path: str, module: nn.Module) -> None:
        """Replace the module that checkpoints call `path`."""
        self.set_submodule(path, module)

    def wants(self, name: str, given: bool | None) -> bool:
        """Return what a call says of an output flag, or else the configuration; recomputed layers keep no cache."""
        if name == "use_cache" and self.gradient_checkpointing and self.training:
            return False
        return super().wants(name, given)

    def embed(self, table: nn.Embedding, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """Return the embeddings (B, T, C) of exactly one of the two inputs."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ArgumentError("pass exactly one of input_ids and inputs_embeds")
        if inputs_embeds is not None:
            return inputs_embeds
        found: Tensor = table(input_ids)
        return found

    @told(GenerateArguments)
    def generate(
        self,
        input_ids: Tensor | Sequence[Sequence[int]] | None = None,
        *,
        attention_mask: Tensor | Sequence[Sequence[int]] | None = None,
        inputs: Tensor | Sequence[Sequence[int]] | None = None,
        use_cache: bool = True,
        streamer: Streamer | None = None,
        **arguments: Unpack[Keywords],
    ) -> Tensor:
        """Continue prompts.

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
        """
        self.check_generates()
        return generate(
            self,
            input_ids,
            attention_mask=attention_mask,
            inputs=inputs,
            use_cache=use_cache,
            streamer=streamer,
            **said(arguments),
        )
