"""Settings of `generate`: known ones alone, and right ones alone, whoever sets them."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loadstone
from loadstone.errors import ArgumentError
from loadstone.generate.settings import GenerationConfig, resolve_generation

IMPOSSIBLE: list[tuple[str, Any]] = [
    ("max_new_tokens", -1),
    ("max_new_tokens", 0),
    ("max_new_tokens", 2.5),
    ("max_new_tokens", True),
    ("max_length", "20"),
    ("min_new_tokens", -1),
    ("min_length", [3]),
    ("temperature", "hot"),
    ("top_k", 1.5),
    ("top_p", "all"),
    ("repetition_penalty", "1.2"),
    ("do_sample", "yes"),
    ("eos_token_id", "2"),
    ("eos_token_id", [2, None]),
    ("eos_token_id", 2**40),
    ("pad_token_id", [0]),
    ("no_repeat_ngram_size", 2.0),
    ("bad_words_ids", [3, 4]),
    ("bad_words_ids", [[]]),
    ("bad_words_ids", [[-1]]),
    ("suppress_tokens", 3),
    ("begin_suppress_tokens", ["a"]),
    ("forced_bos_token_id", "1"),
    ("forced_eos_token_id", 1.0),
    ("stop_strings", 3),
    ("stop_strings", [""]),
    ("early_stopping", "often"),
    ("seed", 1.5),
]


def test_a_setting_that_nobody_set_is_none_and_a_misspelt_one_an_error() -> None:
    config = GenerationConfig()
    for name in ("temperature", "max_new_tokens", "eos_token_id", "num_beams", "compile_config", "typical_p"):
        assert getattr(config, name) is None and hasattr(config, name)
    assert not hasattr(config, "temprature")
    with pytest.raises(AttributeError, match="did you mean temperature"):
        _ = config.temprature
    with pytest.raises(ArgumentError, match="did you mean max_new_tokens"):
        config.max_new_token = 3
    with pytest.raises(ArgumentError, match="did you mean max_new_tokens"):
        GenerationConfig(max_new_token=3)
    with pytest.raises(ArgumentError, match="did you mean num_beams"):
        GenerationConfig({"num_beam": 3})
    with pytest.raises(ArgumentError, match=r"pass it to generate\(\)"):
        GenerationConfig(logits_processor=[])


@pytest.mark.parametrize(("name", "value"), IMPOSSIBLE)
def test_values_that_cannot_be_are_refused_wherever_they_are_set(name: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=name):
        GenerationConfig({name: value})
    with pytest.raises(ArgumentError, match=name):
        GenerationConfig(**{name: value})
    config = GenerationConfig(top_k=3)
    with pytest.raises(ArgumentError, match=name):
        setattr(config, name, value)
    with pytest.raises(ArgumentError, match=name):
        config.update(**{"temperature": 0.5, name: value})
    assert config.values == {"top_k": 3}, "nothing of a refused change stays"
    with pytest.raises(ArgumentError, match=name):
        resolve_generation(GenerationConfig(), {name: value}, prompt_length=1)
    from_file = GenerationConfig.from_dict({name: value})
    with pytest.raises(ArgumentError, match=name):
        resolve_generation(from_file, {}, prompt_length=1)
    resolve_generation(from_file, {name: None}, prompt_length=1)


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(ArgumentError) as caught:
        GenerationConfig(temperature="hot", max_new_tokens=-1, top_k=5)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "temperature",
        "max_new_tokens",
    ]


def test_a_token_that_is_forced_and_never_allowed_is_refused() -> None:
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        with pytest.raises(ArgumentError, match=f"{name} and suppress_tokens"):
            GenerationConfig({name: 3, "suppress_tokens": [3, 4]})
        config = GenerationConfig({name: [3, 5], "suppress_tokens": [3, 4]})
        with pytest.raises(ArgumentError, match=f"{name} and suppress_tokens"):
            config.suppress_tokens = [3, 4, 5]
        with pytest.raises(ArgumentError, match=f"{name} and suppress_tokens"):
            resolve_generation(config, {"suppress_tokens": [3, 4, 5]}, prompt_length=1)


def test_a_files_wrong_values_stand_in_nobodys_way() -> None:
    config = GenerationConfig.from_dict({"suppress_tokens": [[3]], "max_new_tokens": -1})
    config.top_k = 3
    with pytest.raises(ArgumentError, match="suppress_tokens"):
        config.forced_bos_token_id = 3
    config.suppress_tokens = None
    config.forced_bos_token_id = 3
    assert config.values == {
        "suppress_tokens": None,
        "max_new_tokens": -1,
        "top_k": 3,
        "forced_bos_token_id": 3,
    }


def test_a_files_unknown_keys_are_kept_and_saved(tmp_path: Path) -> None:
    text = json.dumps({"unheard_of": {"kept": True}, "max_new_tokens": -1, "_from_model_config": True})
    config = GenerationConfig.from_json(text, where="generation_config.json")
    assert config.unheard_of == {"kept": True}
    config.unheard_of = 4
    config.top_k = 7
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "generation_config.json").read_text())
    assert saved == {"unheard_of": 4, "max_new_tokens": -1, "_from_model_config": True, "top_k": 7}
    with pytest.raises(ArgumentError, match="max_new_tokens"):
        resolve_generation(config, {}, prompt_length=1)
    assert resolve_generation(config, {"max_new_tokens": 3}, prompt_length=1).top_k == 7


def test_arrays_become_numbers_and_lists() -> None:
    config = GenerationConfig(eos_token_id=np.array([2, 7]), top_k=np.int64(3), bad_words_ids=[np.array([4])])
    assert json.loads(config.to_json_string()) == {"eos_token_id": [2, 7], "top_k": 3, "bad_words_ids": [[4]]}
    config.pad_token_id = np.array(5)
    assert config.pad_token_id == 5 and type(config.pad_token_id) is int


def test_what_transformers_asks_of_one() -> None:
    config = GenerationConfig(top_k=3)
    config.temperature = None
    for again in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert again == config
        again.top_k = 4
        assert config.top_k == 3
    assert config.to_diff_dict() == {"top_k": 3}
    assert config.to_dict()["top_k"] == 3 and config.to_dict()["num_beams"] is None
    assert config.update(top_p=0.5, unheard_of=1) == {"unheard_of": 1}
    assert config.top_p == 0.5
    config._from_model_config = False
    config._note = 1
    assert "_note" not in config.to_json_string() and config._note == 1
    config.compile_config = object()
    with pytest.raises(ArgumentError, match="cannot be saved"):
        config.to_json_string()


def test_without_a_file_the_models_configuration_says_them() -> None:
    config = loadstone.LlamaConfig(
        eos_token_id=7, no_repeat_ngram_size=2, num_beams=4, output_attentions=True, unheard_of=1
    )
    found = GenerationConfig.from_model_config(config)
    assert (found.eos_token_id, found.no_repeat_ngram_size, found.num_beams) == (7, 2, 4)
    assert found.output_attentions is None and not hasattr(found, "unheard_of")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"num_beams": 4, "length_penalty": 2.0}, "num_beams=4"),
        ({"guidance_scale": 1.5}, "guidance_scale=1.5"),
        ({"do_sample": True, "min_p": 0.1}, "min_p=0.1"),
        ({"do_sample": True, "typical_p": 0.9}, "typical_p=0.9"),
        ({"sequence_bias": [[[3], -1.0]]}, "sequence_bias="),
        ({"return_dict_in_generate": True}, "return_dict_in_generate=True"),
        ({"cache_implementation": "quantized"}, "cache_implementation='quantized'"),
    ],
)
def test_a_files_setting_that_is_not_there_is_an_error_unless_the_call_goes_without(
    settings: dict[str, Any], told: str
) -> None:
    config = GenerationConfig.from_dict(settings)
    with pytest.raises(ArgumentError) as caught:
        resolve_generation(config, {}, prompt_length=1)
    assert told in str(caught.value) and f"to go without: pass {told.partition('=')[0]}=" in str(caught.value)
    for name, value in settings.items():
        if name != "do_sample":
            with pytest.raises(ArgumentError, match=f"does not follow {name}"):
                resolve_generation(GenerationConfig(), {name: value}, prompt_length=1)
    without = dict.fromkeys(set(settings) - {"do_sample"})
    assert resolve_generation(config, without, prompt_length=1).do_sample == ("do_sample" in settings)
    hint = str(caught.value).partition("to go without: pass ")[2]
    resolve_generation(config, eval(f"dict({hint})"), prompt_length=1)


def test_a_files_setting_that_changes_nothing_is_none_of_our_business() -> None:
    idle = {
        "min_p": 0.1,
        "early_stopping": True,
        "length_penalty": 2.0,
        "output_scores": True,
        "use_cache": False,
    }
    idle |= {"cache_implementation": "hybrid", "renormalize_logits": True, "decoder_start_token_id": 0}
    assert resolve_generation(GenerationConfig.from_dict(idle), {}, prompt_length=1).is_greedy


def test_a_callers_generation_config_goes_before_the_models_and_arguments_before_both() -> None:
    class Theirs:
        def to_dict(self) -> dict[str, Any]:
            return {"top_k": 5, "top_p": 0.5, "temperature": None, "transformers_version": "5"}

    config = GenerationConfig(do_sample=True, top_k=3, temperature=0.5)
    for given in (Theirs(), GenerationConfig(top_k=5, top_p=0.5)):
        found = resolve_generation(config, {"generation_config": given, "top_p": 0.7}, prompt_length=1)
        assert (found.do_sample, found.top_k, found.top_p, found.temperature) == (True, 5, 0.7, 0.5)
    assert resolve_generation(Theirs(), {}, prompt_length=1).top_k == 5
    with pytest.raises(ArgumentError, match="no GenerationConfig"):
        resolve_generation(config, {"generation_config": 3}, prompt_length=1)


def test_none_of_the_caller_is_without() -> None:
    config = GenerationConfig(do_sample=True, eos_token_id=7, top_k=3, temperature=0.5, max_new_tokens=4)
    without = dict.fromkeys(("eos_token_id", "top_k", "temperature", "do_sample", "max_new_tokens"))
    found = resolve_generation(config, without, prompt_length=1)
    assert (found.eos_token_ids, found.top_k, found.temperature, found.do_sample) == ((), 0, 1.0, False)
    assert found.max_new_tokens == 20
