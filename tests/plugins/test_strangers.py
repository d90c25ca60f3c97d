"""Plugins of strangers: whatever they claim, name or return, they harm only themselves, and are blamed by name."""

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from install import EXAMPLE, install, run, told
from test_conflicts import ARCHITECTURE, BACKEND, LOAD_AND_SAVE, refused, shown


@pytest.fixture
def site(tmp_path):
    """Return an empty folder to install into."""
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


# Records that name something else

OTHER = "from types import SimpleNamespace\nTHING = SimpleNamespace(model_type='odd', heads=5)\nTEXT = 'x'\n"
ODD = ["odd_thing:THING", "odd_thing:TEXT", "loadstone_example.architecture:EchoConfig"]


@pytest.mark.parametrize("attribute", [*ODD, "loadstone_example.architecture:ECHO"])
def test_a_record_that_names_no_architecture_of_its_type_harms_only_itself(site, attribute):
    source = ARCHITECTURE.format(name="odd", attribute=attribute)
    install(site, "odd-dist", {"architecture.odd": "odd_plugin"}, {"odd_plugin": source, "odd_thing": OTHER})
    script = "import loadstone; print('BertModel' in dir(loadstone), hasattr(loadstone, 'Nothing'))"
    assert told(script, site) == ["True False"]
    message = refused("from loadstone.architectures import architecture_for as f; f('odd')", site)
    assert "odd_plugin of odd-dist 1.0" in message and attribute in message
    assert shown(site)["architecture.odd", "odd-dist"]["state"] == "broken"
    done = run("import loadstone; loadstone.Nothing", site, check=False)
    assert "AttributeError" in done.stderr and "'architecture.odd'" in done.stderr, "what is left out is told"


def test_a_record_that_names_no_backend_is_named(site):
    source = BACKEND.format(names=["odd"], title="Odd").replace(
        "loadstone_example.backend:PlainBackend", "builtins:dict"
    )
    install(site, "odd-dist", {"backend.odd": "odd_plugin"}, {"odd_plugin": source})
    message = refused("from loadstone.backend import get_backend; get_backend('odd')", site)
    assert "'builtins:dict'" in message and "odd_plugin of odd-dist 1.0" in message


@pytest.mark.parametrize(
    ("old", "new"), [('requires=("numpy",)', 'requires="numpy"'), ("BackendRecord(", "dict(")]
)
def test_a_record_that_is_none_is_told(site, old, new):
    source = BACKEND.format(names=["odd"], title="Odd").replace(old, new)
    install(site, "odd-dist", {"backend.odd": "odd_plugin"}, {"odd_plugin": source})
    message = refused("from loadstone.plugins import backend_record; backend_record('odd')", site)
    assert "odd_plugin of odd-dist 1.0" in message


# The default


UNBUILT = BACKEND.replace("PlainBackend", "Nothing")


def test_a_strangers_priority_beats_ours_only_where_the_caller_says_so(site):
    source = BACKEND.format(names=["loud"], title="Loud")
    install(site, "loud-dist", {"backend.loud": "loud_plugin [Loud, 98]"}, {"loud_plugin": source})
    script = "from loadstone.plugins import default_backend; print(default_backend())"
    assert told(script, site) == ["torch"]
    assert told(script, site, LOADSTONE_BACKEND="loud") == ["loud"]
    told_by_plugins = json.loads(run(PLUGINS, site).stdout)
    assert told_by_plugins["default_backend"] == "torch"


WITHOUT_OURS = """
import sys
sys.modules.update(dict.fromkeys(("torch", "jax", "flax", "tensorflow", "keras")))
from loadstone.backend import get_backend
print(get_backend().asked)
"""


def test_a_stranger_that_cannot_be_made_is_passed_over(site):
    for name, priority, source in (("loud", 98, UNBUILT), ("good", 1, BACKEND)):
        text = source.format(names=[name], title=name)
        install(
            site, f"{name}-dist", {f"backend.{name}": f"{name}_plugin [{priority}]"}, {f"{name}_plugin": text}
        )
    done = run(WITHOUT_OURS, site)
    assert done.stdout.split() == ["good"]
    assert "passed over" in done.stderr and "loud_plugin of loud-dist" in done.stderr


def test_a_stranger_that_claims_our_backends_name_is_not_the_default(site):
    source = BACKEND.format(names=["torch"], title="Hijacked")
    install(site, "hijacker", {"backend.torch": "hijack_plugin [Torchy, 99]"}, {"hijack_plugin": source})
    script = "from loadstone.plugins import default_backend; print(default_backend())"
    assert told(script, site) == ["torch@loadstone"]
    message = refused("from loadstone.backend import get_backend; get_backend('torch')", site)
    assert "LOADSTONE_DISABLE_PLUGINS=hijacker" in message, "no hint disables loadstone"
    assert "backend='torch@loadstone'" in message


# Choosing by distribution: what a hint offers is taken

PREFIXED = """
import sys, loadstone
config = loadstone.AutoConfig.for_model("echo", vocab_size=5, hidden_size=4)
model = loadstone.PlainAutoModel.from_config(config, backend="plain@dist-two")
print(model.backend_name)
model.save_pretrained(sys.argv[1])
cls = type(model)
print(cls.from_pretrained(sys.argv[1], backend="plain@dist-two").backend_name)
"""


def test_prefixed_and_model_classes_take_a_distribution(site, tmp_path):
    for name in ("one", "two"):
        source = BACKEND.format(names=["plain"], title=name)
        install(
            site, f"dist-{name}", {"backend.plain": f"plain_{name} [Plain, 1]"}, {f"plain_{name}": source}
        )
    install(site, "loadstone-example", {"architecture.echo": EXAMPLE["architecture.echo"]})
    assert told(PREFIXED, site, tmp_path / "out") == ["plain@dist-two", "plain@dist-two"]
    assert "2 plugins claim the backend 'plain'" in refused(LOAD_AND_SAVE, site, tmp_path / "out", "plain")


MADE = """
import dataclasses
from loadstone.hookspecs import ArchitectureRecord, hookimpl
from loadstone_example.architecture import ECHO, EchoConfig

class EchoConfig(EchoConfig):
    spoken = {name!r}

MINE = dataclasses.replace(ECHO, config=EchoConfig)

@hookimpl
def loadstone_architectures():
    yield ArchitectureRecord(model_type="echo", architecture=__name__ + ":MINE")
"""
CHOSEN = """
import sys, loadstone
from loadstone import AutoConfig, AutoModelForCausalLM
config = AutoConfig.for_model(sys.argv[2], vocab_size=5, hidden_size=4)
model = AutoModelForCausalLM.from_config(config, backend="plain")
model.save_pretrained(sys.argv[1])
again = AutoModelForCausalLM.from_pretrained(sys.argv[1], config=config, backend="plain")
print(again.config.spoken, sorted(again.load_report.names("loaded")))
"""


def test_two_architectures_of_one_name(site, tmp_path):
    for name in ("one", "two"):
        install(
            site,
            f"dist-{name}",
            {"architecture.echo": f"echo_{name}"},
            {f"echo_{name}": MADE.format(name=name)},
        )
    install(site, "loadstone-example", {"backend.plain": EXAMPLE["backend.plain"]})
    message = refused(CHOSEN, site, tmp_path / "out", "echo")
    assert "2 plugins claim the architecture 'echo'" in message
    offered = re.search(r"for_model\('(\S+)', ", message)
    assert offered is not None
    expected = ["one ['model.norm.weight', 'model.tokens.weight']"]
    assert told(CHOSEN, site, tmp_path / "out", offered[1]) == expected
    # `loadstone.EchoConfig` is somebody's: the conflict is told, and not that there is no such name.
    assert "2 plugins claim the architecture 'echo'" in refused(
        "import loadstone; loadstone.EchoConfig", site
    )
    assert told("import loadstone; print(hasattr(loadstone, 'Nothing'))", site) == ["False"]


def test_our_architecture_can_be_chosen_too(site):
    source = ARCHITECTURE.format(name="llama", attribute="loadstone_example.architecture:ECHO")
    install(site, "llama-squatter", {"architecture.llama": "squatter"}, {"squatter": source})
    script = "import sys, loadstone; print(loadstone.AutoConfig.for_model(sys.argv[1]).__class__.__module__)"
    offered = re.search(r"for_model\('(\S+)', ", refused(script, site, "llama"))
    assert offered is not None
    assert told(script, site, offered[1]) == ["loadstone.architectures.llama"]


# Names that are ours

NAMESAKE = """
import dataclasses
from loadstone.architectures import Head
from loadstone.hookspecs import ArchitectureRecord, hookimpl
from loadstone_example.architecture import ECHO, EchoConfig

class NamesakeConfig(EchoConfig):
    model_type = "namesake"

MINE = dataclasses.replace(
    ECHO, model_type="namesake", config=NamesakeConfig, modules={"plain": "namesake_models"},
    heads=(Head(task="", class_name="BertModel", prefix=""),),
)

@hookimpl
def loadstone_architectures():
    yield ArchitectureRecord(model_type="namesake", architecture="namesake_plugin:MINE")
"""
NAMESAKE_MODELS = (
    "from loadstone_example.models.echo import PlainEchoModel\nclass PlainBertModel(PlainEchoModel): ...\n"
)
USE_NAMESAKE = """
import sys
from loadstone import AutoConfig, AutoModel, plan
config = AutoConfig.for_model("namesake", vocab_size=5, hidden_size=4)
model = AutoModel.from_config(config, backend="plain")
print(model.architecture_and_head()[0].model_type)
model.save_pretrained(sys.argv[1])
print(plan(sys.argv[1], backend="plain").model_class)
class PlainLlamaForCausalLM(type(model).__mro__[2]): ...
try:
    PlainLlamaForCausalLM(config).architecture_and_head()
except ValueError as error:
    print(error.what)
"""


def test_a_strangers_class_with_a_name_of_ours_is_not_taken_for_ours(site, tmp_path):
    modules = {"namesake_plugin": NAMESAKE, "namesake_models": NAMESAKE_MODELS}
    install(site, "namesake", {"architecture.namesake": "namesake_plugin"}, modules)
    install(site, "loadstone-example", {"backend.plain": EXAMPLE["backend.plain"]})
    assert told(USE_NAMESAKE, site, tmp_path / "out") == [
        "namesake",
        "PlainBertModel",
        "no architecture has a class PlainLlamaForCausalLM",
    ]


# One kind of attention

CONVERTS = """
import logging, sys
logging.basicConfig(format="%(message)s")
from loadstone import AutoConfig, AutoModel, to_backend
from loadstone_example.models.echo import PlainEchoModel
config = AutoConfig.for_model("echo", vocab_size=5, hidden_size=4)
model = AutoModel.from_config(config, backend="torch", attn_implementation="eager")
print(repr(to_backend(model, "plain").load_report.attention))
PlainEchoModel.attentions = ("sdpa",)
report = to_backend(model, "plain").load_report
print(repr(report.attention), "attention: sdpa" in str(report))
"""


def test_to_backend_takes_the_attention_that_there_is_and_says_so(site):
    install(site, "loadstone-example", EXAMPLE)
    done = run(CONVERTS, site)
    assert done.stdout.splitlines() == ["''", "'sdpa' True"]
    assert "computes attention as 'eager', the backend 'plain' as 'sdpa'" in done.stderr


# `loadstone plugins`

PLUGINS = "from loadstone.cli import main; import sys; sys.argv = ['loadstone', 'plugins', '--json', *sys.argv[1:]]; main()"


@pytest.mark.parametrize(
    ("source", "claim"),
    [
        (UNBUILT, "backend.loud"),
        (BACKEND.replace("name=name", "name='other'"), "backend.loud"),
        (BACKEND, "formats.loud"),
    ],
)
def test_strict_exits_1_where_something_that_is_claimed_is_unusable(site, source, claim):
    install(
        site,
        "loud-dist",
        {claim: "loud_plugin"},
        {"loud_plugin": source.format(names=["loud"], title="Loud")},
    )
    hidden = {"LOADSTONE_DISABLE_PLUGINS": "loadstone"}  # our frameworks need not be imported for this
    assert run(PLUGINS, site, **hidden).returncode == 0
    done = run(PLUGINS, site, "--strict", check=False, **hidden)
    assert done.returncode == 1
    one = next(one for one in json.loads(done.stdout)["plugins"] if one["claim"] == claim)
    assert one["state"] in ("broken", "unusable") and one["problem"]


def test_strict_exits_0_where_all_is_well(site):
    install(site, "loadstone-example", EXAMPLE)
    done = run(PLUGINS, site, "--strict", check=False, LOADSTONE_DISABLE_PLUGINS="loadstone")
    assert done.returncode == 0, done.stdout


def test_what_nobody_can_ask_for_does_not_show_as_loaded(site):
    for name in ("one", "two"):
        source = BACKEND.format(names=["plain"], title=name)
        install(site, f"dist-{name}", {"backend.plain": f"plain_{name}"}, {f"plain_{name}": source})
    assert shown(site)["backend.plain", "dist-one"]["state"] == "unusable"
