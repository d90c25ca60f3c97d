"""Configurations: both spellings of config.json are read, nothing of it is lost, and what is wrong is named at once."""

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadstone import AutoConfig
from loadstone.architectures import architecture_for
from loadstone.architectures.bert import BertConfig
from loadstone.architectures.llama import LlamaConfig
from loadstone.config import Config
from loadstone.errors import ArgumentError, ConfigError
from tests.oracle.files import SIZES as TINY

SIZES = TINY["llama"]
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 1024,
}
FOUR = SIZES | {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "torch_dtype": "bfloat16",
    "rope_theta": 250000.0,
    "rope_scaling": {"rope_type": "llama3", **LLAMA3},
    "max_position_embeddings": 4096,
    "transformers_version": "4.56.2",
}
FIVE = SIZES | {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "dtype": "bfloat16",
    "rope_parameters": {"rope_type": "llama3", "rope_theta": 250000.0, **LLAMA3},
    "max_position_embeddings": 4096,
    "transformers_version": "5.23.0",
}


def write(folder, values):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(values if isinstance(values, str) else json.dumps(values))
    return folder


def saved(config, folder):
    config.save_pretrained(folder)
    return json.loads((folder / "config.json").read_text())


def spec(values):
    config = LlamaConfig.from_dict(values)
    return architecture_for("llama").spec(config)


# Two spellings


def test_both_spellings_describe_one_model():
    assert spec(FOUR) == spec(FIVE)
    assert LlamaConfig.from_dict(FOUR).dtype == LlamaConfig.from_dict(FIVE).dtype == "bfloat16"


@pytest.mark.parametrize("spelling", ["rope_type", "type"])
def test_the_old_names_of_a_rope_type(spelling):
    linear = SIZES | {"rope_scaling": {spelling: "linear", "factor": 2.0}}
    plain = spec(SIZES).layers[0].attention.rope.inverse_frequencies
    assert spec(linear).layers[0].attention.rope.inverse_frequencies == pytest.approx([f / 2 for f in plain])


def test_the_base_of_the_rope_changes_every_frequency_but_the_first():
    theta = spec(SIZES | {"rope_theta": 77.0}).layers[0].attention.rope.inverse_frequencies
    assert (
        theta
        == spec(SIZES | {"rope_parameters": {"rope_theta": 77.0}})
        .layers[0]
        .attention.rope.inverse_frequencies
    )
    assert theta[0] == 1.0
    assert all(
        a != b
        for a, b in zip(theta[1:], spec(SIZES).layers[0].attention.rope.inverse_frequencies[1:], strict=True)
    )


@pytest.mark.parametrize(
    "said",
    [{"rope_theta": 77.0}, {"rope_scaling": {"type": "linear", "factor": 2.0}}, {"rope_scaling": None}],
    ids=str,
)
def test_what_the_caller_says_of_the_rope_holds_in_either_spelling(said):
    four, five = (LlamaConfig.from_dict(values, **said) for values in (FOUR, FIVE))
    changed = spec(four.to_dict())
    assert changed == spec(five.to_dict()) != spec(FOUR)
    assert "rope_scaling" not in five.to_dict() and five.rope_theta == four.rope_theta


def test_null_in_a_rope_is_absence():
    rope = {"rope_type": "default", "rope_theta": 77.0, "factor": None}
    assert spec(SIZES | {"rope_parameters": rope}) == spec(SIZES | {"rope_theta": 77.0})


@pytest.mark.parametrize("values", [FOUR, FIVE], ids=["transformers-4", "transformers-5"])
def test_saving_loses_no_key_and_keeps_the_spelling(tmp_path, values):
    values = values | {"unheard_of": {"deeply": [1, None, "x"]}, "auto_map": {"AutoModel": "evil.Evil"}}
    config = AutoConfig.from_pretrained(write(tmp_path / "a", values))
    assert saved(config, tmp_path / "b") == values


@pytest.mark.parametrize(("values", "spelling"), [(FOUR, "torch_dtype"), (FIVE, "dtype")])
def test_setting_a_value_keeps_the_spelling(values, spelling):
    config = LlamaConfig.from_dict(values)
    config.dtype = "float16"
    assert config.to_dict()[spelling] == config.torch_dtype == config.dtype == "float16"
    assert len(config.to_dict()) == len(values)


def test_both_spellings_at_once_are_set_together():
    config = LlamaConfig.from_dict({"torch_dtype": "float16", "dtype": "bfloat16"})
    assert config.dtype == "bfloat16"
    config.torch_dtype = "float32"
    assert config.to_dict()["dtype"] == config.to_dict()["torch_dtype"] == "float32"


def test_a_configuration_of_ones_own_writes_the_new_spelling():
    assert LlamaConfig(dtype="float16").to_dict()["dtype"] == "float16"
    assert LlamaConfig(torch_dtype="float16").to_dict()["torch_dtype"] == "float16"


# Nesting


NESTED = {
    "model_type": "llama",
    "dtype": "float32",
    "tie_word_embeddings": False,
    "text_config": {"dtype": "bfloat16", "num_hidden_layers": 1, "rope_theta": 77.0, "extra": 1},
}


def test_a_nested_text_config_is_what_the_model_is_built_from():
    config = LlamaConfig.from_dict(NESTED)
    text = config.get_text_config()
    assert (text.num_hidden_layers, text.rope_theta, text.extra) == (1, 77.0, 1)
    assert architecture_for("llama").spec(config).num_layers == 1
    assert config.to_dict() == NESTED


def test_a_keyword_reaches_into_the_nested_configuration(tmp_path):
    config = AutoConfig.from_pretrained(write(tmp_path, NESTED), num_hidden_layers=3)
    assert architecture_for("llama").spec(config).num_layers == 3
    assert "num_hidden_layers" not in config.to_dict()


def test_a_wrong_type_in_a_nested_configuration():
    config = LlamaConfig.from_dict(
        {"text_config": {"hidden_size": "24", "vocab_size": None, "extra": object}}
    )
    with pytest.raises(ConfigError, match="hidden_size: expected int, found '24'") as caught:
        config.get_text_config()
    assert caught.value.where == "text_config"


@pytest.mark.parametrize(
    ("outer", "inner", "tied"),
    [
        ({"tie_word_embeddings": True}, {"tie_word_embeddings": False}, True),
        ({}, {"tie_word_embeddings": True}, True),
        ({}, {}, False),
        ({"tie_word_embeddings": False}, {"tie_word_embeddings": True}, False),
    ],
)
def test_a_tie_may_be_said_in_the_nested_configuration(outer, inner, tied):
    head = architecture_for("llama").heads[1]
    config = LlamaConfig.from_dict({**outer, "text_config": inner})
    assert bool(head.ties_of(config)) is tied


# Labels


def test_the_number_of_labels_and_their_names_agree():
    assert (Config().num_labels, Config().id2label) == (2, {0: "LABEL_0", 1: "LABEL_1"})
    assert "id2label" not in Config().to_dict()
    assert BertConfig.from_dict({"id2label": {"0": "no", "1": "yes"}}).label2id == {"no": 0, "yes": 1}
    config = BertConfig(num_labels=3)
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}
    config.num_labels = 1
    assert (config.num_labels, config.id2label, config.label2id) == (1, {0: "LABEL_0"}, {"LABEL_0": 0})


def test_setting_the_number_that_there_is_keeps_the_names():
    config = BertConfig.from_dict({"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}})
    config.num_labels = 2
    assert config.id2label == {0: "no", 1: "yes"}


def test_the_number_decides_where_a_file_contradicts_itself(tmp_path):
    values = {"model_type": "bert", "num_labels": 3, "id2label": {"0": "no", "1": "yes"}}
    config = AutoConfig.from_pretrained(write(tmp_path / "a", values))
    assert (config.num_labels, config.id2label) == (3, {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"})
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}
    assert saved(config, tmp_path / "b") == values
    made = BertConfig(num_labels=3, id2label={0: "no", 1: "yes"})
    assert (made.num_labels, made.id2label) == (config.num_labels, config.id2label)


def test_names_that_the_caller_gives_hold_whatever_the_file_counts(tmp_path):
    write(tmp_path, {"model_type": "bert", "num_labels": 3})
    names = {0: "no", 1: "yes"}
    config = AutoConfig.from_pretrained(tmp_path, id2label=names)
    assert (config.num_labels, config.id2label) == (2, names)
    config = AutoConfig.from_pretrained(tmp_path, id2label=names, num_labels=4)
    assert (config.num_labels, config.id2label) == (2, names), "as in transformers, names come last"


def test_a_file_that_only_counts_its_labels(tmp_path):
    config = AutoConfig.from_pretrained(write(tmp_path / "a", {"model_type": "bert", "num_labels": 4}))
    assert (config.num_labels, config.id2label[3]) == (4, "LABEL_3")
    assert saved(config, tmp_path / "b")["num_labels"] == 4
    config.num_labels = 6
    assert saved(config, tmp_path / "c")["num_labels"] == 6 == len(config.id2label)


def test_labels_are_saved_in_the_order_of_their_numbers(tmp_path):
    BertConfig(num_labels=12).save_pretrained(tmp_path)
    labels = json.loads((tmp_path / "config.json").read_text())["id2label"]
    assert list(labels) == [str(i) for i in range(12)]


def test_labels_whose_keys_are_no_numbers_are_kept(tmp_path):
    values = {"model_type": "bert", "id2label": {"0": "a", "x": "b", "²": "c"}}
    config = AutoConfig.from_pretrained(write(tmp_path / "a", values))
    assert config.num_labels == 3
    assert saved(config, tmp_path / "b") == values


# Types


def test_every_wrong_type_is_named_at_once(tmp_path):
    wrong = {
        "hidden_size": "24",
        "num_hidden_layers": True,
        "rms_norm_eps": "1e-6",
        "tie_word_embeddings": 1,
        "architectures": "LlamaForCausalLM",
        "eos_token_id": [2, "3"],
        "rope_parameters": [],
        "dtype": "bfloat61",
        "num_labels": 0,
        "id2label": ["no", "yes"],
    }
    right = {"vocab_size": 61, "rms_norm_eps_": "kept"}
    folder = write(tmp_path, {"model_type": "llama", **wrong, **right})
    with pytest.raises(ConfigError) as caught:
        AutoConfig.from_pretrained(folder)
    assert [problem.split(":")[0] for problem in caught.value.problems] == list(wrong)
    assert f"{folder}/config.json" in str(caught.value)
    assert "dtype: expected the name of a dtype, found 'bfloat61'; did you mean bfloat16" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rms_norm_eps", 1),
        ("eos_token_id", [2, 3]),
        ("eos_token_id", 2),
        ("hidden_size", None),
        ("dtype", "torch.half"),
    ],
)
def test_values_that_fit(field, value):
    assert LlamaConfig.from_dict({field: value}) is not None


def test_setting_an_attribute_checks_its_type():
    config = LlamaConfig(**SIZES)
    with pytest.raises(ConfigError, match="hidden_size: expected int, found '8'"):
        config.hidden_size = "8"
    with pytest.raises(ConfigError, match="num_labels: expected a positive int, found 0"):
        config.num_labels = 0
    assert (config.hidden_size, config.num_labels) == (24, 2)


def test_an_unknown_field_names_the_nearest():
    with pytest.raises(
        AttributeError, match="LlamaConfig has no field 'hiden_size'; did you mean hidden_size"
    ):
        _ = LlamaConfig().hiden_size
    assert not hasattr(LlamaConfig(), "hiden_size")


@pytest.mark.parametrize("size", [0, -1, 10**18])
def test_sizes_that_no_model_has(size):
    with pytest.raises(ConfigError) as caught:
        spec(SIZES | {"num_hidden_layers": size, "vocab_size": size})
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["vocab_size", "num_hidden_layers"]


@pytest.mark.parametrize(
    ("rope", "problem"),
    [
        ({"rope_type": "linear"}, "needs the parameter 'factor'"),
        ({"rope_type": "linear", "factor": "2"}, "factor: expected a positive number, found '2'"),
        ({"rope_type": "linear", "factor": 0}, "factor: expected a positive number, found 0"),
        ({"rope_type": "linear", "factor": True}, "factor: expected a positive number, found True"),
        ({"rope_type": "default", "rope_theta": -1.0}, "rope_theta: expected a positive number, found -1.0"),
        ({"rope_type": "liner", "factor": 2.0}, "did you mean linear"),
        ({"rope_type": ["linear"]}, "unknown rope type"),
        ({"rope_type": "default", "partial_rotary_factor": 0.5}, "rotates whole heads"),
        ({"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0, 2.0]}, "cannot be computed"),
    ],
)
def test_rope_parameters_that_cannot_be(rope, problem):
    with pytest.raises(ConfigError) as caught:
        spec(SIZES | {"rope_parameters": rope})
    assert problem in str(caught.value)


# Derived fields


def test_fields_that_follow_from_others():
    config = LlamaConfig(hidden_size=24, num_attention_heads=4)
    assert (config.num_key_value_heads, config.head_dim, config.rope_theta) == (4, 6, 10000.0)
    config.num_attention_heads = 3
    assert (config.num_key_value_heads, config.head_dim) == (3, 8)
    assert "head_dim" not in config.to_dict(), "what follows is not written down"
    assert LlamaConfig(head_dim=5).head_dim == 5
    assert (
        LlamaConfig.from_dict({"head_dim": None, "hidden_size": 24, "num_attention_heads": 4}).head_dim == 6
    )


def test_heads_that_do_not_divide_the_hidden_size():
    with pytest.raises(ConfigError, match="hidden_size must be a multiple of num_attention_heads"):
        _ = LlamaConfig(hidden_size=25, num_attention_heads=4).head_dim


def test_a_default_is_not_shared_between_configurations():
    class ListConfig(Config):
        sizes: list[int] = [1, 2]  # noqa: RUF012

    ListConfig().sizes.append(3)
    ListConfig.from_dict({}).sizes.append(3)
    assert ListConfig().sizes == ListConfig.from_dict({}).sizes == [1, 2]


# Finding


def test_an_absent_model_type_names_the_file_and_what_to_do(tmp_path):
    with pytest.raises(ConfigError) as caught:
        AutoConfig.from_pretrained(write(tmp_path, {"hidden_size": 24}))
    for fact in (f"{tmp_path}/config.json", '"model_type"', "keys hidden_size", "config="):
        assert fact in str(caught.value)


@pytest.mark.parametrize(("name", "near"), [("llamma", "llama"), ("brt", "bert"), ("Llama", "llama")])
def test_an_unknown_model_type_names_the_nearest(tmp_path, name, near):
    with pytest.raises(ConfigError, match=f"unknown model type '{name}'") as caught:
        AutoConfig.from_pretrained(write(tmp_path, {"model_type": name}))
    assert f"did you mean {near}" in str(caught.value)
    assert f"{tmp_path}/config.json" in str(caught.value)


def test_a_checkpoint_with_code_of_its_own_is_told_that_it_is_not_run(tmp_path):
    folder = write(tmp_path, {"model_type": "custom", "auto_map": {"AutoConfig": "evil.EvilConfig"}})
    (folder / "evil.py").write_text("raise SystemExit('the code was run')")
    with pytest.raises(ConfigError, match="which is never run unless you trust it"):
        AutoConfig.from_pretrained(folder)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "none that a model can have"),
        ('{"model_type": 5}', "what kind of model"),
        ('{"model_type": ["bert"]}', "what kind of model"),
    ],
)
def test_a_config_json_that_is_none(tmp_path, text, fact):
    with pytest.raises(ConfigError, match=fact) as caught:
        AutoConfig.from_pretrained(write(tmp_path, text))
    assert f"{tmp_path}/config.json" in str(caught.value)


def test_for_model_gives_the_class_its_defaults_and_the_fields_given():
    config = AutoConfig.for_model("bert", num_hidden_layers=2)
    assert isinstance(config, BertConfig)
    assert (config.num_hidden_layers, config.hidden_size, config.model_type) == (2, 768, "bert")


def test_from_pretrained_takes_fields_dtypes_and_nothing_else(tmp_path):
    folder = write(tmp_path, FOUR)
    config = AutoConfig.from_pretrained(
        folder, vocab_size=5, num_labels=4, torch_dtype="float16", trust_remote_code=True
    )
    assert (config.vocab_size, config.num_labels, config.dtype) == (5, 4, "float16")
    with pytest.raises(ArgumentError, match="did you mean vocab_size"):
        AutoConfig.from_pretrained(folder, vocab_sise=5)
    assert AutoConfig.from_pretrained(folder, transformers_version="x").transformers_version == "x", (
        "of the file"
    )


def test_a_class_loads_its_own_and_refuses_another(tmp_path):
    assert isinstance(LlamaConfig.from_pretrained(write(tmp_path, FIVE)), LlamaConfig)
    with pytest.raises(ConfigError, match="another model type"):
        BertConfig.from_pretrained(tmp_path)


def test_auto_config_is_not_made():
    with pytest.raises(TypeError, match=r"AutoConfig\.from_pretrained"):
        AutoConfig()


def test_a_subfolder(tmp_path):
    write(tmp_path / "below", FIVE)
    assert AutoConfig.from_pretrained(tmp_path, subfolder="below").vocab_size == 61


# Copies


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))], ids=["copy", "pickle"]
)
def test_a_copy_is_equal_and_its_own(again):
    config = LlamaConfig.from_dict(FOUR | {"unheard_of": [1]})
    other = again(config)
    assert (other, type(other)) == (config, LlamaConfig)
    other.unheard_of.append(2)
    other.rope_scaling["factor"] = 3.0
    assert config.unheard_of == [1] and config.rope_scaling["factor"] == 8.0
    assert other != config


def test_the_callers_dict_stays_as_it_is():
    values = copy.deepcopy(FOUR)
    config = LlamaConfig.from_dict(values)
    config.rope_scaling["factor"] = 3.0
    config.update({"vocab_size": 5})
    assert values == FOUR


def test_names_of_methods_in_a_file_change_no_behaviour(tmp_path):
    values = FIVE | {
        "to_dict": 1,
        "update": 2,
        "_values": {},
        "__class__": "x",
        "_fields": 3,
        "spellings": 4,
        "knows": 5,
    }
    config = AutoConfig.from_pretrained(write(tmp_path / "a", values))
    assert saved(config, tmp_path / "b") == values
    assert config.knows("vocab_size") and config.vocab_size == 61


KEYS = st.one_of(
    st.sampled_from(["dtype_", "rope", "num", "id", "to_dict", "_values", "a.b"]),
    st.text(min_size=1).filter(lambda key: key not in LlamaConfig.known_names() and key != "model_type"),
)
JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KNOWN = st.fixed_dictionaries(
    {},
    optional={
        "vocab_size": st.integers(1, 10**6),
        "rms_norm_eps": st.floats(1e-9, 1),
        "torch_dtype": st.sampled_from(["float32", "bfloat16", None]),
        "dtype": st.sampled_from(["float32", "bfloat16", None]),
        "eos_token_id": st.none() | st.integers(0, 9) | st.lists(st.integers(0, 9)),
        "id2label": st.dictionaries(st.integers(0, 99).map(str), st.text(), max_size=4),
        "num_labels": st.integers(1, 9),
        "rope_scaling": st.none() | st.dictionaries(st.text(), JSON, max_size=3),
        "text_config": st.none() | st.dictionaries(st.text(), JSON, max_size=3),
    },
)


@given(known=KNOWN, unknown=st.dictionaries(KEYS, JSON, max_size=5))
def test_reading_and_writing_is_the_identity(known, unknown):
    values = {"model_type": "llama", **unknown, **known}
    text = LlamaConfig.from_dict(values).to_json_string()
    added = {} if known.get("id2label") is not None or "num_labels" not in known else {"id2label", "label2id"}
    written = json.loads(text)
    assert {key: value for key, value in written.items() if key not in added} == values
    assert LlamaConfig.from_dict(written) == LlamaConfig.from_dict(values)
