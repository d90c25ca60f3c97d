"""The table of the keys of config.json that transformers reads for our model types, and what becomes of each here.

A key is

* `followed`: the configuration class declares it, and the same value gives the same numbers;
* `refused`: it would change what transformers computes, and is an error unless it holds the value that changes nothing;
* `harmless`: no value of it changes a number, or nobody can write it; `why` says which;
* `elsewhere`: followed or refused by what `why` names, and not by a declaration of the configuration class.

Beside that a row holds the values that `changed.py` tries, and which of them the two libraries may disagree about: what
only loadstone refuses (`refuses`), and what only transformers does (`takes`). A null is taken as the key's absence, as
the files of other tools mean it; transformers often refuses it. Data only: no framework is imported.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tests.oracle.cases import CASES

Treatment = Literal["followed", "refused", "harmless", "elsewhere"]


class _Any:
    """Holds every value."""

    def __contains__(self, value: object) -> bool:
        return True


ANY = _Any()


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What becomes of one key.

    Attributes:
        treatment: See above.
        why: For what is harmless or elsewhere: why, or where.
        values: What `changed.py` sets it to, plausible values first.
        refuses: Values that only loadstone refuses; `because` says why.
        takes: Values that only transformers refuses; `because` says why.
        because: Why they differ.
    """

    treatment: Treatment
    why: str = ""
    values: tuple[Any, ...] = ()
    refuses: Any = ()
    takes: Any = ()
    because: str = ""


def followed(*values: Any, refuses: Any = (), takes: Any = (), because: str = "") -> Key:
    return Key(treatment="followed", values=values, refuses=refuses, takes=takes, because=because)


def refused(*values: Any, takes: Any = (), because: str = "") -> Key:
    return Key(treatment="refused", values=values, refuses=ANY, takes=takes, because=because)


def harmless(why: str, *values: Any, takes: Any = (), because: str = "") -> Key:
    return Key(treatment="harmless", why=why, values=values, takes=takes, because=because)


def elsewhere(why: str, *values: Any, refuses: Any = (), takes: Any = (), because: str = "") -> Key:
    return Key(treatment="elsewhere", why=why, values=values, refuses=refuses, takes=takes, because=because)


NOT_SIZES = (0, -2, "32", 2.5, [4])
FLAGS = (True, False, None, 1, "true")
PROBABILITIES = (0.0, 0.3, 1, None, "0.1")
EPSILONS = (1e-5, 0.1, 1e-12, 0, None, "1e-5")
ACTIVATIONS = ("gelu", "relu", "silu", "gelu_new", "gelu_pytorch_tanh", "swish", "tanh", "gelu_python")
MORE_ACTIVATIONS = ("quick_gelu", "relu2", "mish", "gelu_fast", "sigmoid", "leaky_relu", "swiglu", None, 3)
TOKENS = (0, 3, 66, None, "1")
TYPES = "full_attention", "sliding_attention"

CHECKED = "transformers checks it, and nothing reads what it holds"
COMMON: Mapping[str, Key] = {
    "model_type": elsewhere("decides the architecture"),
    "architectures": followed(["SomethingElse"], None, "BertModel"),
    "auto_map": elsewhere("code from a checkpoint never runs", {"AutoModel": "modeling.Model"}),
    "configuration_files": elsewhere(
        "config_file.read_config refuses what names another file",
        ["config.4.0.0.json"],
        [],
        None,
        refuses=ANY,
    ),
    "transformers_weights": elsewhere("opening the checkpoint", "other.safetensors", refuses=ANY),
    "quantization_config": elsewhere("matching", {"quant_method": "fp8"}, None, refuses=ANY),
    "dtype": followed("float32", "bfloat16", "float16", None, "int8", "float99"),
    "torch_dtype": followed("float32", "bfloat16", None),
    "name_or_path": harmless("a name", "somewhere"),
    "_commit_hash": harmless("a name", "abc"),
    "output_attentions": followed(*FLAGS),
    "output_hidden_states": followed(*FLAGS, 1, [0]),
    "return_dict": followed(*FLAGS),
    "use_cache": followed(*FLAGS),
    "initializer_range": followed(0.02, 0.5, 0, None, -1.0),
    "num_labels": followed(3, 1, 4, 0, -1, "3"),
    "id2label": followed({"0": "a", "1": "b", "2": "c"}, {"0": "a"}, None, ["a"]),
    "problem_type": followed(
        "regression", "single_label_classification", "multi_label_classification", None, "other"
    ),
    "tie_word_embeddings": followed(*FLAGS),
    "is_encoder_decoder": refused(*FLAGS),
    "text_config": refused({"hidden_size": 16}, {}, None),
    "decoder": refused({"hidden_size": 16}, None),
    "generator": refused({"hidden_size": 16}, None),
    "text_encoder": refused({"hidden_size": 16}, None),
    "per_layer_config": refused({"0": {"hidden_size": 16}}, None),
    "fusion_config": refused({"patch_embeddings": True}, None),
    "is_causal": followed(*FLAGS, refuses=ANY),
    "tie_last_hidden_states": refused(False, True, None),
    "attn_implementation": harmless("how attention is computed, not what", "eager", "sdpa", None),
    "experts_implementation": harmless("of mixtures of experts", "eager", None),
    "gradient_checkpointing": harmless("memory of training", *FLAGS),
    "is_heterogeneous": harmless("a property: no file can hold it", True, takes=ANY, because=CHECKED),
    "mtp_layer_types": harmless(
        "of layers that predict several tokens, which no class of ours has", ["mamba"]
    ),
    "mlp_layer_types": harmless(CHECKED, ["dense", "dense"], ["sparse"]),
    "num_heads": harmless(CHECKED, 4, 3),
    "embed_dim": harmless(CHECKED, 32, 31),
    "sub_configs": harmless("of the class: a file's own is never read"),
    "sub_configs_defaults": harmless("of the class: a file's own is never read"),
    "partial_rotary_factor": harmless("taken out of the file and dropped", 0.5),
    "rope_scaling": harmless("of models without rotary positions", {"rope_type": "linear", "factor": 2.0}),
    "rope_theta": harmless("of models without rotary positions", 77.0),
    "rope_parameters": harmless("of models without rotary positions", {"rope_theta": 77.0}),
    "layer_types": harmless("of models whose layers are alike", ["full_attention"] * 2),
    "vision_feature_layer": harmless("of vision-language models", -2),
    "vision_feature_select_strategy": harmless("of vision-language models", "full"),
    "vision_aspect_ratio": harmless("of vision-language models", "pad"),
    "head_dim": harmless("of models whose heads share the hidden size", 8, 5),
}

TEXT: Mapping[str, Key] = {
    "vocab_size": followed(71, 80, 67, 3, None, *NOT_SIZES),
    "pad_token_id": followed(*TOKENS, 67, -1),
    "bos_token_id": followed(*TOKENS),
    "eos_token_id": followed(*TOKENS, [2, 5]),
    "sep_token_id": harmless("only a warning mentions it", 5),
}

DECODER: Mapping[str, Key] = {
    **TEXT,
    "hidden_size": followed(36, 24, 30, None, *NOT_SIZES),
    "intermediate_size": followed(40, 1, None, *NOT_SIZES),
    "num_hidden_layers": followed(1, 3, None, *NOT_SIZES),
    "num_attention_heads": followed(2, 8, 16, 3, None, *NOT_SIZES),
    "num_key_value_heads": followed(1, 4, 3, None, *NOT_SIZES),
    "head_dim": followed(8, 4, 5, None, *NOT_SIZES),
    "max_position_embeddings": followed(16, 4096, 10, None, *NOT_SIZES),
    "rms_norm_eps": followed(*EPSILONS),
    "hidden_act": followed(*ACTIVATIONS, *MORE_ACTIVATIONS),
    "hidden_activation": harmless("of Gemma", "relu"),
    "attention_dropout": followed(*PROBABILITIES),
    "classifier_dropout": followed(*PROBABILITIES),
    "hidden_dropout": followed(*PROBABILITIES),
    "rope_theta": followed(77.0, 1000000, None, 0, "77"),
    "rope_parameters": followed(
        {"rope_type": "default", "rope_theta": 77.0},
        {"rope_type": "linear", "factor": 3.0},
        {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 77.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 100.0},
        {"rope_type": "unknown"},
        None,
    ),
    "rope_scaling": followed(
        {"type": "linear", "factor": 3.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        {"type": "dynamic", "factor": 2.0},
        None,
        {"factor": 2.0},
    ),
    "original_max_position_embeddings": followed(16, None),
    "partial_rotary_factor": refused(0.5, 1.0, None),
    "default_theta": harmless("of the class: a file's own is never read", 77.0),
    "default_rope_type": harmless("of the class: a file's own is never read", "linear"),
    "ignore_keys_at_rope_validation": harmless("which warnings are given", ["factor"]),
    "attention_chunk_size": refused(5, None),
    "kv_sharing_modes": refused(["reuse", "reuse"], None),
    "token_classification_bias": refused(False, True, None),
}
NO_WINDOWS = {
    "sliding_window": refused(5, None, 4096),
    "layer_types": refused(
        ["full_attention"] * 2, ["sliding_attention"] * 2, ["linear_attention"] * 2, None, ["x"]
    ),
}
LLAMA = {**DECODER, **NO_WINDOWS, "attention_bias": followed(*FLAGS), "mlp_bias": followed(*FLAGS)}
MISTRAL = {
    **DECODER,
    "sliding_window": followed(5, 1, None, 4096, 0, -1, "5"),
    "layer_types": followed(["full_attention", "sliding_attention"], ["sliding_attention"] * 2, None, ["x"]),
}
GEMMA = {
    **DECODER,
    **NO_WINDOWS,
    "attention_bias": followed(*FLAGS),
    "use_bidirectional_attention": refused(*FLAGS),
    "hidden_activation": followed("relu", "gelu", None),
}
LAYER_TYPES = followed(
    ["full_attention", "sliding_attention"], ["full_attention"] * 2, ["sliding_attention"], None, ["x", "y"]
)
GEMMA2 = {
    **GEMMA,
    "hidden_activation": followed(*ACTIVATIONS, *MORE_ACTIVATIONS),
    "query_pre_attn_scalar": followed(16, 7, 0, -4, None, "9"),
    "sliding_window": followed(5, 1, 4096, None, 0, -1),
    "layer_types": LAYER_TYPES,
    "attn_logit_softcapping": followed(2.0, None, 30, 0, "2"),
    "final_logit_softcapping": followed(2.0, None, 30, 0, "2"),
}
QWEN2 = {
    **DECODER,
    "use_sliding_window": followed(*FLAGS),
    "sliding_window": followed(5, 1, 4096, None, 0, -1),
    "max_window_layers": followed(0, 1, 2, 28, None, -1),
    "layer_types": LAYER_TYPES,
}
QWEN3 = {**QWEN2, "attention_bias": followed(*FLAGS)}
GPT2: Mapping[str, Key] = {
    **TEXT,
    "n_embd": followed(36, 24, 30, None, *NOT_SIZES),
    "n_inner": followed(40, None, *NOT_SIZES),
    "n_layer": followed(1, 3, None, *NOT_SIZES),
    "n_head": followed(2, 8, 3, None, *NOT_SIZES),
    "n_positions": followed(40, 20, 10, None, *NOT_SIZES),
    "hidden_size": followed(36, "36"),
    "num_hidden_layers": followed(1, None),
    "num_attention_heads": followed(2, 3),
    "max_position_embeddings": followed(40, 10),
    "layer_norm_epsilon": followed(*EPSILONS),
    "activation_function": followed(*ACTIVATIONS, *MORE_ACTIVATIONS),
    "resid_pdrop": followed(*PROBABILITIES),
    "embd_pdrop": followed(*PROBABILITIES),
    "attn_pdrop": followed(*PROBABILITIES),
    "classifier_dropout": followed(*PROBABILITIES),
    "hidden_dropout": followed(*PROBABILITIES),
    "scale_attn_weights": followed(*FLAGS),
    "scale_attn_by_inverse_layer_idx": followed(*FLAGS),
    "reorder_and_upcast_attn": followed(*FLAGS),
    "add_cross_attention": refused(*FLAGS),
    "output_cross_attentions": harmless("`output_attentions` decides", True),
    "attention_chunk_size": refused(5, None),
    "kv_sharing_modes": refused(["reuse", "reuse"], None),
    **NO_WINDOWS,
}
BERT: Mapping[str, Key] = {
    **TEXT,
    "hidden_size": followed(36, 24, 30, None, *NOT_SIZES),
    "intermediate_size": followed(40, None, *NOT_SIZES),
    "num_hidden_layers": followed(1, 3, None, *NOT_SIZES),
    "num_attention_heads": followed(2, 8, 3, None, *NOT_SIZES),
    "max_position_embeddings": followed(40, 33, 10, None, *NOT_SIZES),
    "type_vocab_size": followed(3, 1, 5, None, *NOT_SIZES),
    "layer_norm_eps": followed(*EPSILONS),
    "hidden_act": followed(*ACTIVATIONS, *MORE_ACTIVATIONS),
    "hidden_dropout_prob": followed(*PROBABILITIES),
    "attention_probs_dropout_prob": followed(*PROBABILITIES),
    "classifier_dropout": followed(*PROBABILITIES),
    "is_decoder": refused(*FLAGS),
    "add_cross_attention": refused(*FLAGS),
    "position_embedding_type": refused("absolute", "relative_key", None),
    "chunk_size_feed_forward": harmless("in which pieces a layer is computed", 0, 1, 13, 5, None),
    "output_cross_attentions": harmless("`output_attentions` decides", True),
}
DISTILBERT: Mapping[str, Key] = {
    **TEXT,
    "dim": followed(36, 24, 30, None, *NOT_SIZES),
    "hidden_dim": followed(40, None, *NOT_SIZES),
    "n_layers": followed(1, 3, None, *NOT_SIZES),
    "n_heads": followed(2, 8, 3, None, *NOT_SIZES),
    "hidden_size": followed(36),
    "num_hidden_layers": followed(1, None),
    "num_attention_heads": followed(2, 3),
    "max_position_embeddings": followed(40, 10, None, *NOT_SIZES),
    "activation": followed(*ACTIVATIONS, *MORE_ACTIVATIONS),
    "dropout": followed(*PROBABILITIES),
    "attention_dropout": followed(*PROBABILITIES),
    "qa_dropout": followed(*PROBABILITIES),
    "seq_classif_dropout": followed(*PROBABILITIES),
    "sinusoidal_pos_embds": followed(*FLAGS),
    "chunk_size_feed_forward": harmless("in which pieces a layer is computed", 0, 1, 13, 5, None),
}
VIT: Mapping[str, Key] = {
    "hidden_size": followed(36, 24, 30, None, *NOT_SIZES),
    "intermediate_size": followed(40, None, *NOT_SIZES),
    "num_hidden_layers": followed(1, 3, None, *NOT_SIZES),
    "num_attention_heads": followed(2, 8, 3, None, *NOT_SIZES),
    "layer_norm_eps": followed(*EPSILONS),
    "hidden_act": followed(*ACTIVATIONS, *MORE_ACTIVATIONS),
    "hidden_dropout_prob": followed(*PROBABILITIES),
    "attention_probs_dropout_prob": followed(*PROBABILITIES),
    "image_size": followed(20, [20, 20], [20], 16, 0, None, "20", [20, 20, 20]),
    "patch_size": followed(4, 5, [4, 5], 3, 40, 0, None, "4"),
    "num_channels": followed(3, 1, None, *NOT_SIZES),
    "qkv_bias": followed(*FLAGS),
    "pooler_output_size": followed(9, None, *NOT_SIZES),
    "pooler_act": followed(*ACTIVATIONS, *MORE_ACTIVATIONS),
}
RESNET: Mapping[str, Key] = {
    "num_channels": followed(3, 1, None, *NOT_SIZES),
    "embedding_size": followed(8, None, *NOT_SIZES),
    "hidden_sizes": followed([8, 12], [16, 24, 30], [16, 24, 36], None, [], [16, 0, 36], [3, 5, 7], "16"),
    "depths": followed([1, 1, 1], [2, 1], [1, 0, 1], [1, -1, 1], None, [], 2),
    "layer_type": followed("basic", "bottleneck", "other", None),
    "hidden_act": followed(*ACTIVATIONS, *MORE_ACTIVATIONS),
    "downsample_in_first_stage": followed(*FLAGS),
    "downsample_in_bottleneck": followed(*FLAGS),
    "out_features": harmless(
        "of the backbone class, which is not there", ["stage1"], ["x"], takes=ANY, because=CHECKED
    ),
    "out_indices": harmless(
        "of the backbone class, which is not there", [1], [77], takes=ANY, because=CHECKED
    ),
    "stage_names": harmless("of the backbone class, which is not there", ["a"]),
    "init_std": harmless("fresh weights of ResNet are drawn by another rule", 0.5),
    "initializer_factor": harmless("fresh weights of ResNet are drawn by another rule", 0.5),
}

OF_TYPE: Mapping[str, Mapping[str, Key]] = {
    "llama": LLAMA,
    "mistral": MISTRAL,
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "gpt2": GPT2,
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "distilbert": DISTILBERT,
    "vit": VIT,
    "resnet": RESNET,
}


@functools.cache
def keys_of(model_type: str) -> dict[str, Key]:
    """Return key -> what becomes of it, for one model type."""
    return {**COMMON, **OF_TYPE[model_type]}


SPELLINGS: Mapping[str, tuple[str, ...]] = {}
"""Key -> keys that are taken out of the file where it is set: other spellings of it."""


def refused_alone(model_type: str, changed: Mapping[str, Any]) -> set[str]:
    """Return the keys whose values only loadstone refuses."""
    keys = keys_of(model_type)
    return {name for name, value in changed.items() if value in keys[name].refuses}


def taken_alone(model_type: str, changed: Mapping[str, Any]) -> set[str]:
    """Return the keys whose values only transformers refuses."""
    keys = keys_of(model_type)
    return {name for name, value in changed.items() if value is None or value in keys[name].takes}
