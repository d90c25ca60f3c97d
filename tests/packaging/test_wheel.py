"""What is shipped: the wheel's listing, what its metadata names, and that it works where it is installed."""

import email
import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tests.packaging.layout import ROOT, SOURCES, packages

DATA = {
    "py.typed",
    "__init__.pyi",
    "loading.pyi",
    "config.json",
    "generation_config.json",
    "model.safetensors",
}
"""Names of what is shipped and is no Python."""


def metadata(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        [found] = [entry for entry in archive.namelist() if entry.endswith(f".dist-info/{name}")]
        return archive.read(found).decode()


def entry_points(wheel: Path) -> list[EntryPoint]:
    found, group = [], ""
    for line in metadata(wheel, "entry_points.txt").splitlines():
        if line.startswith("["):
            group = line.strip("[]")
        elif line:
            name, _, value = line.partition(" = ")
            found.append(EntryPoint(name=name, value=value, group=group))
    return found


def test_every_source_file_is_in_the_wheel(listing):
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *SOURCES],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    packaged = [path for path in tracked if path.count("/") > 1]  # plugins/README.md is its folder's
    expected = {path.partition("/")[2] for path in packaged if (ROOT / path).is_file()}
    assert expected
    assert expected <= listing


def test_every_package_is_in_the_wheel(listing):
    assert {name.partition("/")[0] for name in listing if ".dist-info/" not in name} == set(packages())


def test_nothing_else_is_in_the_wheel(listing):
    strange = {
        name
        for name in listing
        if ".dist-info/" not in name and not name.endswith(".py") and Path(name).name not in DATA
    }
    assert strange == set()
    assert not any("test_" in name or "conftest" in name for name in listing)


def test_the_demo_checkpoint_and_the_type_markers_are_in_the_wheel(listing):
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        assert f"loadstone/demo_checkpoint/{name}" in listing
    assert {f"{package}/py.typed" for package in packages()} <= listing
    assert {"loadstone/__init__.pyi", "loadstone/model/loading.pyi"} <= listing


def test_the_licence_is_in_the_wheel(wheel, listing):
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in listing)
    assert email.message_from_string(metadata(wheel, "METADATA"))["License-Expression"] == "Apache-2.0"


def test_no_framework_is_required(wheel):
    required = email.message_from_string(metadata(wheel, "METADATA")).get_all("Requires-Dist")
    assert required
    plain = [line for line in required if "extra ==" not in line]
    assert not [line for line in plain if line.startswith(("torch", "tensorflow", "keras", "jax", "flax"))]
    extras = {line.rpartition("extra == ")[2].strip("'\"") for line in required if "extra ==" in line}
    assert extras >= {"torch", "tensorflow", "flax"}


def test_every_entry_point_names_something(wheel):
    found = entry_points(wheel)
    assert {entry.group for entry in found} == {"loadstone", "console_scripts"}
    for entry in found:
        assert entry.load() is not None


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Python of a fresh environment that has the wheel, and beside it what this environment has but loadstone."""
    folder = tmp_path_factory.mktemp("environment")
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    python = folder / "bin" / "python"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
    ]
    subprocess.run([*install, str(wheel)], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    # A plain line of a .pth file adds the folder, and not what that folder's own .pth files add: our editable self.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def call(*command, cwd):
    return subprocess.run(list(map(str, command)), cwd=cwd, check=True, capture_output=True, text=True).stdout


def test_the_installed_wheel_is_the_one_that_runs(installed, tmp_path):
    where = call(installed, "-I", "-c", "import loadstone; print(loadstone.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parents[1])


def test_the_installed_wheel_finds_its_plugins(installed, tmp_path):
    found = json.loads(call(installed.with_name("loadstone"), "plugins", "--json", cwd=tmp_path))
    assert {one["claim"]: one["state"] for one in found["plugins"]} == {
        "backend.flax": "loaded",
        "backend.tensorflow": "loaded",
        "backend.torch": "loaded",
        "format.dcp": "loaded",
        "format.gguf": "loaded",
        "format.h5": "loaded",
        "format.msgpack": "loaded",
        "format.npz": "loaded",
        "format.orbax": "loaded",
        "format.pickle": "loaded",
        "format.safetensors": "loaded",
        "source.file": "loaded",
        "source.gs": "loaded",
        "source.hf": "loaded",
        "source.http": "loaded",
        "source.https": "loaded",
        "source.hub": "loaded",
        "source.memory": "loaded",
        "source.s3": "loaded",
    }


def test_the_installed_wheel_finds_its_checkpoint(installed, tmp_path):
    program = "from loadstone.cli.demo import CHECKPOINT; print(CHECKPOINT)"
    checkpoint = call(installed, "-I", "-c", program, cwd=tmp_path).strip()
    found = json.loads(
        call(installed, "-I", "-m", "loadstone", "inspect", checkpoint, "--verify", "--json", cwd=tmp_path)
    )
    assert found["problems"] == []
    assert found["verification"]["intact"] == ["model.safetensors"]
