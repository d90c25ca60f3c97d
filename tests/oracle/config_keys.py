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

Treatment = Literal["followed", "refused", "harmless", "elsewhere"]


ANY = object()
"""Stands for every value, in `refuses` and `takes`."""


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


def size(*values: Any) -> Key:
    return followed(*values, None, *NOT_SIZES, refuses=NO_SIZE, because=NO_SIZES)


def flag() -> Key:
    return followed(*FLAGS, refuses=NO_FLAGS, because=TYPED)


def epsilon() -> Key:
    return followed(*EPSILONS, takes=(0,), because=WHOLE)


def rate() -> Key:
    return followed(*PROBABILITIES, refuses=("0.1",), because=TYPED)


def activation() -> Key:
    return followed(
        *ACTIVATIONS, *MORE_ACTIVATIONS, refuses=UNKNOWN_ACTIVATIONS, because="no checkpoint known uses it"
    )


NOT_SIZES = (0, -2, "32", 2.5, [4])
NO_SIZE = (0, -2)
NO_SIZES = "a size is above zero: transformers computes with a layer of no width, or with no layers"
FLAGS = (True, False, None, 1, "true")
NO_FLAGS = (1, "true")
TYPED = "a value is of its key's type, also where transformers has not declared the key and takes what Python calls true"
WHOLE = "a whole number is a float, and transformers is strict"
PROBABILITIES = (0.0, 0.3, 1, None, "0.1")
EPSILONS = (1e-5, 0.1, 1e-12, 0, None, "1e-5")
ACTIVATIONS = ("gelu", "relu", "silu", "gelu_new", "gelu_pytorch_tanh", "swish", "tanh", "gelu_python")
MORE_ACTIVATIONS = ("quick_gelu", "relu2", "mish", "gelu_fast", "sigmoid", "leaky_relu", "swiglu", None, 3)
UNKNOWN_ACTIVATIONS = ("sigmoid", "leaky_relu")
WINDOW = 6
"""More than the padding in any input: a padded token that attends to nothing answers as its implementation pleases."""
TOKENS = (0, 3, 66, None, "1")
TYPES = "full_attention", "sliding_attention"

CHECKED = "transformers checks it, and nothing reads what it holds"
COMMON: Mapping[str, Key] = {
    "model_type": elsewhere("decides the architecture"),
    "architectures": followed(["SomethingElse"], None, "BertModel", refuses=("BertModel",), because=TYPED),
    "auto_map": elsewhere("its code runs only where the caller trusts it", {"AutoModel": "modeling.Model"}),
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
    "output_attentions": flag(),
    "output_hidden_states": followed(*FLAGS, [0], refuses=(*NO_FLAGS, [0]), because=TYPED),
    "return_dict": followed(
        *FLAGS,
        refuses=(*NO_FLAGS, None),
        takes=(False,),
        because=f"{TYPED}; of null transformers' classes make one thing or the other, and of false its decoders fail",
    ),
    "use_cache": flag(),
    "initializer_range": followed(0.02, 0.5, 0, None, -1.0, takes=(0,), because=WHOLE),
    "num_labels": followed(3, 1, 4, 0, -1, "3", refuses=(0, -1), because=NO_SIZES),
    "id2label": followed({"0": "a", "1": "b", "2": "c"}, {"0": "a"}, None, ["a"]),
    "problem_type": followed(
        "regression",
        "single_label_classification",
        "multi_label_classification",
        None,
        "other",
        refuses=("other",),
        because="transformers has no loss for it, or fails when labels come",
    ),
    "tie_word_embeddings": flag(),
    "is_encoder_decoder": refused(*FLAGS),
    "text_config": refused({"hidden_size": 16}, {}, None),
    "decoder": refused({"hidden_size": 16}, None),
    "generator": refused({"hidden_size": 16}, None),
    "text_encoder": refused({"hidden_size": 16}, None),
    "per_layer_config": elsewhere("refuse_unfollowed", {"0": {"hidden_size": 16}}, None, refuses=ANY),
    "fusion_config": elsewhere("refuse_unfollowed", {"patch_embeddings": True}, None, refuses=ANY),
    "is_causal": elsewhere(
        "is_causal of decoders, refuse_causal of encoders",
        *FLAGS,
        refuses=(True, None, *NO_FLAGS),
        because="of an encoder, or of null, transformers makes one thing or another by its implementation of attention",
    ),
    "tie_last_hidden_states": refused(False, True, None),
    "attn_implementation": harmless(
        "how attention is computed, not what",
        "eager",
        "sdpa",
        None,
        takes=("sdpa",),
        because="ResNet attends to nothing",
    ),
    "experts_implementation": harmless("of mixtures of experts", "eager", None),
    "gradient_checkpointing": harmless("memory of training", *FLAGS),
    "is_heterogeneous": harmless("a property: no file can hold it", True, takes=ANY, because=CHECKED),
    "mtp_layer_types": harmless(
        "of layers that predict several tokens, which no class of ours has", ["mamba"]
    ),
    "mlp_layer_types": harmless(
        CHECKED, ["dense", "dense"], ["sparse"], takes=(["sparse"],), because=CHECKED
    ),
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
    "vocab_size": size(71, 80, 67, 3),
    "pad_token_id": followed(*TOKENS, 67, -1),
    "bos_token_id": followed(*TOKENS),
    "eos_token_id": followed(*TOKENS, [2, 5]),
    "sep_token_id": harmless("only a warning mentions it", 5),
}

NESTED = elsewhere(
    "Config.get_text_config: the model is built from it",
    {"hidden_size": 16},
    {},
    None,
    takes=ANY,
    because="of a file with a section for its text model transformers' classes for text fail when they make a cache",
)
DECODER: Mapping[str, Key] = {
    **TEXT,
    "text_config": NESTED,
    "hidden_size": size(36, 24, 30),
    "intermediate_size": size(40, 1),
    "num_hidden_layers": size(1, 3),
    "num_attention_heads": size(2, 8, 16, 3),
    "num_key_value_heads": size(1, 4, 3),
    "head_dim": size(8, 4, 5),
    "max_position_embeddings": size(16, 4096, 10),
    "rms_norm_eps": epsilon(),
    "hidden_act": activation(),
    "hidden_activation": harmless("of Gemma", "relu"),
    "attention_dropout": rate(),
    "classifier_dropout": rate(),
    "hidden_dropout": rate(),
    "rope_theta": followed(77.0, 1000000, None, 0, "77", refuses=("77",), because=TYPED),
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
    "original_max_position_embeddings": elsewhere("rope_spec, of the types that read it", 16, None),
    "partial_rotary_factor": elsewhere("rope_spec, of the types that read it", 0.5, 1.0, None),
    "default_theta": harmless("of the class: a file's own is never read", 77.0),
    "default_rope_type": harmless("of the class: a file's own is never read", "linear"),
    "ignore_keys_at_rope_validation": harmless(
        "which warnings are given",
        ["factor"],
        takes=ANY,
        because="transformers then fails over a scaled rope",
    ),
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
LLAMA = {**DECODER, **NO_WINDOWS, "attention_bias": flag(), "mlp_bias": flag()}
BIDIRECTIONAL = elsewhere(
    "is_causal", *FLAGS, refuses=ANY, because="tokens that see later ones within a window cannot be continued"
)
MISTRAL = {
    **DECODER,
    "is_causal": BIDIRECTIONAL,
    "sliding_window": followed(WINDOW, None, 4096, 0, -1, "5"),
    "layer_types": followed(
        ["full_attention", "sliding_attention"],
        ["sliding_attention"] * 2,
        None,
        ["x"],
        refuses=(["full_attention", "sliding_attention"], ["sliding_attention"] * 2),
        because="transformers makes it Ministral, whose head for answers calls its base model otherwise",
    ),
}
GEMMA = {
    **DECODER,
    **NO_WINDOWS,
    "attention_bias": flag(),
    "use_bidirectional_attention": refused(*FLAGS),
    "hidden_activation": harmless(
        "of Gemma 2: transformers does not read it for Gemma", "relu", "gelu", None
    ),
}
LAYER_TYPES = followed(
    ["full_attention", "sliding_attention"], ["full_attention"] * 2, ["sliding_attention"], None, ["x", "y"]
)
GEMMA2 = {
    **GEMMA,
    "is_causal": BIDIRECTIONAL,
    "hidden_act": harmless("of Gemma 1", "relu"),
    "hidden_activation": activation(),
    "query_pre_attn_scalar": followed(
        16, 7, 0, -4, None, "9", refuses=(0, -4), because="a root of it is taken"
    ),
    "sliding_window": followed(WINDOW, 4096, None, 0, -1),
    "layer_types": LAYER_TYPES,
    "attn_logit_softcapping": followed(2.0, None, 30, 0, "2", takes=(30,), because=WHOLE),
    "final_logit_softcapping": followed(2.0, None, 30, 0, "2", takes=(30,), because=WHOLE),
}
QWEN2 = {
    **DECODER,
    "is_causal": BIDIRECTIONAL,
    "use_sliding_window": flag(),
    "sliding_window": followed(WINDOW, 4096, None, 0, -1),
    "max_window_layers": followed(0, 1, 2, 28, None, -1),
    "layer_types": LAYER_TYPES,
}
QWEN3 = {**QWEN2, "attention_bias": flag()}
SMOLLM3 = {
    **DECODER,
    "is_causal": BIDIRECTIONAL,
    "attention_bias": flag(),
    "mlp_bias": flag(),
    "use_sliding_window": flag(),
    "sliding_window": followed(WINDOW, 4096, None, 0, -1),
    "layer_types": followed(
        ["full_attention", "sliding_attention", "full_attention"],
        ["full_attention"] * 3,
        ["sliding_attention"],
        None,
        ["x", "y", "z"],
        refuses=(["full_attention", "sliding_attention", "full_attention"],),
        because="without use_sliding_window no layer is windowed; transformers' masks are, where there is a window",
    ),
    "no_rope_layers": followed([0, 1, 1], [1, 1, 1], [0, 0, 0], [1, 0, 2, 0], [1], None, 3),
    "mlp_layer_types": harmless(CHECKED, ["dense"] * 3, ["sparse"], takes=(["sparse"],), because=CHECKED),
    "no_rope_layer_interval": followed(1, 3, 7, 0, -2, None),
    "num_hidden_layers": size(1, 2),
}
OLMO2 = {**DECODER, **NO_WINDOWS, "attention_bias": flag()}
FACTOR = followed(
    0.5, 3.0, 2, 0, -1.0, None, "2", takes=(2,), refuses=(0, -1.0), because="a factor is above zero"
)
GRANITE = {
    **LLAMA,
    "embedding_multiplier": FACTOR,
    "attention_multiplier": FACTOR,
    "residual_multiplier": FACTOR,
    "logits_scaling": FACTOR,
}
COHERE2 = {
    **DECODER,
    "is_causal": BIDIRECTIONAL,
    "attention_bias": flag(),
    "sliding_window": followed(WINDOW, 4096, None, 0, -1),
    "layer_types": LAYER_TYPES,
    "sliding_window_pattern": followed(2, 1, 3, None, 0),
    "layer_norm_eps": epsilon(),
    "rms_norm_eps": harmless("of norms without a mean", 0.1),
    "logit_scale": followed(0.5, 3.0, 2, None, "2", takes=(2,), because=WHOLE),
    "head_dim": harmless("made anew of the hidden size", 8),
}
GLM4 = {
    **DECODER,
    **NO_WINDOWS,
    "attention_bias": flag(),
    "head_dim": followed(20, 28, None, *NOT_SIZES, refuses=(0, -2), because=NO_SIZES),
    "partial_rotary_factor": followed(0.4, 0.2, 1.0, None),
}
CLASS_ROPE = harmless(
    "of the class: a file's own is never read",
    "linear",
    takes=ANY,
    because="transformers then scales every rope, and fails over what its scaling needs",
)
OF_FULL = {
    "sliding_attention": {"rope_theta": 77.0},
    "full_attention": {"rope_type": "linear", "factor": 3.0},
}
LAYERED = {
    **DECODER,
    "default_rope_type": CLASS_ROPE,
    "is_causal": BIDIRECTIONAL,
    "attention_bias": flag(),
    "sliding_window": followed(WINDOW, 4096, None, 0, -1),
    "layer_types": LAYER_TYPES,
    "rope_parameters": followed(
        OF_FULL,
        {"full_attention": {"rope_theta": 77.0}},
        {"sliding_attention": {"rope_type": "dynamic", "factor": 2.0}},
        {"rope_type": "default", "rope_theta": 77.0},
        {"full_attention": {"rope_type": "unknown"}},
        None,
        refuses=({"rope_type": "default", "rope_theta": 77.0},),
        because="it speaks of one rope, and there are two; transformers reads nothing of it",
    ),
}
OLMO3 = LAYERED
GEMMA3 = {
    **LAYERED,
    "hidden_act": harmless("of Gemma 1", "relu"),
    "hidden_activation": activation(),
    "query_pre_attn_scalar": GEMMA2["query_pre_attn_scalar"],
    "attn_logit_softcapping": harmless("read by no Gemma 3", 2.0),
    "final_logit_softcapping": GEMMA2["final_logit_softcapping"],
    "use_bidirectional_attention": flag(),
    "rope_local_base_freq": followed(77.0, 1000000, None),
    "sliding_window_pattern": followed(2, 1, 3, None, 0),
    "_sliding_window_pattern": harmless("what transformers 4 kept of the pattern", 2),
}
YARN = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 8}
GROWN = {"llama_4_scaling_beta": 0.3}
MINISTRAL3 = {
    **DECODER,
    "is_causal": BIDIRECTIONAL,
    "sliding_window": followed(WINDOW, None, 4096, 0, -1, "5", refuses=(0, -1), because=NO_SIZES),
    "layer_types": refused(["full_attention"] * 2, ["sliding_attention"] * 2, None),
    "num_heads": harmless(CHECKED, 4, 3, takes=(4, 3), because=CHECKED),
    "rope_parameters": followed(
        YARN | GROWN,
        {"rope_type": "default", "rope_theta": 77.0, "original_max_position_embeddings": 8} | GROWN,
        {"rope_type": "linear", "factor": 3.0, "original_max_position_embeddings": 8} | GROWN,
        {"rope_type": "llama3", "factor": 3.0} | GROWN,
        YARN,
        GROWN,
        YARN | {"llama_4_scaling_beta": "0.3"},
        None,
    ),
    "rope_scaling": followed(
        {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8} | GROWN,
        {"type": "linear", "factor": 3.0, "original_max_position_embeddings": 8} | GROWN,
        {"type": "linear", "factor": 3.0},
        None,
    ),
}
GPT2: Mapping[str, Key] = {
    **TEXT,
    "text_config": NESTED,
    "n_embd": size(36, 24, 30),
    "n_inner": size(40),
    "n_layer": size(1, 3),
    "n_head": size(2, 8, 3),
    "n_positions": size(40, 20, 10),
    "hidden_size": followed(36, "36"),
    "num_hidden_layers": followed(1, None),
    "num_attention_heads": followed(2, 3),
    "max_position_embeddings": followed(40, 10),
    "layer_norm_epsilon": epsilon(),
    "activation_function": activation(),
    "resid_pdrop": rate(),
    "embd_pdrop": rate(),
    "attn_pdrop": rate(),
    "classifier_dropout": rate(),
    "hidden_dropout": rate(),
    "scale_attn_weights": flag(),
    "scale_attn_by_inverse_layer_idx": flag(),
    "reorder_and_upcast_attn": flag(),
    "add_cross_attention": refused(*FLAGS),
    "output_cross_attentions": harmless("`output_attentions` decides", True),
    "attention_chunk_size": refused(5, None),
    "kv_sharing_modes": refused(["reuse", "reuse"], None),
    **NO_WINDOWS,
}
BERT: Mapping[str, Key] = {
    **TEXT,
    "hidden_size": size(36, 24, 30),
    "intermediate_size": size(40),
    "num_hidden_layers": size(1, 3),
    "num_attention_heads": size(2, 8, 3),
    "max_position_embeddings": size(40, 33, 10),
    "type_vocab_size": size(3, 1, 5),
    "layer_norm_eps": epsilon(),
    "hidden_act": activation(),
    "hidden_dropout_prob": rate(),
    "attention_probs_dropout_prob": rate(),
    "classifier_dropout": rate(),
    "is_decoder": refused(*FLAGS),
    "add_cross_attention": refused(*FLAGS),
    "position_embedding_type": refused("absolute", "relative_key", None),
    "chunk_size_feed_forward": harmless(
        "in which pieces a layer is computed",
        0,
        1,
        13,
        5,
        None,
        takes=(5,),
        because="no piece would change a number",
    ),
    "output_cross_attentions": harmless("`output_attentions` decides", True),
}
TWO_ANSWERS = "a head for answers scores where they start and end, however many labels are named"
DISTILBERT: Mapping[str, Key] = {
    **TEXT,
    "num_labels": followed(
        3, 1, 4, 0, -1, "3", refuses=(0, -1), takes=ANY, because=f"{NO_SIZES}; {TWO_ANSWERS}"
    ),
    "id2label": followed(
        {"0": "a", "1": "b", "2": "c"}, {"0": "a"}, None, ["a"], takes=ANY, because=TWO_ANSWERS
    ),
    "dim": size(36, 24, 30),
    "hidden_dim": size(40),
    "n_layers": size(1, 3),
    "n_heads": size(2, 8, 3),
    "hidden_size": followed(36),
    "num_hidden_layers": followed(1, None),
    "num_attention_heads": followed(2, 3),
    "max_position_embeddings": size(40, 10),
    "activation": activation(),
    "dropout": rate(),
    "attention_dropout": rate(),
    "qa_dropout": rate(),
    "seq_classif_dropout": rate(),
    "sinusoidal_pos_embds": flag(),
    "chunk_size_feed_forward": harmless(
        "in which pieces a layer is computed",
        0,
        1,
        13,
        5,
        None,
        takes=(5,),
        because="no piece would change a number",
    ),
}
ELECTRA: Mapping[str, Key] = {
    **BERT,
    "num_labels": followed(
        3, 1, 4, 0, -1, "3", refuses=(0, -1), takes=ANY, because=f"{NO_SIZES}; {TWO_ANSWERS}"
    ),
    "id2label": followed(
        {"0": "a", "1": "b", "2": "c"}, {"0": "a"}, None, ["a"], takes=ANY, because=TWO_ANSWERS
    ),
    "embedding_size": size(24, 32, 7),
    "summary_last_dropout": rate(),
    "summary_type": refused("first", "mean", "last", None),
    "summary_use_proj": refused(*FLAGS),
    "summary_proj_to_labels": refused(*FLAGS),
    "summary_activation": refused("gelu", "tanh", None),
    "summary_first_dropout": refused(0, 0.1, None),
}
NOT_SHARED = (
    "heads that do not share the hidden size are not there; without the check, transformers rounds down"
)
VIT: Mapping[str, Key] = {
    "head_dim": elsewhere("vit_spec", 8, 5, None, refuses=ANY, because=NOT_SHARED),
    "hidden_size": followed(
        36, 24, 30, None, *NOT_SIZES, refuses=(30, *NO_SIZE), because=f"{NO_SIZES}; {NOT_SHARED}"
    ),
    "intermediate_size": size(40),
    "num_hidden_layers": size(1, 3),
    "num_attention_heads": followed(
        2, 8, 3, None, *NOT_SIZES, refuses=(3, *NO_SIZE), because=f"{NO_SIZES}; {NOT_SHARED}"
    ),
    "layer_norm_eps": epsilon(),
    "hidden_act": activation(),
    "hidden_dropout_prob": rate(),
    "attention_probs_dropout_prob": rate(),
    "image_size": followed(
        20,
        [20, 20],
        [20],
        16,
        0,
        None,
        "20",
        [20, 20, 20],
        refuses=([20, 20, 20],),
        because="an image has two sides",
    ),
    "patch_size": followed(4, 5, [4, 5], 3, 40, 0, None, "4"),
    "num_channels": size(3, 1),
    "qkv_bias": flag(),
    "pooler_output_size": size(9),
    "pooler_act": followed(
        *ACTIVATIONS,
        *MORE_ACTIVATIONS,
        refuses=(*UNKNOWN_ACTIVATIONS, "swiglu"),
        because="it is looked up also where a class has no pooler",
    ),
}
STAGES = "hidden_sizes and depths have an entry each for every stage"
RESNET: Mapping[str, Key] = {
    "is_causal": harmless("ResNet attends to nothing", *FLAGS),
    "tie_last_hidden_states": harmless("ResNet has no last norm", False),
    "num_channels": size(3, 1),
    "embedding_size": size(8),
    "hidden_sizes": followed(
        [8, 12],
        [16, 24, 30],
        [16, 24, 36],
        None,
        [],
        [16, 0, 36],
        [3, 5, 7],
        "16",
        refuses=([8, 12],),
        because=STAGES,
    ),
    "depths": followed(
        [1, 1, 1], [2, 1], [1, 0, 1], [1, -1, 1], None, [], 2, refuses=([2, 1],), because=STAGES
    ),
    "layer_type": followed("basic", "bottleneck", "other", None),
    "hidden_act": activation(),
    "downsample_in_first_stage": flag(),
    "downsample_in_bottleneck": flag(),
    "out_features": harmless(
        "of the backbone class, which is not there", ["stage1"], ["x"], takes=ANY, because=CHECKED
    ),
    "out_indices": harmless(
        "of the backbone class, which is not there", [1], [77], takes=ANY, because=CHECKED
    ),
    "stage_names": harmless("of the backbone class, which is not there", ["a"]),
    "layer_types": harmless(
        CHECKED, ["full_attention"] * 2, takes=ANY, because="they stand for its kinds of layers"
    ),
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
    "smollm3": SMOLLM3,
    "olmo2": OLMO2,
    "olmo3": OLMO3,
    "gemma3_text": GEMMA3,
    "granite": GRANITE,
    "cohere2": COHERE2,
    "glm4": GLM4,
    "ministral3": MINISTRAL3,
    "gpt2": GPT2,
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "camembert": BERT,
    "electra": ELECTRA,
    "distilbert": DISTILBERT,
    "vit": VIT,
    "resnet": RESNET,
}


@functools.cache
def keys_of(model_type: str) -> dict[str, Key]:
    """Return key -> what becomes of it, for one model type."""
    return {**COMMON, **OF_TYPE[model_type]}


SPELLINGS: Mapping[str, Mapping[str, str]] = {
    "gpt2": {
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
    },
    "distilbert": {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"},
}
"""Model type -> another spelling -> the key that is taken out of the file where it is set. Two that disagree are an error
here; in transformers the later one in the file holds."""


def refused_alone(model_type: str, changed: Mapping[str, Any]) -> set[str]:
    """Return the keys whose values only loadstone refuses."""
    keys = keys_of(model_type)
    return {name for name, value in changed.items() if _holds(keys[name].refuses, value)}


def taken_alone(model_type: str, changed: Mapping[str, Any]) -> set[str]:
    """Return the keys whose values only transformers refuses."""
    keys = keys_of(model_type)
    return {name for name, value in changed.items() if value is None or _holds(keys[name].takes, value)}


def _holds(values: Any, value: object) -> bool:
    """Return whether a value is among some, where true is not one."""
    return values is ANY or any(type(one) is type(value) and one == value for one in values)
