"""What the settings of `generate` make of the model's scores is what transformers makes of them, in every framework."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import loadstone
from loadstone.errors import ArgumentError
from tests.oracle import load
from tests.oracle.files import copied

CASE = "llama-causal-lm"
BACKENDS = ("torch", "flax", "tensorflow")
NEW = 10
IDS = np.array([[0, 0, 5, 9, 5], [31, 5, 9, 5, 9]])
MASK = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
INPUTS = {"input_ids": IDS, "attention_mask": MASK}
BASE = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}


def on_torch(inputs: dict[str, Any]) -> dict[str, Any]:
    return {n: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for n, v in inputs.items()}


def write(model: Any, **arguments: Any) -> np.ndarray:
    """Return what a model of any backend, or transformers', writes."""
    theirs = isinstance(model, transformers.PreTrainedModel) or model.backend_name == "torch"
    return np.asarray(model.generate(**(on_torch(arguments) if theirs else arguments)))


@pytest.fixture(scope="module")
def oracle() -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(load.folder(CASE), dtype=torch.float32)


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {b: loadstone.AutoModelForCausalLM.from_pretrained(load.folder(CASE), backend=b) for b in BACKENDS}


@pytest.fixture(scope="module")
def free(oracle: Any) -> np.ndarray:
    """What follows when nothing is ruled out."""
    return write(oracle, **INPUTS, **BASE)[:, IDS.shape[1] :]


def settings(free: np.ndarray) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield settings that each change what is written, and what they are."""
    (first, second, third, *_), (other, *_) = free.tolist()
    end = {"eos_token_id": [second, other]}
    yield "ends", end
    yield "no pair twice", {"no_repeat_ngram_size": 2}
    yield "no token twice", {"no_repeat_ngram_size": 1}
    yield "suppressed", {"suppress_tokens": [first, third, -1, 10_000]}
    yield "suppressed at the beginning", {"begin_suppress_tokens": [first, other]}
    yield "no end before four", {**end, "min_new_tokens": 4}
    yield "no end before length eight", {**end, "min_length": IDS.shape[1] + 3}
    yield "the new tokens count", {**end, "min_new_tokens": 2, "min_length": 14}
    yield "no end at all", {**end, "min_new_tokens": 2 * NEW}
    yield "bad words", {"bad_words_ids": [[first], [second, third], [9, 5, other], [1] * 30]}
    yield "a bad word that ends", {**end, "bad_words_ids": [[second], [other], [first]]}
    yield "forced end", {"forced_eos_token_id": 42}
    yield "one of two forced ends", {**end, "forced_eos_token_id": [42, 43]}
    yield "padding repeats nothing", {"repetition_penalty": 1.3}
    yield (
        "all of them",
        {
            **end,
            "repetition_penalty": 1.3,
            "no_repeat_ngram_size": 3,
            "suppress_tokens": [third],
            "begin_suppress_tokens": [first],
            "min_new_tokens": 5,
            "bad_words_ids": [[first, first], [second]],
            "forced_eos_token_id": 42,
        },
    )


def test_arguments_are_followed_token_by_token(oracle: Any, models: dict[str, Any], free: np.ndarray) -> None:
    for what, chosen in settings(free):
        expected = write(oracle, **INPUTS, **{**BASE, **chosen})
        assert (
            what == "padding repeats nothing"
            or expected.shape[1] < IDS.shape[1] + NEW
            or (expected[:, IDS.shape[1] :] != free).any()
        ), f"{what} changes nothing"
        for backend, model in models.items():
            found = write(model, **INPUTS, **{**BASE, **chosen})
            np.testing.assert_array_equal(found, expected, err_msg=f"{what}, {backend}")


@pytest.mark.parametrize("forced", [{}, {"forced_bos_token_id": 42}])
def test_a_prompt_of_one_token_begins_behind_what_is_forced(
    oracle: Any, models: dict[str, Any], forced: dict[str, int]
) -> None:
    prompt = {"input_ids": IDS[:, 4:], **BASE}
    then = write(oracle, **prompt, **forced)[:, 1 + len(forced)]
    arguments = {**prompt, **forced, "begin_suppress_tokens": then.tolist()}
    expected = write(oracle, **arguments)
    assert (expected[:, 1] == 42).all() == bool(forced) and (expected[:, 1 + len(forced)] != then).all()
    for backend, model in models.items():
        np.testing.assert_array_equal(write(model, **arguments), expected, err_msg=backend)


def test_the_padding_counts_as_no_repetition(models: dict[str, Any], oracle: Any) -> None:
    """The padding's token is the likeliest, so that a penalty on it would be seen."""
    likeliest = int(write(oracle, input_ids=IDS[:1, 2:], **BASE)[0, 3])
    ids = np.where(MASK == 0, likeliest, IDS)
    arguments = {**BASE, "input_ids": ids, "attention_mask": MASK, "repetition_penalty": 3.0}
    expected = write(oracle, **arguments)
    assert expected[0, 5] == likeliest
    for backend, model in models.items():
        np.testing.assert_array_equal(write(model, **arguments), expected, err_msg=backend)


@pytest.mark.parametrize("where", ["generation_config.json", "config.json"])
def test_a_checkpoints_settings_are_followed(free: np.ndarray, tmp_path: Path, where: str) -> None:
    folder = copied(load.folder(CASE), tmp_path / "copy")
    (folder / "generation_config.json").unlink()
    held = json.loads((folder / "config.json").read_text()) if where == "config.json" else {}
    held |= {"no_repeat_ngram_size": 2, "suppress_tokens": [int(free[0, 0])], "min_length": 8}
    held |= {"forced_eos_token_id": 42, "bad_words_ids": [[int(free[0, 1])]], "eos_token_id": int(free[1, 0])}
    (folder / where).write_text(json.dumps(held))
    given = {**INPUTS, "max_new_tokens": NEW, "pad_token_id": 0}
    expected = write(transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), **given)
    for backend in BACKENDS:
        model = loadstone.AutoModelForCausalLM.from_pretrained(folder, backend=backend)
        np.testing.assert_array_equal(write(model, **given), expected, err_msg=backend)
        model.generation_config.num_beams = 4
        with pytest.raises(ArgumentError, match="num_beams=4"):
            write(model, **given)
        np.testing.assert_array_equal(write(model, **given, num_beams=1), expected, err_msg=backend)


def test_settings_that_cannot_be_followed_are_errors(models: dict[str, Any]) -> None:
    vocabulary = models["torch"].config.vocab_size
    impossible: list[tuple[dict[str, Any], str]] = [
        ({"bad_words_ids": [[vocabulary]]}, "bad_words_ids holds what is no token"),
        ({"forced_eos_token_id": -1}, "forced_eos_token_id holds what is no token"),
        ({"forced_bos_token_id": vocabulary}, "forced_bos_token_id holds what is no token"),
        ({"suppress_tokens": list(range(vocabulary))}, "leave no token that may follow"),
        ({"max_new_tokens": 2**31}, "max_new_tokens"),
        ({"max_new_tokens": "many"}, "max_new_tokens"),
    ]
    for model in models.values():
        for chosen, message in impossible:
            with pytest.raises(ArgumentError, match=message):
                write(model, **INPUTS, **{**BASE, **chosen})


def test_arguments_that_ask_for_nothing_are_taken(models: dict[str, Any], free: np.ndarray) -> None:
    """All of transformers' own, at the value that it gives them itself."""
    nothing: dict[str, Any] = transformers.GenerationConfig._get_default_generation_params()
    nothing = {n: v for n, v in nothing.items() if n not in ("max_length", "num_assistant_tokens_schedule")}
    nothing |= {"logits_processor": transformers.LogitsProcessorList(), "stopping_criteria": None}
    nothing |= {"synced_gpus": None, "streamer": None, "assistant_model": None, "negative_prompt_ids": None}
    nothing |= {"prefix_allowed_tokens_fn": None, "custom_generate": None, "generation_config": None}
    nothing |= {"token_type_ids": np.zeros_like(IDS), "output_scores": False, "length_penalty": 1.0}
    unset = {n: None for n in vars(transformers.GenerationConfig()) if n not in nothing | BASE}
    for model in models.values():
        found = write(model, **{**INPUTS, **unset, **nothing, **BASE})
        np.testing.assert_array_equal(found[:, IDS.shape[1] :], free)
        theirs = transformers.GenerationConfig(max_new_tokens=3, eos_token_id=-1, pad_token_id=0)
        np.testing.assert_array_equal(
            write(model, **INPUTS, generation_config=theirs)[:, IDS.shape[1] :], free[:, :3]
        )
        with pytest.raises(ArgumentError, match="does not follow logits_processor"):
            write(model, **INPUTS, logits_processor=[lambda ids, scores: scores])
        with pytest.raises(ArgumentError, match="reads no token_type_ids"):
            write(model, **INPUTS, token_type_ids=np.ones_like(IDS))
        with pytest.raises(ArgumentError, match="token_type_ids does not fit"):
            write(model, **INPUTS, token_type_ids=np.zeros_like(IDS[:, 1:]))


def test_token_types_are_read_where_the_model_reads_them() -> None:
    folder = load.folder("gpt2-causal-lm")
    arguments = {**INPUTS, **BASE, "token_type_ids": np.array([[0, 0, 3, 4, 4], [7, 7, 7, 3, 3]])}
    oracle = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    expected = write(oracle, **arguments)
    assert (expected != write(oracle, **INPUTS, **BASE)).any()
    for backend in BACKENDS:
        model = loadstone.AutoModelForCausalLM.from_pretrained(folder, backend=backend)
        for how in ({}, {"no_repeat_ngram_size": 9}, {"no_repeat_ngram_size": 9, "use_cache": False}):
            found = write(model, **arguments, **how)
            np.testing.assert_array_equal(found, expected, err_msg=f"{backend} {how}")


def test_prompts_of_short_integers_are_continued_with_any_token(tmp_path: Path) -> None:
    """No token beyond 255 fits in their bytes."""
    config = transformers.GPT2Config(vocab_size=600, n_positions=16, n_embd=12, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    forced = {"max_new_tokens": 2, "forced_eos_token_id": 555, "eos_token_id": None}
    for backend in BACKENDS:
        model = loadstone.AutoModelForCausalLM.from_pretrained(tmp_path, backend=backend)
        assert write(model, input_ids=np.array([[5, 6]], np.uint8), **forced)[0, -1] == 555, backend
