"""A decoder: tokens to hidden states, each from those before it.

B batch, T query tokens, S key tokens, H heads, K key-value heads, D head size, C hidden size.
"""

from __future__ import annotations

from typing import ClassVar, TypeAlias

from loadstone.architectures import DecoderSpec
from loadstone.config import Config
from loadstone_tensorflow.blocks.attention import grown
from loadstone_tensorflow.blocks.layer import Layer
from loadstone_tensorflow.blocks.masks import causal_mask, packed_sequences
from loadstone_tensorflow.blocks.run import Context, part, place, run_blocks
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.generation import Cache, Layers
from loadstone_tensorflow.heads import Output
from loadstone_tensorflow.layers import Dropout, Embedding, RotaryEmbedding, Size, check_length, norm, sizes
from loadstone_tensorflow.modeling import PreTrainedModel

Tensor: TypeAlias = tf.Tensor


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
        place(self, names.layers, [self.layer_class(layer, names, size) for layer in spec.layers])
        if spec.norm is not None:
            place(self, names.norm, norm(spec.norm, size))
        for index, rope in enumerate(spec.ropes):
            place(self, _rotary(spec, index), RotaryEmbedding(rope))
        self.kinds = spec.kinds

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | Layers | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> Output:
        """Run the decoder.

        Args:
            input_ids: (B, T).
            attention_mask: (B, S), zero at padding; S counts the cached tokens too.
            position_ids: (B, T); counted from the cached tokens on where absent. Without a mask and a cache, a new sequence
                starts wherever they do not go up by one, and sees none before it.
            past_key_values: What an earlier call returned, or a `Cache`.
            inputs_embeds: (B, T, C) in place of `input_ids`.
            use_cache: Return keys and values.
            output_attentions: Return the weights of each layer, (B, H, T, S).
            output_hidden_states: Return the embeddings and each layer's output, (B, T, C).
            return_dict: False returns a tuple.
            training: Apply dropout.

        Returns:
            `last_hidden_state` (B, T, C), `past_key_values` (a pair (B, K, S, D) per layer), `hidden_states`, `attentions`.
        """
        return self.decode(
            self.words(input_ids, inputs_embeds),
            attention_mask,
            position_ids,
            past_key_values,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=return_dict,
            training=training,
        )

    def words(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """Return what is looked up of the tokens, scaled; or the embeddings that are given. (B, T, C)."""
        x = self.embed(part(self, self.spec.names.embeddings.words), input_ids, inputs_embeds)
        scale, given = self.spec.embeddings.scale, inputs_embeds is not None
        if scale == 1.0 or (given and not self.spec.embeddings.scale_given):
            return x
        return x * tf.constant(scale, x.dtype)

    def decode(
        self,
        x: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        past_key_values: Cache | Layers | None,
        *,
        token_type_ids: Tensor | None = None,
        use_cache: bool | None,
        output_attentions: bool | None,
        output_hidden_states: bool | None,
        return_dict: bool | None,
        training: bool,
    ) -> Output:
        """Run the decoder on embeddings of words (B, T, C); the other inputs are those of `forward`."""
        keeps = self.wants("use_cache", use_cache) and not (training and self.gradient_checkpointing)
        cache = Cache.of(past_key_values, wanted=keeps)
        queries = sizes(x)[1]
        seen = cache.get_seq_length() if cache is not None else 0
        packed = None
        if position_ids is None:
            if self.spec.max_positions:
                check_length(seen + queries, self.spec.max_positions)
            position_ids = (tf.range(queries) + seen)[None]
        elif attention_mask is None and cache is None:
            packed = packed_sequences(position_ids)
        x = self._positioned(x, position_ids, token_type_ids, training)
        want_weights = self.wants("output_attentions", output_attentions)
        want_states = self.wants("output_hidden_states", output_hidden_states)
        contexts = self._contexts(
            x,
            position_ids,
            attention_mask,
            seen=seen,
            packed=packed,
            cache=cache,
            eager=want_weights,
            training=training,
        )
        names = self.spec.names
        x, states, weights = run_blocks(part(self, names.layers), x, contexts, keep_states=want_states)
        if self.spec.norm is not None:
            x = part(self, names.norm)(x)
        return self.result(
            return_dict,
            last_hidden_state=x,
            past_key_values=None if cache is None else tuple(cache),
            # The last state is the normalised one.
            hidden_states=(*states[:-1], x) if want_states else None,
            attentions=tuple(weights) if want_weights else None,
        )

    def _positioned(
        self, x: Tensor, position_ids: Tensor, token_type_ids: Tensor | None, training: bool
    ) -> Tensor:
        """Add learned positions and types to words (B, T, C), where the family has them."""
        names = self.spec.names.embeddings
        if names.positions:
            x = x + part(self, names.positions)(position_ids + self.spec.embeddings.positions_offset)
        if token_type_ids is not None:
            x = x + part(self, names.types)(token_type_ids)
        return part(self, names.dropout)(x, training) if names.dropout else x

    def _contexts(
        self,
        x: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor | None,
        *,
        seen: Size,
        packed: Tensor | None,
        cache: Cache | None,
        eager: bool,
        training: bool,
    ) -> list[Context]:
        """Return each layer's context: there is one mask a window, one rotation a rope, one factor a growth."""
        queries = sizes(x)[1]
        masks = {
            window: causal_mask(
                attention_mask,
                first=seen,
                queries=queries,
                keys=queries if cache is None else cache.keys(queries),
                window=window,
                packed=packed,
                causal=self.spec.causal,
            )
            for window in {window for window, _, _ in self.kinds}
        }
        turns = {
            rope: None if rope is None else part(self, _rotary(self.spec, rope))(x, position_ids)
            for rope in {rope for _, rope, _ in self.kinds}
        }
        factors = {
            growth: None if growth is None else grown(growth, position_ids, x.dtype)
            for growth in {growth for _, _, growth in self.kinds}
        }
        return [
            Context(masks[window], turns[rope], cache, layer, eager, training, growth=factors[growth])
            for layer, (window, rope, growth) in enumerate(self.kinds)
        ]


def _rotary(spec: DecoderSpec, rope: int) -> str:
    """Return the name of the cosines and sines of one of the ropes."""
    return f"{spec.names.rotary}_{rope}" if rope else spec.names.rotary
