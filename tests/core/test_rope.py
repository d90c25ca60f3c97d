"""Rope's numbers, once for all frameworks, against those that transformers computes; `tests/oracle/rope.py` recorded them."""

import json
from pathlib import Path

import numpy as np
import pytest

from loadstone import LlamaConfig
from loadstone.architectures import rope_spec

ROWS = json.loads(Path(__file__).with_name("rope.json").read_text())
NAMES = [f"{row['parameters']['rope_type']}-{at}" for at, row in enumerate(ROWS)]
ROUNDING = 3e-7
"""A few units in float32's last place."""


def spec_of(row):
    config = LlamaConfig(
        rope_parameters=row["parameters"], max_position_embeddings=row["max_position_embeddings"]
    )
    return rope_spec(config, head_dim=row["head_dim"])


def frequencies(row):
    """What positions are turned by in a sequence of the row's tokens."""
    spec, tokens = spec_of(row), row["tokens"]
    if spec.beyond is not None and tokens > spec.limit:
        return spec.beyond
    if spec.growth is not None and tokens > spec.growth.limit:
        return [spec.growth.base(tokens) ** -exponent for exponent in spec.growth.exponents]
    return spec.inverse_frequencies


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_it_turns_as_transformers_does(row):
    np.testing.assert_allclose(frequencies(row), row["frequencies"], rtol=ROUNDING)
    assert spec_of(row).attention_scaling == pytest.approx(row["scaling"], rel=ROUNDING)


def test_a_short_sequence_and_a_long_one_differ_where_they_may():
    differ = {
        row["parameters"]["rope_type"]
        for row, long in zip(ROWS[::2], ROWS[1::2], strict=True)
        if row["frequencies"] != long["frequencies"]
    }
    assert differ == {"dynamic", "longrope"}


@pytest.mark.parametrize("factor", ["factor", "rope_theta", "low_freq_factor", "high_freq_factor"])
def test_the_comparison_can_fail(factor):
    row = next(r for r in ROWS if factor in r["parameters"] and r["head_dim"] == 10 and r["tokens"] > 16)
    wrong = row | {"parameters": row["parameters"] | {factor: row["parameters"][factor] * 1.01}}
    assert not np.allclose(frequencies(wrong), row["frequencies"], rtol=ROUNDING, atol=0)
