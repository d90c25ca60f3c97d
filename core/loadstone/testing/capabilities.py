"""What a backend can: one protocol each. A driver names what its backend can by deriving from them.

`Computes` is what all need. What a driver does not name is not asked of it: one that only infers leaves `Losses` and
`Differentiates` away. No framework is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np


@runtime_checkable
class Computes(Protocol):
    """Runs a model on arrays.

    Attributes:
        backend: Its name, as `from_pretrained(backend=)` takes it.

    Example:
        >>> class Toy(Computes, Masks):
        ...     backend = "toy"
        ...
        ...     def native(self, array):
        ...         return toy.tensor(array)
        ...
        ...     def array(self, value):
        ...         return value.numpy()
    """

    backend: ClassVar[str]

    def native(self, array: np.ndarray) -> Any:
        """Return an array as the backend's models take it."""
        ...

    def array(self, value: Any) -> np.ndarray:
        """Return a tensor of the backend's as a numpy array; bfloat16 as float32."""
        ...

    def forward(self, model: Any, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run the model; a backend that needs a context for inference enters it here."""
        return model(**arguments)  # type: ignore[no-any-return]


@runtime_checkable
class Masks(Protocol):
    """Takes `attention_mask`, `position_ids` and `token_type_ids`."""

    masks: ClassVar[bool] = True


@runtime_checkable
class Embeds(Protocol):
    """Takes `inputs_embeds` in the place of tokens."""

    embeds: ClassVar[bool] = True


@runtime_checkable
class HiddenStates(Protocol):
    """Shows every layer's hidden states where `output_hidden_states` asks for them."""

    hidden_states: ClassVar[bool] = True


@runtime_checkable
class Attentions(Protocol):
    """Shows every layer's attentions where `output_attentions` asks for them."""

    attentions: ClassVar[bool] = True


@runtime_checkable
class Losses(Protocol):
    """Takes labels, and answers with their loss."""

    losses: ClassVar[bool] = True


@runtime_checkable
class Halves(Protocol):
    """Computes in bfloat16.

    Attributes:
        rounding: How many times the oracle's own bfloat16 rounding an answer may stray from float32.
    """

    rounding: ClassVar[float] = 3.0


@runtime_checkable
class Differentiates(Protocol):
    """Has gradients."""

    def differentiate(
        self, model: Any, arguments: Mapping[str, Any], names: tuple[str, ...]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return the model's output, and the gradients of its loss in the named parameters."""
        ...


@runtime_checkable
class Caches(Computes, Protocol):
    """Goes on from the keys and values of an earlier call."""

    def step(self, model: Any, arguments: Mapping[str, Any], past: Any) -> tuple[Mapping[str, Any], Any]:
        """Return the output of some more tokens, and the cache that the next step gets; the first one gets None."""
        output = self.forward(model, {**arguments, "past_key_values": past, "use_cache": True})
        return output, output["past_key_values"]


@runtime_checkable
class Generates(Protocol):
    """Writes text, and scores no more tokens than `logits_to_keep` says."""

    def generate(self, model: Any, arguments: Mapping[str, Any]) -> Any:
        """Return the prompts and what the model writes after them, (B, T)."""
        return model.generate(**arguments)


CAPABILITIES = (Masks, Embeds, HiddenStates, Attentions, Losses, Halves, Differentiates, Caches, Generates)
"""All that can be asked of a driver beside `Computes`."""
