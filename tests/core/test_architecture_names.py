"""Names: where checkpoints have the parts of a family."""

from __future__ import annotations

import dataclasses

import pytest

from loadstone import AutoConfig
from loadstone.architectures import (
    BucketSpec,
    NormSpec,
    alibi_slopes,
    architecture_for,
    leaf,
    model_types,
    owner,
)
from loadstone.errors import ArgumentError
from tests.oracle.files import SIZES


def spec_of(model_type, **fields):
    config = AutoConfig.for_model(model_type, **SIZES.get(model_type, {}) | fields)
    return architecture_for(model_type).spec(config)


STACKS = [model_type for model_type in model_types() if model_type != "resnet"]


@pytest.mark.parametrize("model_type", STACKS)
def test_layers_that_are_alike_are_one_object(model_type):
    layers = spec_of(model_type).layers
    assert len({id(layer) for layer in layers}) == len(set(layers))


def test_names_are_taken_apart_at_their_last_dot():
    names = spec_of("bert").names
    assert owner(names.attention.output) == "attention.output" and leaf(names.attention.output) == "dense"
    assert owner("lm_head") == "" and leaf("lm_head") == "lm_head"
    inner, outer = names.attention.within("attention.self"), names.attention.within("attention.output")
    assert (inner.query, inner.output, inner.after) == ("query", "", "")
    assert (outer.query, outer.output, outer.after) == ("", "dense", "LayerNorm")


@pytest.mark.parametrize(
    ("model_type", "change", "part"),
    [
        ("llama", {"norm": None}, "after the last layer"),
        ("bert", {"norm": NormSpec(kind="layer", eps=1e-5)}, "after the last layer"),
        ("qwen3", {"names": spec_of("llama").names}, "queries and keys"),
        ("llama", {"names": spec_of("qwen3").names}, "queries and keys"),
    ],
)
def test_a_part_has_a_spec_and_a_name_or_neither(model_type, change, part):
    with pytest.raises(ArgumentError, match=part):
        dataclasses.replace(spec_of(model_type), **change)


def test_attention_to_an_encoder_has_both_or_neither():
    spec = spec_of("llama")
    names = dataclasses.replace(spec.names, cross_attention=spec.names.attention)
    with pytest.raises(ArgumentError, match="attention to an encoder"):
        dataclasses.replace(spec, names=names)


@pytest.mark.parametrize("heads", [1, 2, 3, 12, 16])
def test_slopes_fall_within_each_of_the_two_sequences(heads):
    slopes = alibi_slopes(heads)
    power = 1 << (heads.bit_length() - 1)
    assert len(slopes) == heads and all(0 < slope < 1 for slope in slopes)
    for part in (slopes[:power], slopes[power:]):
        assert list(part) == sorted(part, reverse=True)


def test_buckets_end_at_the_largest_distance():
    table = BucketSpec(buckets=32, max_distance=128, both_ways=True).table
    assert len(table) == 257 and set(table) == set(range(32)) - {16}
    assert BucketSpec(buckets=32, max_distance=128, both_ways=False).table[129:] == (0,) * 128
