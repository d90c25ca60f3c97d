"""What users bring along from neighbours: names, model types, arguments and formats that are not ours, each told what it is."""

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoint_files import arrays, save

import loadstone
from loadstone.architectures import meant, model_types
from loadstone.auto import AutoConfig
from loadstone.checkpoint.formats.absent import no_weights
from loadstone.cli.inspect import inspect
from loadstone.errors import ArgumentError, ConfigError
from loadstone.load.arguments import ELSEWHERE, parse_arguments
from loadstone.load.custom_code import own_code

BESIDES = {
    "AutoTokenizer": "from transformers import AutoTokenizer",
    "pipeline": "pipeline(task, model=model",
    "Trainer": "transformers' Trainer takes a model of ours",
    "TrainingArguments": "Trainer",
    "BitsAndBytesConfig": "not there yet",
}


def write(folder: Path, values: dict[str, Any]) -> Path:
    """Write a config.json, and return its folder."""
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("name", BESIDES)
def test_a_name_of_a_neighbour_says_where_it_is(name):
    with pytest.raises(AttributeError) as caught:
        getattr(loadstone, name)
    assert BESIDES[name] in str(caught.value)
    assert not hasattr(loadstone, name) and name not in dir(loadstone)


def test_an_import_statement_says_it_too():
    """Python itself tells nothing of what an AttributeError says there."""
    with pytest.raises(ImportError, match="from transformers import AutoTokenizer"):
        from loadstone import AutoTokenizer  # noqa: F401
    with pytest.raises(ImportError, match="pipelines are transformers'"):
        from loadstone import pipeline  # noqa: F401
    with pytest.raises(ImportError, match="did you mean BertModel"):
        from loadstone import BertModle  # noqa: F401
    from loadstone import AutoConfig, plugins

    assert AutoConfig.__name__ == "AutoConfig" and plugins.__name__ == "loadstone.plugins"


@pytest.mark.parametrize("name", ELSEWHERE)
def test_an_argument_of_a_neighbour_says_what_to_do(name):
    with pytest.raises(ArgumentError, match=f"no {name}=") as caught:
        parse_arguments({name: "something"})
    assert ELSEWHERE[name] in str(caught.value)
    assert parse_arguments({name: None}) == parse_arguments({name: False}) == parse_arguments({})


def test_trust_in_code_is_neither_dropped_nor_read_from_a_file(tmp_path):
    assert parse_arguments({"trust_remote_code": True})[0].trust_remote_code is True
    folder = write(
        tmp_path, {"model_type": "llama", "trust_remote_code": True, "auto_map": {"AutoModel": "a.B"}}
    )
    assert AutoConfig.from_pretrained(folder).model_type == "llama"


# Model types


def test_only_typos_are_taken_for_ours():
    """No model type that transformers has is a misspelt one of ours."""
    mapping = pytest.importorskip("transformers.models.auto.configuration_auto").CONFIG_MAPPING_NAMES
    known = model_types()
    assert [name for name in sorted({*mapping} - {*known}) if meant(name, known)] == []


@pytest.mark.parametrize("typed", ["llamma", "lama", "llmaa", "Llama", "gpt-2", "xlm_roberta", "distillbert"])
def test_a_typo_is_told(typed):
    assert meant(typed, model_types()), typed


@pytest.mark.parametrize("name", ["mixtral", "qwen9", "gpt3", "rwkv7", ""])
def test_another_models_type_is_told_as_what_it_is(tmp_path, name):
    with pytest.raises(ConfigError) as caught:
        AutoConfig.from_pretrained(write(tmp_path, {"model_type": name, "architectures": ["Other"]}))
    message = str(caught.value)
    assert "did you mean" not in message
    if name:
        assert all(known in message for known in model_types()) and "load it with transformers" in message


def test_a_configuration_class_or_an_argument_supplies_the_type(tmp_path, caplog):
    folder = write(tmp_path, {"hidden_size": 24})
    config = loadstone.BertConfig.from_pretrained(folder)
    assert (type(config), config.hidden_size) == (loadstone.BertConfig, 24)
    assert "it is 'bert' by the class" in caplog.text
    assert AutoConfig.from_pretrained(folder, model_type="bert") == config
    with pytest.raises(ConfigError, match="what kind of model"):
        AutoConfig.from_pretrained(folder)
    folder = write(tmp_path, {"hidden_size": 24, "architectures": ["BertForMultipleChess"]})
    assert type(AutoConfig.from_pretrained(folder)) is loadstone.BertConfig
    assert "by its architectures, BertForMultipleChess" in caplog.text
    with pytest.raises(ConfigError, match="of another model type"):
        loadstone.LlamaConfig.from_pretrained(folder)


def test_the_file_s_type_yields_to_the_callers(tmp_path, caplog):
    folder = write(tmp_path, {"model_type": "roberta"})
    assert type(AutoConfig.from_pretrained(folder, model_type="bert")) is loadstone.BertConfig
    assert "goes before config.json's 'roberta'" in caplog.text


@pytest.mark.parametrize("auto_map", [None, "mine.Mine", [], {}, {"AutoTokenizer": "a.B"}])
def test_an_auto_map_without_a_model(auto_map):
    assert own_code(auto_map) is None


# What lies in a folder


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("model.onnx", "ONNX"),
        ("onnx/decoder_model_merged.onnx", "ONNX"),
        ("ViT-B_16.npz", ".npz"),
        ("model.ckpt-1000.meta", "TensorFlow 1"),
        ("bert_model.ckpt.data-00000-of-00001", "TensorFlow 1"),
        ("saved_model.pb", "SavedModel"),
        ("64.tflite", "Lite"),
        ("coreml/text.mlpackage/Data/model.mlmodel", "Core ML"),
        ("openvino_model.xml", "OpenVINO"),
        ("bert.weights.h5", "Keras"),
    ],
)
def test_a_format_is_named_as_what_it_is(name, title):
    error = no_weights([name, "config.json"], ["model.safetensors"], variant=None, where="here")
    assert error.what.startswith("the weights are in a format that is not read yet") and title in error.what
    assert error.found == name and error.hint


def test_an_inspection_tells_the_same(tmp_path):
    write(tmp_path, {"model_type": "mixtral", "auto_map": {"AutoModel": "a.B"}})
    notes = " ".join(inspect(tmp_path).notes)
    assert "did you mean" not in notes and "AutoModel: 'a.B'" in notes
    write(tmp_path, {"architectures": ["LlamaModel"], "auto_map": {"AutoModel": "a.B"}})
    notes = " ".join(inspect(tmp_path).notes)
    assert "it is 'llama'" in notes and "something of its own" in notes


def test_an_inspection_names_an_adapter(tmp_path):
    save(tmp_path, arrays())
    assert not any("PEFT" in problem.what for problem in inspect(tmp_path).problems)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert any("PEFT" in problem.what for problem in inspect(tmp_path).problems)
