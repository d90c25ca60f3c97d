"""Plans where some files are not here: their tensors are known by name alone, and needed or not."""

import copy
import dataclasses
import pickle

import pytest
from made_up import BASE, LM, TOY, base_shapes, index, parameters, plan, shapes_of, states, stored_states

from loadstone.architectures import Arrangement
from loadstone.checkpoint.recipe import Stack
from loadstone.config import Config
from loadstone.errors import SourceError
from loadstone.planning.dtype import dtype_policy
from loadstone.planning.match import match
from loadstone.planning.records import Stored, StoredStates

FAR = "yonder.safetensors"


def without(stored, *names):
    """Return an index of which some tensors lie in a file that is not here."""
    tensors = {name: info for name, info in stored.tensors.items() if name not in names}
    return dataclasses.replace(stored, tensors=tensors, absent=dict.fromkeys(names, FAR))


def test_what_is_not_needed_may_be_absent():
    whole = index(shapes_of(LM))
    found = plan(BASE, without(whole, "head.weight"), model=base_shapes())
    assert found == plan(BASE, whole, model=base_shapes())
    assert stored_states(found)["head.weight"] in ("ignored", "unused")
    assert found.files == {"toy.safetensors"}


def test_what_is_needed_is_named_with_its_file():
    whole = index(shapes_of(LM))
    names = [name for name in whole.tensors if name.endswith("norm.weight") or name == "head.weight"]
    with pytest.raises(SourceError, match="lacks 1 file that this load needs") as error:
        plan(LM, without(whole, *names))
    assert error.value.problems == (f"{FAR}, which holds {names[0]} and 1 more of what is needed",)
    assert "hf download" in error.value.hint


def test_an_alias_of_what_is_absent_needs_it():
    shapes = shapes_of(LM)
    embedding = next(name for name in shapes if name.endswith("embed.weight"))
    del shapes["head.weight"]
    stored = dataclasses.replace(index(shapes), aliases={"head.weight": embedding})
    with pytest.raises(SourceError, match=embedding):
        plan(LM, without(stored, embedding))


EXPERTS = Arrangement(
    stored=("layers.{}.experts.{*}.up.weight",), parameters=("layers.{}.experts.up",), steps=(Stack(0),)
)


def experts(stored, *, number=3):
    """Match a model of stacked experts."""
    architecture = dataclasses.replace(TOY, arranged=(EXPERTS,))
    config = Config.from_dict({"model_type": "toy"})
    return match(
        parameters({"layers.0.experts.up": (number, 2, 5)}),
        stored,
        architecture=architecture,
        head=BASE,
        config=config,
        policy=dtype_policy("float32", config=config, index=stored, architecture=architecture),
        where="org/name",
    )


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_part_of_what_is_put_together_is_needed(gone):
    """Not even the last of them, whose absence would make a smaller stack, is taken for one that was never stored."""
    whole = index({f"layers.0.experts.{n}.up.weight": (2, 5) for n in range(3)})
    assert states(experts(whole)) == {"layers.0.experts.up": "loaded"}
    with pytest.raises(SourceError, match=rf"layers\.0\.experts\.{gone}\.up\.weight"):
        experts(without(whole, f"layers.0.experts.{gone}.up.weight"))


def test_states_are_a_mapping_like_any_other():
    tensors = index(base_shapes()).tensors
    others = {
        "norm.weight": Stored(name="norm.weight", state="ignored", why="so"),
        "far": Stored(name="far", state="unused"),
    }
    found = StoredStates(tensors, others)
    plain = {name: others.get(name, Stored(name=name, state="used")) for name in [*tensors, "far"]}
    assert found == plain and plain == found and list(found) == list(plain) and len(found) == len(plain)
    assert repr(found) == repr(plain) and copy.deepcopy(found) == pickle.loads(pickle.dumps(found)) == plain
    assert found != {**plain, "far": Stored(name="far", state="ignored")}
    assert "nothing" not in found and found.get("nothing") is None
