"""Imports of core run one way: no module, and no folder of modules, needs another that needs it."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import loadstone

CORE = Path(loadstone.__file__).parent
DOORS = {
    "loadstone",
    "loadstone.hookspecs",
    "loadstone.pretrained",
    "loadstone.outputs",
    "loadstone.generation",
}
"""Public names for what stands elsewhere: they look everything up when asked, and nothing of core stands on them."""


def modules() -> dict[str, ast.Module]:
    """Return module -> its source, for all of core."""
    found = {}
    for path in CORE.rglob("*.py"):
        name = ".".join(("loadstone", *path.relative_to(CORE).with_suffix("").parts))
        found[name.removesuffix(".__init__")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(trees: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Return module -> the modules of core that it imports anywhere: at its top, in a function, or for types."""
    graph: dict[str, set[str]] = {}
    for module, tree in trees.items():
        needed = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{module} has a relative import"
                names = (f"{node.module}.{alias.name}" for alias in node.names)
                needed |= {name if name in trees else str(node.module) for name in names}
            elif isinstance(node, ast.Import):
                needed |= {alias.name for alias in node.names}
        graph[module] = (needed & trees.keys()) - DOORS - {module}
    return graph


def folders(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return the same between the folders of core; a module that lies in none stands for itself."""

    def folder(module: str) -> str:
        return ".".join(module.split(".")[:2])

    found: dict[str, set[str]] = {}
    for module, needed in graph.items():
        found.setdefault(folder(module), set()).update(map(folder, needed))
    return {name: needed - {name} for name, needed in found.items() if name not in DOORS}


def circles(graph: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """Yield the circles in which each name needs the next one and the last the first."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> Iterator[list[str]]:
        if name in path:
            yield [*path[path.index(name) :], name]
        elif name not in done:
            for needed in sorted(graph.get(name, ())):
                yield from visit(needed, [*path, name])
            done.add(name)

    for name in sorted(graph):
        yield from visit(name, [])


def test_no_module_needs_one_that_needs_it():
    assert list(circles(imports(modules()))) == []


def test_no_folder_needs_one_that_needs_it():
    assert list(circles(folders(imports(modules())))) == []


@pytest.mark.parametrize(
    "needs", [{"a": {"b"}, "b": {"a"}}, {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}}]
)
def test_the_search_for_circles_finds_them(needs):
    assert list(circles(needs))


def test_the_search_sees_imports_in_functions_and_for_types():
    source = "def f():\n    from loadstone.a import b\nif TYPE_CHECKING:\n    import loadstone.c\n"
    trees = {"loadstone.x": ast.parse(source), "loadstone.a": ast.parse(""), "loadstone.c": ast.parse("")}
    assert imports(trees)["loadstone.x"] == {"loadstone.a", "loadstone.c"}
