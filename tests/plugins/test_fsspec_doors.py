"""The fsspec plugin as a plugin: what it imports, claims and needs."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from install import run

import loadstone
from tests.packaging.layout import ROOT
from tests.packaging.test_layout import imports

PLUGIN = ROOT / "plugins" / "loadstone_fsspec"
SCHEMES = {"s3", "gs", "hf", "memory", "http", "https"}


def test_nothing_of_loadstone_but_its_public_doors_is_imported():
    doors = {"loadstone.errors", "loadstone.hookspecs", "loadstone.source"}
    for path in PLUGIN.rglob("*.py"):
        found = {module for _, module in imports(path) if module.split(".")[0] == "loadstone"}
        assert found <= doors, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "loadstone.source":
                assert {alias.name for alias in node.names} <= set(loadstone.source.__all__)


def test_it_claims_its_schemes_and_ships_in_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    entries = project["project"]["entry-points"]["loadstone"]
    assert {name for name, module in entries.items() if module == "loadstone_fsspec.plugin"} == {
        f"source.{scheme}" for scheme in SCHEMES
    }
    assert "plugins/loadstone_fsspec" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert any(one.startswith("fsspec") for one in project["project"]["optional-dependencies"]["fsspec"])
    from loadstone_fsspec.plugin import loadstone_sources

    assert {record.scheme for record in loadstone_sources()} == SCHEMES


def test_the_readme_of_the_plugins_names_each():
    text = (PLUGIN.parent / "README.md").read_text()
    for package in PLUGIN.parent.glob("loadstone_*"):
        assert f"`{package.name}`" in text


ABSENT = """
import sys
sys.modules[sys.argv[1]] = None
from loadstone.source import resolve
resolve(sys.argv[2])
"""


@pytest.mark.parametrize(
    ("module", "address"),
    [("fsspec", "memory://x"), ("s3fs", "s3://x/y"), ("aiohttp", "http://127.0.0.1:9/x")],
)
def test_without_its_libraries_the_error_names_the_extra(tmp_path, module, address):
    done = run(ABSENT, tmp_path, module, address, check=False)
    assert "SourceError: what reads this kind of address is not installed" in done.stderr
    assert "pip install 'loadstone[fsspec]'" in done.stderr
