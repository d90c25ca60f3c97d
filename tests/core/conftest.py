"""What the tests of the core share."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

from hub_fixture import hub  # noqa: F401

from loadstone.cli import main
from loadstone.source import hub_range


@pytest.fixture
def impatient(monkeypatch):
    """Let the second and third attempt of a range follow at once."""
    monkeypatch.setattr(hub_range, "PAUSE", 0.0)


@pytest.fixture
def call(capsys):
    """Return a function that runs a command line: words -> exit code, output, error output."""

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


@pytest.fixture
def call_json(call):
    """Return a function that runs a command line with --json: words -> what it printed, parsed."""

    def run(*words, code=0):
        found, out, err = call(*words, "--json")
        assert found == code, err
        return json.loads(out)

    return run
