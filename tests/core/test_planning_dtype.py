"""Which dtype a parameter gets: the argument, else the nested configuration, else the configuration, else the file."""

import dataclasses

import numpy as np
import pytest
from made_up import BASE, LM, TOY, ToyConfig, base_shapes, index, plan, shapes_of, states

from loadstone.errors import ArgumentError, MatchError
from loadstone.planning.dtype import dtype_policy


def policy(argument=None, *, stored="float32", **values):
    checkpoint = index(base_shapes(), stored) if stored else None
    return dtype_policy(argument, config=ToyConfig.from_dict(values), index=checkpoint, architecture=TOY)


@pytest.mark.parametrize("argument", [None, "auto", "float16"])
@pytest.mark.parametrize("nested", [None, "bfloat16"])
@pytest.mark.parametrize("flat", [None, "float64"])
@pytest.mark.parametrize("spelling", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("stored", [None, "float32", "float16"])
def test_who_decides(argument, nested, flat, spelling, stored):
    values = {spelling: flat} if flat else {}
    values |= (
        {"text_config": {spelling: nested} if nested else {}}
        if nested is not None or spelling == "dtype"
        else {}
    )
    asked = argument if argument != "auto" else None
    expected = asked or nested or flat or stored or "float32"
    origin = "argument" if asked else "config" if nested or flat else "checkpoint"
    found = policy(argument, stored=stored, **values)
    assert (found.build, found.origin) == (expected, origin)


@pytest.mark.parametrize(
    "spelling",
    ["bf16", "bfloat16", "torch.bfloat16", type("bfloat16", (), {}), type("D", (), {"name": "bfloat16"})()],
)
def test_a_dtype_by_any_name_or_object(spelling):
    assert policy(spelling).build == "bfloat16"


@pytest.mark.parametrize("spelling", ["half", np.float16, np.dtype("float16"), "jnp.float16"])
def test_numpys_dtypes(spelling):
    assert policy(spelling).build == "float16"


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ({"a": "float32", "b": "bfloat16"}, "float32"),
        ({"a": "bfloat16", "b": "float32"}, "bfloat16"),
        ({"a": "int64", "b": "float16"}, "float16"),
        ({"a": "float8_e4m3fn", "b": "float64"}, "float64"),
        ({"a": "int64", "b": "float8_e4m3fn"}, "float32"),
    ],
)
def test_the_file_says_the_dtype_of_its_first_float_tensor_by_name(dtypes, expected):
    """Not of most of its bytes, nor of the first by offset."""
    stored = index({"b": (10_000,), "a": (2,)}, dtypes=dtypes)
    assert (
        dtype_policy(None, config=ToyConfig.from_dict({}), index=stored, architecture=TOY).build == expected
    )


def test_the_first_file_goes_before_the_first_name():
    stored = index({"a": (2,), "b": (2,)}, dtypes={"a": "float32", "b": "bfloat16"})
    tensors = {
        name: dataclasses.replace(info, file={"a": "2.safetensors", "b": "1.safetensors"}[name])
        for name, info in stored.tensors.items()
    }
    sharded = dataclasses.replace(stored, tensors=tensors, files=("1.safetensors", "2.safetensors"))
    assert (
        dtype_policy(None, config=ToyConfig.from_dict({}), index=sharded, architecture=TOY).build
        == "bfloat16"
    )


@pytest.mark.parametrize("argument", ["int8", np.int32, "bool", "complex64"])
def test_a_model_is_built_of_floats(argument):
    with pytest.raises(ArgumentError, match="cannot be built with this dtype"):
        policy(argument)


def test_a_configuration_that_names_no_float():
    with pytest.raises(ArgumentError, match="dtype, from the config"):
        policy(dtype="int8")


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(ArgumentError, match="did you mean bfloat16"):
        policy("bfloat61")


STORED = ("float64", "float32", "float16", "bfloat16")


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("asked", STORED)
def test_floats_are_cast_to_what_was_asked_for(stored, asked):
    found = plan(BASE, index(shapes_of(BASE), stored), dtype=asked)
    for name, assignment in found.assignments.items():
        expected = {"norm.steps": "int64"}.get(name, "float32" if "router" in name else asked)
        assert assignment.dtype == expected, (
            "what the architecture keeps in float32 stays so, integers stay integers"
        )
        assert (assignment.state == "loaded") == (assignment.recipe.sources[0].dtype == expected)


@pytest.mark.parametrize("stored", [*STORED, "float8_e4m3fn"])
def test_stored_keeps_each_tensor_as_it_lies(stored):
    found = plan(BASE, index(shapes_of(BASE), "float32", dtypes={"norm.weight": stored}), dtype="stored")
    assert set(states(found).values()) == {"loaded"}
    assert found.assignments["norm.weight"].dtype == stored
    assert (
        found.assignments["embed.weight"].dtype
        == found.assignments["layers.0.router.weight"].dtype
        == "float32"
    )


def test_stored_overrules_the_configuration():
    found = plan(
        BASE,
        index(shapes_of(BASE), "float16"),
        dtype="stored",
        config=ToyConfig.from_dict({"dtype": "float32"}),
    )
    assert found.assignments["norm.weight"].dtype == "float16"


@pytest.mark.parametrize("asked", [None, "float32", "bfloat16", "float8_e5m2"])
def test_eight_bits_are_never_cast(asked):
    stored = index(shapes_of(BASE), "float32", dtypes={"norm.weight": "float8_e4m3fn"})
    with pytest.raises(
        MatchError, match=r"norm.weight: expected \w+, found float8_e4m3fn, which is not cast"
    ):
        plan(BASE, stored, dtype=asked)


def test_eight_bits_that_were_asked_for_are_loaded():
    shapes = {n: s for n, s in shapes_of(BASE).items() if "router" not in n}
    found = plan(BASE, index(shapes, "float8_e4m3fn"), dtype="float8_e4m3fn", model=shapes)
    assert found.assignments["embed.weight"].state == "loaded"


def test_new_parameters_get_the_dtype_that_was_asked_for():
    config = ToyConfig.from_dict({"tie_word_embeddings": False, "architectures": ["ToyModel"]})
    found = plan(LM, shapes_of(BASE), dtype="bfloat16", config=config)
    assert found.assignments["head.weight"].dtype == "bfloat16"
    stored = shapes_of(BASE) | {"layers.0.router.weight": (9, 9)}
    found = plan(BASE, stored, dtype="bfloat16", ignore_mismatched_sizes=True)
    assert found.assignments["layers.0.router.weight"].dtype == "float32", "kept in float32 also when drawn"


def test_beside_stored_tensors_new_ones_get_the_dtype_of_the_first():
    values = {"dtype": "float32", "tie_word_embeddings": False, "architectures": ["ToyModel"]}
    found = plan(LM, index(shapes_of(BASE), "float16"), dtype="stored", config=ToyConfig.from_dict(values))
    assert found.assignments["head.weight"].dtype == "float16"
