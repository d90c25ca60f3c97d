"""The table of the oracle's cases: which tiny models transformers is asked about, and with which inputs.

Data only: nothing here imports a framework or numpy. A row names transformers' class and the configuration fields
that differ from its defaults. Sizes are distinct wherever a model allows it, so that a transposed or exchanged axis
cannot pass, and constants (epsilons, rope bases, caps, windows) are large or small enough to show in the outputs.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

SEQUENCE = 20
"""Tokens in a decoder's inputs: more than each sliding window and each original context below."""
SHORT_SEQUENCE = 5
"""Tokens in the run that stays within each window and each original context."""
ENCODER_SEQUENCE = 13
BATCH = 2
CHOICES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One architecture x task x configuration.

    Attributes:
        name: Unique, and the name of the folder that the oracle leaves.
        family: What tests select by; rows of one family need the same work in a backend.
        model_type: `model_type` of config.json.
        class_name: transformers' model class.
        task: `base`, `causal-lm`, `sequence-classification`, ...
        modality: Which inputs it takes: `decoder` or `encoder` (text), `choices` (text with an axis of choices), `image`.
        config: Configuration fields, in transformers 5's spelling.
        model_arguments: Further arguments of the model's class, such as `add_pooling_layer`.
        absent: Keys that transformers writes to config.json and older checkpoints lack; removed after saving.
        embedding_deviation: Standard deviation that embeddings are drawn with; small where the model scales them up, as
            a tied head would otherwise answer every token with itself.
        runs: The names of the forward passes that are recorded; `inputs.py` says what each feeds.
        repeats: What an earlier case of the table has shown in all its runs: the same class, of which this differs in its
            configuration alone, or the same head, on another model.
    """

    name: str
    family: str
    model_type: str
    class_name: str
    task: str
    modality: str
    config: Mapping[str, Any]
    model_arguments: Mapping[str, Any] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    embedding_deviation: float = 0.4
    runs: tuple[str, ...]
    repeats: Literal["", "class", "head"] = ""


TASKS = {
    "Model": "base",
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForMaskedLM": "masked-lm",
    "ForPreTraining": "pre-training",
    "ForSequenceClassification": "sequence-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMultipleChoice": "multiple-choice",
    "ForNextSentencePrediction": "next-sentence-prediction",
    "ForImageClassification": "image-classification",
}
"""Suffix of transformers' class name -> task."""

DECODER_RUNS = ("plain", "left", "right", "positions", "embeds", "short", "bf16")
ENCODER_RUNS = ("plain", "left", "right", "positions", "embeds", "bf16")
IMAGE_RUNS = ("plain", "bf16")
GENERATION_RUNS = ("keep", "generate", "generate_left", "generate_eos")

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

SCALED_EMBEDDINGS = {"gemma", "gemma2"}
"""Model types that multiply embeddings with the root of the hidden size."""

SINGLE_LABEL = {"problem_type": "single_label_classification", "num_labels": 3}
MULTI_LABEL = {"problem_type": "multi_label_classification", "num_labels": 3}
REGRESSION = {"problem_type": "regression", "num_labels": 1}
LABELLED = {"sequence-classification", "token-classification", "image-classification"}


def _case(
    family: str,
    model_type: str,
    class_name: str,
    config: Mapping[str, Any],
    *,
    modality: str,
    runs: tuple[str, ...],
    variant: str = "",
    model_arguments: Mapping[str, Any] | None = None,
    absent: tuple[str, ...] = (),
) -> Case:
    suffix = max((suffix for suffix in TASKS if class_name.endswith(suffix)), key=len)
    task = TASKS[suffix]
    if task in LABELLED:
        config = {"num_labels": 3} | config
    if task != "base":
        runs += ("train",)
    name = "-".join(filter(None, (model_type, task, variant)))
    return Case(
        name=name,
        family=family,
        model_type=model_type,
        class_name=class_name,
        task=task,
        modality=modality,
        config=config,
        model_arguments=model_arguments or {},
        absent=absent,
        embedding_deviation=0.08 if model_type in SCALED_EMBEDDINGS else 0.4,
        runs=runs,
    )


def _decoder(
    family: str,
    model_type: str,
    class_name: str,
    config: Mapping[str, Any],
    *,
    variant: str = "",
    absent: tuple[str, ...] = (),
    more_runs: tuple[str, ...] = (),
) -> Case:
    runs = DECODER_RUNS + more_runs
    if class_name.endswith(("ForCausalLM", "LMHeadModel")):
        runs += ("cache", *GENERATION_RUNS)
    elif class_name.endswith("Model"):
        runs += ("cache",)
    return _case(
        family, model_type, class_name, config, modality="decoder", runs=runs, variant=variant, absent=absent
    )


def _encoder(
    model_type: str,
    class_name: str,
    config: Mapping[str, Any],
    *,
    variant: str = "",
    model_arguments: Mapping[str, Any] | None = None,
) -> Case:
    runs = ENCODER_RUNS
    if model_type == "distilbert":
        runs = tuple(run for run in runs if run != "positions")
    if config.get("type_vocab_size", 1) > 1:
        runs += ("types",)
    modality = "choices" if class_name.endswith("ForMultipleChoice") else "encoder"
    return _case(
        model_type,
        model_type,
        class_name,
        config,
        modality=modality,
        runs=runs,
        variant=variant,
        model_arguments=model_arguments,
    )


def _llama() -> Iterator[Case]:
    def causal(variant: str, absent: tuple[str, ...] = (), **config: Any) -> Case:
        return _decoder(
            "llama", "llama", "LlamaForCausalLM", LLAMA_LIKE | config, variant=variant, absent=absent
        )

    for suffix in ("Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"):
        yield _decoder("llama", "llama", f"Llama{suffix}", LLAMA_LIKE)
    yield causal("")
    yield causal("tied", tie_word_embeddings=True)
    yield causal("bias", attention_bias=True, mlp_bias=True)
    yield causal("head-dim-absent", ("head_dim",), head_dim=None)
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
    def causal(variant: str, **config: Any) -> Case:
        return _decoder("llama_rope", "llama", "LlamaForCausalLM", LLAMA_LIKE | config, variant=variant)

    dynamic = {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 2.0}
    yield causal("rope-dynamic", rope_parameters=dynamic, max_position_embeddings=16)
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
    yield causal("rope-longrope", rope_parameters=longrope)


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
        yield _decoder("mistral", "mistral", f"Mistral{suffix}", config)
    unbounded = LLAMA_LIKE | {"sliding_window": None, "tie_word_embeddings": True}
    yield _decoder("mistral", "mistral", "MistralForCausalLM", unbounded, variant="no-window")


def _gemma() -> Iterator[Case]:
    for suffix in GEMMA_HEADS:
        yield _decoder("gemma", "gemma", f"Gemma{suffix}", LLAMA_LIKE)
    single = LLAMA_LIKE | {"num_key_value_heads": 1, "attention_bias": True}
    yield _decoder("gemma", "gemma", "GemmaForCausalLM", single, variant="multi-query")


def _gemma2() -> Iterator[Case]:
    config = LLAMA_LIKE | {
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": 9,
        "attn_logit_softcapping": 1.5,
        "final_logit_softcapping": 1.0,
    }
    for suffix in GEMMA_HEADS:
        yield _decoder("gemma2", "gemma2", f"Gemma2{suffix}", config)
    uncapped = config | {"attn_logit_softcapping": None, "final_logit_softcapping": None}
    yield _decoder("gemma2", "gemma2", "Gemma2ForCausalLM", uncapped, variant="uncapped")


def _qwen() -> Iterator[Case]:
    # Qwen 2 has no field `head_dim`; its heads are hidden / heads wide.
    qwen2 = {key: value for key, value in LLAMA_LIKE.items() if key != "head_dim"}
    qwen3 = LLAMA_LIKE
    windows = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}
    for suffix in ALL_HEADS:
        yield _decoder("qwen2", "qwen2", f"Qwen2{suffix}", qwen2)
        yield _decoder("qwen3", "qwen3", f"Qwen3{suffix}", qwen3)
    tied = {"tie_word_embeddings": True}
    yield _decoder("qwen2", "qwen2", "Qwen2ForCausalLM", qwen2 | windows, variant="window")
    yield _decoder("qwen2", "qwen2", "Qwen2ForCausalLM", qwen2 | tied, variant="tied")
    biased = windows | tied | {"attention_bias": True}
    yield _decoder("qwen3", "qwen3", "Qwen3ForCausalLM", qwen3 | biased, variant="window-tied-bias")


def _gpt2() -> Iterator[Case]:
    suffixes = (
        "Model",
        "LMHeadModel",
        "ForSequenceClassification",
        "ForTokenClassification",
        "ForQuestionAnswering",
    )
    for suffix in suffixes:
        # GPT-2's question answering head takes no position for its cache, and every head takes token types.
        yield _decoder("gpt2", "gpt2", f"GPT2{suffix}", GPT2, more_runs=("types",))
    scaled = GPT2 | {
        "n_inner": None,
        "scale_attn_by_inverse_layer_idx": True,
        "reorder_and_upcast_attn": True,
        "activation_function": "gelu",
        "tie_word_embeddings": False,
    }
    yield _decoder("gpt2", "gpt2", "GPT2LMHeadModel", scaled, variant="scaled-untied")
    unscaled = GPT2 | {"scale_attn_weights": False}
    yield _decoder("gpt2", "gpt2", "GPT2LMHeadModel", unscaled, variant="unscaled")


def _bert() -> Iterator[Case]:
    no_pooler = {"add_pooling_layer": False}
    yield _encoder("bert", "BertModel", BERT)
    yield _encoder("bert", "BertModel", BERT, variant="no-pooler", model_arguments=no_pooler)
    yield _encoder("bert", "BertModel", BERT | {"hidden_act": "gelu_new"}, variant="gelu-new")
    yield _encoder("bert", "BertForMaskedLM", BERT)
    yield _encoder("bert", "BertForMaskedLM", BERT | {"tie_word_embeddings": False}, variant="untied")
    yield _encoder("bert", "BertForPreTraining", BERT)
    yield _encoder("bert", "BertForSequenceClassification", BERT | SINGLE_LABEL, variant="single-label")
    yield _encoder("bert", "BertForSequenceClassification", BERT | MULTI_LABEL, variant="multi-label")
    yield _encoder("bert", "BertForSequenceClassification", BERT | REGRESSION, variant="regression")
    yield _encoder("bert", "BertForTokenClassification", BERT)
    yield _encoder("bert", "BertForQuestionAnswering", BERT)
    yield _encoder("bert", "BertForMultipleChoice", BERT)
    yield _encoder("bert", "BertForNextSentencePrediction", BERT)


ENCODER_HEADS = (
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
)


def _later_encoders() -> Iterator[Case]:
    xlm_roberta = ROBERTA | {"type_vocab_size": 2, "hidden_act": "relu"}
    for suffix in ("Model", *ENCODER_HEADS):
        yield _encoder("roberta", f"Roberta{suffix}", ROBERTA)
        yield _encoder("xlm-roberta", f"XLMRoberta{suffix}", xlm_roberta)
        yield _encoder("distilbert", f"DistilBert{suffix}", DISTILBERT)
    no_pooler = {"add_pooling_layer": False}
    yield _encoder("roberta", "RobertaModel", ROBERTA, variant="no-pooler", model_arguments=no_pooler)
    sinusoidal = DISTILBERT | {"sinusoidal_pos_embds": True, "activation": "relu"}
    yield _encoder("distilbert", "DistilBertModel", sinusoidal, variant="sinusoidal")


def _vision() -> Iterator[Case]:
    def vit(class_name: str, config: Mapping[str, Any] = VIT, **more: Any) -> Case:
        # transformers interpolates the position embeddings of square images and patches only.
        runs = IMAGE_RUNS if isinstance(config["image_size"], list) else (*IMAGE_RUNS, "interpolate")
        return _case("vit", "vit", class_name, config, modality="image", runs=runs, **more)

    def resnet(class_name: str, config: Mapping[str, Any], variant: str = "") -> Case:
        return _case(
            "resnet", "resnet", class_name, config, modality="image", runs=IMAGE_RUNS, variant=variant
        )

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


def _table() -> dict[str, Case]:
    rows = itertools.chain(
        _llama(),
        _bert(),
        _llama_rope(),
        _mistral(),
        _gemma(),
        _gemma2(),
        _qwen(),
        _gpt2(),
        _later_encoders(),
        _vision(),
    )
    table: dict[str, Case] = {}
    classes: set[str] = set()
    heads: set[tuple[str, str]] = set()
    for case in rows:
        if case.name in table:
            raise ValueError(f"two rows of the oracle are named {case.name}")
        head = (case.modality, case.task)
        is_known = head in heads and case.task not in ("base", "causal-lm", "masked-lm")
        repeats = "class" if case.class_name in classes else "head" if is_known else ""
        table[case.name] = replace(case, repeats=repeats)
        classes.add(case.class_name)
        heads.add(head)
    return table


CASES = _table()
"""Every case by its name."""
