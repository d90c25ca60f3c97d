"""What any backend saves: the same bytes from each, which transformers opens with nothing missing or unexpected."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from loadstone.architectures import model_types
from loadstone.testing.cases import CASES
from tests.oracle import load

REPOSITORY = Path(__file__).parents[2]
BACKENDS = ("torch", "flax", "tensorflow")
NAMES = [case.name for case in CASES.values() if case.model_type in model_types()]


def run(who: str, out: Path) -> str:
    command = [sys.executable, "-m", "tests.together.saving", who, str(out), *NAMES]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("saved")
    for case in NAMES:
        load.folder(case)
    for backend in BACKENDS:
        run(backend, out / backend)
    return out


def sums(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("case", NAMES)
def test_every_backend_saves_the_same_bytes(case: str, saved: Path) -> None:
    expected = sums(saved / BACKENDS[0] / case)
    assert {"config.json", "model.safetensors"} <= expected.keys()
    for backend in BACKENDS[1:]:
        assert sums(saved / backend / case) == expected, backend


def test_transformers_opens_what_we_save(saved: Path) -> None:
    assert run("transformers", saved / "torch") == ""
