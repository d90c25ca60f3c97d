"""What PEFT, transformers' Trainer and scripts written for transformers ask of a model, under transformers' names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from loadstone.architectures import matches
from loadstone.errors import ArgumentError
from loadstone.model.kin import Kin
from loadstone.model.pretrained import Pretrained
from loadstone_torch.backend import check_plain
from loadstone_torch.blocks.away import Away
from loadstone_torch.blocks.run import DEFAULTS, Block

if TYPE_CHECKING:
    from loadstone.load.report import LoadReport


class Ecosystem(Kin, Pretrained):
    """Mixed into the base class of all models.

    Attributes:
        gradient_checkpointing: Whether layers are computed again in the backward pass; no cache is returned then.
        name_or_path: Where the model was loaded from, "" for a fresh one.
        model_tags: What `add_model_tags` added.
        warnings_issued: Kind -> whether a trainer has warned of it; `Trainer` and TRL note it here.
    """

    kin = "transformers.modeling_utils:PreTrainedModel"
    gradient_checkpointing: bool = False
    model_tags: list[str] | None = None
    _keys_to_ignore_on_save: None = None
    _load_report: LoadReport | None = None
    _embedding_hook: RemovableHandle | None = None

    @property
    def load_report(self) -> LoadReport | None:
        """What became of every parameter and stored tensor; None for a model that was not loaded."""
        return self._load_report

    @load_report.setter
    def load_report(self, report: LoadReport | None) -> None:
        self._load_report = report
        # PEFT writes what it finds in `__dict__` under this name beside an adapter, as the model to put it on.
        self.name_or_path = report.location if report is not None else ""

    @property
    def _no_split_modules(self) -> list[str]:
        """Class names of the blocks that a device map must keep whole."""
        architecture, head = self.architecture_and_head()
        found = {
            type(module).__name__: None
            for name, module in self.named_modules()  # type: ignore[attr-defined]  # of nn.Module
            if any(matches(pattern, head.base_name(name)) for pattern in architecture.no_split)
        }
        return list(found)

    @property
    def _tied_weights_keys(self) -> dict[str, str]:
        """Parameter -> the parameter that it is."""
        return self.architecture_and_head()[1].ties_of(self.config)

    @property
    def all_tied_weights_keys(self) -> dict[str, str]:
        """The same, under the name by which transformers 5 resolves patterns in it."""
        return self._tied_weights_keys

    def add_model_tags(self, tags: str | Sequence[str]) -> None:
        """Add to `model_tags`, which `Trainer` writes into its model cards; saving and pushing write no card."""
        new = [tags] if isinstance(tags, str) else tags
        self.model_tags = list(dict.fromkeys([*(self.model_tags or ()), *new]))

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Return the bytes of the parameters, tied ones once, and of the buffers, also those that no checkpoint holds."""
        held = [*self.parameters(), *(self.buffers() if return_buffers else ())]  # type: ignore[attr-defined]
        return sum(tensor.nbytes for tensor in held)

    @classmethod
    def is_custom_code(cls) -> bool:
        """Return True: what transformers renames in checkpoints for its own class of this name is not for this one."""
        return True

    @property
    def supports_gradient_checkpointing(self) -> bool:
        """Whether there are layers that can be computed again."""
        return next(self._layers(), None) is not None

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether layers are computed again in the backward pass."""
        return self.gradient_checkpointing

    @property
    def is_activation_checkpointing(self) -> bool:
        """The same, under transformers' newer name."""
        return self.gradient_checkpointing

    def gradient_checkpointing_enable(
        self,
        gradient_checkpointing_kwargs: Mapping[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Keep no activations of the layers in training: compute them again in the backward pass.

        While the model trains, `use_cache` then counts as False: a layer that runs twice would fill a cache twice.

        Args:
            gradient_checkpointing_kwargs: Keyword arguments of `torch.utils.checkpoint.checkpoint`; None:
                `use_reentrant=False`.
            every_n_layers: Compute only each n-th layer again.
            offload: False; keeping layers' inputs in host memory is not offered.

        Raises:
            ArgumentError: If the model has no such layers, or offloading is asked for.
        """
        if not self.supports_gradient_checkpointing:
            raise ArgumentError(f"{type(self).__name__} has no layers that could be computed again")
        if offload:
            raise ArgumentError(
                "layers' inputs cannot be offloaded to host memory",
                hint="leave offload out, or call the model inside torch.autograd.graph.save_on_cpu()",
            )
        for index, layer in enumerate(self._layers()):
            layer.gradient_checkpointing = index % every_n_layers == 0
            layer.checkpoint_options = {**DEFAULTS, **(gradient_checkpointing_kwargs or {})}
        self._tell_models(gradient_checkpointing=True)

    def gradient_checkpointing_disable(self) -> None:
        """Keep the activations again."""
        for layer in self._layers():
            layer.gradient_checkpointing = False
        self._tell_models(gradient_checkpointing=False)

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: Mapping[str, Any] | None = None, **arguments: Any
    ) -> None:
        """Do what `gradient_checkpointing_enable` does, under transformers' newer name."""
        self.gradient_checkpointing_enable(activation_checkpointing_kwargs, **arguments)

    def activation_checkpointing_disable(self) -> None:
        """Do what `gradient_checkpointing_disable` does, under transformers' newer name."""
        self.gradient_checkpointing_disable()

    def _layers(self) -> Iterator[Block]:
        return (module for module in self.modules() if isinstance(module, Block))  # type: ignore[attr-defined]

    def _tell_models(self, *, gradient_checkpointing: bool) -> None:
        for module in self.modules():  # type: ignore[attr-defined]
            if isinstance(module, Ecosystem):
                module.gradient_checkpointing = gradient_checkpointing

    def check_saves(self, values: Mapping[str, Any] | None = None) -> None:
        """Raise an ArgumentError if PEFT has wrapped layers, or numbers do not lie in memory (`DTensor`, torchao's)."""
        if values is not None:
            check_plain(values)
            return
        wrapped = [name for name, _ in self.named_modules() if name.endswith(".base_layer")]  # type: ignore[attr-defined]
        if wrapped:
            raise ArgumentError(
                "the model holds layers of an adapter (PEFT), and its checkpoint would not load",
                found=wrapped[0],
                hint="save the adapter with PEFT, or merge it first: peft_model.merge_and_unload().save_pretrained(...)",
            )
        held = {**dict(self.named_parameters()), **dict(self.named_buffers())}  # type: ignore[attr-defined]
        check_plain({name: value for name, value in held.items() if not isinstance(value, Away)})

    def enable_input_require_grads(self) -> None:
        """Let gradients flow to the embeddings' output, so that adapters train on a frozen model."""
        self.disable_input_require_grads()
        embedding: nn.Embedding = self.get_input_embeddings()
        self._embedding_hook = embedding.register_forward_hook(_require_grad)

    def disable_input_require_grads(self) -> None:
        """Undo `enable_input_require_grads`."""
        if self._embedding_hook is not None:
            self._embedding_hook.remove()
            self._embedding_hook = None

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        *,
        past_key_values: Any = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **inputs: Any,
    ) -> dict[str, Any]:
        """Return what `generate` calls the model with at each step; adapters of PEFT replace this method.

        Args:
            input_ids: (B, T), all tokens so far.
            past_key_values: The cache; its tokens are cut off the ids, positions and types.
            position_ids: (B, T).
            token_type_ids: (B, T), for models that read them.
            **inputs: Passed on.
        """
        seen = 0 if past_key_values is None else past_key_values.get_seq_length()
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids[:, seen:]
        return {
            "input_ids": input_ids[:, seen:],
            "position_ids": None if position_ids is None else position_ids[:, seen:],
            "past_key_values": past_key_values,
            **inputs,
        }


def _require_grad(module: nn.Module, inputs: Any, output: Tensor) -> None:
    output.requires_grad_(True)
