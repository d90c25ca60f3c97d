"""Scores as settings of `generate` leave them; that transformers leaves the same is seen in tests/together."""

import numpy as np
import pytest

from loadstone.errors import ArgumentError
from loadstone.generate.processors import Processors, check_left
from loadstone.generate.settings import Generation

LOGITS = np.array([[2.0, 1.5, -1.0, 0.5]], np.float16)


def scores(ids: list[int], mask: list[int] | None = None, **fields: object) -> list[float]:
    """Return the scores of the one sequence that begins with `ids`."""
    given = {"max_new_tokens": 3, "eos_token_ids": (1,), "pad_token_id": 0, "prompt_length": 2, **fields}
    mask = [1] * len(ids) if mask is None else mask
    process = Processors(Generation(**given), np.array([mask]))  # type: ignore[arg-type]
    return process(LOGITS, np.array([ids])).tolist()[0]  # type: ignore[no-any-return]


def ruled_out(ids: list[int], **fields: object) -> list[int]:
    """Return the tokens that cannot follow."""
    return [token for token, score in enumerate(scores(ids, **fields)) if score == -np.inf]


def test_a_repetition_is_penalised_once_and_padding_is_none() -> None:
    assert scores([3, 2], repetition_penalty=2.0) == [2.0, 1.5, -2.0, 0.25]
    assert scores([2, 2, 0], repetition_penalty=2.0) == [1.0, 1.5, -2.0, 0.5]
    assert scores([0, 0, 1, 0], [0, 0, 1, 1], repetition_penalty=2.0) == [1.0, 0.75, -1.0, 0.5]
    assert scores([0, 0, 1], [0, 0, 1], repetition_penalty=2.0) == [2.0, 0.75, -1.0, 0.5]


def test_no_run_occurs_twice() -> None:
    assert ruled_out([2, 3], no_repeat_ngram_size=3) == []
    assert ruled_out([2, 3, 1, 2, 0, 2], no_repeat_ngram_size=2) == [0, 3]
    assert ruled_out([2, 3, 2], no_repeat_ngram_size=1) == [2, 3]
    assert ruled_out([2, 3, 1, 2, 3], no_repeat_ngram_size=3) == [1]


def test_no_word_is_completed() -> None:
    words = ((3,), (2, 1), (2, 2, 0), (1, 2, 2, 2, 2))
    assert ruled_out([1, 2], bad_words=words) == [1, 3]
    assert ruled_out([2, 2], bad_words=words) == [0, 1, 3]


def test_tokens_are_ruled_out_and_forced_where_they_shall_be() -> None:
    for length, new in ((2, 0), (3, 1), (4, 2)):
        ids = [3] * length
        assert ruled_out(ids, min_new_tokens=2) == ([1] if new < 2 else [])
        assert ruled_out(ids, begin_suppress_tokens=(2,)) == ([2] if new == 0 else [])
        assert ruled_out(ids, forced_eos=(1, 2)) == ([0, 3] if new == 2 else [])
        assert ruled_out(ids, forced_bos=(3,)) == []
        assert ruled_out(ids, suppress_tokens=(0, 9, -1)) == [0]
    assert ruled_out([3], forced_bos=(3,), prompt_length=1) == [0, 1, 2]
    assert ruled_out([3, 3], forced_bos=(3,), begin_suppress_tokens=(2,), prompt_length=1) == [2]


def test_the_logits_are_left_as_they_were() -> None:
    logits = np.array(LOGITS, np.float32)
    call = Generation(
        max_new_tokens=1, eos_token_ids=(), pad_token_id=0, no_repeat_ngram_size=1, bad_words=((0,),)
    )
    Processors(call, np.ones((1, 1)))(logits, np.array([[2]]))
    np.testing.assert_array_equal(logits, LOGITS)


def test_a_sequence_without_a_token_left_is_told() -> None:
    check_left(np.array([[-np.inf, 0.0], [np.nan, -np.inf]]))
    check_left(np.zeros((0, 2)))
    with pytest.raises(ArgumentError, match="leave no token that may follow"):
        check_left(np.array([[-np.inf, 0.0], [-np.inf, -np.inf]]))
