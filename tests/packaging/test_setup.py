"""The project's own commands: what make installs and when, which versions, and what a missing framework means."""

import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.layout import ROOT

STAMPS = {
    "demo": "demo",
    "test": "test",
    "check": "check",
    "bench": "test",
    "format": "check",
    "docs": "test",
    "names": "check",
}
"""Target -> the stamp of what it installs."""


@pytest.fixture
def project(tmp_path):
    """A project of nothing but what make looks at."""
    (tmp_path / "tests").mkdir()
    for name in ("Makefile", "pyproject.toml", "tests/constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def would_run(project, target):
    command = ["make", "--dry-run", "--no-print-directory", target]
    return subprocess.run(command, cwd=project, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("target", STAMPS)
def test_a_target_makes_the_environment_that_it_needs(project, target):
    said = would_run(project, target)
    assert said.index("python3 -m venv .venv") < said.index("--editable")
    assert f"touch .venv/.{STAMPS[target]}" in said


@pytest.mark.parametrize("target", STAMPS)
def test_a_second_call_installs_nothing_until_the_requirements_change(project, target):
    for number, stamp in enumerate(
        (".venv/.made", f".venv/.{STAMPS[target]}", ".peers/env5/bin/transformers")
    ):
        (project / stamp).parent.mkdir(parents=True, exist_ok=True)
        (project / stamp).touch()
        later = (project / "pyproject.toml").stat().st_mtime + 10 + number
        os.utime(project / stamp, (later, later))
    assert "pip install" not in would_run(project, target)
    for name in ("pyproject.toml", "tests/constraints.txt"):
        os.utime(project / name, (later + 10, later + 10))
        assert "pip install" in would_run(project, target)
        os.utime(project / name, (later - 60, later - 60))


def test_the_demo_installs_torch_alone(project):
    said = would_run(project, "demo")
    assert "'.[torch]'" in said
    assert not re.search(r"tensorflow|flax|--group", said)


def test_ci_runs_check_and_test():
    script = (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "make check" in script
    assert "make test" in script
    assert "export CI=true" in script


def requirements():
    """Every requirement of the project file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras, groups = project["project"]["optional-dependencies"], project["dependency-groups"]
    lists = [project["project"]["dependencies"], *extras.values(), *groups.values()]
    return [Requirement(line) for line in itertools.chain.from_iterable(lists) if isinstance(line, str)]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_what_is_tested_is_what_is_allowed(requirement):
    pins = [
        Requirement(line)
        for line in (ROOT / "tests" / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    [pin] = [pin for pin in pins if canonicalize_name(pin.name) == canonicalize_name(requirement.name)]
    [version] = [specifier.version for specifier in pin.specifier if specifier.operator == "=="]
    assert requirement.specifier.contains(version)


# A missing framework


@pytest.fixture
def suite(tmp_path):
    """Tests that need jax, in a process that has none: one imports it, one asks for it, one needs nothing."""
    folder = tmp_path / "tests" / "flax"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests" / "conftest.py")
    (tmp_path / "no_jax.py").write_text("import sys\nsys.modules['jax'] = None\n")
    (folder / "test_imports.py").write_text("import jax\n\ndef test_it():\n    assert jax\n")
    asks = (
        "import pytest\n\ndef test_it():\n    pytest.importorskip('jax')\n\ndef test_nothing():\n    pass\n"
    )
    (folder / "test_asks.py").write_text(asks)
    return tmp_path


def outcome(suite, *, ci):
    environment = {key: value for key, value in os.environ.items() if key != "CI"}
    environment |= {"PYTHONPATH": str(suite), **({"CI": "true"} if ci else {})}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no_jax",
        "-q",
        "--import-mode=importlib",
        "--rootdir",
        ".",
    ]
    command += ["-c", "/dev/null", "tests"]
    done = subprocess.run(command, cwd=suite, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_a_missing_framework_skips_on_a_laptop(suite):
    code, said = outcome(suite, ci=False)
    assert code == 0, said
    assert "1 passed, 2 skipped" in said


def test_a_missing_framework_fails_in_ci(suite):
    (suite / "tests" / "flax" / "test_imports.py").unlink()
    code, said = outcome(suite, ci=True)
    assert code == 1, said
    assert "1 failed, 1 passed" in said
    assert "could not import 'jax'" in said


def test_a_module_that_cannot_be_imported_fails_in_ci(suite):
    code, said = outcome(suite, ci=True)
    assert code == 2, said
    assert "1 error" in said


def test_a_module_that_is_wrong_fails_on_a_laptop_too(suite):
    (suite / "tests" / "flax" / "test_imports.py").write_text("import a_module_that_nobody_has\n")
    code, said = outcome(suite, ci=False)
    assert code == 2, said
    assert "1 error" in said
