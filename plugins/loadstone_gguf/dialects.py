"""llama.cpp's names and keys, for each type that is read: data. What a row says nothing of is as in most.

Sources: llama.cpp's convert_hf_to_gguf.py and src/llama-model.cpp; gguf-py's constants.py and tensor_mapping.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

LAYER = "blk."
LEAVES = ("weight", "bias")

_DECODER = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_QWEN3 = _DECODER | {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_GEMMA2 = _DECODER | {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_GPT2 = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}
_COMMON = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "vocab_size": "vocab_size",
    "rope.freq_base": "rope_theta",
}
_WINDOWED = _COMMON | {"attention.sliding_window": "sliding_window"}
_CAPPED = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
_OF_GPT2 = {
    "context_length": "n_positions",
    "block_count": "n_layer",
    "embedding_length": "n_embd",
    "feed_forward_length": "n_inner",
    "attention.head_count": "n_head",
    "attention.layer_norm_epsilon": "layer_norm_epsilon",
    "vocab_size": "vocab_size",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How the files of one `general.architecture` say what a checkpoint says.

    Attributes:
        model_class: The class that a checkpoint of this type names.
        modules: Module in the file -> module in a checkpoint, without the layer's own part of the name.
        layers: How a layer's name begins in a checkpoint.
        keys: Key -> key of config.json.
        needed: Keys without which there is no model.
        rope: Whether positions are rotated.
        heads: Modules whose rows lie in pairs, one of each half of a head, and the key that says how many heads there are.
        turned: Modules whose weight checkpoints have as [in, out].
        less_one: Whether norms are stored with one added.
        wide: Modules that llama.cpp wants in float32 whatever their shape.
    """

    model_class: str
    modules: Mapping[str, str]
    layers: str = "model.layers"
    keys: Mapping[str, str]
    needed: tuple[str, ...] = (
        "context_length",
        "block_count",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.layer_norm_rms_epsilon",
    )
    rope: bool = True
    heads: Mapping[str, str] = dataclasses.field(default_factory=dict)
    turned: tuple[str, ...] = ()
    less_one: bool = False
    wide: tuple[str, ...] = ()

    def name(self, stored: str) -> str | None:
        """Return the name of a tensor in checkpoints; None for one that those of the type have not.

        Example:
            >>> DIALECTS["llama"].name("blk.3.attn_q.weight")
            'model.layers.3.self_attn.q_proj.weight'
        """
        path, _, leaf = stored.rpartition(".")
        if not path.startswith(LAYER):
            module = self.modules.get(path)
            return None if module is None else f"{module}.{leaf}"
        _, _, rest = path.partition(".")
        number, _, path = rest.partition(".")
        module = self.modules.get(path)
        return None if module is None else f"{self.layers}.{number}.{module}.{leaf}"

    def stored(self, name: str) -> str | None:
        """Return the name that a tensor of a checkpoint has in a file; None for one that the type has not.

        Example:
            >>> DIALECTS["llama"].stored("model.layers.3.self_attn.q_proj.weight")
            'blk.3.attn_q.weight'
        """
        path, _, leaf = name.rpartition(".")
        number, inside = "", path.removeprefix(f"{self.layers}.")
        if inside != path:
            number, _, inside = inside.partition(".")
        module = next((own for own, theirs in self.modules.items() if theirs == inside), None)
        if module is None or leaf not in LEAVES:
            return None
        found = f"{LAYER}{number}.{module}.{leaf}" if number else f"{module}.{leaf}"
        return found if self.name(found) == name else None


_PAIRED = {"attn_q": "attention.head_count", "attn_k": "attention.head_count_kv"}

DIALECTS = {
    "llama": Dialect(model_class="LlamaForCausalLM", modules=_DECODER, keys=_WINDOWED, heads=_PAIRED),
    "mistral": Dialect(model_class="MistralForCausalLM", modules=_DECODER, keys=_WINDOWED),
    "qwen2": Dialect(model_class="Qwen2ForCausalLM", modules=_DECODER, keys=_COMMON),
    "qwen3": Dialect(model_class="Qwen3ForCausalLM", modules=_QWEN3, keys=_COMMON),
    "gemma": Dialect(model_class="GemmaForCausalLM", modules=_DECODER, keys=_COMMON, less_one=True),
    "gemma2": Dialect(
        model_class="Gemma2ForCausalLM", modules=_GEMMA2, keys=_WINDOWED | _CAPPED, less_one=True
    ),
    "gpt2": Dialect(
        model_class="GPT2LMHeadModel",
        modules=_GPT2,
        layers="transformer.h",
        keys=_OF_GPT2,
        needed=("context_length", "block_count", "embedding_length", "attention.head_count"),
        rope=False,
        turned=("attn_qkv", "attn_output", "ffn_up", "ffn_down"),
        wide=("position_embd",),
    ),
}
"""`general.architecture` -> how its files say things."""

UNKNOWN = Dialect(model_class="", modules={}, keys={})
"""How a file of another type says things: its tensors can be told of, in its own names."""
