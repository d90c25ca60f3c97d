"""The table of cases: which tiny models the oracle is asked about, and with which inputs.

Data only: nothing here imports a framework or numpy. A row names transformers' class and the configuration fields
that differ from its defaults. Sizes are distinct wherever a model allows it, so that a transposed or exchanged axis
cannot pass, and constants (epsilons, rope bases, caps, windows) are large or small enough to show in the outputs.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from loadstone.testing.case import Case, Unseen, decoder, encoder, image, table

SPECIAL_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
DEFAULT_ROPE = {"rope_type": "default", "rope_theta": 500.0}

LLAMA_LIKE = {
    "vocab_size": 67,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 64,
    "rms_norm_eps": 2e-3,
    "rope_parameters": DEFAULT_ROPE,
    **SPECIAL_TOKENS,
}
WINDOW = 7

BERT = {
    "vocab_size": 67,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 29,
    "type_vocab_size": 3,
    "layer_norm_eps": 2e-3,
    "pad_token_id": 0,
}
ROBERTA = BERT | {"type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
DISTILBERT = {
    "vocab_size": 67,
    "dim": 32,
    "hidden_dim": 44,
    "n_layers": 2,
    "n_heads": 4,
    "max_position_embeddings": 29,
    "pad_token_id": 0,
}
GPT2 = {
    "vocab_size": 67,
    "n_embd": 32,
    "n_inner": 44,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 37,
    "layer_norm_epsilon": 2e-3,
    **SPECIAL_TOKENS,
}
VIT = {
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 20,
    "patch_size": 4,
    "layer_norm_eps": 2e-3,
}
RESNET = {"embedding_size": 6, "hidden_sizes": [16, 24, 36], "depths": [1, 2, 1], "layer_type": "bottleneck"}

SCALED: dict[str, Any] = {"embedding_deviation": 0.08}
"""Of models that multiply embeddings with the root of the hidden size."""

SINGLE_LABEL = {"problem_type": "single_label_classification", "num_labels": 3}
MULTI_LABEL = {"problem_type": "multi_label_classification", "num_labels": 3}
REGRESSION = {"problem_type": "regression", "num_labels": 1}


def _llama() -> Iterator[Case]:
    def causal(
        variant: str = "", runs: tuple[str, ...] = (), absent: tuple[str, ...] = (), **config: Any
    ) -> Case:
        fields = LLAMA_LIKE | config
        return decoder("llama", "LlamaForCausalLM", fields, variant=variant, absent=absent, runs=runs)

    for suffix in ("Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"):
        yield decoder("llama", f"Llama{suffix}", LLAMA_LIKE)
    yield causal(runs=("generate", "generate_eos", "plain", "bf16"))
    yield causal("tied", tie_word_embeddings=True)
    yield causal("bias", attention_bias=True, mlp_bias=True)
    yield causal("head-dim-absent", absent=("head_dim",), head_dim=None)
    yield causal("multi-head", num_key_value_heads=4, hidden_act="gelu")
    yield causal("rope-linear", rope_parameters={"rope_type": "linear", "rope_theta": 500.0, "factor": 3.0})
    # With base 100 and ten rotated dimensions the wavelengths are 6.3, 15.8, 39.6, 99.6 and 250: one below the high
    # frequency limit (7.3), one between the limits (smoothed), three above the low one (16), as in Llama 3.1.
    llama3 = {
        "rope_type": "llama3",
        "rope_theta": 100.0,
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 2.2,
        "original_max_position_embeddings": 16,
    }
    yield causal("rope-llama3", rope_parameters=llama3, head_dim=10)


def _llama_rope() -> Iterator[Case]:
    def causal(variant: str, runs: tuple[str, ...] = (), **config: Any) -> Case:
        fields = LLAMA_LIKE | config
        return decoder("llama", "LlamaForCausalLM", fields, family="llama_rope", variant=variant, runs=runs)

    # Two tables: of sequences within the original context and beyond it.
    both = ("short", "cache")
    dynamic = {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 2.0}
    yield causal("rope-dynamic", both, rope_parameters=dynamic, max_position_embeddings=16)
    yarn = {
        "rope_type": "yarn",
        "rope_theta": 100.0,
        "factor": 4.0,
        "beta_fast": 2.0,
        "beta_slow": 0.5,
        "original_max_position_embeddings": 16,
    }
    yield causal("rope-yarn", rope_parameters=yarn, head_dim=10)
    scaled = yarn | {"attention_factor": 1.3, "truncate": False}
    yield causal("rope-yarn-untruncated", rope_parameters=scaled, head_dim=10)
    mscale = yarn | {"mscale": 0.7, "mscale_all_dim": 1.4}
    yield causal("rope-yarn-mscale", rope_parameters=mscale, head_dim=10)
    longrope = {
        "rope_type": "longrope",
        "rope_theta": 500.0,
        "factor": 4.0,
        "short_factor": [1.1, 1.3, 1.7],
        "long_factor": [1.2, 2.1, 3.9],
        "original_max_position_embeddings": 16,
    }
    yield causal("rope-longrope", both, rope_parameters=longrope)


ALL_HEADS = (
    "Model",
    "ForCausalLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
)
GEMMA_HEADS = ALL_HEADS[:-1]


def _mistral() -> Iterator[Case]:
    config = LLAMA_LIKE | {"sliding_window": WINDOW}
    for suffix in ALL_HEADS:
        yield decoder("mistral", f"Mistral{suffix}", config)
    unbounded = LLAMA_LIKE | {"sliding_window": None, "tie_word_embeddings": True}
    yield decoder("mistral", "MistralForCausalLM", unbounded, variant="no-window")


def _gemma() -> Iterator[Case]:
    for suffix in GEMMA_HEADS:
        yield decoder("gemma", f"Gemma{suffix}", LLAMA_LIKE, **SCALED)
    single = LLAMA_LIKE | {"num_key_value_heads": 1, "attention_bias": True}
    yield decoder("gemma", "GemmaForCausalLM", single, variant="multi-query", **SCALED)


def _gemma2() -> Iterator[Case]:
    config = LLAMA_LIKE | {
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": 9,
        "attn_logit_softcapping": 1.5,
        "final_logit_softcapping": 1.0,
    }
    for suffix in GEMMA_HEADS:
        yield decoder("gemma2", f"Gemma2{suffix}", config, **SCALED)
    uncapped = config | {"attn_logit_softcapping": None, "final_logit_softcapping": None}
    yield decoder("gemma2", "Gemma2ForCausalLM", uncapped, variant="uncapped", **SCALED)


def _qwen() -> Iterator[Case]:
    # Qwen 2 has no field `head_dim`; its heads are hidden / heads wide.
    qwen2 = {key: value for key, value in LLAMA_LIKE.items() if key != "head_dim"}
    qwen3 = LLAMA_LIKE
    windows = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}
    for suffix in ALL_HEADS:
        yield decoder("qwen2", f"Qwen2{suffix}", qwen2)
        yield decoder("qwen3", f"Qwen3{suffix}", qwen3)
    tied = {"tie_word_embeddings": True}
    yield decoder("qwen2", "Qwen2ForCausalLM", qwen2 | windows, variant="window")
    yield decoder("qwen2", "Qwen2ForCausalLM", qwen2 | tied, variant="tied")
    biased = windows | tied | {"attention_bias": True}
    yield decoder("qwen3", "Qwen3ForCausalLM", qwen3 | biased, variant="window-tied-bias")


def _smollm3() -> Iterator[Case]:
    # SmolLM3 has no field `head_dim`; one of three layers rotates nothing.
    config = {key: value for key, value in LLAMA_LIKE.items() if key != "head_dim"}
    config |= {"num_hidden_layers": 3, "no_rope_layer_interval": 2, "tie_word_embeddings": False}
    for suffix in ALL_HEADS:
        yield decoder("smollm3", f"SmolLM3{suffix}", config)
    windows = {"use_sliding_window": True, "sliding_window": WINDOW, "no_rope_layers": [0, 1, 0]}
    more = {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}
    yield decoder("smollm3", "SmolLM3ForCausalLM", config | windows | more, variant="window-tied-bias")


OLMO2_HEADS = ALL_HEADS[:3]


def _olmo2() -> Iterator[Case]:
    config = {key: value for key, value in LLAMA_LIKE.items() if key != "head_dim"}
    for suffix in OLMO2_HEADS:
        yield decoder("olmo2", f"Olmo2{suffix}", config)
    biased = {"attention_bias": True, "tie_word_embeddings": True, "num_key_value_heads": 4}
    yield decoder("olmo2", "Olmo2ForCausalLM", config | biased, variant="tied-bias")


def _granite() -> Iterator[Case]:
    config = {key: value for key, value in LLAMA_LIKE.items() if key != "head_dim"}
    config |= {"attention_multiplier": 0.7, "residual_multiplier": 0.6, "embedding_multiplier": 3.0}
    config |= {"logits_scaling": 1.7}
    yield decoder("granite", "GraniteModel", config, runs=("embeds",))
    yield decoder("granite", "GraniteForCausalLM", config)
    biased = {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}
    yield decoder("granite", "GraniteForCausalLM", config | biased, variant="tied-bias", **SCALED)


TWO_ROPES = {
    "sliding_attention": DEFAULT_ROPE,
    "full_attention": {"rope_type": "linear", "rope_theta": 90.0, "factor": 3.0},
}


def _olmo3() -> Iterator[Case]:
    config = {key: value for key, value in LLAMA_LIKE.items() if key != "head_dim"}
    config |= {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": WINDOW}
    config |= {"rope_parameters": TWO_ROPES}
    for suffix in OLMO2_HEADS:
        yield decoder("olmo3", f"Olmo3{suffix}", config)


def _gemma3() -> Iterator[Case]:
    config = LLAMA_LIKE | {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": TWO_ROPES,
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": 9,
    }
    for name in ("Gemma3TextModel", "Gemma3ForCausalLM", "Gemma3TextForSequenceClassification"):
        yield decoder("gemma3_text", name, config, **SCALED)
    capped = {"attn_logit_softcapping": 1.5, "final_logit_softcapping": 1.0, "attention_bias": True}
    yield decoder("gemma3_text", "Gemma3ForCausalLM", config | capped, variant="capped-bias", **SCALED)
    both_ways = {"use_bidirectional_attention": True}
    yield decoder("gemma3_text", "Gemma3TextModel", config | both_ways, variant="both-ways", **SCALED)


def _cohere2() -> Iterator[Case]:
    config = {key: value for key, value in LLAMA_LIKE.items() if key not in ("head_dim", "rms_norm_eps")}
    config |= {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": WINDOW}
    config |= {"layer_norm_eps": 2e-3, "logit_scale": 0.4, "tie_word_embeddings": False}
    for suffix in ALL_HEADS[:2]:
        yield decoder("cohere2", f"Cohere2{suffix}", config)
    biased = {"attention_bias": True, "tie_word_embeddings": True}
    yield decoder("cohere2", "Cohere2ForCausalLM", config | biased, variant="tied-bias")


def _glm4() -> Iterator[Case]:
    config = LLAMA_LIKE | {"head_dim": 12, "partial_rotary_factor": 0.5, "attention_bias": False}
    for suffix in GEMMA_HEADS:
        yield decoder("glm4", f"Glm4{suffix}", config)
    more = config | {"attention_bias": True, "tie_word_embeddings": True}
    more["rope_parameters"] = DEFAULT_ROPE | {"partial_rotary_factor": 0.7}
    yield decoder("glm4", "Glm4ForCausalLM", more, variant="tied-bias")


def _ministral3() -> Iterator[Case]:
    # Queries grow at the 8th token and again at the 16th.
    yarn = {
        "rope_type": "yarn",
        "rope_theta": 100.0,
        "factor": 4.0,
        "beta_fast": 2.0,
        "beta_slow": 0.5,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 8,
        "llama_4_scaling_beta": 0.4,
    }
    config = LLAMA_LIKE | {"rope_parameters": yarn, "head_dim": 10}
    for suffix in ALL_HEADS:
        yield decoder("ministral3", f"Ministral3{suffix}", config)
    windows = {"sliding_window": WINDOW, "tie_word_embeddings": True}
    yield decoder("ministral3", "Ministral3ForCausalLM", config | windows, variant="window-tied")


def _gpt2() -> Iterator[Case]:
    fed = ("position_ids", "token_type_ids")
    suffixes = (
        "Model",
        "LMHeadModel",
        "ForSequenceClassification",
        "ForTokenClassification",
        "ForQuestionAnswering",
    )
    for suffix in suffixes:
        yield decoder("gpt2", f"GPT2{suffix}", GPT2, fed=fed)
    scaled = GPT2 | {
        "n_inner": None,
        "scale_attn_by_inverse_layer_idx": True,
        "reorder_and_upcast_attn": True,
        "activation_function": "gelu",
        "tie_word_embeddings": False,
    }
    yield decoder("gpt2", "GPT2LMHeadModel", scaled, variant="scaled-untied", fed=fed)
    unscaled = GPT2 | {"scale_attn_weights": False}
    yield decoder("gpt2", "GPT2LMHeadModel", unscaled, variant="unscaled", fed=fed)


def _bert() -> Iterator[Case]:
    no_pooler = {"add_pooling_layer": False}
    yield encoder("bert", "BertModel", BERT)
    yield encoder("bert", "BertModel", BERT, variant="no-pooler", model_arguments=no_pooler, fed=())
    yield encoder("bert", "BertModel", BERT | {"hidden_act": "gelu_new"}, variant="gelu-new", fed=())
    yield encoder("bert", "BertForMaskedLM", BERT)
    yield encoder("bert", "BertForMaskedLM", BERT | {"tie_word_embeddings": False}, variant="untied", fed=())
    yield encoder("bert", "BertForPreTraining", BERT)
    yield encoder("bert", "BertForSequenceClassification", BERT | SINGLE_LABEL, variant="single-label")
    yield encoder("bert", "BertForSequenceClassification", BERT | MULTI_LABEL, variant="multi-label", fed=())
    yield encoder("bert", "BertForSequenceClassification", BERT | REGRESSION, variant="regression", fed=())
    yield encoder("bert", "BertForTokenClassification", BERT)
    yield encoder("bert", "BertForQuestionAnswering", BERT)
    yield encoder("bert", "BertForMultipleChoice", BERT)
    yield encoder("bert", "BertForNextSentencePrediction", BERT)


ENCODER_HEADS = (
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
)


def _later_encoders() -> Iterator[Case]:
    unplaced: dict[str, Any] = {"fed": (), "positions": False}
    xlm_roberta = ROBERTA | {"type_vocab_size": 2, "hidden_act": "relu"}
    for suffix in ("Model", *ENCODER_HEADS):
        yield encoder("roberta", f"Roberta{suffix}", ROBERTA, fed=())
        yield encoder("xlm-roberta", f"XLMRoberta{suffix}", xlm_roberta, fed=())
        yield encoder("distilbert", f"DistilBert{suffix}", DISTILBERT, **unplaced)
    no_pooler = {"add_pooling_layer": False}
    yield encoder("roberta", "RobertaModel", ROBERTA, variant="no-pooler", fed=(), model_arguments=no_pooler)
    sinusoidal = DISTILBERT | {"sinusoidal_pos_embds": True, "activation": "relu"}
    yield encoder("distilbert", "DistilBertModel", sinusoidal, variant="sinusoidal", **unplaced)


def _camembert() -> Iterator[Case]:
    for suffix in ("Model", *ENCODER_HEADS):
        yield encoder("camembert", f"Camembert{suffix}", ROBERTA | {"hidden_act": "silu"}, fed=())


def _electra() -> Iterator[Case]:
    config = BERT | {"embedding_size": 24}
    for suffix in ("Model", "ForPreTraining", *ENCODER_HEADS):
        yield encoder("electra", f"Electra{suffix}", config)
    whole = BERT | {"embedding_size": 32, "hidden_act": "relu"}
    yield encoder(
        "electra", "ElectraForMaskedLM", whole | {"tie_word_embeddings": False}, variant="whole-untied"
    )
    yield encoder("electra", "ElectraForPreTraining", whole, variant="whole")


def _vision() -> Iterator[Case]:
    def vit(class_name: str, config: Mapping[str, Any] = VIT, **more: Any) -> Case:
        # transformers interpolates the position embeddings of square images and patches only.
        return image(
            "vit", class_name, config, interpolates=not isinstance(config["image_size"], list), **more
        )

    def resnet(class_name: str, config: Mapping[str, Any], variant: str = "") -> Case:
        return image("resnet", class_name, config, variant=variant, attentions=False)

    yield vit("ViTModel")
    yield vit("ViTModel", variant="no-pooler", model_arguments={"add_pooling_layer": False})
    activations = {"pooler_act": "relu", "hidden_act": "gelu_new"}
    oblong = {"image_size": [12, 20], "patch_size": [4, 5]}
    other = {"qkv_bias": False, "pooler_output_size": 9} | oblong | activations
    yield vit("ViTModel", VIT | other, variant="no-bias-oblong")
    yield vit("ViTForImageClassification")
    yield resnet("ResNetModel", RESNET)
    yield resnet("ResNetForImageClassification", RESNET)
    basic = RESNET | {"layer_type": "basic", "downsample_in_first_stage": True, "hidden_act": "gelu"}
    yield resnet("ResNetForImageClassification", basic, "basic")
    yield resnet("ResNetModel", RESNET | {"downsample_in_bottleneck": True}, "downsample-in-bottleneck")


LLAMAS = (
    *("mistral", "gemma", "gemma2", "qwen2", "qwen3", "smollm3", "olmo2", "ministral3"),
    *("granite", "olmo3", "gemma3_text", "cohere2", "glm4"),
)
UNLABELLED = (
    "*-base*",
    "*-lm*",
    "*-question-answering",
    "*-multiple-choice",
    "*-pre-training",
    "*-replaced-tokens*",
    "*-prediction",
)
DECODERS = tuple(f"{one}-*" for one in ("llama", *LLAMAS, "gpt2"))
ENCODERS = ("bert-*", "roberta-*", "xlm-roberta-*", "camembert-*", "distilbert-*", "electra-*")
NORMS_BEFORE = (
    *("llama-*", "mistral-*", "ministral3-*", "gemma-*", "qwen*", "smollm3-*"),
    *("granite-*", "cohere2-*", "gpt2-*", "vit-*"),
)
WORDLESS = ("*-base*", "*-classification*", "*-answering", "*-choice", "*-prediction", "*-replaced-*")
UNPOOLED = (
    *("*-no-pooler", "*-masked-*", "*-token-*", "*-answering", "vit-image-*"),
    *("roberta-sequence-*", "xlm-roberta-sequence-*", "camembert-sequence-*"),
)
UNCLASSIFIED = (
    *("*-base*", "*-masked-*", "*-causal-*", "*-pre-training", "*-replaced-*", "*-answering", "*-prediction"),
)
ONE_LAYERED = (
    *(*UNCLASSIFIED, *DECODERS, "*-token-*", "*-choice", "*-image-*"),
    *("bert-sequence-*", "distilbert-sequence-*"),
)

UNSEEN = (
    Unseen(what="*dropout", why="training alone drops"),
    Unseen(what="*initializer_range", why="fresh weights alone are drawn"),
    Unseen(what="*pad_token_id", why="the row of fresh embeddings that is zero"),
    Unseen(what="*classifier.problem_type", why="the loss reads the configuration, which users change"),
    Unseen(what="*classifier.num_labels", why="there are no labels", cases=UNLABELLED),
    Unseen(
        what="*logit_softcap",
        why="there are no words to score",
        cases=("*-base*", "*-classification*", "*-answering"),
    ),
    Unseen(
        what="logit_scale",
        why="there are no words to score",
        cases=("*-base*", "*-classification*", "*-answering"),
    ),
    Unseen(
        what="embeddings.scale_given",
        why="no run gives embeddings in the place of tokens",
        cases=("gemma*-causal-*", "gemma*-classification*", "gemma*-both-ways", "granite-causal-*"),
    ),
    Unseen(what="*rope.limit", why="there is one table of frequencies"),
    Unseen(what="*rope.inverse_frequencies", why="the growth computes them", cases=("*-rope-dynamic",)),
    Unseen(what="*rope.growth", why="the second table goes before it", cases=("*-rope-longrope",)),
    Unseen(what="*cross_attention", why="no type has it yet; single blocks show it"),
    Unseen(what="names.rotary", why="checkpoints hold nothing of it"),
    Unseen(what="names.norms_last", why="the order of modules alone"),
    Unseen(what="*norm.wide", why="float32 rounds nothing"),
    *(
        Unseen(what=f"{place}norm.of_sum", why="it adds nothing to anything")
        for place in ("", "embeddings.", "scores.", "*.qk_")
    ),
    Unseen(what="layers.*.norm.of_sum", why="no norm stands after a part", cases=NORMS_BEFORE),
    Unseen(
        what="embeddings.positions_skip_padding",
        why="no row of what it is fed is padded",
        cases=("electra-*-whole*",),
    ),
    Unseen(what="*scores.*", why="no head scores words", cases=WORDLESS),
    Unseen(what="*pooler*", why="there is no pooler, or nobody reads it", cases=UNPOOLED),
    Unseen(
        what="names.classifier",
        why="no head classifies tokens",
        cases=(*UNCLASSIFIED, "*-sequence-*", "*-choice", "*-image-*"),
    ),
    Unseen(
        what="names.pre_classifier",
        why="no head has that layer",
        cases=(*UNCLASSIFIED, "*-token-*", "electra-sequence-*"),
    ),
    Unseen(what="norm", why="there is none after the layers", cases=ENCODERS),
    Unseen(what="classifier.activation", why="no head has that layer", cases=ONE_LAYERED),
    Unseen(what="out_channels", why="no head reads it", cases=("resnet-base*",)),
    Unseen(what="*.key.bias", why="softmax does not see what is added to every score of a query"),
    Unseen(what="*.k_lin.bias", why="the same"),
    Unseen(
        what="*.k_proj.bias",
        why="the same, where nothing is rotated",
        cases=("smollm3-*-bias", "cohere2-*-bias"),
    ),
    Unseen(what="cls.predictions.bias", why="the decoder's own is added", cases=("bert-masked-lm-untied",)),
)
"""What no answer depends on; `bits` sees every tensor, and a changed configuration what the loss reads of it."""

CASES = table(
    itertools.chain(
        _llama(),
        _bert(),
        _llama_rope(),
        _mistral(),
        _gemma(),
        _gemma2(),
        _qwen(),
        _smollm3(),
        _olmo2(),
        _olmo3(),
        _gemma3(),
        _granite(),
        _cohere2(),
        _glm4(),
        _ministral3(),
        _gpt2(),
        _later_encoders(),
        _camembert(),
        _electra(),
        _vision(),
    ),
    bodies=dict.fromkeys(LLAMAS, "llama") | dict.fromkeys(("xlm-roberta", "camembert"), "roberta"),
    unseen=UNSEEN,
)
"""Every case by its name."""
