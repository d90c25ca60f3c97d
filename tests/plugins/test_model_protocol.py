"""What core asks of a model: a class that lacks a part of it is told with its plugin, and ours lack none."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from install import EXAMPLE, install, run

MISSING = """
import json, sys
from loadstone import AutoModel
from loadstone.backend import get_backend
from loadstone_example.models.echo import PlainEchoModel
from loadstone.pretrained import Pretrained

name = sys.argv[2]
if name == "device":
    del PlainEchoModel.__mro__[1].device
elif name != "nothing":
    delattr(Pretrained, name)
try:
    AutoModel.from_pretrained(sys.argv[1], backend="plain")
except Exception as error:
    print(type(error).__name__, *getattr(error, "problems", ()), error.where)
"""


@pytest.mark.parametrize("name", ["nothing", "device", "check_saves", "set_attn_implementation"])
def test_a_model_that_lacks_a_part_is_told_with_its_plugin(tmp_path, name):
    install(tmp_path / "site", "loadstone-example", EXAMPLE)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "echo"}))
    import numpy as np
    from safetensors.numpy import save_file

    tensors = {"tokens.weight": np.ones((16, 8), np.float32), "norm.weight": np.ones(8, np.float32)}
    save_file(tensors, tmp_path / "model.safetensors")
    told = run(MISSING, tmp_path / "site", tmp_path, name).stdout.strip()
    if name == "nothing":
        assert told == ""
    else:
        assert told == f"BackendError {name} loadstone_example.plugin of loadstone-example 1.0"


BOUND = """
import sys
from loadstone_example.models.echo import PlainEchoForCausalLM
before = set(sys.modules)
architecture, head = PlainEchoForCausalLM.architecture_and_head()
print(architecture.model_type, head.task, sorted(set(sys.modules) - before))
"""


def test_what_a_class_is_is_known_without_a_look_at_plugins(tmp_path):
    assert run(BOUND, tmp_path).stdout.strip() == "echo CausalLM []"


LEFT_OUT = """
from loadstone import AutoConfig, AutoModel
config = AutoConfig.for_model("bare")
from bare_models import PlainBareModel
try:
    PlainBareModel(config).architecture_and_head()
except ValueError as error:
    print(error.what)
model = AutoModel.from_config(config, backend="plain")
print(type(model).__name__, model.architecture_and_head()[0].model_type)
"""
BARE = """
import dataclasses
from loadstone.architectures import Head
from loadstone.hookspecs import ArchitectureRecord, hookimpl
from loadstone_example.architecture import ECHO, EchoConfig

class BareConfig(EchoConfig):
    model_type = "bare"

MINE = dataclasses.replace(
    ECHO, model_type="bare", config=BareConfig, modules={"plain": "bare_models"},
    heads=(Head(task="", class_name="BareModel", prefix=""),),
)

@hookimpl
def loadstone_architectures():
    yield ArchitectureRecord(model_type="bare", architecture="bare_plugin:MINE")
"""
BARE_MODELS = """
from loadstone_example.modeling import PlainModel

class PlainBareModel(PlainModel):
    def __init__(self, config):
        super().__init__(config)
        self.declare("tokens.weight", (3, 2))
"""


def test_a_module_that_binds_nothing_is_bound_where_its_class_is_asked_for(tmp_path):
    modules = {"bare_plugin": BARE, "bare_models": BARE_MODELS}
    install(tmp_path / "site", "bare", {"architecture.bare": "bare_plugin"}, modules)
    install(tmp_path / "site", "loadstone-example", {"backend.plain": EXAMPLE["backend.plain"]})
    assert run(LEFT_OUT, tmp_path / "site").stdout.splitlines() == [
        "no architecture has a class PlainBareModel",
        "PlainBareModel bare",
    ]


TAKEN = """
import loadstone
from loadstone_example.architecture import ECHO
try:
    loadstone.register(ECHO, {}, exist_ok=True)
except loadstone.ArgumentError as error:
    print(error.what, *error.problems)
print(loadstone.AutoConfig.for_model("echo").vocab_size)
"""


def test_a_model_type_that_a_plugin_claims_is_not_registered(tmp_path):
    install(tmp_path, "loadstone-example", EXAMPLE)
    assert run(TAKEN, tmp_path).stdout.splitlines() == [
        "the model type 'echo' is a plugin's loadstone-example 1.0: loadstone_example.plugin",
        "16",
    ]
