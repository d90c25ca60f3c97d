"""A decoder: tokens to hidden states, each from those before it.

B batch, T query tokens, S key tokens, H heads, C hidden size.
"""

from __future__ import annotations

import functools
from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from loadstone.architectures import DecoderSpec
from loadstone.config import Config
from loadstone_flax.blocks.attention import grown
from loadstone_flax.blocks.layer import Layer
from loadstone_flax.blocks.masks import causal_mask, packed_sequences
from loadstone_flax.blocks.run import Context, place, run_blocks
from loadstone_flax.generation import Cache
from loadstone_flax.heads import Output
from loadstone_flax.layers import Dropout, Embedding, RotaryEmbedding, norm, stack
from loadstone_flax.modeling import PreTrainedModel


class Decoder(PreTrainedModel):
    """The decoder without a head: token ids to hidden states.

    ```
    words (+ positions) ── layer ── layer ── ... ── norm ──>
    ```

    Attributes:
        layer_class: Makes a layer; a family names it as its users know it.
    """

    spec: DecoderSpec
    layer_class: ClassVar[type[Layer]] = Layer

    def __init__(self, config: Config) -> None:
        """Build it without memory."""
        super().__init__(config)
        spec, names = self.spec, self.spec.names
        size, embeddings = spec.hidden_size, spec.embeddings
        place(
            self,
            names.embeddings.words,
            Embedding(embeddings.vocab_size, size, padding_idx=embeddings.pad_token_id),
        )
        if names.embeddings.positions:
            place(self, names.embeddings.positions, Embedding(embeddings.positions, size))
        if names.embeddings.dropout:
            place(self, names.embeddings.dropout, Dropout(embeddings.dropout))
        make = functools.partial(self.layer_class, names=names, hidden_size=size)
        place(self, names.layers, stack(spec.layers, make))
        if spec.norm is not None:
            place(self, names.norm, norm(spec.norm, size))
        for index, rope in enumerate(spec.ropes):
            place(self, _rotary(spec, index), RotaryEmbedding(rope))

    def forward(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Array | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Output:
        """Run the decoder.

        Args:
            input_ids: (B, T).
            attention_mask: (B, S), zero at padding; S counts the slots of the cache too.
            position_ids: (B, T); counted from the cached tokens on where absent. Without a mask and a cache, a new sequence
                starts wherever they do not go up by one, and sees none before it.
            past_key_values: The cache of earlier tokens; the extended one is returned.
            inputs_embeds: (B, T, C) in place of `input_ids`.
            use_cache: Return a cache.
            output_attentions: Return the weights of each layer, (B, H, T, S).
            output_hidden_states: Return the embeddings and each layer's output, (B, T, C).
            return_dict: False returns a tuple.

        Returns:
            `last_hidden_state` (B, T, C), `past_key_values`, `hidden_states`, `attentions`.
        """
        x = self.words(input_ids, inputs_embeds)
        return self.decode(
            x,
            attention_mask,
            position_ids,
            past_key_values,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=return_dict,
        )

    def words(self, input_ids: Array | None, inputs_embeds: Array | None) -> Array:
        """Return what is looked up of the tokens, scaled; or the embeddings that are given. (B, T, C)."""
        x = self.embed(getattr(self, self.spec.names.embeddings.words), input_ids, inputs_embeds)
        scale, given = self.spec.embeddings.scale, inputs_embeds is not None
        if scale == 1.0 or (given and not self.spec.embeddings.scale_given):
            return x
        return x * jnp.asarray(scale, x.dtype)

    def decode(
        self,
        x: Array,
        attention_mask: Array | None,
        position_ids: Array | None,
        cache: Cache | None,
        *,
        token_type_ids: Array | None = None,
        use_cache: bool | None,
        output_attentions: bool | None,
        output_hidden_states: bool | None,
        return_dict: bool | None,
    ) -> Output:
        """Run the decoder on embeddings of words (B, T, C); the other inputs are those of `forward`."""
        if cache is None and self.wants("use_cache", use_cache):
            cache = Cache()
        tokens = x.shape[1]
        seen = cache.get_seq_length() if cache is not None else 0
        packed = None
        if position_ids is None:
            position_ids = (seen + jnp.arange(tokens))[None]
        elif attention_mask is None and cache is None:
            packed = packed_sequences(position_ids)
        x = self._positioned(x, position_ids, token_type_ids)
        want_weights = self.wants("output_attentions", output_attentions)
        want_states = self.wants("output_hidden_states", output_hidden_states)
        contexts = self._contexts(
            x,
            position_ids,
            attention_mask,
            seen=seen,
            packed=packed,
            cache=cache,
            eager=want_weights or self.attn_implementation == "eager",
        )
        names = self.spec.names
        x, states, weights = run_blocks(getattr(self, names.layers), x, contexts, keep_states=want_states)
        if cache is not None:
            cache.advance(tokens)
        if self.spec.norm is not None:
            x = getattr(self, names.norm)(x)
        return self.result(
            return_dict,
            last_hidden_state=x,
            past_key_values=cache,
            # The last state is the normalised one.
            hidden_states=(*states[:-1], x) if want_states else None,
            attentions=tuple(weights) if want_weights else None,
        )

    def _positioned(self, x: Array, position_ids: Array, token_type_ids: Array | None) -> Array:
        """Add learned positions and types to words (B, T, C), where the family has them."""
        names = self.spec.names.embeddings
        if names.positions:
            x = x + getattr(self, names.positions)(position_ids + self.spec.embeddings.positions_offset)
        if token_type_ids is not None:
            x = x + getattr(self, names.types)(token_type_ids)
        return getattr(self, names.dropout)(x) if names.dropout else x

    def _contexts(
        self,
        x: Array,
        position_ids: Array,
        attention_mask: Array | None,
        *,
        seen: int | Array,
        packed: Array | None,
        cache: Cache | None,
        eager: bool,
    ) -> list[Context]:
        """Return each layer's context: there is one mask a window, one rotation a rope, one factor a growth."""
        kinds, tokens = self.spec.kinds, x.shape[1]
        masks = {
            window: causal_mask(
                attention_mask,
                seen=seen,
                queries=tokens,
                keys=tokens if cache is None else cache.keys(tokens),
                window=window,
                packed=packed,
                causal=self.spec.causal,
            )
            for window in {window for window, _, _ in kinds}
        }
        turns = {
            rope: None if rope is None else getattr(self, _rotary(self.spec, rope))(x, position_ids)
            for rope in {rope for _, rope, _ in kinds}
        }
        factors = {
            growth: None if growth is None else grown(growth, position_ids, x.dtype)
            for growth in {growth for _, _, growth in kinds}
        }
        return [
            Context(masks[window], turns[rope], cache, layer, eager, growth=factors[growth])
            for layer, (window, rope, growth) in enumerate(kinds)
        ]


def _rotary(spec: DecoderSpec, rope: int) -> str:
    """Return the name of the cosines and sines of one of the ropes."""
    return f"{spec.names.rotary}_{rope}" if rope else spec.names.rotary
