"""Without Keras 3 on TensorFlow there is an error that says what to set or install, and nothing is set for the user."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ASK = """
import os, sys
from loadstone.errors import LoadstoneError
KERAS = ("KERAS_BACKEND", "KERAS_HOME", "TF_USE_LEGACY_KERAS")
before = [os.environ.get(name) for name in KERAS]
try:
    import loadstone
    loadstone.TFLlamaModel
except LoadstoneError as error:
    print(type(error).__name__, error, sep="\\n")
assert [os.environ.get(name) for name in KERAS] == before
assert "loadstone_tensorflow.models" not in sys.modules
"""


def ask(paths: list[Path] | None = None, **environment: str) -> str:
    """Return what a new process answers that asks for a TensorFlow class."""
    done = subprocess.run(
        [sys.executable, *(["-S"] if paths else []), "-c", ASK],
        env={
            **{name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"},
            **environment,
            **({"PYTHONPATH": os.pathsep.join(map(str, paths))} if paths else {}),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("backend", ["jax", "torch", "numpy"])
def test_another_backend_of_keras_is_named_before_it_is_imported(backend: str) -> None:
    said = ask(KERAS_BACKEND=backend)
    assert said.startswith("BackendError") and f"found: {backend}" in said
    assert "KERAS_BACKEND=tensorflow" in said


def test_another_backend_in_the_file_of_keras_is_named(tmp_path: Path) -> None:
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "numpy", "floatx": "float32"}))
    said = ask(KERAS_HOME=str(tmp_path))
    assert said.startswith("BackendError") and "found: numpy" in said and "keras.json" in said


def test_keras_2_in_place_of_tf_keras_is_named() -> None:
    said = ask(TF_USE_LEGACY_KERAS="1")
    assert said.startswith("BackendError") and "unset it" in said and "TF_USE_LEGACY_KERAS" in said


def packages_without(name: str, folder: Path) -> list[Path]:
    """Return import paths with everything that is installed here but one package."""
    folder.mkdir()
    for path in map(Path, sys.path):
        if path.name == "site-packages":
            for entry in path.iterdir():
                if entry.name != name and not (folder / entry.name).exists():
                    (folder / entry.name).symlink_to(entry)
    repository = Path(__file__).parents[2]
    return [folder, repository / "core", repository / "backends"]


def test_without_tensorflow_the_install_command_is_named(tmp_path: Path) -> None:
    said = ask(packages_without("tensorflow", tmp_path / "packages"))
    assert said.startswith("MissingFrameworkError") and "pip install 'loadstone[tensorflow]'" in said


def test_an_old_keras_is_named(tmp_path: Path) -> None:
    packages = packages_without("keras", tmp_path / "packages")
    old = tmp_path / "packages" / "keras"
    old.mkdir()
    (old / "__init__.py").write_text('__version__ = "2.15.0"\n')
    said = ask(packages)
    assert said.startswith("MissingFrameworkError") and "keras 2.15.0" in said and "keras>=3.8" in said
