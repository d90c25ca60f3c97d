"""The planner: each parameter and each stored tensor ends in exactly one state, or one error lists every problem."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import (
    BASE,
    CHANNELS,
    CLASSIFIER,
    HEADS,
    LM,
    QUESTIONS,
    TOY,
    ToyConfig,
    base_shapes,
    index,
    parameters,
    plan,
    shapes_of,
    states,
    stored_states,
)

from loadstone.errors import ArgumentError, MatchError
from loadstone.planning.fold import fold
from loadstone.planning.match import left_over


def config(**values):
    return ToyConfig.from_dict(values)


def without(shapes, *names):
    assert set(names) <= shapes.keys()
    return {name: shape for name, shape in shapes.items() if name not in names}


def refused(head, stored, *facts, **arguments):
    """Assert that a checkpoint does not fit, and that the message states the facts; return the error."""
    with pytest.raises(MatchError) as caught:
        plan(head, stored, **arguments)
    message = str(caught.value)
    for fact in ("a folder", "next: ", *facts):
        assert fact in message, message
    assert len(message.splitlines()) <= 15
    return caught.value


# Every one in exactly one state


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.class_name)
def test_a_checkpoint_of_the_class_itself_is_loaded_whole(head):
    found = plan(head, shapes_of(head), config=config(tie_word_embeddings=False))
    assert set(states(found).values()) == {"loaded"}
    assert set(stored_states(found).values()) == {"used"}
    assert all(a.recipe.sources[0].name == a.name for a in found.assignments.values())


@pytest.mark.parametrize("saved", HEADS, ids=lambda head: head.class_name)
@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.class_name)
def test_any_class_of_a_family_loads_into_any_other(head, saved):
    found = plan(
        head, shapes_of(saved), config=config(tie_word_embeddings=False, architectures=[saved.class_name])
    )
    prefix, before = f"{head.prefix}.", f"{saved.prefix}."
    for name in base_shapes():
        here = name if head is BASE else prefix + name
        assert found.assignments[here].state == "loaded"
        assert found.assignments[here].recipe.sources[0].name == (name if saved is BASE else before + name)
    new = {name for name, state in states(found).items() if state == "new"}
    promised = {name for group in head.new for name in group}
    assert new <= promised
    assert set(stored_states(found).values()) <= {"used", "ignored"}
    for name, stored in found.stored.items():
        assert stored.state == "used" or stored.why.startswith("of Toy"), name


MUTATIONS = (
    "keep",
    "drop",
    "misshape",
    "gamma",
    "stranger",
    "half",
    "eight",
    "integer",
    "ignored",
    "one_more_layer",
)


@given(data=st.data(), head=st.sampled_from(HEADS), saved=st.sampled_from(HEADS), tied=st.booleans())
def test_every_parameter_and_every_tensor_ends_in_one_state(data, head, saved, tied):
    shapes, dtypes = {}, {}
    for name, shape in shapes_of(saved).items():
        change = data.draw(st.sampled_from(MUTATIONS) if data.draw(st.booleans()) else st.just("keep"))
        if change == "drop":
            continue
        if change == "gamma" and name.endswith("norm.weight"):
            name = name.replace("norm.weight", "norm.gamma")
        shapes[name] = (*shape, 2) if change == "misshape" else shape
        dtypes |= {
            "half": {name: "float16"},
            "eight": {name: "float8_e4m3fn"},
            "integer": {name: "int8"},
        }.get(change, {})
        if change == "stranger":
            shapes[f"stranger.{name}"] = (1,)
        if change == "ignored":
            shapes[f"{saved.prefix}.layers.9.inv_freq".lstrip(".")] = (2,)
        if change == "one_more_layer":
            shapes[f"{saved.prefix}.layers.2.proj.weight".lstrip(".")] = (CHANNELS, CHANNELS)
    stored = index(shapes, dtypes=dtypes)
    arguments = {
        "config": config(
            tie_word_embeddings=tied, architectures=data.draw(st.sampled_from([None, [saved.class_name]]))
        ),
        "strict": data.draw(st.sampled_from([None, False, True])),
        "ignore_mismatched_sizes": data.draw(st.booleans()),
        "dtype": data.draw(st.sampled_from([None, "stored", "bfloat16"])),
    }
    try:
        found = plan(head, stored, **arguments)
    except MatchError as error:
        assert error.problems
        assert len(set(error.problems)) == len(error.problems)
        with pytest.raises(MatchError) as again:
            plan(head, stored, **arguments)
        assert again.value.problems == error.problems
        return
    assert found == plan(head, stored, **arguments), "the planner is deterministic"
    model = shapes_of(head)
    assert list(found.assignments) == list(model)
    assert found.stored.keys() == shapes.keys()
    sources = {a.recipe.sources[0].name for a in found.reads()}
    assert sources == {name for name, state in stored_states(found).items() if state == "used"}
    for name, assignment in found.assignments.items():
        assert (assignment.recipe is not None) == (assignment.state in ("loaded", "cast"))
        assert bool(assignment.to) == (assignment.state == "tied")
        assert bool(assignment.dtype) == (assignment.state != "tied")
        assert assignment.shape == model[name]
        if assignment.recipe is not None:
            assert assignment.recipe.sources[0].shape == model[name]
            assert (assignment.recipe.sources[0].dtype == assignment.dtype) == (assignment.state == "loaded")


PARTS = ("proj", "router")


@given(dropped=st.sets(st.sampled_from(list(shapes_of(QUESTIONS))), min_size=1))
def test_what_the_class_itself_lacks_is_named_whatever_it_is(dropped):
    saved = config(architectures=[QUESTIONS.class_name])
    error = refused(QUESTIONS, without(shapes_of(QUESTIONS), *dropped), config=saved)
    gone = [
        f"transformer.layers.{i}"
        for i in range(2)
        if {f"transformer.layers.{i}.{n}.weight" for n in PARTS} <= dropped
    ]
    single = [
        n for n in shapes_of(QUESTIONS) if n in dropped and not any(n.startswith(f"{b}.") for b in gone)
    ]
    assert [problem.split(":")[0] for problem in error.problems] == [*fold(gone), *fold(single)]


# Missing, misshapen, twice


def test_all_problems_are_named_at_once():
    stored = without(shapes_of(LM), "model.norm.weight") | {"model.layers.0.proj.weight": (CHANNELS, 9)}
    error = refused(LM, stored | {"model.layers.2.proj.weight": (1,)})
    assert len(error.problems) == 3
    assert "3 problems" in error.what
    assert "model.norm.weight: missing, expected shape [4]" in str(error)
    assert "toy.safetensors: model.layers.0.proj.weight: expected shape [4, 4], found [4, 9]" in str(error)
    assert "model.layers.2.proj.weight: surplus" in str(error)


def test_missing_layers_are_folded_into_one_line():
    stored = {n: s for n, s in shapes_of(BASE).items() if "proj" not in n}
    error = refused(BASE, stored, "layers.{0...1}.proj.weight: missing, expected shape [4, 4]")
    assert len(error.problems) == 1


def test_a_misspelt_tensor_is_suggested():
    stored = without(shapes_of(BASE), "norm.weight") | {"nrom.weight": (CHANNELS,)}
    refused(BASE, stored, "norm.weight: missing", "did you mean nrom.weight?")


@pytest.mark.parametrize("head", [LM, QUESTIONS], ids=lambda head: head.class_name)
def test_two_tensors_for_one_parameter(head):
    stored = shapes_of(BASE) | {"norm.gamma": (CHANNELS,)}
    refused(
        head,
        stored,
        f"{head.prefix}.norm.weight: two stored tensors are for it, 'norm.weight' and 'norm.gamma'",
    )


def test_the_hint_of_a_foreign_checkpoint_names_the_class_it_was_saved_from():
    stored = {f"decoder.{name}": shape for name, shape in base_shapes().items()}
    refused(
        LM,
        stored,
        "this is OtherModel, a class that loadstone has not: load it with transformers",
        "key_mapping=",
        config=config(architectures=["OtherModel"]),
    )
    refused(
        LM,
        stored,
        "this is GPT2LMHeadModel: load that class",
        "key_mapping=",
        config=config(architectures=["OtherModel", "GPT2LMHeadModel"]),
    )


# Prefixes and renamings


def test_renamed_endings():
    stored = without(shapes_of(LM), "model.norm.weight") | {"model.norm.gamma": (CHANNELS,)}
    found = plan(LM, stored)
    assert found.assignments["model.norm.weight"].recipe.sources[0].name == "model.norm.gamma"


def test_an_ending_is_renamed_at_dots_only():
    model = shapes_of(BASE) | {"prenorm.weight": (CHANNELS,)}
    refused(BASE, shapes_of(BASE) | {"prenorm.gamma": (CHANNELS,)}, "prenorm.weight: missing", model=model)


def test_a_base_checkpoint_may_hold_a_head_beside_it():
    found = plan(CLASSIFIER, shapes_of(BASE) | {"score.weight": (3, CHANNELS), "score.bias": (3,)})
    assert set(states(found).values()) == {"loaded"}


def test_a_stray_name_without_the_prefix_is_not_the_base_models():
    found = plan(LM, shapes_of(LM) | {"norm.weight": (CHANNELS,)}, strict=False)
    assert found.assignments["model.norm.weight"].recipe.sources[0].name == "model.norm.weight"
    assert found.stored["norm.weight"].state == "unused"


def test_key_mapping_is_applied_before_anything_else():
    stored = {f"decoder.block.{name}": shape for name, shape in shapes_of(BASE).items()}
    found = plan(LM, stored, key_mapping={r"^decoder\.block\.": "", "never": "x"})
    assert found.assignments["model.norm.weight"].recipe.sources[0].name == "decoder.block.norm.weight"
    assert found.stored["decoder.block.pooler.weight"].state == "ignored"


def test_of_several_patterns_the_first_that_fits_is_applied():
    stored = without(shapes_of(BASE), "norm.weight") | {"ln.w": (CHANNELS,)}
    mapping = {r"^ln\.(w)$": r"norm.\1eight", "^ln": "nothing", "^norm.weight": "nothing"}
    assert plan(BASE, stored, key_mapping=mapping).assignments["norm.weight"].recipe.sources[0].name == "ln.w"
    refused(BASE, stored, "norm.weight: missing", key_mapping=dict(reversed(mapping.items())))


def test_a_pattern_that_is_none():
    with pytest.raises(ArgumentError, match="no regular expression"):
        plan(BASE, shapes_of(BASE), key_mapping={"(": ""})


def test_a_key_mapping_that_maps_two_tensors_to_one():
    refused(
        BASE, shapes_of(BASE) | {"other.weight": (CHANNELS,)}, "two stored", key_mapping={"other": "norm"}
    )


# Ties


HEADLESS = without(shapes_of(LM), "head.weight")
ONLY_HEAD = without(shapes_of(LM), "model.embed.weight")
TIED, DENIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}


@pytest.mark.parametrize(("stored", "source"), [(HEADLESS, "model.embed.weight"), (ONLY_HEAD, "head.weight")])
def test_a_tie_of_which_one_is_stored(stored, source):
    found = plan(LM, stored, config=config(**TIED, architectures=["ToyForCausalLM"]))
    head, embedding = found.assignments["head.weight"], found.assignments["model.embed.weight"]
    assert (head.state, head.to) == ("tied", "model.embed.weight")
    assert (embedding.state, embedding.recipe.sources[0].name) == ("loaded", source)
    assert found.stored[source].state == "used"
    assert found.compare == ()


def test_a_tie_of_which_both_are_stored_is_compared():
    found = plan(LM, shapes_of(LM), config=config(**TIED))
    assert found.compare == (("head.weight", "model.embed.weight"),)
    assert states(found)["head.weight"] == states(found)["model.embed.weight"] == "loaded"


def test_a_tie_of_which_none_is_stored():
    refused(LM, without(HEADLESS, "model.embed.weight"), "model.embed.weight: missing", config=config(**TIED))


def test_a_denied_tie_keeps_both_apart():
    found = plan(LM, shapes_of(LM), config=config(**DENIED))
    assert found.compare == ()
    assert states(found)["head.weight"] == "loaded"


@pytest.mark.parametrize(
    ("stored", "lacking"), [(HEADLESS, "head.weight"), (ONLY_HEAD, "model.embed.weight")]
)
@pytest.mark.parametrize("saved", [None, ["ToyForCausalLM"]])
def test_a_denied_tie_whose_half_is_missing(stored, lacking, saved):
    error = refused(LM, stored, config=config(**DENIED, architectures=saved))
    assert error.problems == (
        f"{lacking}: missing, expected shape [7, 4]; config.json says tie_word_embeddings=false",
    )


def test_a_head_without_its_tie_is_new_on_a_base_model():
    found = plan(LM, shapes_of(BASE), config=config(**DENIED, architectures=["ToyModel"]))
    assert states(found)["head.weight"] == "new"


# Aliases


def test_an_alias_stands_for_its_tensor():
    stored = index(ONLY_HEAD, aliases={"model.embed.weight": "head.weight"})
    for values in (TIED, DENIED):
        found = plan(LM, stored, config=config(**values, architectures=["ToyForCausalLM"]))
        assert found.assignments["model.embed.weight"].recipe.sources[0].name == "head.weight"
        assert states(found)["head.weight"] == ("tied" if values is TIED else "loaded")
        assert (found.stored["model.embed.weight"].state, found.stored["model.embed.weight"].why) == (
            "alias",
            "head.weight",
        )
        assert found.stored["head.weight"].state == "used"
        assert found.compare == ()


@pytest.mark.parametrize("strict", [None, True])
def test_an_alias_makes_a_stranger_used(strict):
    stored = without(shapes_of(BASE), "embed.weight") | {"shared": (7, 4)}
    found = plan(BASE, index(stored, aliases={"embed.weight": "shared"}), strict=strict)
    assert found.assignments["embed.weight"].recipe.sources[0].name == "shared"
    assert found.stored["shared"].state == "used"


def test_an_alias_that_no_parameter_takes_harms_nothing():
    found = plan(BASE, index(shapes_of(BASE), aliases={"format_": "norm.weight"}))
    assert found.stored["format_"].state == "alias"
    assert set(states(found).values()) == {"loaded"}


# New heads


def test_a_head_is_new_as_whole_groups():
    found = plan(CLASSIFIER, shapes_of(BASE), config=config(architectures=["ToyModel"]))
    assert {n for n, state in states(found).items() if state == "new"} == {"score.weight", "score.bias"}
    assert found.assignments["score.bias"].why == "task head"


@pytest.mark.parametrize("lost", ["score.weight", "score.bias"])
def test_a_part_of_a_head_is_missing(lost):
    refused(CLASSIFIER, without(shapes_of(CLASSIFIER), lost), f"{lost}: missing")


@pytest.mark.parametrize("lost", ["model.pooler.weight", "score.weight"])
def test_the_class_that_the_checkpoint_was_saved_from_lacks_no_head(lost):
    stored = without(
        shapes_of(CLASSIFIER), *(["score.weight", "score.bias"] if lost == "score.weight" else [lost])
    )
    assert states(plan(CLASSIFIER, stored))[lost] == "new"
    refused(
        CLASSIFIER, stored, f"{lost}: missing", config=config(architectures=["ToyForSequenceClassification"])
    )


def test_nothing_but_a_head_is_new():
    stored = {n: s for n, s in shapes_of(BASE).items() if not n.startswith("layers")}
    refused(
        CLASSIFIER,
        stored,
        "model.layers.{0...1}: missing, with 4 parameters",
    )


# Surplus


def surplus(extra, **arguments):
    """Return the state of one tensor more than a language model needs, and its reason."""
    found = plan(LM, shapes_of(LM) | {extra: (1,)}, **arguments)
    return found.stored[extra].state, found.stored[extra].why


def test_what_no_model_needs_is_ignored_however_strict():
    for strict in (None, False, True):
        assert surplus("model.layers.9.inv_freq", strict=strict) == ("ignored", "no model needs it")


def test_another_heads_tensor_is_ignored():
    assert surplus("score.weight") == ("ignored", "of ToyForSequenceClassification")
    assert surplus("outputs.bias", strict=False) == ("ignored", "of ToyForQuestionAnswering")
    assert surplus("model.pooler.weight") == ("ignored", "of ToyModel")


def test_a_stranger_is_unused():
    assert (
        surplus("stranger.weight")
        == surplus("model.stranger", strict=False)
        == ("unused", "no parameter of this name")
    )


@pytest.mark.parametrize(
    "known", ["model.layers.2.proj.weight", "model.layers.0.proj.bias", "model.layers.11.router.weight"]
)
def test_what_the_architecture_would_know_is_an_error(known):
    refused(LM, shapes_of(LM) | {known: (1,)}, f"{known}: surplus", "the configuration has no room for it")
    assert surplus(known, strict=False) == ("unused", "no parameter of this name")


@pytest.mark.parametrize("extra", ["stranger.weight", "score.weight", "model.layers.2.proj.weight"])
def test_strict_allows_no_surplus(extra):
    refused(LM, shapes_of(LM) | {extra: (1,)}, f"{extra}: surplus, and strict=True allows none", strict=True)


def test_what_the_callers_arguments_leave_out_is_ignored():
    stored = shapes_of(LM, layers=3)
    short = shapes_of(LM, layers=1)
    found = plan(LM, stored, model=short, before_arguments=stored)
    assert {s.why for s in found.stored_in_state("ignored")} == {"the caller's arguments leave it out"}
    assert len(found.stored_in_state("ignored")) == 4
    refused(
        LM,
        stored,
        "model.layers.{1...2}: surplus, with 4 tensors, the configuration has no room",
        model=short,
        before_arguments=shapes_of(LM, layers=1),
    )


def test_what_is_left_over_for_the_callers_arguments_to_explain():
    def left(extra, key_mapping=None):
        stored = index(shapes_of(LM) | dict.fromkeys(extra, (1,)))
        return left_over(
            parameters(shapes_of(LM)), stored, architecture=TOY, head=LM, key_mapping=key_mapping
        )

    assert left(()) == []
    assert left(("model.layers.9.inv_freq", "score.weight", "outputs.bias")) == []
    assert left(("model.layers.2.proj.weight", "stranger")) == ["model.layers.2.proj.weight", "stranger"]
    assert left(("old.norm.weight",), {"^old": "model"}) == []


# Sizes and parts


def test_mismatched_sizes_are_drawn_afresh_when_asked_for():
    stored = shapes_of(CLASSIFIER) | {"score.weight": (9, CHANNELS), "score.bias": (9,)}
    refused(
        CLASSIFIER,
        stored,
        "score.weight: expected shape [3, 4], found [9, 4]",
        "ignore_mismatched_sizes=True",
    )
    found = plan(CLASSIFIER, stored, ignore_mismatched_sizes=True)
    assert states(found)["score.weight"] == states(found)["score.bias"] == "new"
    assert found.assignments["score.bias"].why == "ignore_mismatched_sizes: stored as [9]"
    assert found.stored["score.bias"].state == "ignored", "its bytes are not used"


def test_a_part_of_a_checkpoint_leaves_the_rest_of_the_model_alone():
    found = plan(LM, {"model.norm.weight": (CHANNELS,)}, partial=True)
    assert {n: s for n, s in states(found).items() if s != "tied"} == {"model.norm.weight": "loaded"}


# Quantised


@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_quantised_configuration_names_the_method(key, nested):
    values = {key: {"quant_method": "gptq", "bits": 4}}
    values = {"text_config": values} if nested else values
    refused(
        BASE,
        shapes_of(BASE),
        f"{key} says quantised by 'gptq'; no plugin reads it yet",
        config=config(**values),
    )


@pytest.mark.parametrize("scale", ["weight_scale", "weight_scale_inv", "scales", "input_scale", "SCB"])
@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "int8"])
@pytest.mark.parametrize("asked", [None, "stored", "float8_e4m3fn"])
def test_a_narrow_weight_with_a_scale_is_quantised(scale, dtype, asked):
    shapes = shapes_of(BASE) | {f"layers.0.proj.{scale}": (1,)}
    stored = index(shapes, dtypes={"layers.0.proj.weight": dtype})
    facts = ("layers.0.proj.weight", dtype, f"layers.0.proj.{scale}", "is quantised")
    refused(BASE, stored, *facts, dtype=asked, strict=False)


def test_a_scale_beside_a_wide_weight_means_nothing():
    found = plan(BASE, shapes_of(BASE) | {"layers.0.proj.layer_scale": (1,)})
    assert states(found)["layers.0.proj.weight"] == "loaded"
    assert stored_states(found)["layers.0.proj.layer_scale"] == "unused"


@pytest.mark.parametrize("asked", [None, "stored", "float32"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "bool"])
def test_integers_never_stand_for_floats(dtype, asked):
    stored = index(shapes_of(BASE), dtypes={"norm.weight": dtype})
    refused(
        BASE,
        stored,
        f"toy.safetensors: norm.weight: expected float32, found {dtype}; quantised?",
        dtype=asked,
    )


@pytest.mark.parametrize("asked", [None, "stored"])
def test_floats_never_stand_for_integers(asked):
    stored = index(shapes_of(BASE), dtypes={"norm.steps": "float32"})
    refused(BASE, stored, "norm.steps: expected int64, found float32", dtype=asked)


def test_integers_are_never_cast():
    stored = index(shapes_of(BASE), dtypes={"norm.steps": "int32"})
    refused(
        BASE, stored, "norm.steps: expected int64, found int32, which is not cast; dtype='stored' keeps it"
    )
    assert plan(BASE, stored, dtype="stored").assignments["norm.steps"].dtype == "int32"


def test_a_dtype_that_the_backend_cannot_hold():
    refused(BASE, shapes_of(BASE), "float32 cannot be held by this backend", supported={"float16", "int64"})
