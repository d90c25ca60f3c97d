"""Values of config.json that no model can have, or that are not followed, are errors; none is a raw exception."""

import json
import math

import pytest

from loadstone import AutoConfig
from loadstone.architectures import architecture_for, model_types, refuse_unfollowed
from loadstone.architectures.gpt2 import GPT2Config
from loadstone.architectures.llama import LlamaConfig
from loadstone.config import Config
from loadstone.errors import ConfigError

SIZES = {
    "bert": {"hidden_size": 24, "num_attention_heads": 4, "vocab_size": 61},
    "distilbert": {"dim": 24, "n_heads": 4, "vocab_size": 61},
    "gpt2": {"n_embd": 24, "n_head": 4, "vocab_size": 61},
    "resnet": {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 4},
    "vit": {"hidden_size": 24, "num_attention_heads": 4},
}
LLAMA = {"hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 61}
LLAMA_LIKE = (
    *("llama", "mistral", "ministral3", "gemma", "gemma2", "gemma3_text", "qwen2", "qwen3", "smollm3"),
    *("olmo2", "olmo3", "granite", "cohere2", "glm4"),
)
ENCODERS = ("bert", "roberta", "xlm-roberta", "distilbert", "vit")
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.0, 1.0],
    "long_factor": [1.0, 2.0, 3.0],
    "factor": 2.0,
}


def spec(model_type, **fields):
    sizes = LLAMA if model_type in LLAMA_LIKE else SIZES.get(model_type, SIZES["bert"])
    values = {"num_hidden_layers": 2} if model_type in LLAMA_LIKE else {}
    values |= {"pad_token_id": 0} if model_type in ("smollm3", "glm4") else {}
    config = AutoConfig.for_model(model_type, **{**sizes, **values, **fields})
    return architecture_for(model_type).spec(config)


@pytest.mark.parametrize("model_type", model_types())
def test_the_sizes_here_are_fine(model_type):
    assert spec(model_type) is not None


# Probabilities and other numbers


RATES = {
    "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
    "roberta": ("hidden_dropout_prob",),
    "distilbert": ("dropout", "attention_dropout", "qa_dropout", "seq_classif_dropout"),
    "gpt2": ("resid_pdrop", "embd_pdrop", "attn_pdrop", "classifier_dropout", "hidden_dropout"),
    "vit": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "llama": ("attention_dropout", "classifier_dropout", "hidden_dropout"),
    "gemma2": ("attention_dropout",),
}


@pytest.mark.parametrize("rate", [-0.1, 1.5, math.nan, math.inf])
@pytest.mark.parametrize(("model_type", "names"), RATES.items(), ids=RATES)
def test_rates_that_are_no_probabilities(model_type, names, rate):
    with pytest.raises(ConfigError) as caught:
        spec(model_type, **dict.fromkeys(names, rate))
    found = [problem.split(":")[0] for problem in caught.value.problems]
    assert found == list(names), "all are named at once"
    assert spec(model_type, **dict.fromkeys(names, 1.0)) is not None


@pytest.mark.parametrize(
    ("model_type", "fields"),
    [
        ("llama", {"rms_norm_eps": -1e-6}),
        ("llama", {"initializer_range": math.nan}),
        ("bert", {"layer_norm_eps": math.inf}),
        ("gpt2", {"layer_norm_epsilon": -1.0}),
        ("distilbert", {"initializer_range": -0.02}),
        ("vit", {"layer_norm_eps": math.nan}),
        ("gemma2", {"query_pre_attn_scalar": 0}),
        ("gemma2", {"query_pre_attn_scalar": -4}),
        ("gemma2", {"attn_logit_softcapping": 0.0}),
        ("gemma2", {"final_logit_softcapping": 0.0}),
    ],
    ids=str,
)
def test_numbers_that_cannot_be(model_type, fields):
    (name,) = fields
    with pytest.raises(ConfigError, match=f"{name}: expected a number"):
        spec(model_type, **fields)


@pytest.mark.parametrize("model_type", [*LLAMA_LIKE, "bert", "roberta", "distilbert"])
def test_a_padding_token_outside_the_vocabulary(model_type):
    for pad in (61, 10**9, -62):
        with pytest.raises(ConfigError, match="padding token is not in the vocabulary"):
            spec(model_type, pad_token_id=pad)
    assert spec(model_type, pad_token_id=-1) is not None, "the first Llamas say so"
    assert spec("gpt2", pad_token_id=61) is not None, "its embedding knows no padding"


# Windows


@pytest.mark.parametrize("window", [0, -1])
@pytest.mark.parametrize(
    ("model_type", "fields"),
    [("mistral", {}), ("gemma2", {}), ("qwen2", {"use_sliding_window": True, "max_window_layers": 1})],
    ids=str,
)
def test_a_window_that_no_layer_can_have(model_type, fields, window):
    with pytest.raises(ConfigError, match="windowed layers, and no window that a layer can have"):
        spec(model_type, sliding_window=window, **fields)


def test_windows_that_are_used_nowhere_may_be_anything():
    assert spec("qwen2", sliding_window=0).windows == (None, None)
    assert spec("mistral", sliding_window=0, layer_types=["full_attention"] * 2).windows == (None, None)
    values = {**LLAMA, "num_hidden_layers": 2, "sliding_window": None}
    config = architecture_for("mistral").config.from_dict(values)
    assert architecture_for("mistral").spec(config).windows == (None, None)


def test_mistral_has_the_windows_that_its_types_say():
    types = ["full_attention", "sliding_attention"]
    assert spec("mistral", layer_types=types, sliding_window=5).windows == (None, 5)
    assert spec("mistral", sliding_window=5).windows == (5, 5)
    with pytest.raises(ConfigError, match="layer_types does not fit"):
        spec("mistral", layer_types=types[:1])


# The rope


@pytest.mark.parametrize(
    ("rope", "problem"),
    [
        (LONGROPE | {"short_factor": ["1", "1", "1"]}, "short_factor: expected a list of positive numbers"),
        (LONGROPE | {"long_factor": "long"}, "long_factor: expected a list of positive numbers"),
        (LONGROPE | {"long_factor": [1.0, 2.0, 0.0]}, "long_factor: expected a list of positive numbers"),
        (LONGROPE | {"long_factor": [1.0, 2.0]}, "cannot be computed"),
        (
            {"rope_type": "yarn", "factor": 2.0, "mscale": "1", "mscale_all_dim": 1.0},
            "mscale: expected a positive number",
        ),
        ({"rope_type": "yarn", "factor": 2.0, "mscale": math.nan}, "mscale: expected a positive number"),
        ({"full_attention": {"rope_type": "default"}}, "the parameters of one kind of layers"),
    ],
    ids=str,
)
def test_ropes_that_cannot_be(rope, problem):
    with pytest.raises(ConfigError) as caught:
        spec("llama", rope_parameters=rope)
    assert problem in str(caught.value)


def test_lengths_that_no_rope_can_grow_from():
    dynamic = {"rope_type": "dynamic", "factor": 2.0}
    with pytest.raises(ConfigError, match="max_position_embeddings: expected a positive number, found 0"):
        spec("llama", rope_parameters=dynamic, max_position_embeddings=0)
    with pytest.raises(ConfigError, match="a head of two channels"):
        spec("llama", rope_parameters=dynamic, head_dim=2)
    with pytest.raises(ConfigError, match="turns channels in pairs"):
        spec("llama", head_dim=5)
    with pytest.raises(ConfigError, match="original_max_position_embeddings: expected a positive number"):
        spec("llama", rope_parameters=LONGROPE, original_max_position_embeddings="4096")
    with pytest.raises(ConfigError, match="rotates whole heads"):
        spec("llama", rope_parameters=dynamic, partial_rotary_factor=0.5)


BESIDE = {
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    "rope_scaling": {"type": "linear", "factor": 2.0},
}


def test_of_two_ropes_the_old_section_holds_with_a_base_of_its_own():
    def frequencies(**fields):
        return spec("llama", **fields).layers[0].attention.rope.inverse_frequencies

    alone = frequencies(rope_scaling=BESIDE["rope_scaling"])
    assert frequencies(**BESIDE) == alone != frequencies(rope_parameters=BESIDE["rope_parameters"])
    based = frequencies(**BESIDE, rope_theta=77.0)
    assert based == frequencies(rope_scaling=BESIDE["rope_scaling"], rope_theta=77.0) != alone


@pytest.mark.parametrize(
    ("held", "base"),
    [
        (BESIDE, 10000.0),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "rope_theta": 500.0}}, 10000.0),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 500.0}, 500.0),
    ],
    ids=["both", "inside", "outside"],
)
def test_what_is_set_holds_whatever_the_file_says(held, base):
    def changed(**said):
        config = LlamaConfig.from_dict({**LLAMA, "num_hidden_layers": 2, **held}, **said)
        return architecture_for("llama").spec(config).layers[0].attention.rope

    def linear(factor, theta):
        return {"rope_type": "linear", "factor": factor, "rope_theta": theta}

    def rope(factor, theta):
        return spec("llama", rope_parameters=linear(factor, theta)).layers[0].attention.rope

    assert changed(rope_theta=77.0) == rope(2.0, 77.0)
    assert changed(rope_scaling={"type": "linear", "factor": 3.0}) == rope(3.0, base)
    assert changed(rope_parameters=linear(3.0, 77.0)) == rope(3.0, 77.0)


# Spellings and keys of other settings


@pytest.mark.parametrize(
    ("model_type", "pair"),
    [
        ("gpt2", {"n_head": 4, "num_attention_heads": 2}),
        ("gpt2", {"n_embd": 24, "hidden_size": 48}),
        ("gpt2", {"n_positions": 64, "max_position_embeddings": 32}),
        ("distilbert", {"n_layers": 2, "num_hidden_layers": 3}),
        ("distilbert", {"dim": 24, "hidden_size": 12}),
    ],
    ids=str,
)
def test_two_spellings_that_disagree_are_named(model_type, pair, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, **pair}))
    with pytest.raises(ConfigError) as caught:
        AutoConfig.from_pretrained(tmp_path)
    assert all(f"{name}" in caught.value.problems[0] for name in pair)
    (one, first), (other, _) = pair.items()
    agreeing = AutoConfig.for_model(model_type, **{one: first, other: first})
    assert getattr(agreeing, one) == getattr(agreeing, other) == first
    for null in (one, other):
        said = AutoConfig.for_model(model_type, **{**pair, null: None})
        assert getattr(said, null) == next(value for name, value in pair.items() if name != null)


def test_of_two_spellings_of_a_dtype_the_new_one_holds_unless_it_says_nothing():
    assert LlamaConfig.from_dict({"dtype": "float16", "torch_dtype": "bfloat16"}).dtype == "float16"
    assert LlamaConfig.from_dict({"dtype": None, "torch_dtype": "bfloat16"}).dtype == "bfloat16"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("transformers_weights", "other.safetensors"),
        ("per_layer_config", {"0": {"num_attention_heads": 2}}),
        ("fusion_config", {"patch_embeddings": True}),
    ],
)
def test_keys_that_change_a_model_and_are_not_followed(key, value):
    with pytest.raises(ConfigError, match=f"{key}: transformers "):
        refuse_unfollowed(GPT2Config(**{key: value}))
    with pytest.raises(ConfigError, match=f"text_config.{key}: transformers "):
        refuse_unfollowed(LlamaConfig.from_dict({"text_config": {key: value}}))
    for nothing in (None, {}, {"patch_embeddings": False}, {"1": {}}):
        refuse_unfollowed(Config.from_dict({key: nothing}))


# Which tokens see which


@pytest.mark.parametrize("model_type", [*LLAMA_LIKE, "gpt2"])
def test_a_decoder_is_told_whether_it_is_causal_or_it_is_an_error(model_type):
    assert [spec(model_type, **said).causal for said in ({}, {"is_causal": True}, {"is_causal": False})] == [
        True,
        True,
        False,
    ]
    for said in (None, "false", 0, []):
        with pytest.raises(ConfigError, match="is_causal must be true or false"):
            spec(model_type, is_causal=said)


@pytest.mark.parametrize("model_type", ENCODERS)
def test_an_encoder_is_never_causal(model_type):
    for said in (None, False):
        assert spec(model_type, is_causal=said) == spec(model_type)
    for said in (True, "true", 1):
        with pytest.raises(ConfigError, match="is not supported"):
            spec(model_type, is_causal=said)


# Images


@pytest.mark.parametrize(
    "fields",
    [
        {"image_size": [224]},
        {"image_size": []},
        {"image_size": [224, 0]},
        {"image_size": 10**12},
        {"patch_size": [16, 16, 16]},
        {"image_size": 8, "patch_size": 16},
        {"image_size": [32, 8], "patch_size": 16},
        {"pooler_output_size": 0},
    ],
    ids=str,
)
def test_images_that_no_vit_can_take(fields):
    with pytest.raises(ConfigError):
        spec("vit", **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"hidden_sizes": [8, 0]},
        {"hidden_sizes": [8, -16]},
        {"hidden_sizes": [8, 3]},
        {"hidden_sizes": [8, 10**12]},
        {"hidden_sizes": [8]},
        {"hidden_sizes": [], "depths": []},
        {"layer_type": "basic", "hidden_sizes": [8, 0]},
    ],
    ids=str,
)
def test_stages_that_no_resnet_can_have(fields):
    with pytest.raises(ConfigError):
        spec("resnet", **fields)
    assert spec("resnet", layer_type="basic", hidden_sizes=[3, 3]) is not None
