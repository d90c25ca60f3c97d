"""What may be registered at run time, what may not, and what is left when it is taken back."""

import dataclasses
import threading

import pytest

import loadstone
from loadstone import AutoConfig
from loadstone.architectures import architecture_for, find_head, head_for, model_types
from loadstone.backend.contract import Backend
from loadstone.backend.registered import register, registered_class, unregister
from loadstone.errors import ArchitectureError, ArgumentError, ConfigError, PluginError
from loadstone.pretrained import Pretrained
from tests.own_classes import PEBBLE

BASE, CAUSAL = PEBBLE.heads


def made(name, backend="torch", **values):
    """Return a model class of one's own; no framework is needed to have one."""
    return type(name, (Pretrained,), {"backend_name": backend, "__module__": __name__, **values})


@pytest.fixture(autouse=True)
def taken_back():
    """Take back what a test registers."""
    yield
    if "pebble" in model_types():
        unregister("pebble")


def refused(*arguments, **keywords):
    """Return the error of a registration that is refused; nothing of it stays."""
    before = model_types()
    with pytest.raises((ArgumentError, ArchitectureError, PluginError)) as caught:
        register(*arguments, **keywords)
    assert model_types() == before
    return caught.value


def test_it_is_found_by_every_name():
    model = made("PebbleModel")
    register(PEBBLE, {"torch": model})
    assert architecture_for("pebble") is PEBBLE and "pebble" in model_types()
    assert find_head("PebbleForCausalLM") == (PEBBLE, CAUSAL)
    assert AutoConfig.for_model("pebble", hidden_size=8).hidden_size == 8
    assert loadstone.PebbleConfig is PEBBLE.config
    assert model.architecture_and_head() == (PEBBLE, BASE)
    assert {"PebbleConfig", "FlaxPebbleForCausalLM"} <= {*dir(loadstone)}
    unregister("pebble")
    assert not hasattr(loadstone, "PebbleConfig") and find_head("PebbleModel") is None
    with pytest.raises(ConfigError, match="unknown model type 'pebble'"):
        AutoConfig.for_model("pebble")


@pytest.mark.parametrize(
    "given",
    [
        lambda cls: cls("PebbleForCausalLM", "flax"),
        lambda cls: cls("FlaxPebbleForCausalLM", "flax"),
        lambda cls: {"CausalLM": cls("Whatever", "flax")},
    ],
)
def test_a_class_is_of_the_head_of_its_name_or_of_the_one_that_is_said(given):
    register(PEBBLE, {"flax": given(made)})
    found = registered_class(PEBBLE, CAUSAL, "flax")
    assert found.architecture_and_head() == (PEBBLE, CAUSAL)
    assert registered_class(PEBBLE, BASE, "flax") is None


def test_the_only_head_takes_any_name():
    one = dataclasses.replace(PEBBLE, heads=(CAUSAL,))
    register(one, {"torch": made("Mine")})
    assert registered_class(one, CAUSAL, "torch").__name__ == "Mine"


def test_each_framework_may_bring_its_own_in_its_turn():
    torch, flax = made("PebbleModel"), made("FlaxPebbleModel", "flax")
    register(PEBBLE, {"torch": torch})
    register(PEBBLE, {"flax": flax})
    register(PEBBLE, {"torch": torch})
    assert [registered_class(PEBBLE, BASE, backend) for backend in ("torch", "flax")] == [torch, flax]


def test_who_came_first_stays_unless_the_caller_says_otherwise():
    first, second = made("PebbleModel"), made("PebbleModel")
    register(PEBBLE, {"torch": first})
    error = refused(PEBBLE, {"torch": second})
    assert "another class is registered as 'PebbleModel' of 'pebble' in the backend 'torch'" in str(error)
    assert "exist_ok=True" in error.hint and registered_class(PEBBLE, BASE, "torch") is first
    other = dataclasses.replace(PEBBLE, ignored=("x",))
    assert "another architecture is registered as 'pebble'" in str(refused(other, {"torch": second}))
    assert architecture_for("pebble") is PEBBLE
    register(PEBBLE, {"torch": second}, exist_ok=True)
    assert registered_class(PEBBLE, BASE, "torch") is second
    loadstone.PebbleConfig  # noqa: B018  # it is at hand from now on
    register(other, {"flax": made("FlaxPebbleModel", "flax")}, exist_ok=True)
    assert architecture_for("pebble") is other and registered_class(other, BASE, "torch") is None


@pytest.mark.parametrize("exist_ok", [False, True])
def test_a_model_type_of_ours_stays_ours(exist_ok):
    config = type("MyBertConfig", (PEBBLE.config,), {"model_type": "bert", "__module__": __name__})
    mine = dataclasses.replace(PEBBLE, model_type="bert", config=config)
    error = refused(mine, {}, exist_ok=exist_ok)
    assert "the model type 'bert' is loadstone's own" in str(error) and 'model_type="..."' in error.hint
    assert architecture_for("bert") is not mine


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (lambda: {"torhc": made("PebbleModel")}, "no plugin offers the backend 'torhc'"),
        (
            lambda: {"flax": made("PebbleModel", "torch")},
            "PebbleModel is no model class of the backend 'flax'",
        ),
        (
            lambda: {"torch": type("PebbleModel", (), {})},
            "PebbleModel is no model class of the backend 'torch'",
        ),
        (lambda: {"torch": type("PebbleModel", (), {"backend_name": "torch"})}, "lacks what every model has"),
        (lambda: {"torch": made("PebblesModel")}, "the architecture 'pebble' has no such head"),
        (lambda: {"torch": {"MaskedLM": made("PebbleModel")}}, "the architecture 'pebble' has no such head"),
        (lambda: {"torch": "PebbleModel"}, "the architecture 'pebble' has no such head"),
    ],
)
def test_what_is_no_class_of_it_is_refused(classes, said):
    assert said in str(refused(PEBBLE, classes()))


def test_what_is_no_architecture_is_refused():
    assert "only an architecture can be registered" in str(refused(PEBBLE.config, {}))
    other = dataclasses.replace(PEBBLE, model_type="stone")
    assert "'stone' has a configuration of another model type" in str(refused(other, {}))
    with pytest.raises(ArgumentError, match="no architecture 'pebbel' was registered"):
        unregister("pebbel")


def test_a_class_of_another_architecture_is_refused_and_nothing_of_the_call_stays():
    register(PEBBLE, {"torch": made("PebbleModel")})
    taken, free = registered_class(PEBBLE, BASE, "torch"), made("StoneModel", "flax")
    unregister("pebble")
    config = type("StoneConfig", (PEBBLE.config,), {"model_type": "stone", "__module__": __name__})
    head = dataclasses.replace(BASE, class_name="StoneModel")
    stone = dataclasses.replace(PEBBLE, model_type="stone", config=config, heads=(head,))
    error = refused(stone, {"flax": free, "torch": taken})
    assert "PebbleModel cannot be 'StoneModel' of 'stone' too" in str(error)
    with pytest.raises(ArchitectureError):
        free.architecture_and_head()


def test_threads_may_register_and_look_at_once():
    wrong = []

    def work(number):
        name = f"pebble{number}"
        config = type(f"Pebble{number}Config", (PEBBLE.config,), {"model_type": name, "__module__": __name__})
        mine = dataclasses.replace(PEBBLE, model_type=name, config=config, heads=(BASE,))
        for _ in range(20):
            register(mine, {"torch": made("PebbleModel")})
            if architecture_for(name) is not mine or find_head("PebbleModel") is None:
                wrong.append(name)
            unregister(name)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and not any(name.startswith("pebble") for name in model_types())


def test_backends_give_what_was_registered_and_say_how_where_nothing_was():
    backend = type("Made", (Backend,), dict.fromkeys(Backend.__abstractmethods__))()
    backend.name = backend.asked = "torch"
    model = made("PebbleModel")
    register(PEBBLE, {"torch": model})
    assert backend.model_class(PEBBLE, BASE) is model
    with pytest.raises(ArchitectureError) as caught:
        backend.model_class(PEBBLE, head_for(PEBBLE, "CausalLM"))
    assert "register it: loadstone.register(the architecture, {'torch': PebbleForCausalLM})" in str(
        caught.value
    )
