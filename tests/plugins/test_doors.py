"""A format and a source of a third party, installed and used: a checkpoint comes through both as through ours."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from install import EXAMPLE, SHELF, install, run, told

V, C = 11, 6
CONFIG = {"model_type": "echo", "architectures": ["EchoForCausalLM"], "vocab_size": V, "hidden_size": C}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder in which a backend, a model type, a format and a source of third parties are installed."""
    site = tmp_path_factory.mktemp("site")
    install(site, "loadstone-example", EXAMPLE)
    install(site, "loadstone-shelf", SHELF)
    return site


@pytest.fixture
def checkpoint(tmp_path):
    """A folder with a checkpoint of Echo in raw numbers, and its tensors."""
    drawn = np.random.default_rng(0)
    tensors = {
        "model.tokens.weight": drawn.standard_normal((V, C), np.float32),
        "model.norm.weight": drawn.standard_normal(C, np.float32),
    }
    folder = tmp_path / "echo"
    folder.mkdir()
    write(folder, tensors)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder, tensors


def write(folder, tensors):
    """Write tensors as raw numbers and their index."""
    index, data = {}, b""
    for name, array in tensors.items():
        index[name] = {"offset": len(data), "shape": list(array.shape)}
        data += array.tobytes()
    (folder / "weights.json").write_text(json.dumps(index))
    (folder / "weights.raw").write_bytes(data)


LOAD = """
import sys
from pathlib import Path
import loadstone
from loadstone import AutoModelForCausalLM
from loadstone.source import resolve
from loadstone_shelf import memory

folder, way, backend = sys.argv[1:4]
memory.SHELF["echo"] = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
name = {"folder": folder, "file": f"file://{folder}", "mem": "mem://echo", "snapshot": resolve("mem://echo")}[way]
planned = loadstone.plan(name, task="CausalLM", backend=backend)
print("brought weights.raw" in memory.READ, "read weights.raw" in memory.READ)
model = AutoModelForCausalLM.from_pretrained(name, backend=backend)
report = model.load_report
print(report.location, report.commit, sorted(report.names("loaded")) == sorted(planned.names("loaded")))
print(report.bytes_read + report.bytes_mapped, *sorted(report.names("tied")))
model.save_pretrained(sys.argv[4])
"""


@pytest.mark.parametrize(
    ("way", "backend"),
    [("folder", "plain"), ("file", "plain"), ("mem", "plain"), ("snapshot", "plain"), ("mem", "torch")],
)
def test_a_checkpoint_comes_through_both(site, checkpoint, tmp_path, way, backend):
    from safetensors.numpy import load_file

    folder, tensors = checkpoint
    planned, report, moved = told(LOAD, site, folder, way, backend, tmp_path / "out")
    assert planned == "False False", "a plan reads the index alone"
    assert (
        report
        == f"{folder if way in ('folder', 'file') else 'mem://echo'} {'1' if way[0] in 'ms' else None} True"
    )
    assert moved == f"{sum(array.nbytes for array in tensors.values())} lm_head.weight"
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert {name: array.tobytes() for name, array in saved.items()} == {
        n: a.tobytes() for n, a in tensors.items()
    }


PLAN = """
import json, sys
from pathlib import Path
import loadstone
from loadstone_shelf import memory
memory.SHELF["echo"] = {path.name: path.read_bytes() for path in Path(sys.argv[1]).iterdir()}
loadstone.AutoModelForCausalLM.from_pretrained(sys.argv[2], backend="plain", **json.loads(sys.argv[3]))
"""


def refused(site, folder, name, **arguments):
    """Return how a load ends, its error."""
    done = run(PLAN, site, folder, name, json.dumps(arguments), check=False)
    assert done.returncode == 1
    return done.stderr[done.stderr.rindex("Traceback") :]


@pytest.mark.parametrize("through", ["folder", "mem"])
def test_faults_are_told_as_ours(site, checkpoint, through):
    folder, tensors = checkpoint
    name = str(folder) if through == "folder" else "mem://echo"
    write(folder, {"model.tokens.weight": tensors["model.tokens.weight"]})
    assert "model.norm.weight: missing, expected shape [6]" in refused(site, folder, name)
    write(folder, tensors)
    (folder / "weights.raw").write_bytes((folder / "weights.raw").read_bytes()[:-4])
    message = refused(site, folder, name)
    assert "CheckpointError: the index of weights.json does not fit its files" in message
    assert "'model.norm.weight': bytes 264 to 288 of weights.raw, which has 284" in message
    write(folder, tensors)
    (folder / "weights.raw").write_bytes((folder / "weights.raw").read_bytes() + b"x")
    assert "CheckpointError: weights.raw holds a part of a number" in refused(site, folder, name)
    (folder / "weights.json").write_text("{")
    assert "CheckpointError: weights.json is no JSON" in refused(site, folder, name)
    (folder / "weights.json").write_text('{"a": 5}')
    message = refused(site, folder, name)
    assert "PluginError: the plugin behind 'format.raw' fails to read weights.json" in message
    assert "loadstone_shelf.plugin of loadstone-shelf 1.0" in message


def test_what_is_said_of_the_place_is_taken_or_refused(site, checkpoint):
    folder, _ = checkpoint
    assert "nothing lies on the shelf as 'echo@old'" in refused(site, folder, "mem://echo", revision="old")
    message = refused(site, folder, "mem://echo", subfolder="deeper")
    assert "ArgumentError: the source 'mem' does not take subfolder=" in message
    message = refused(site, folder, "nem://echo")
    assert "PluginError: no plugin offers the source 'nem'" in message
    assert all(name in message for name in ("file", "hub", "mem")) and "did you mean mem?" in message


def test_ours_comes_first_and_may_be_the_only_one(site, checkpoint):
    from safetensors.numpy import save_file

    folder, tensors = checkpoint
    assert "there are no weights here" in refused(site, folder, str(folder), use_safetensors=True)
    save_file({**tensors, "extra": np.zeros(1, np.float32)}, folder / "model.safetensors")
    script = "import sys, loadstone; print(loadstone.plan(sys.argv[1], backend='plain').names('unused'))"
    assert told(script, site, folder) == ["['extra']"]


INSPECT = """
from loadstone.cli import main
import sys
sys.argv = ["loadstone", "inspect", sys.argv[1], "--json"]
main()
"""


def test_it_is_inspected(site, checkpoint):
    folder, _ = checkpoint
    found = json.loads(run(INSPECT, site, folder).stdout)
    assert [(file["name"], file["tensors"]) for file in found["files"]] == [("weights.raw", 2)]
    assert found["problems"] == []
    (folder / "weights.json").write_text("{")
    found = json.loads(run(INSPECT, site, folder, check=False).stdout)
    assert [(file["name"], file["tensors"]) for file in found["files"]] == [("weights.raw", None)]
    assert [problem["what"] for problem in found["problems"]] == ["weights.json is no JSON"]


CHANGED = """
import sys
from pathlib import Path
import loadstone
from loadstone_shelf.raw import Raw

def check(self, paths, times=[1]):
    if times:
        times.pop()
        with open(Path(sys.argv[1]) / "weights.raw", "r+b") as stream:
            stream.write(bytes(8))

Raw.check = check
loadstone.AutoModelForCausalLM.from_pretrained(sys.argv[1], backend="plain")
"""


def test_its_files_are_watched_while_they_are_loaded(site, checkpoint):
    assert "ChangedFileError" in run(CHANGED, site, checkpoint[0], check=False).stderr


PLUGIN = """
from loadstone.hookspecs import FormatRecord, SourceRecord, hookimpl
@hookimpl
def loadstone_formats():
    yield FormatRecord(name={name!r}, endings=(".x",), format={format!r}, api={api})
@hookimpl
def loadstone_sources():
    yield SourceRecord(scheme={name!r}, open={format!r}, api={api})
"""


def claimed(tmp_path, name, **values):
    """Install a plugin that claims a format and a source."""
    site = tmp_path / "site"
    source = PLUGIN.format(name=name, **({"format": "loadstone_shelf.raw:Raw", "api": 1} | values))
    install(site, "other", {f"format.{name}": "other", f"source.{name}": "other"}, {"other": source})
    install(site, "loadstone-example", EXAMPLE)
    return site


def test_another_version_of_the_interface_is_told_as_what_it_is(tmp_path, checkpoint):
    site = claimed(tmp_path, "new", api=2)
    message = refused(site, checkpoint[0], "new://echo")
    assert "PluginError: the plugin behind 'source.new' asks for version 2 of the plugin interface" in message
    assert "expected: a record with api=1" in message
    done = run(PLAN, site, checkpoint[0], checkpoint[0], "{}", check=False)
    assert "passed over: the plugin behind 'format.new' asks for version 2" in done.stderr
    assert "NoWeightsError" in done.stderr, "a plugin of no use harms nobody"


def test_what_is_no_format_and_no_source_is_told(tmp_path, checkpoint):
    site = claimed(tmp_path, "wrong", format="json:dumps")
    assert "the plugin behind 'source.wrong' offers 'json:dumps', which is something else" in refused(
        site, checkpoint[0], "wrong://echo"
    )
    done = run(PLAN, site, checkpoint[0], checkpoint[0], "{}", check=False)
    assert "passed over: the plugin behind 'format.wrong' offers 'json:dumps'" in done.stderr


STATES = """
from loadstone.cli import main
import sys
sys.argv = ["loadstone", "plugins", "--json"]
main()
"""


@pytest.mark.parametrize(("kind", "name"), [("format", "safetensors"), ("source", "hub"), ("source", "file")])
def test_our_names_stay_ours(tmp_path, kind, name):
    site = claimed(tmp_path, name)
    states = {
        one["claim"]: one["problem"]
        for one in json.loads(run(STATES, site).stdout)["plugins"]
        if one["distribution"] == "other 1.0"
    }
    assert f"a plugin claims the {kind} {name!r}, which loadstone brings itself" in states[f"{kind}.{name}"]
    script = "import sys; from loadstone.plugins import format_record, source_record; print(%s_record(%r)[0].owner)"
    assert told(script % (kind, name), site) == ["loadstone"]


def test_loadstone_plugins_shows_them(site):
    found = {one["claim"]: one for one in json.loads(run(STATES, site).stdout)["plugins"]}
    assert {found[claim]["state"] for claim in SHELF} == {"loaded"}
    assert {found[claim]["problem"] for claim in SHELF} == {""}


LAZY = """
import sys
from loadstone.checkpoint.open import open_checkpoint
from loadstone.source import resolve
open_checkpoint(resolve(sys.argv[1]))
print("importlib.metadata" in sys.modules, "loadstone_shelf" in sys.modules)
"""


def test_ours_are_found_without_a_look_at_what_is_installed(site, checkpoint):
    from safetensors.numpy import save_file

    folder, tensors = checkpoint
    save_file(tensors, folder / "model.safetensors")
    assert told(LAZY, site, folder) == ["False False"]


def test_our_entry_points_claim_what_we_bring():
    import tomllib

    from loadstone.plugins import BUILT_IN, is_built_in

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    entries = project["project"]["entry-points"]["loadstone"]
    core = {name: value for name, value in entries.items() if value.startswith("loadstone.")}
    claimed = {name: value for name, value in core.items() if name.split(".")[0] in BUILT_IN}
    formats = {
        "format.h5",
        "format.msgpack",
        "format.npz",
        "format.orbax",
        "format.dcp",
        "format.pickle",
        "format.safetensors",
    }
    assert set(claimed) == {*formats, "source.file", "source.hub"}
    assert all(
        is_built_in(*name.split(".")) and BUILT_IN[name.split(".")[0]] == value
        for name, value in claimed.items()
    )


# Choosing by name

CHOOSE = """
import json, sys
import loadstone
from loadstone import AutoModelForCausalLM
from loadstone.modeling_utils import load_sharded_checkpoint
folder, arguments = sys.argv[1], json.loads(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(folder, backend="plain", **arguments)
print(float(model["model.norm.weight"][0]))
print(loadstone.plan(folder, backend="plain", **arguments).names("unused"))
model = AutoModelForCausalLM.from_config(model.config, backend="plain")
missing, unexpected = load_sharded_checkpoint(model, folder, strict=False, **arguments)
print(float(model["model.norm.weight"][0]), unexpected)
"""


def test_a_format_is_chosen_by_name(site, checkpoint):
    from safetensors.numpy import save_file

    folder, tensors = checkpoint
    ours = {**tensors, "model.norm.weight": np.full(C, 7, np.float32), "extra": np.zeros(1, np.float32)}
    save_file(ours, folder / "model.safetensors")
    first = float(tensors["model.norm.weight"][0])
    raw = [str(first), "[]", f"{first} []"]
    for name in ("raw", "raw@loadstone-shelf"):
        assert told(CHOOSE, site, folder, json.dumps({"weights_format": name})) == raw
    safetensors = ["7.0", "['extra']", "7.0 ['extra']"]
    for arguments in ({}, {"weights_format": "safetensors"}, {"weights_format": "safetensors@loadstone"}):
        assert told(CHOOSE, site, folder, json.dumps(arguments)) == safetensors


def test_a_format_that_is_not_there_is_told(site, checkpoint):
    folder, _ = checkpoint
    message = refused(site, folder, str(folder), weights_format="safetensors")
    assert "NoWeightsError: there are no weights of the format 'safetensors' here" in message
    assert "expected: model.safetensors" in message
    assert "leave weights_format (from_tf, from_flax) out" in message
    message = refused(site, folder, str(folder), weights_format="rawr")
    assert "PluginError: no plugin offers the format 'rawr'" in message and "did you mean raw?" in message
    message = refused(site, folder, str(folder), weights_format="raw", use_safetensors=True)
    assert "ArgumentError: use_safetensors and weights_format disagree" in message


INSPECT_RAW = INSPECT.replace('"--json"', '"--json", "--weights-format", sys.argv[2]')


def test_a_format_is_chosen_on_the_command_line(site, checkpoint):
    from safetensors.numpy import save_file

    folder, tensors = checkpoint
    save_file(tensors, folder / "model.safetensors")
    for name, file in (("raw", "weights.raw"), ("safetensors", "model.safetensors")):
        found = json.loads(run(INSPECT_RAW, site, folder, name).stdout)
        assert [one["name"] for one in found["files"]] == [file]


@pytest.fixture(scope="module")
def rivals(tmp_path_factory):
    """A folder in which two distributions claim one format and one scheme."""
    site = tmp_path_factory.mktemp("rivals")
    source = PLUGIN.replace("open={format!r}", "open='loadstone_shelf.memory:open_memory'")
    for one in ("one", "two"):
        text = source.format(name="raw", format="loadstone_shelf.raw:Raw", api=1)
        install(
            site,
            f"dist-{one}",
            {"format.raw": f"raw_{one}", "source.raw": f"raw_{one}"},
            {f"raw_{one}": text},
        )
    install(site, "loadstone-example", EXAMPLE)
    return site


@pytest.mark.parametrize("asked", [{}, {"weights_format": "raw"}])
def test_two_claims_on_a_format_are_an_error_where_it_is_needed(rivals, checkpoint, asked):
    folder, tensors = checkpoint
    message = refused(rivals, folder, str(folder), **asked)
    assert "PluginError: 2 plugins claim the format 'raw'" in message
    assert "dist-one 1.0: raw_one" in message and "dist-two 1.0: raw_two" in message
    assert "weights_format='raw@dist-one'" in message
    first = str(float(tensors["model.norm.weight"][0]))
    assert told(CHOOSE, rivals, folder, json.dumps({"weights_format": "raw@dist-two"}))[0] == first


def test_two_claims_on_a_format_harm_nobody_else(rivals, checkpoint):
    from safetensors.numpy import save_file

    folder, tensors = checkpoint
    (folder / "weights.json").unlink()
    assert "NoWeightsError" in refused(rivals, folder, str(folder))
    save_file(tensors, folder / "model.safetensors")
    done = run(PLAN, rivals, folder, folder, "{}")
    assert "passed over" not in done.stderr


SHELVED = """
import sys
from pathlib import Path
from loadstone.source import resolve
from loadstone_shelf import memory
memory.SHELF["echo"] = {path.name: path.read_bytes() for path in Path(sys.argv[1]).iterdir()}
memory.open_memory.__globals__["SHELF"] = {"raw://echo": memory.SHELF["echo"]}
print(resolve(sys.argv[2]).location)
"""


def test_two_claims_on_a_scheme_are_chosen_between_in_the_address(rivals, checkpoint):
    folder, _ = checkpoint
    done = run(SHELVED, rivals, folder, "raw://echo", check=False)
    assert "PluginError: 2 plugins claim the source 'raw'" in done.stderr
    assert "or pass the address as raw@dist-one://..." in done.stderr
    assert told(SHELVED, rivals, folder, "raw@dist-one://echo") == ["raw://echo"]
