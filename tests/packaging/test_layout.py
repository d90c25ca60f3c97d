"""How the code lies: which folders hold which packages, and who imports whom."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.layout import ROOT, SOURCES, packages

FRAMEWORKS = {"torch", "tensorflow", "keras", "tf_keras", "jax", "jaxlib", "flax", "transformers"}
TOP_LEVEL = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "pyproject.toml",
    "backends",
    "core",
    "docs",
    "plugins",
    "tests",
}


def test_only_our_packages_lie_in_the_folders_of_sources():
    """Anything else there is importable in development and absent from the wheel."""
    for source in SOURCES:
        for entry in (ROOT / source).glob("*"):
            if entry.name not in ("__pycache__", ".gitkeep", "README.md"):
                assert entry.is_dir(), entry
                assert entry.name.startswith("loadstone"), entry


def test_the_top_level_is_small():
    visible = {entry.name for entry in ROOT.iterdir() if not entry.name.startswith(".")}
    assert visible - {"build", "dist", "shared"} <= TOP_LEVEL


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and module of every import of a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            yield node.lineno, node.module or ""


ORACLE = ROOT / "core" / "loadstone" / "testing" / "oracle"
"""What asks transformers, in a process of its own: nothing of core imports it."""


@pytest.mark.parametrize("package", sorted(packages()))
def test_who_imports_whom(package):
    """Core imports no backend and no plugin, and no framework but to ask the oracle; a backend imports no other."""
    allowed = {"loadstone", package}
    forbidden = (set(packages()) - allowed) | (FRAMEWORKS if package == "loadstone" else set())
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in sorted(packages()[package].rglob("*.py"))
        for line, module in imports(path)
        if module.partition(".")[0] in forbidden and not path.is_relative_to(ORACLE)
    ]
    assert found == []


def test_only_the_command_line_imports_what_draws_it():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "core" / "loadstone").rglob("*.py"))
        if "cli" not in path.relative_to(ROOT).parts
        for line, module in imports(path)
        if module.partition(".")[0] in ("typer", "rich", "click")
    ]
    assert found == []


PREFIXES = {"loadstone_torch": "", "loadstone_flax": "Flax", "loadstone_tensorflow": "TF"}
ONLY_THERE = {("loadstone_tensorflow", "ResNetFlatten")}
"""Layers that a framework has none of its own for."""
FILES_ONLY_THERE = {(package, "blocks/away.py") for package in PREFIXES}
"""Files that each backend has in its own way: PyTorch brings what is on disk by its hooks, Flax in programs, TensorFlow in graphs too."""


def classes(package: str, file: Path) -> list[str]:
    """Return the names of a file's classes in order, without the backend's prefix."""
    found = [node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef)]
    return [name.removeprefix(PREFIXES[package]) for name in found if (package, name) not in ONLY_THERE]


def test_the_backends_lie_side_by_side():
    """The same files of blocks and models, and in each the same classes in the same order: who has read one can read the others."""
    told = {
        package: {
            name: classes(package, file)
            for file in sorted(
                [
                    packages()[package] / "heads.py",
                    *(packages()[package] / "blocks").glob("*.py"),
                    *(packages()[package] / "models").glob("*.py"),
                ]
            )
            if (package, name := f"{file.parent.name}/{file.name}".removeprefix(f"{package}/"))
            not in FILES_ONLY_THERE
        }
        for package in PREFIXES
    }
    assert told["loadstone_flax"] == told["loadstone_torch"]
    assert told["loadstone_tensorflow"] == told["loadstone_torch"]
