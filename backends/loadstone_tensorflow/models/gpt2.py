"""GPT-2 in TensorFlow. Its projections are stored as [in, out], and held so.

B batch, T query tokens, S key tokens, C hidden size.
Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from loadstone.architectures.gpt2 import ARCHITECTURES
from loadstone.model.classes import add_classes
from loadstone_tensorflow.blocks.decoder import Decoder
from loadstone_tensorflow.blocks.layer import Layer
from loadstone_tensorflow.framework import tf
from loadstone_tensorflow.generation import Cache, Layers
from loadstone_tensorflow.heads import (
    ForCausalLM,
    ForLastTokenClassification,
    ForQuestionAnswering,
    ForTokenClassification,
    Output,
)

Tensor: TypeAlias = tf.Tensor


class GPT2Block(Layer):
    """Attention and feed-forward, each normalised before and added to its input."""


class TFGPT2Model(Decoder):
    """GPT-2 without a head: token ids to hidden states."""

    layer_class = GPT2Block

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | Layers | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> Output:
        """Run the decoder, as `Decoder.forward` does.

        Args:
            input_ids: (B, T).
            attention_mask: (B, S).
            token_type_ids: (B, T), looked up among the words; nothing is added where absent.
            position_ids: (B, T).
            past_key_values: What an earlier call returned, or a `Cache`.
            inputs_embeds: (B, T, C).
            use_cache: Return keys and values.
            output_attentions: Return the weights of each layer.
            output_hidden_states: Return the states.
            return_dict: False returns a tuple.
            training: Apply dropout.

        Returns:
            What `Decoder.forward` returns.
        """
        return self.decode(
            self.words(input_ids, inputs_embeds),
            attention_mask,
            position_ids,
            past_key_values,
            token_type_ids=token_type_ids,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=return_dict,
            training=training,
        )


HEADS = {
    "CausalLM": ForCausalLM,
    "SequenceClassification": ForLastTokenClassification,
    "TokenClassification": ForTokenClassification,
    "QuestionAnswering": ForQuestionAnswering,
}
"""The heads whose model classes have no code of their own, and what these are made from."""
add_classes(globals(), ARCHITECTURES, HEADS, prefix="TF")

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Return a class that `add_classes` makes."""
