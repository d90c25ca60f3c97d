"""Arrangements in both directions: what is put together of stored tensors is taken apart into the same ones."""

import numpy as np
import pytest

from loadstone.architectures import Arrangement, Split
from loadstone.checkpoint.recipe import Concatenate, Stack, Transpose, result
from loadstone.errors import ArgumentError
from loadstone.read.steps import assemble

EXPERTS = Arrangement(
    stored=("layers.{}.experts.{*}.up.weight",),
    parameters=("layers.{}.experts.up",),
    steps=(Transpose((1, 0)), Stack(1)),
)
FUSED = Arrangement(
    stored=("layers.{}.qkv.weight",),
    parameters=("layers.{}.q.weight", "layers.{}.k.weight", "layers.{}.v.weight"),
    steps=(Transpose((1, 0)), Split(0)),
)
GATED = Arrangement(
    stored=("layers.{}.gate.weight", "layers.{}.up.weight"),
    parameters=("layers.{}.gate_up.weight",),
    steps=(Concatenate(0),),
)
CASES = {
    "stack": (EXPERTS, 3, [(2, 5)] * 3, {"layers.4.experts.up": (5, 3, 2)}),
    "split": (
        FUSED,
        1,
        [(5, 9)],
        {"layers.4.q.weight": (4, 5), "layers.4.k.weight": (2, 5), "layers.4.v.weight": (3, 5)},
    ),
    "concatenate": (GATED, 1, [(3, 5), (3, 5)], {"layers.4.gate_up.weight": (6, 5)}),
}


def made(arrays, steps):
    shape, parts = result([array.shape for array in arrays], steps)
    target = np.empty(shape)
    assemble(target, parts, arrays.__getitem__)
    return target


@pytest.mark.parametrize("case", CASES)
def test_there_and_back(case):
    arrangement, number, stored_shapes, shapes = CASES[case]
    stored = [np.random.default_rng(i).random(shape) for i, shape in enumerate(stored_shapes)]
    group = arrangement.group(next(iter(shapes)))
    assert group.parameter_names == list(shapes)
    assert group.number(shapes) == number
    parameters = {name: made(stored, group.loading(name, shapes)) for name in shapes}
    assert {name: array.shape for name, array in parameters.items()} == shapes
    back = dict(group.saving(number, shapes))
    assert list(back) == group.stored_names(number)
    for name, array in zip(back, stored, strict=True):
        np.testing.assert_array_equal(made(list(parameters.values()), back[name]), array)


def test_parameters_are_what_their_names_say():
    stored = np.arange(45.0).reshape(5, 9)
    shapes = CASES["split"][3]
    group = FUSED.group("layers.4.k.weight")
    np.testing.assert_array_equal(made([stored], group.loading("layers.4.k.weight", shapes)), stored.T[4:6])


@pytest.mark.parametrize("name", ["layers.4.experts.down", "experts.up", "layers.4.experts.up.more"])
def test_other_names_belong_to_no_group(name):
    assert EXPERTS.group(name) is None


def test_a_parameter_that_is_not_made_of_equal_tensors_is_not_cut_short():
    group = GATED.group("layers.4.gate_up.weight")
    with pytest.raises(ArgumentError, match="cannot be taken apart into 2 equal tensors"):
        list(group.saving(1, {"layers.4.gate_up.weight": (7, 5)}))


@pytest.mark.parametrize(
    ("stored", "parameters", "steps", "told"),
    [
        (("a", "b"), ("c",), (), "several stored tensors"),
        (("a",), ("b", "c"), (), "several parameters"),
        (("a", "b"), ("c", "d"), (Split(0),), "is one stored tensor"),
        (("a.{*}",), ("b",), (Concatenate(0),), "are stacked"),
        (("a.{*}", "b"), ("c",), (Stack(0),), "nothing stands beside them"),
        (("a.{*}",), ("b",), (Stack(0), Transpose((1, 0))), "only the last step"),
    ],
)
def test_what_cannot_be_read_in_both_directions_is_refused(stored, parameters, steps, told):
    with pytest.raises(ArgumentError, match=told):
        Arrangement(stored=stored, parameters=parameters, steps=steps)
