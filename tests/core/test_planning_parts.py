"""The planner's parts: folding names, placing a model on a device, drawing what no checkpoint holds."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import BASE, LM, TOY, ToyConfig, plan, shapes_of

from loadstone.architectures import generalise, matches
from loadstone.backend import Device
from loadstone.errors import PlacementError
from loadstone.load.fresh import draw
from loadstone.planning.fold import fold
from loadstone.planning.place import place, sizes_of
from loadstone.planning.records import Assignment

# Folding


def test_names_that_differ_in_a_number_fold():
    names = ["embed", "layers.0.a", "layers.0.b", "layers.1.a", "layers.1.b", "layers.3.a", "norm"]
    assert list(fold(names)) == ["embed", "layers.{0,1,3}.a", "layers.{0...1}.b", "norm"]
    assert fold(names)["layers.{0,1,3}.a"] == ["layers.0.a", "layers.1.a", "layers.3.a"]


def test_two_numbers_fold_at_once():
    names = [f"layers.{i}.experts.{j}.up" for i in range(3) for j in range(4)]
    assert list(fold(names)) == ["layers.{0...2}.experts.{0...3}.up"]
    assert list(fold(name for name in names if ".1." in name and "layers.1" in name)) == [
        "layers.1.experts.{0...3}.up"
    ]


def test_many_gaps_are_cut_short():
    assert list(fold(f"a.{i}" for i in range(0, 20, 2))) == ["a.{0,2,4,6,...}"]


SEGMENT = st.sampled_from(["a", "0", "1", "12", "007", "²", "٣", "9" * 5000, "", "-1", "1e3", "{}"])


@given(names=st.lists(st.lists(SEGMENT, min_size=1, max_size=4).map(".".join), unique=True))
def test_every_name_is_under_exactly_one_label(names):
    folded = fold(names)
    assert sorted(name for members in folded.values() for name in members) == sorted(names)
    for label, members in folded.items():
        assert members[0] == label if len(members) == 1 else len({generalise(name) for name in members}) == 1


@given(name=st.lists(SEGMENT, min_size=1, max_size=4).map(".".join))
def test_a_name_fits_its_own_pattern(name):
    assert matches(generalise(name), name)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("layers.{}.bias", "layers.1.bias", True),
        ("layers.{}.bias", "layers.1.mlp.bias", False),
        ("layers.{}.bias", "xlayers.1.bias", False),
        ("layers.{...}", "layers.1.mlp.bias", True),
        ("layers.{...}", "layer.1", False),
        ("a.b", "a.bc", False),
        ("a.b", "axb", False),
    ],
)
def test_patterns_match_whole_segments(pattern, name, fits):
    assert matches(pattern, name) is fits


# Placing


class Devices:
    """A backend with two accelerators and a host."""

    def devices(self):
        small, large = (
            Device(name=f"gpu:{i}", is_host=False, free=f, total=9999) for i, f in enumerate((10, 600))
        )
        return small, large, Device(name="cpu", is_host=True, free=0, total=1)

    def device(self, requested):
        return next(d for d in self.devices() if d.name == (requested or "cpu"))


@pytest.fixture
def toy_plan():
    return plan(LM, shapes_of(LM))


def test_the_bytes_of_a_model_count_ties_once():
    stored = {n: s for n, s in shapes_of(LM).items() if n != "head.weight"}
    tied = plan(LM, stored, config=ToyConfig.from_dict({"architectures": ["ToyForCausalLM"]}))
    floats = sum(int(np.prod(shape)) for name, shape in stored.items() if "steps" not in name)
    assert sum(sizes_of(tied).values()) == 4 * floats + 8


def test_auto_takes_the_first_device_with_room(toy_plan):
    backend = Devices()
    assert 10 < sum(sizes_of(toy_plan).values()) < 540, "nine tenths of what is free"
    assert str(place(toy_plan, backend, "auto")) == "gpu:1"
    large = plan(
        LM,
        {n: (s[0] * 99, *s[1:]) if s else s for n, s in shapes_of(LM).items()},
        model={n: (s[0] * 99, *s[1:]) if s else s for n, s in shapes_of(LM).items()},
    )
    assert str(place(large, backend, "auto")) == "cpu"


def test_no_device_has_room(toy_plan):
    class NoHost(Devices):
        def devices(self):
            return tuple(dataclasses.replace(d, free=1, is_host=False) for d in super().devices())

    with pytest.raises(PlacementError, match="larger than every budget"):
        place(toy_plan, NoHost(), "auto")


@pytest.mark.parametrize(
    ("device_map", "name"), [(None, "cpu"), ("gpu:0", "gpu:0"), ({"": "gpu:1"}, "gpu:1")]
)
def test_a_device_that_was_named(toy_plan, device_map, name):
    assert str(place(toy_plan, Devices(), device_map)) == name


@pytest.mark.parametrize("names", [["model", "head"], ["model.layers.0", "model", "head.weight"], [""]])
def test_a_map_to_one_device(toy_plan, names):
    assert place(toy_plan, Devices(), dict.fromkeys(names, "gpu:1")).device_map == dict.fromkeys(
        names, "gpu:1"
    )


@pytest.mark.parametrize("device_map", [{}, {"model": "cpu"}, {"mod": "cpu", "head": "cpu"}], ids=str)
def test_a_map_names_a_device_for_every_parameter(toy_plan, device_map):
    with pytest.raises(PlacementError, match="names no device for some") as caught:
        place(toy_plan, Devices(), device_map)
    assert ("model.norm.weight" in caught.value.problems) == ("model" not in device_map)


# Drawing


def drawn(name, shape, *, seed=0, dtype="float32", **values):
    assignment = Assignment(name=name, state="new", dtype=dtype, shape=shape)
    base_name = LM.base_name(name)
    config = ToyConfig.from_dict(values)
    return draw(assignment, base_name=base_name, architecture=TOY, config=config, seed=seed).numpy()


def test_what_is_drawn_depends_on_the_name_and_the_seed_alone():
    one = drawn("head.weight", (50, 40))
    assert np.array_equal(one, drawn("head.weight", (50, 40)))
    assert not np.array_equal(one, drawn("head.weight", (50, 40), seed=1))
    assert not np.array_equal(one, drawn("other.weight", (50, 40)))
    assert one.std() == pytest.approx(0.02, rel=0.1)
    assert np.allclose(drawn("head.weight", (50, 40), initializer_range=0.2), one * 10, rtol=1e-6)


def test_each_dtype_rounds_the_same_numbers():
    wide, half = drawn("head.weight", (9, 9)), drawn("head.weight", (9, 9), dtype="bfloat16")
    assert np.array_equal(half, wide.astype(half.dtype))


def test_biases_are_zeros_and_other_vectors_ones():
    assert not drawn("score.bias", (5,)).any()
    assert (drawn("model.norm.weight", (5,)) == 1).all()
    assert drawn("model.scale", ()).shape == ()


@pytest.mark.parametrize("pad", [3, None, -1, 99])
def test_the_row_of_the_padding_token_is_zeros(pad):
    rows = drawn("model.embed.weight", (7, 4), pad_token_id=pad)
    assert [i for i in range(7) if not rows[i].any()] == ([3] if pad == 3 else [])
    assert drawn("model.other.weight", (7, 4), pad_token_id=3)[3].any()


def test_the_architecture_may_draw_otherwise():
    kinds = dataclasses.replace(TOY, drawn={"layers.{}.scale": "ones", "norm.weight": "zeros"})
    for name, value in (("layers.1.scale", 1), ("norm.weight", 0)):
        assignment = Assignment(name=name, state="new", dtype="float32", shape=(2, 2))
        found = draw(assignment, base_name=name, architecture=kinds, config=ToyConfig.from_dict({}), seed=0)
        assert (found.numpy() == value).all()
    assert BASE.base_name("norm.weight") == "norm.weight"
