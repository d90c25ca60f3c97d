"""Backends that do not do what they are told: core looks, and whatever they raise is blamed on them by name."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from install import EXAMPLE, install, run

LIARS = """
import dataclasses
import numpy as np
from loadstone.backend import Backend
from loadstone.hookspecs import BackendRecord, hookimpl
from loadstone_example.backend import PlainBackend
from loadstone_example.modeling import Slot


class Honest(PlainBackend):
    pass


class Zeros(PlainBackend):
    def put(self, model, name, tensor, device):
        super().put(model, name, dataclasses.replace(tensor, data=np.zeros_like(tensor.data)), device)


class OneOfMany(PlainBackend):
    def put(self, model, name, tensor, device):
        data = np.zeros_like(tensor.data) if "norm" in name else tensor.data
        super().put(model, name, dataclasses.replace(tensor, data=data), device)


class OtherDtype(PlainBackend):
    def put(self, model, name, tensor, device):
        array = tensor.numpy().astype(np.float64)
        super().put(
            model, name, dataclasses.replace(tensor, dtype="float64", data=array.reshape(-1).view(np.uint8)), device
        )


class OtherShape(PlainBackend):
    def put(self, model, name, tensor, device):
        self.resize(model, name, tensor.shape[::-1])
        super().put(model, name, dataclasses.replace(tensor, shape=tensor.shape[::-1]), device)


class Untied(PlainBackend):
    def tie(self, model, name, to):
        model.slots[name] = Slot(model.slots[to].shape, model.slots[to].dtype)
        model.slots[name].value = model.slots[to].value.copy()


class AllOne(PlainBackend):
    def parameters(self, model):
        return {n: dataclasses.replace(p, identity=7) for n, p in super().parameters(model).items()}


class Loses(PlainBackend):
    def finish(self, model, *, training):
        super().finish(model, training=training)
        model.slots.pop(next(name for name in model.slots if "norm" in name))


class Raises(PlainBackend):
    def put(self, model, name, tensor, device):
        raise KeyError("slot")


class Dies(PlainBackend):
    def compute(self, model, placement):
        return 1 / 0


class HasNoMemory(PlainBackend):
    def put(self, model, name, tensor, device):
        raise RuntimeError("GPU out of memory. Tried to allocate 2.00 GiB")


def all_of(kind=PlainBackend):
    return [kind, *(one for sub in kind.__subclasses__() for one in all_of(sub))]


@hookimpl
def loadstone_backends():
    for kind in all_of():
        yield BackendRecord(name=kind.__name__.lower(), title=kind.__name__, requires=("numpy",), install="-",
                            backend=f"liars:{kind.__name__}", models="loadstone_example.models")
"""
KINDS = {
    "zeros": "model.tokens.weight: holds other values than were put there",
    "oneofmany": "model.norm.weight: holds other values than were put there",
    "otherdtype": "expected float32, found float64",
    "othershape": "model.tokens.weight: expected shape [5, 4], found [4, 5]",
    "untied": "lm_head.weight: is not tied to model.tokens.weight",
    "allone": "is one with",
    "loses": "model.norm.weight: is no longer there",
    "raises": "fails in put()",
    "dies": "fails in compute()",
    "hasnomemory": "GPU out of memory",
}
WAYS = """
import json, sys
import loadstone
from loadstone import AutoConfig, AutoModelForCausalLM, to_backend
from loadstone.backend import get_backend
from loadstone.load.into import load_into

def said(call):
    try:
        return call()
    except Exception as error:
        return [type(error).__name__, str(error)]

config = AutoConfig.for_model("echo", vocab_size=5, hidden_size=4)
folder, kinds, told = sys.argv[1], sys.argv[2].split(","), {}
good = AutoModelForCausalLM.from_config(config, backend="honest", seed=3)
good["model.norm.weight"][:] = [1.5, 2.5, 3.5, 4.5]
good.save_pretrained(folder)
for kind in kinds:
    told[kind] = {
        "from_pretrained": said(lambda: AutoModelForCausalLM.from_pretrained(folder, backend=kind, read=sys.argv[3]) and None),
        "from_config": said(lambda: AutoModelForCausalLM.from_config(config, backend=kind) and None),
        "to_backend": said(lambda: to_backend(good, kind) and None),
    }
    model = AutoModelForCausalLM.from_pretrained(folder, backend="honest")
    model.backend_name = kind
    if kind != "loses":
        told[kind]["load_into"] = said(lambda: load_into(model, folder, strict=True) and None)
print(json.dumps(told))
"""


@pytest.fixture(scope="module", params=["map", "copy"])
def said(request, tmp_path_factory):
    """Kind of backend -> way to a model -> the error."""
    site = tmp_path_factory.mktemp("liars")
    claims = {f"backend.{kind}": "liars [Plain]" for kind in ("honest", *KINDS)}
    install(site, "liars-dist", claims, {"liars": LIARS})
    install(site, "loadstone-example", EXAMPLE)
    folder = tmp_path_factory.mktemp("saved")
    return json.loads(run(WAYS, site, folder, ",".join(("honest", *KINDS)), request.param).stdout)


WAYS_TO_A_MODEL = ("from_pretrained", "from_config", "to_backend", "load_into")


@pytest.mark.parametrize("way", WAYS_TO_A_MODEL)
def test_an_honest_backend_is_believed(said, way):
    assert said["honest"][way] is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS_TO_A_MODEL)
def test_a_lie_is_seen_and_the_plugin_named(said, kind, way):
    # A model that was honestly made is loaded into: no tie is made anew, nothing is built, computed or finished.
    if way == "load_into" and kind in ("untied", "dies", "loses"):
        assert said[kind].get(way) is None
        return
    error, message = said[kind][way]
    if way == "load_into" and kind == "allone":  # by its own account all were one before
        assert error == "MatchError" and "stores with different values" in message
        return
    assert KINDS[kind] in message
    if kind == "hasnomemory":
        assert error == "RuntimeError", "who catches it finds the framework's own"
        return
    assert error == ("PluginError" if kind in ("raises", "dies") else "BackendError")
    assert "liars of liars-dist 1.0" in message
    assert "next: report it" in message


SAVES = """
import sys
from loadstone import AutoConfig, AutoModelForCausalLM
config = AutoConfig.for_model("echo", vocab_size=5, hidden_size=4)
model = AutoModelForCausalLM.from_config(config, backend="honest")
model.backend_name = "allone"
try:
    model.save_pretrained(sys.argv[1])
except TypeError as error:
    print(error)
"""


def test_one_identity_for_all_is_refused_before_a_byte_is_written(tmp_path):
    site = tmp_path / "site"
    claims = {"backend.honest": "liars [Plain]", "backend.allone": "liars [Plain]"}
    install(site, "liars-dist", claims, {"liars": LIARS})
    install(site, "loadstone-example", EXAMPLE)
    said = run(SAVES, site, tmp_path / "out").stdout
    assert "model.norm.weight is model.tokens.weight" in said
    assert not (tmp_path / "out").exists()


OWN = """
import loadstone
from loadstone import LlamaConfig, LlamaModel
class Mine(LlamaModel):
    def __init__(self, config):
        raise KeyError("of the caller's own")
try:
    Mine.from_config(LlamaConfig(hidden_size=8, num_attention_heads=2, intermediate_size=8, num_hidden_layers=1))
except KeyError as error:
    print(error)
"""


def test_a_class_of_the_callers_own_is_no_plugins_fault(tmp_path):
    (tmp_path / "site").mkdir()
    assert "of the caller's own" in run(OWN, tmp_path / "site").stdout
