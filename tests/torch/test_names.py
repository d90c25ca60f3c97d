"""The names by which libraries written for transformers ask a model and its configuration, beside transformers' answers."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import loadstone
from loadstone.errors import ArgumentError, PlacementError
from loadstone.testing.cases import CASES
from tests.oracle import load

FAMILIES = (
    "llama-causal-lm-tied",
    "llama-base",
    "gpt2-causal-lm",
    "gemma2-causal-lm",
    "bert-base",
    "bert-sequence-classification-single-label",
    "distilbert-masked-lm",
    "vit-image-classification",
)


def pair(case: str) -> tuple[Any, Any]:
    """Return our model and transformers' of one case."""
    name = CASES[case].class_name
    return tuple(  # type: ignore[return-value]
        getattr(library, name).from_pretrained(load.folder(case)) for library in (loadstone, transformers)
    )


@pytest.mark.parametrize("case", FAMILIES)
def test_a_model_answers_as_transformers_does(case: str) -> None:
    ours, theirs = pair(case)
    for name in ("main_input_name", "name_or_path", "model_tags"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert type(ours).main_input_name == theirs.main_input_name
    assert ours.config_class is type(ours.config)
    assert ours.config_class.__name__ == theirs.config_class.__name__
    assert ours.can_generate() == theirs.can_generate() == type(ours).can_generate()
    assert type(ours.get_decoder()).__name__ == type(theirs.get_decoder()).__name__
    assert dict(ours.all_tied_weights_keys) == dict(theirs.all_tied_weights_keys)
    without = ours.get_memory_footprint(return_buffers=False)
    assert without == theirs.get_memory_footprint(return_buffers=False)
    assert ours.get_memory_footprint() - without == sum(buffer.nbytes for buffer in ours.buffers())
    assert ours.num_labels == theirs.config.num_labels
    assert ours.framework == "pt"
    blocks = {type(module).__name__ for module in ours.modules()}
    assert ours._no_split_modules and blocks.intersection(ours._no_split_modules)


def test_trainers_note_what_they_say_on_the_model() -> None:
    model = loadstone.LlamaForCausalLM.from_pretrained(load.folder("llama-causal-lm-tied"))
    model.warnings_issued["estimate_tokens"] = True
    model.add_model_tags("sft")
    model.add_model_tags(["trl", "sft"])
    assert model.model_tags == ["sft", "trl"]
    other = loadstone.LlamaForCausalLM.from_pretrained(load.folder("llama-causal-lm-tied"))
    assert other.warnings_issued == {}
    assert other.model_tags is None
    assert model.post_init() is None


def test_weights_are_tied_again() -> None:
    model = loadstone.LlamaForCausalLM.from_pretrained(load.folder("llama-causal-lm-tied"))
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.tie_weights()
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize(
    ("device_map", "expected"),
    [
        ("cpu", {"": "cpu"}),
        ("auto", {"": "cpu"}),
        ({"model": "cpu", "lm_head": torch.device("cpu")}, {"model": "cpu", "lm_head": "cpu"}),
    ],
    ids=str,
)
def test_a_device_map_is_told(device_map: Any, expected: Any) -> None:
    if torch.cuda.is_available() and device_map == "auto":
        expected = {"": "cuda:0"}
    model = loadstone.LlamaForCausalLM.from_pretrained(
        load.folder("llama-causal-lm-tied"), device_map=device_map
    )
    assert model.hf_device_map == expected
    assert model.load_report.to_dict()["device_map"] == expected


def test_without_a_device_map_there_is_none() -> None:
    model = loadstone.LlamaForCausalLM.from_pretrained(load.folder("llama-causal-lm-tied"))
    assert not hasattr(model, "hf_device_map"), "a pipeline would not move it"
    with pytest.raises(PlacementError, match="names no device"):
        loadstone.LlamaForCausalLM.from_pretrained(
            load.folder("llama-causal-lm-tied"), device_map={"model": "cpu"}
        )


class TestConfig:
    @pytest.mark.parametrize("case", FAMILIES)
    def test_a_loaded_one_answers_as_transformers_does(self, case: str) -> None:
        ours, theirs = (
            library.AutoConfig.from_pretrained(load.folder(case)) for library in (loadstone, transformers)
        )
        assert ours.name_or_path == ours._name_or_path == theirs.name_or_path == str(load.folder(case))
        assert "name_or_path" not in ours.to_json_string()
        assert getattr(ours, "rope_parameters", None) == getattr(theirs, "rope_parameters", None)
        assert ours.get_text_config(decoder=True) is ours
        assert ours.get_text_config(encoder=True) is ours
        expected, found = theirs.to_diff_dict(), ours.to_diff_dict()
        assert {key: expected[key] for key in found if key in expected} == {
            key: value for key, value in found.items() if key in expected
        }
        assert found.keys() - expected.keys() <= {"head_dim", "rope_theta", "rope_scaling"}

    @pytest.mark.parametrize("model_type", ["llama", "mistral", "gemma", "gemma2", "qwen2", "qwen3"])
    def test_rope_parameters_of_one_that_was_made_in_code(self, model_type: str) -> None:
        ours, theirs = (library.AutoConfig.for_model(model_type) for library in (loadstone, transformers))
        assert ours.rope_parameters == theirs.rope_parameters
        ours, theirs = (
            library.AutoConfig.for_model(
                model_type, rope_theta=5e5, rope_scaling={"rope_type": "linear", "factor": 2.0}
            )
            for library in (loadstone, transformers)
        )
        assert ours.rope_parameters == theirs.rope_parameters
        assert "rope_parameters" not in ours.to_dict(), "what was said is saved as it was said"
        ours.rope_theta = 7.0
        assert ours.rope_parameters["rope_theta"] == 7.0

    def test_files_are_read_by_either_name(self, tmp_path: Path) -> None:
        path = tmp_path / "other.json"
        config = loadstone.LlamaConfig(num_hidden_layers=3)
        path.write_text(config.to_json_string())
        assert loadstone.LlamaConfig.from_json_file(path) == config
        config.save_pretrained(tmp_path)
        values, rest = loadstone.LlamaConfig.get_config_dict(tmp_path, revision=None, cache_dir=None, foo=1)
        assert values["num_hidden_layers"] == 3
        assert rest == {"foo": 1}
        with pytest.raises(loadstone.errors.ConfigError):
            loadstone.LlamaConfig.from_json_file(tmp_path / "none.json")

    def test_how_attention_is_computed(self) -> None:
        folder = load.folder("llama-causal-lm-tied")
        assert loadstone.LlamaConfig()._attn_implementation is None
        model = loadstone.LlamaForCausalLM.from_pretrained(folder)
        assert model.config._attn_implementation == "sdpa"
        model.set_attn_implementation("eager")
        assert model.config._attn_implementation == "eager"
        assert "attn" not in str(sorted(model.config.to_dict())).replace("attn_pdrop", "")
        with pytest.raises(ArgumentError, match="set_attn_implementation"):
            model.config._attn_implementation = "sdpa"
        for config in (
            loadstone.LlamaConfig(**model.config.to_dict(), attn_implementation="eager"),
            loadstone.AutoConfig.from_pretrained(folder, attn_implementation="eager"),
        ):
            made = loadstone.LlamaForCausalLM.from_config(config)
            assert made.attn_implementation == made.model.attn_implementation == "eager"
            assert made(torch.tensor([[5, 6]]), output_attentions=True).attentions is not None


def test_what_a_script_of_accelerate_passes_to_save_pretrained(tmp_path: Path) -> None:
    model = loadstone.LlamaForCausalLM.from_pretrained(load.folder("llama-causal-lm-tied"))
    model.save_pretrained(tmp_path, save_function=torch.save, push_to_hub=False, token=None)
    assert (tmp_path / "model.safetensors").exists()
    for wrong, message in (
        ({"repo_id": "org/name"}, "push_to_hub=True"),
        ({"max_shard": 1}, "no argument"),
    ):
        with pytest.raises(ArgumentError, match=message):
            model.save_pretrained(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save_pretrained(tmp_path)
