"""The Language Model Evaluation Harness, with our models."""

from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

PAIRS = [("w5 w17", " w42 w8"), ("w5", " w3"), ("", "w9 w9 w9")]


def test_log_likelihoods(ours: Any, theirs: Any, words: Any) -> None:
    requests = [
        Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=index)
        for index, pair in enumerate(PAIRS)
    ]
    found, expected = (
        HFLM(pretrained=model, tokenizer=words, batch_size=2, device="cpu").loglikelihood(requests)
        for model in (ours, theirs)
    )
    assert len({value for value, _ in found}) == len(PAIRS)
    for (value, greedy), (wanted, also_greedy) in zip(found, expected, strict=True):
        assert value == pytest.approx(wanted, rel=1e-4)
        assert greedy == also_greedy
