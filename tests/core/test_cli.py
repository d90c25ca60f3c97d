"""The command line: every command's help and errors, plan, plugins and demo, on real input."""

import json
import re
import sys
from pathlib import Path

import pytest
from checkpoint_files import shared
from command_line import apart
from rich.console import Console

import loadstone
from loadstone.cli import demo, views

DEMO = Path(loadstone.__file__).parent / "demo_checkpoint"


# The whole


def test_help_names_every_command(call):
    code, out, _ = call("--help")
    assert code == 0
    assert re.findall(r"^  (demo|inspect|plan|plugins) ", out, re.MULTILINE) == [
        "demo",
        "inspect",
        "plan",
        "plugins",
    ]


def test_the_version(call):
    assert call("--version") == (0, f"loadstone {loadstone.__version__}\n", "")


@pytest.mark.parametrize(
    "words", [["inspekt"], ["inspect"], ["inspect", DEMO, "--depth", "2"], ["plan", "--json"]]
)
def test_wrong_usage_exits_2(call, words):
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert "Usage: loadstone" in err


@pytest.mark.parametrize("command", ["inspect", "plan"])
@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_an_error_is_told_without_a_traceback(call, tmp_path, command, json_too):
    code, out, err = call(command, tmp_path / "absent", *json_too)
    assert (code, out) == (1, "")
    assert re.match(f"the folder '{tmp_path}/absent' does not exist", err, re.IGNORECASE)
    assert "next: " in err
    assert "Traceback" not in err


# plan


def test_plan_prints_the_report(call, call_json):
    pytest.importorskip("torch")
    report = loadstone.plan(DEMO)
    code, out, err = call("plan", DEMO)
    assert (code, err) == (0, "")
    assert out == f"{report}\n"
    assert call_json("plan", DEMO) == json.loads(json.dumps(report.to_dict()))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--backend", "torch"], {"backend": "torch", "model_class": "LlamaForCausalLM", "bytes_read": None}),
        (["--dtype", "bf16"], {"dtype": "bfloat16", "dtype_origin": "argument"}),
        (["--task", ""], {"model_class": "LlamaModel"}),
        (["--class", "LlamaForSequenceClassification"], {"model_class": "LlamaForSequenceClassification"}),
        (["--device-map", "cpu"], {"device": "cpu"}),
        (["--device-map", "disk", "--bandwidth", "1GB"], {"device": "disk", "bandwidth": {"": 10**9}}),
        (["--max-memory", "cpu=1GiB"], {"device": "cpu", "device_map": {"": "cpu"}}),
        (
            ["--max-memory", "7=1GiB", "--device-map", "7", "--bandwidth", "7=1GB,cpu=5"],
            {"device": "7", "bandwidth": {"7": 10**9, "cpu": 5}},
        ),
    ],
)
def test_plan_takes_the_loaders_arguments(call_json, words, expected):
    pytest.importorskip("torch")
    found = call_json("plan", DEMO, *words)
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--class", "BertModel"], "has no class BertModel"),
        (["--backend", "tensorflou"], "did you mean tensorflow?"),
        (["--dtype", "float33"], "unknown dtype"),
        (["--device-map", "balancd"], "did you mean balanced"),
        (["--device-map", "7"], "there is no device"),
        (["--max-memory", "0=1kB,cpu=2kB"], "larger than every budget"),
        (["--max-memory", "0=1xB"], "is no number of bytes"),
    ],
)
def test_plan_refuses_what_the_loader_refuses(call, words, said):
    pytest.importorskip("torch")
    code, out, err = call("plan", DEMO, *words)
    assert (code, out) == (1, "")
    assert said in err


def test_plan_tells_of_devices_that_this_machine_does_not_have(call):
    pytest.importorskip("torch")
    code, out, err = call(
        "plan",
        DEMO,
        "--max-memory",
        "0=500kB,1=500kB,cpu=200kB",
        "--device-map",
        "balanced",
        "--bandwidth",
        "disk=3GB,cpu=25GB",
    )
    assert (code, err) == (0, "")
    places = [line.split()[0] for line in out.splitlines() if line.split()[-1:] != ["modules"]]
    assert {"0", "1"} <= set(places)
    assert "a forward pass moves" in out


def test_plan_takes_budgets_in_pairs(call):
    code, _, err = call("plan", DEMO, "--max-memory", "10GiB")
    assert code == 2
    assert "PLACE=SIZE" in err


def test_plan_makes_surplus_an_error_when_it_is_to_be_strict(call):
    pytest.importorskip("torch")
    bert = shared("bert-tiny-ticket-classifier")
    assert call("plan", bert, "--task", "")[0] == 0
    code, _, err = call("plan", bert, "--task", "", "--strict")
    assert code == 1
    assert "classifier.weight" in err


# plugins


def test_plugins_lists_ours(call, call_json):
    found = call_json("plugins")
    assert set(found) == {"plugins", "default_backend", "model_types"}
    ours = {one["claim"]: one for one in found["plugins"]}
    assert set(ours) >= {"backend.torch", "backend.flax", "backend.tensorflow"}
    assert set(ours["backend.flax"]) == {
        *("claim", "module", "distribution", "prefix", "priority", "state", "traceback"),
        *("framework", "install", "default", "problem"),
    }
    assert ours["backend.flax"]["module"] == "loadstone_flax.plugin"
    assert (ours["backend.flax"]["prefix"], ours["backend.flax"]["priority"]) == ("Flax", 20)
    assert {one["state"] for one in found["plugins"]} == {"loaded"}
    assert {"bert", "llama"} <= set(found["model_types"])
    code, out, _ = call("plugins")
    assert code == 0
    assert re.search(r"backend\.torch +loaded, priority 30.*\n +loadstone_torch\.plugin of loadstone \d", out)


def test_plugins_goes_by_metadata_alone_when_told():
    found = json.loads(apart("plugins", "--no-load", "--json").stdout)
    assert {one["state"] for one in found["plugins"]} == {"unused"}


@pytest.fixture
def strangers(tmp_path):
    """Lay two distributions on a path: one broken, one that claims what others claim too."""
    declare(tmp_path, "broken-thing", {"backend.broken": "broken_thing [99]"})
    (tmp_path / "broken_thing.py").write_text("import a_module_that_nobody_has\n")
    declare(
        tmp_path,
        "twin",
        {"backend.torch": "loadstone_torch.plugin", "architecture.llama": "twin", "cheese.brie": "twin"},
    )
    (tmp_path / "twin.py").write_text(
        """from loadstone.hookspecs import ArchitectureRecord, hookimpl

@hookimpl
def loadstone_architectures():
    yield ArchitectureRecord(model_type="llama", architecture="twin:LLAMA")
"""
    )
    return tmp_path


def declare(folder, name, entry_points):
    info = folder / f"{name.replace('-', '_')}-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    lines = "\n".join(f"{claim} = {value}" for claim, value in entry_points.items())
    (info / "entry_points.txt").write_text(f"[loadstone]\n{lines}\n")


def test_a_broken_plugin_is_shown_with_its_traceback_and_harms_nobody(strangers):
    found = json.loads(apart("plugins", "--json", path=strangers).stdout)["plugins"]
    states = {(one["claim"], one["distribution"].split()[0]): one["state"] for one in found}
    assert states["backend.broken", "broken-thing"] == "broken"
    assert states["backend.flax", "loadstone"] == "loaded"
    broken = next(one for one in found if one["state"] == "broken")
    assert "ModuleNotFoundError: No module named 'a_module_that_nobody_has'" in broken["traceback"]
    assert broken["priority"] == 99

    shown = apart("plugins", path=strangers)
    assert shown.returncode == 0
    assert "backend.broken is broken" in shown.stdout
    assert "    ModuleNotFoundError: No module named 'a_module_that_nobody_has'" in shown.stdout


def test_rival_claims_are_named(strangers):
    found = json.loads(apart("plugins", "--json", path=strangers).stdout)["plugins"]
    problems = {(one["claim"], one["distribution"].split()[0]): one["problem"] for one in found}
    for owner in ("loadstone", "twin"):
        assert "plugins claim the backend 'torch'" in problems["backend.torch", owner]
        assert all(rival in problems["backend.torch", owner] for rival in ("loadstone 0", "twin 0.1"))
    assert "which loadstone brings itself" in problems["architecture.llama", "twin"]
    assert "nothing asks for such a claim" in problems["cheese.brie", "twin"]


# demo


def test_demo_accounts_for_every_byte_and_writes(call_json):
    pytest.importorskip("torch")
    found = call_json("demo", "--backend", "torch")
    assert set(found) == {"checkpoint", "runs", "same_text", "not_installed"}
    [run] = found["runs"]
    assert set(run) == {
        *("backend", "versions", "model_class", "dtype", "device", "tensors", "nbytes", "bytes_mapped"),
        *("bytes_read", "seconds", "peak_memory", "parts", "texts", "error"),
    }
    assert set(run["versions"]) == {"torch"}
    assert run["bytes_mapped"] + run["bytes_read"] == run["nbytes"] == 913_600
    assert sum(part["nbytes"] for part in run["parts"]) == run["nbytes"]
    assert (
        sum(part["tensors"] for part in run["parts"] if "tied" not in part["state"]) == run["tensors"] == 29
    )
    assert [text["prompt"] for text in run["texts"]] == list(demo.PROMPTS)
    for text in run["texts"]:
        assert len(text["continuation"]) > 40
        assert re.fullmatch(r"[ -~\n]+", text["continuation"])


def test_demo_writes_what_is_written_one_at_a_time():
    """The prompts are padded to one length; that must not change what is written."""
    pytest.importorskip("torch")
    model = loadstone.LlamaForCausalLM.from_pretrained(DEMO)
    together = demo.write(model, demo.PROMPTS, new_tokens=40)
    assert together == tuple(demo.write(model, [prompt], new_tokens=40)[0] for prompt in demo.PROMPTS)


@pytest.mark.parametrize("width", [80, 120])
def test_demo_and_inspect_fit_the_terminal(call, monkeypatch, width):
    pytest.importorskip("torch")
    monkeypatch.setattr(
        views, "console", lambda stderr=False: Console(file=sys.stdout, width=width, highlight=False)
    )
    for words in (["demo", "--backend", "torch"], ["inspect", DEMO]):
        code, out, _ = call(*words)
        assert code == 0
        lines = [line for line in out.splitlines() if str(DEMO) not in line]
        assert max(map(len, lines)) <= width
        assert not any(re.search(r"\S{81}", line) for line in lines)
    assert "model.layers.{0...2}" in out


def test_demo_of_another_checkpoint_shows_what_it_can(call, call_json):
    pytest.importorskip("torch")
    bert = shared("bert-tiny-ticket-classifier")
    [run] = call_json("demo", "--backend", "torch", "--path", bert)["runs"]
    assert (run["model_class"], run["texts"]) == ("BertForSequenceClassification", [])
    assert sum(part["nbytes"] for part in run["parts"]) == run["nbytes"]
    assert "no text" in call("demo", "--backend", "torch", "--path", bert)[1]


def test_demo_of_nothing_is_an_error(call, tmp_path):
    pytest.importorskip("torch")
    code, out, err = call("demo", "--backend", "torch", "--path", tmp_path)
    assert (code, out) == (1, "")
    assert str(tmp_path) in err
    assert "Traceback" not in err


def test_demo_in_every_framework_writes_one_text(call_json):
    for module in ("torch", "jax", "tensorflow"):
        if not any((Path(entry) / module).is_dir() for entry in sys.path):
            pytest.skip(f"could not import {module!r}")
    found = call_json("demo", "--backend", "all")
    assert [run["backend"] for run in found["runs"]] == ["torch", "flax", "tensorflow"]
    assert [run["error"] for run in found["runs"]] == ["", "", ""]
    assert found["same_text"] is True
    assert len({json.dumps(run["texts"]) for run in found["runs"]}) == 1
    assert all(run["texts"] for run in found["runs"])


def test_demo_tells_which_framework_failed(call, monkeypatch):
    monkeypatch.setattr(demo, "_backends", lambda: (["one", "two"], {"flax": "pip install flax"}))
    code, out, _ = call("demo", "--backend", "all")
    assert code == 1
    for name in ("one", "two"):
        assert f"{name} failed" in out
        assert f"no plugin offers the backend '{name}'" in out
    assert "flax is left out: pip install flax" in out


def test_the_prompts_are_those_that_the_model_has_not_read():
    sys.path.insert(0, str(Path(__file__).parents[1] / "demo"))
    import corpus

    assert demo.PROMPTS == corpus.PROMPTS
