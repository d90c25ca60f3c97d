"""An encoder: tokens or patches to hidden states, each from all others.

B batch, T tokens, H heads, C hidden size.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar

from flax import nnx
from jax import Array

from loadstone.architectures import EncoderSpec, StackSpec, leaf, owner
from loadstone.config import Config
from loadstone_flax.blocks.embeddings import Embeddings, Pooler
from loadstone_flax.blocks.layer import Layer, NestedLayer
from loadstone_flax.blocks.masks import padding_mask
from loadstone_flax.blocks.run import Context, place, run_blocks
from loadstone_flax.heads import Output
from loadstone_flax.layers import Linear, norm, stack
from loadstone_flax.modeling import PreTrainedModel


class Stack(nnx.Module):
    """The stack of layers, under the name that checkpoints have for it."""

    def __init__(self, spec: StackSpec, layer_class: type[Layer | NestedLayer]) -> None:
        """Build it."""
        names, self.layers = spec.names, leaf(spec.names.layers)
        make = functools.partial(layer_class, names=names, hidden_size=spec.hidden_size)
        place(self, self.layers, stack(spec.layers, make))

    def __call__(
        self, x: Array, context: Context, keep_states: bool
    ) -> tuple[Array, list[Array], list[Array | None]]:
        """(B, T, C) -> what `run_blocks` returns."""
        layers = getattr(self, self.layers)
        return run_blocks(layers, x, [context] * len(layers), keep_states=keep_states)


class Encoder(PreTrainedModel):
    """The encoder without a head: token ids to hidden states.

    ```
    embeddings (── projection) ── layer ── layer ── ... (── norm) ──┬──> last_hidden_state
                                                                    └── pooler ──> pooler_output
    ```

    Attributes:
        embeddings_class: Makes the embeddings, from their part of the spec, the names and the hidden size.
        layer_class: Makes a layer; a family names it as its users know it.
    """

    spec: EncoderSpec
    embeddings_class: ClassVar[Any] = Embeddings
    layer_class: ClassVar[type[Layer | NestedLayer]] = NestedLayer

    def __init__(self, config: Config, add_pooling_layer: bool = True) -> None:
        """Build it without memory."""
        super().__init__(config)
        spec, names, size = self.spec, self.spec.names, self.spec.hidden_size
        projection = names.embeddings.projection
        width = spec.embeddings.size if projection else size
        self.embeddings = self.embeddings_class(spec.embeddings, names.embeddings, width)
        if projection:
            place(self, projection, Linear(width, size))
        place(self, owner(names.layers), Stack(spec, self.layer_class))
        if spec.norm is not None:
            place(self, names.norm, norm(spec.norm, size))
        pooler = spec.pooler if add_pooling_layer else None
        self.pooler = None if pooler is None else Pooler(pooler, leaf(names.pooler), size)

    def forward(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        token_type_ids: Array | None = None,
        position_ids: Array | None = None,
        inputs_embeds: Array | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Output:
        """Run the encoder.

        Args:
            input_ids: (B, T).
            attention_mask: (B, T), zero at padding.
            token_type_ids: (B, T); zeros where absent.
            position_ids: (B, T); counted from 0 where absent.
            inputs_embeds: (B, T, C) in place of `input_ids`.
            output_attentions: Return the weights of each layer, (B, H, T, T).
            output_hidden_states: Return the embeddings and each layer's output, (B, T, C).
            return_dict: False returns a tuple.

        Returns:
            `last_hidden_state` (B, T, C), `pooler_output` (B, C), `hidden_states`, `attentions`.
        """
        table = getattr(self.embeddings, leaf(self.spec.names.embeddings.words))
        words = self.embed(table, input_ids, inputs_embeds)
        if position_ids is None:
            position_ids = self.embeddings.positions(input_ids, words)
        x = self.embeddings(words, token_type_ids, position_ids)
        if projection := self.spec.names.embeddings.projection:
            x = getattr(self, projection)(x)
        return self.encode(
            x, padding_mask(attention_mask), output_attentions, output_hidden_states, return_dict
        )

    def encode(
        self,
        x: Array,
        mask: Array | None,
        output_attentions: bool | None,
        output_hidden_states: bool | None,
        return_dict: bool | None,
    ) -> Output:
        """Run the layers on embeddings (B, T, C), with a mask as `padding_mask` makes it."""
        names = self.spec.names
        want_weights = self.wants("output_attentions", output_attentions)
        want_states = self.wants("output_hidden_states", output_hidden_states)
        context = Context(mask, eager=want_weights or self.attn_implementation == "eager")
        x, states, weights = getattr(self, owner(names.layers))(x, context, want_states)
        if self.spec.norm is not None:
            x = getattr(self, names.norm)(x)
        return self.result(
            return_dict,
            last_hidden_state=x,
            pooler_output=None if self.pooler is None else self.pooler(x),
            hidden_states=tuple(states) if want_states else None,
            attentions=tuple(weights) if want_weights else None,
        )
