"""Sampling: what may be drawn, and that it is drawn as often as it should be."""

import numpy as np
import pytest

from loadstone.errors import ArgumentError
from loadstone.generate.decoding import Prompts, decode
from loadstone.generate.sampling import Sampler
from loadstone.generate.settings import Generation, GenerationConfig, resolve_generation

LOGITS = np.log(np.array([[0.5, 0.25, 0.15, 0.1]], np.float32))


def plan(**fields: object) -> Generation:
    given = {"max_new_tokens": 1, "eos_token_ids": (), "pad_token_id": 0, "do_sample": True, **fields}
    return Generation(**given)  # type: ignore[arg-type]


def frequencies(settings: Generation, number: int = 4000) -> np.ndarray:
    sampler = Sampler(settings)
    drawn = sampler.choose(np.repeat(LOGITS, number, axis=0))
    return np.bincount(drawn, minlength=4) / number


def test_draws_by_probability() -> None:
    assert np.abs(frequencies(plan(seed=1)) - [0.5, 0.25, 0.15, 0.1]).max() < 0.03


def test_temperature_sharpens() -> None:
    sharp = np.array([0.5, 0.25, 0.15, 0.1]) ** 2
    assert np.abs(frequencies(plan(seed=1, temperature=0.5)) - sharp / sharp.sum()).max() < 0.03


def test_top_k_and_top_p_leave_out() -> None:
    assert (frequencies(plan(seed=1, top_k=2)) > 0).tolist() == [True, True, False, False]
    assert (frequencies(plan(seed=1, top_p=0.76)) > 0).tolist() == [True, True, True, False]
    assert (frequencies(plan(seed=1, top_p=0.75)) > 0).tolist() == [True, True, False, False]
    assert (frequencies(plan(seed=1, top_p=0.01)) > 0).tolist() == [True, False, False, False]


def test_same_seed_same_tokens_and_other_seed_others() -> None:
    logits = np.zeros((1, 1000), np.float32)
    draws = [[int(s.choose(logits)[0]) for _ in range(5)] for s in map(Sampler, (plan(seed=3),) * 2)]
    assert draws[0] == draws[1]
    other = Sampler(plan(seed=4))
    assert [int(other.choose(logits)[0]) for _ in range(5)] != draws[0]


def test_stop_strings_end_a_sequence_and_the_other_goes_on() -> None:
    class Letters:
        def decode(self, ids: list[int]) -> str:
            return "".join(chr(97 + token) for token in ids)

    settings = resolve_generation(
        GenerationConfig(),
        {"max_new_tokens": 4, "stop_strings": "bc", "tokenizer": Letters(), "pad_token_id": 9},
        prompt_length=1,
    )
    script = np.array([[1, 2, 3, 3], [1, 1, 2, 3]])

    def next_logits(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.eye(10, dtype=np.float32)[script[:, ids.shape[1] - 1]]

    ids = np.zeros((2, 1), np.int64)
    out = decode(next_logits, Prompts(ids=ids, mask=np.ones_like(ids), call=settings))
    assert out.tolist() == [[0, 1, 2, 9], [0, 1, 1, 2]]


def test_streamer_gets_prompt_tokens_and_end() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.got: list[object] = []

        def put(self, value: np.ndarray) -> None:
            self.got.append(value.tolist())

        def end(self) -> None:
            self.got.append("end")

    recorder = Recorder()
    settings = plan(max_new_tokens=2, do_sample=False)
    prompts = Prompts(ids=np.array([[5, 6]]), mask=np.ones((1, 2), np.int64), call=settings)
    decode(lambda ids, mask: LOGITS, prompts, streamer=recorder)
    assert recorder.got == [[[5, 6]], [0], [0], "end"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"temperature": -1.0},
        {"temperature": 0.0},
        {"top_k": -1},
        {"top_p": 1.5},
        {"top_p": 0.0},
        {"repetition_penalty": -2},
        {"repetition_penalty": 0.0},
        {"seed": np.random.default_rng(0)},
        {"prng_key": 0},
        {"stop_strings": ["x"]},
    ],
)
def test_bad_settings_are_errors(arguments: dict[str, object]) -> None:
    with pytest.raises(ArgumentError):
        resolve_generation(GenerationConfig(), arguments, prompt_length=1)


def test_the_checkpoints_settings_hold_and_the_callers_go_before() -> None:
    config = GenerationConfig({"do_sample": True, "temperature": 0.7, "top_p": 0.8, "eos_token_id": [2, 7]})
    found = resolve_generation(config, {"temperature": 0.2}, prompt_length=3)
    assert (found.do_sample, found.temperature, found.top_p, found.eos_token_ids) == (True, 0.2, 0.8, (2, 7))
    assert resolve_generation(config, {"do_sample": False}, prompt_length=3).is_greedy
    quiet = GenerationConfig({"temperature": 0.0, "top_k": None})
    assert resolve_generation(quiet, {}, prompt_length=3).is_greedy, "what only sampling reads is not checked"
    assert resolve_generation(quiet, {"eos_token_id": np.array([2, 7])}, prompt_length=3).eos_token_ids == (
        2,
        7,
    )


@pytest.mark.parametrize(
    ("settings", "arguments", "new"),
    [
        ({}, {}, 20),
        ({"max_length": 40}, {}, 10),
        ({"max_length": 40}, {"max_new_tokens": 3}, 3),
        ({"max_new_tokens": 7}, {"max_length": 35}, 5),
        ({"max_new_tokens": 7}, {}, 7),
    ],
)
def test_how_many_tokens_are_added(settings: dict[str, int], arguments: dict[str, int], new: int) -> None:
    config = GenerationConfig(settings)
    assert resolve_generation(config, arguments, prompt_length=30).max_new_tokens == new
    nobody = not (settings or arguments)
    short = resolve_generation(config, arguments, prompt_length=30, max_length=32).max_new_tokens
    assert short == (2 if nobody else new), (
        "a length that nobody said stays within what the model was trained for"
    )
