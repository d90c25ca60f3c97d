"""Plugins that are broken, or that claim one name: each harms only itself, and the error names who it was."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from install import EXAMPLE, install, run, told

ARCHITECTURE = """
from loadstone.hookspecs import ArchitectureRecord, hookimpl

@hookimpl
def loadstone_architectures():
    yield ArchitectureRecord(model_type={name!r}, architecture={attribute!r})
"""
BACKEND = """
from loadstone.hookspecs import BackendRecord, hookimpl

@hookimpl
def loadstone_backends():
    for name in {names!r}:
        yield BackendRecord(name=name, title={title!r}, requires=("numpy",), install="pip install numpy",
                            backend="loadstone_example.backend:PlainBackend", models="loadstone_example.models")
"""
ASK_BACKEND = (
    "import sys; from loadstone.backend import get_backend; print(type(get_backend(sys.argv[1])).__name__)"
)
TITLE = "import sys; from loadstone.plugins import backend_record; print(backend_record(sys.argv[1]).title)"
ASK_MODEL_TYPE = "import sys; from loadstone.architectures import architecture_for; print(architecture_for(sys.argv[1]).family)"
PLUGINS = "from loadstone.cli import main; import sys; sys.argv = ['loadstone', 'plugins', '--json']; main()"


def shown(site, **environment):
    """Return what `loadstone plugins` says, by claim and distribution."""
    listed = json.loads(run(PLUGINS, site, **environment).stdout)["plugins"]
    return {(one["claim"], one["distribution"].split()[0]): one for one in listed}


def refused(script, site, *arguments, **environment):
    """Return the last error of a script that must fail with a PluginError."""
    done = run(script, site, *arguments, check=False, **environment)
    assert done.returncode == 1, done.stdout
    message = done.stderr[done.stderr.rindex("loadstone.errors.") :]
    assert message.startswith("loadstone.errors.PluginError: "), message
    assert len(message.splitlines()) <= 15
    return message


@pytest.fixture
def site(tmp_path):
    """Return an empty folder to install into."""
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


# Two claims on one name


@pytest.fixture
def rivals(site):
    """Two distributions that both claim `backend.plain`."""
    for name in ("one", "two"):
        source = BACKEND.format(names=["plain"], title=f"Plain of {name}")
        install(
            site, f"dist-{name}", {"backend.plain": f"plain_{name} [Plain, 1]"}, {f"plain_{name}": source}
        )
    install(site, "loadstone-example", {"architecture.echo": EXAMPLE["architecture.echo"]})
    return site


def test_two_distributions_on_one_name_are_both_named(rivals):
    message = refused(TITLE, rivals, "plain")
    for fact in ("2 plugins claim the backend 'plain'", "dist-one 1.0: plain_one", "dist-two 1.0: plain_two"):
        assert fact in message
    assert "pass backend='plain@dist-one'" in message and "LOADSTONE_DISABLE_PLUGINS=dist-two" in message


def test_the_caller_chooses_by_distribution(rivals):
    assert told(TITLE, rivals, "plain@dist-one") == ["Plain of one"]
    assert told(TITLE, rivals, "plain@dist-two") == ["Plain of two"]
    assert "no plugin offers the backend 'plain@dist-three'" in refused(TITLE, rivals, "plain@dist-three")


def test_or_leaves_one_out(rivals):
    assert told(TITLE, rivals, "plain", LOADSTONE_DISABLE_PLUGINS="dist-one, other") == ["Plain of two"]
    states = shown(rivals, LOADSTONE_DISABLE_PLUGINS="dist-one")
    assert states["backend.plain", "dist-one"]["state"] == "disabled"
    assert "LOADSTONE_DISABLE_PLUGINS" in states["backend.plain", "dist-one"]["problem"]
    assert states["backend.plain", "dist-two"]["state"] == "loaded"


LOAD_AND_SAVE = """
import sys
from loadstone import AutoConfig, AutoModel
config = AutoConfig.for_model("echo", vocab_size=5, hidden_size=4)
model = AutoModel.from_config(config, backend=sys.argv[2])
model.save_pretrained(sys.argv[1])
model = AutoModel.from_pretrained(sys.argv[1], backend=sys.argv[2])
model.save_pretrained(sys.argv[1])
print(type(model).__name__, sorted(model.load_report.names("loaded")))
"""


def test_a_chosen_one_of_two_loads_and_saves(rivals, tmp_path):
    expected = ["PlainEchoModel ['norm.weight', 'tokens.weight']"]
    assert told(LOAD_AND_SAVE, rivals, tmp_path / "out", "plain@dist-two") == expected
    assert "2 plugins claim" in refused(LOAD_AND_SAVE, rivals, tmp_path / "out", "plain")


def test_loadstone_plugins_shows_the_conflict(rivals):
    states = shown(rivals)
    for owner in ("dist-one", "dist-two"):
        assert "2 plugins claim the backend 'plain'" in states["backend.plain", owner]["problem"]
    assert states["architecture.echo", "loadstone-example"]["problem"] == ""


def test_one_distribution_seen_twice_is_no_conflict(site):
    source = BACKEND.format(names=["plain"], title="Plain")
    for place in (site, site / "again"):
        install(place, "dist-one", {"backend.plain": "plain_one"}, {"plain_one": source})
    script = f"import sys; sys.path.append({str(site / 'again')!r})\n" + TITLE
    assert told(script, site, "plain") == ["Plain"]


def test_two_backends_on_one_class_prefix(site):
    for name, prefix in (("one", "Pre"), ("two", "Pre"), ("three", "Flax")):
        source = BACKEND.format(names=[name], title=name)
        install(
            site, f"dist-{name}", {f"backend.{name}": f"plain_{name} [{prefix}]"}, {f"plain_{name}": source}
        )
    script = "import sys, loadstone; print(getattr(loadstone, sys.argv[1]).backend)"
    message = refused(script, site, "PreAutoModel")
    for fact in (
        "2 backends claim the class prefix 'Pre'",
        "dist-one 1.0: plain_one",
        "dist-two 1.0: plain_two",
    ):
        assert fact in message
    assert told(script, site, "FlaxAutoModel") == ["flax"], "ours is not taken over"
    assert "'Flax' is the backend 'flax'" in shown(site)["backend.three", "dist-three"]["problem"]
    assert told(script, site, "TFAutoModelForCausalLM") == ["tensorflow"]


# A built-in's name


@pytest.fixture
def squatter(site):
    """A distribution that claims Llama."""
    source = ARCHITECTURE.format(name="llama", attribute="loadstone_example.architecture:ECHO")
    install(site, "llama-squatter", {"architecture.llama": "squatter"}, {"squatter": source})
    return site


def test_a_plugin_that_claims_our_model_type_is_named(squatter):
    message = refused(ASK_MODEL_TYPE, squatter, "llama")
    for fact in (
        "a plugin claims the architecture 'llama', which loadstone brings itself",
        "llama-squatter 1.0: squatter",
    ):
        assert fact in message
    assert "LOADSTONE_DISABLE_PLUGINS=llama-squatter" in message
    assert told(ASK_MODEL_TYPE, squatter, "bert") == ["bert"], "others go on"


def test_leaving_it_out_gives_ours_back(squatter):
    assert told(ASK_MODEL_TYPE, squatter, "llama", LOADSTONE_DISABLE_PLUGINS="llama-squatter") == ["llama"]


def test_our_classes_stay_ours(squatter):
    script = "from loadstone import LlamaConfig, AutoModelForCausalLM; print(LlamaConfig.__module__)"
    assert told(script, squatter) == ["loadstone.architectures.llama"]


# Broken ones

GOOD = BACKEND.format(names=["good"], title="Good")
BROKEN = {
    "raises": ("raise RuntimeError('line one\\nline two')", "RuntimeError: line one line two"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "no syntax": ("def (", "SyntaxError"),
    "imports what is not there": (
        "import not_installed_anywhere",
        "No module named 'not_installed_anywhere'",
    ),
    "misspelt hook": (
        GOOD.replace("def loadstone_backends", "def loadstone_backend"),
        "unknown hook 'loadstone_backend'",
    ),
    "wrong arguments": (GOOD.replace("loadstone_backends()", "loadstone_backends(wrong)"), "wrong"),
    "hook fails": (GOOD.replace("    for name", "    raise KeyError('x')\n    for name"), "KeyError"),
    "offers nothing": ("", "and offers no such record"),
    "offers another": (BACKEND.format(names=["torch"], title="Hijacked"), "'torch'"),
    "no iterable": (
        GOOD.replace("    for name", "    return 5\n    for name").replace("yield", "return"),
        "TypeError",
    ),
    "wrong record": (GOOD.replace("title='Good', ", ""), "title"),
}


ASK_ALL = """
import json, sys
from loadstone.errors import PluginError
from loadstone.plugins import backend_record, default_backend
told = {}
for i in range(int(sys.argv[1])):
    try:
        told[i] = backend_record(f"bad{i}").title
    except PluginError as error:
        told[i] = str(error)
    assert backend_record("good").title == "Good", i
    assert backend_record("torch").title == "PyTorch", i
assert default_backend() == "torch"
assert "torch" not in sys.modules
print(json.dumps(list(told.values())))
"""


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    """Kind of broken plugin -> what is said of it, all of them installed beside a good one."""
    site = tmp_path_factory.mktemp("broken")
    for i, (source, _) in enumerate(BROKEN.values()):
        install(site, f"bad-dist-{i}", {f"backend.bad{i}": f"bad_{i} [Bad, 99]"}, {f"bad_{i}": source})
    install(site, "good-dist", {"backend.good": "good_plugin [Good, 98]"}, {"good_plugin": GOOD})
    return dict(zip(BROKEN, json.loads(run(ASK_ALL, site, len(BROKEN)).stdout), strict=True))


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_harms_only_itself(messages, kind):
    message, number = messages[kind], list(BROKEN).index(kind)
    assert BROKEN[kind][1] in message
    assert f"bad_{number} of bad-dist-{number} 1.0" in message
    assert "next: " in message and len(message.splitlines()) <= 15


def test_a_broken_plugin_shows_with_its_traceback(site):
    install(site, "bad-dist", {"backend.bad": "bad_plugin"}, {"bad_plugin": "1 / 0"})
    one = shown(site)["backend.bad", "bad-dist"]
    assert one["state"] == "broken"
    assert "ZeroDivisionError" in one["problem"]
    assert "bad_plugin.py" in one["traceback"] and "1 / 0" in one["traceback"]
    done = run(PLUGINS.replace(", '--json'", ""), site)
    assert "ZeroDivisionError" in done.stdout and "bad_plugin.py" in done.stdout


@pytest.mark.parametrize(
    "attribute", ["not_there:ECHO", "loadstone_example.architecture:NOT_THERE", "nonsense"]
)
def test_an_architecture_that_is_not_where_its_record_says(site, attribute):
    source = ARCHITECTURE.format(name="gone", attribute=attribute)
    install(site, "bad-dist", {"architecture.gone": "bad_plugin"}, {"bad_plugin": source})
    message = refused(ASK_MODEL_TYPE, site, "gone")
    assert attribute in message and "bad-dist 1.0" in message
    script = (
        "import loadstone; print(hasattr(loadstone, 'AutoModelForNothing'), 'BertModel' in dir(loadstone))"
    )
    assert told(script, site) == ["False True"]
    assert shown(site)["architecture.gone", "bad-dist"]["state"] == "broken"


def test_a_backend_that_is_not_where_its_record_says(site):
    source = GOOD.replace("loadstone_example.backend:PlainBackend", "loadstone_example.backend:Nothing")
    install(site, "bad-dist", {"backend.good": "bad_plugin"}, {"bad_plugin": source})
    message = refused(ASK_BACKEND, site, "good")
    assert "'loadstone_example.backend:Nothing'" in message and "bad-dist 1.0" in message


def test_metadata_that_is_none(site):
    install(site, "bad-dist", {"backend.bad": "not a module!", "backend.worse": ""})
    stale = site / "stale-1.0.dist-info"
    stale.mkdir()
    (stale / "entry_points.txt").write_bytes(b"[loadstone]\nbackend.stale = stale\n\xff\xfe")
    install(site, "good-dist", {"backend.good": "good_plugin"}, {"good_plugin": GOOD})
    assert told(TITLE, site, "good") == ["Good"]
    assert "not a module!" in refused(TITLE, site, "bad")


def test_an_unknown_backend_names_the_nearest(site):
    install(site, "loadstone-example", EXAMPLE)
    message = refused(ASK_BACKEND, site, "plan")
    assert "no plugin offers the backend 'plan'" in message and "did you mean plain" in message
    assert "tensorflow" in message, "it lists what there is"


def test_the_default_may_be_named_by_the_environment(site):
    install(site, "loadstone-example", EXAMPLE)
    script = "from loadstone.backend import get_backend; print(get_backend().name)"
    assert told(script, site, LOADSTONE_BACKEND="plain") == ["plain"]
    assert "'plan'" in refused(script, site, LOADSTONE_BACKEND="plan")


def test_the_environment_is_asked_each_time(site):
    install(site, "loadstone-example", EXAMPLE)
    script = """
import os
from loadstone.backend import get_backend
for name in ("plain", "plain@loadstone-example"):
    os.environ["LOADSTONE_BACKEND"] = name
    print(get_backend().asked)
"""
    assert told(script, site) == ["plain", "plain@loadstone-example"]


# Nothing is imported until it is asked for

DUMMIES = 50
USES = {
    "import": "import loadstone",
    "auto class": "from loadstone import AutoModelForCausalLM, AutoConfig, AutoModel",
    "prefixed auto class": "from loadstone import FlaxAutoModelForSequenceClassification",
    "config class": "from loadstone import BertConfig, LlamaConfig",
    "known model type": "from loadstone.architectures import architecture_for; architecture_for('bert')",
    "unknown model type": "try: architecture_for('x')\nexcept ValueError: pass",
    "default backend": "from loadstone.plugins import default_backend; default_backend()",
    "metadata": "from loadstone.plugins import claims; assert len(claims()) > 100",
}


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """Fifty distributions, each with a backend and an architecture, which fail loudly when they are imported."""
    site = tmp_path_factory.mktemp("crowd")
    for i in range(DUMMIES):
        claims = {f"backend.dummy{i}": f"dummy_{i} [Dummy{i}, 0]", f"architecture.dummy{i}": f"dummy_{i}"}
        install(site, f"dummy-dist-{i}", claims, {f"dummy_{i}": "raise RuntimeError('imported')"})
    return site


@pytest.fixture(scope="module")
def imported(crowd):
    """Use of loadstone -> the dummies that are imported after it, all uses one after the other."""
    lines = ["import json, sys", "told = {}"]
    for name, use in USES.items():
        lines += [use, f"told[{name!r}] = [name for name in sys.modules if name.startswith('dummy')]"]
    done = run("\n".join([*lines, "print(json.dumps(told))"]), crowd)
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize("use", USES)
def test_no_plugin_is_imported_before_it_is_asked_for(imported, use):
    assert imported[use] == []


def test_a_crowd_of_plugins_does_not_slow_the_import(crowd, site):
    """Processor time, and the best of several: the machine may be busy."""
    script = "import time; t = time.process_time(); import loadstone; print(time.process_time() - t)"

    def best(where):
        return min(float(told(script, where)[0]) for _ in range(3))

    assert best(crowd) < best(site) + 0.02
    assert best(crowd) < 0.05


def test_claims_are_read_once(crowd):
    script = """
import time
from loadstone.plugins import claims, claims_of
claims()
started = time.process_time()
for _ in range(20):
    claims_of("backend")
print(time.process_time() - started)
"""
    assert float(told(script, crowd)[0]) < 0.1
