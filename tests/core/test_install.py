"""One install: every way to a model goes through the same steps."""

import ast
from pathlib import Path

import loadstone

CORE = Path(loadstone.__file__).parent


def calls(name):
    """Return the files of core in which a backend's method of this name, or a class, is called."""
    found = set()
    for path in CORE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            on = ast.unparse(called.value) if isinstance(called, ast.Attribute) else ""
            if (on.endswith("backend") and called.attr == name) or getattr(called, "id", "") == name:
                found.add(path.relative_to(CORE).as_posix())
    return found


def test_models_are_filled_finished_and_looked_at_in_one_place():
    assert calls("finish") == calls("compute") == calls("Witness") == calls("draw") == {"load/install.py"}
    # A vocabulary that is resized is no load; nor is a parameter that is changed to see whether a proof notices.
    assert calls("tie") == {"load/install.py", "model/embeddings.py"}
    assert calls("put") == {*calls("tie"), "testing/mutation.py"}


def test_each_way_to_a_model_installs_it():
    ways = {"load/story.py", "load/create.py", "load/into.py", "model/convert.py"}
    assert calls("install") == ways
