"""Formats stand behind one door: nothing else of core says what the files of weights are called or hold."""

import re
from pathlib import Path

import loadstone

CORE = Path(loadstone.__file__).parent
FORMATS = CORE / "checkpoint" / "formats"
NAMED = re.compile(r"""["']safetensors["']|\.safetensors\b|(import|from) safetensors\b""")


def naming(root):
    """Return the modules that name the format, by their path below core."""
    return {
        path.relative_to(CORE).as_posix()
        for path in root.rglob("*.py")
        if NAMED.search(path.read_text("utf-8"))
    }


def test_no_module_outside_names_the_format():
    assert naming(CORE) == naming(FORMATS) != set()
