"""A `.keras` file opens in a process that has imported nothing of ours but the backend."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import loadstone_tensorflow
from loadstone_tensorflow.framework import keras
from tests.tensorflow.small import IDS, classifier, decoder

OPEN = """
import importlib.util, sys
import loadstone_tensorflow
import numpy as np
assert importlib.util.find_spec("keras") is not None  # asking for it is no import
assert not {"tensorflow", "keras"} & set(sys.modules), "the backend alone imports no framework"
import keras
assert type(keras.__loader__).exec_module is keras.__loader__.exec_module.__func__
for file in sys.argv[2:]:
    model = keras.saving.load_model(file)
    np.save(file + ".npy", model(np.load(sys.argv[1]))["logits"])
    print(type(model).__module__, type(model).__name__)
"""


def test_a_fresh_process_opens_files(tmp_path: Path) -> None:
    held = {"bert.keras": classifier(), "llama.keras": decoder(), "around.keras": _around(classifier())}
    for name, model in held.items():
        model.save(tmp_path / name)
    np.save(tmp_path / "ids.npy", IDS)
    files = [str(tmp_path / name) for name in held]
    command = [sys.executable, "-c", OPEN, str(tmp_path / "ids.npy"), *files]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = [f"{type(model).__module__} {type(model).__name__}" for model in held.values()]
    assert done.stdout.splitlines() == expected
    for file, model in zip(files, held.values(), strict=True):
        np.testing.assert_array_equal(np.load(f"{file}.npy"), model(IDS)["logits"])


def test_keras_may_be_imported_first(monkeypatch: Any, tmp_path: Path) -> None:
    model = classifier()
    model.save(tmp_path / "model.keras")
    registered = keras.saving.get_custom_objects()
    for name in [name for name in registered if name.startswith("loadstone>")]:
        monkeypatch.delitem(registered, name)
    importlib.reload(loadstone_tensorflow)
    assert type(keras.saving.load_model(tmp_path / "model.keras")) is type(model)


def _around(model: keras.Model) -> keras.Model:
    """Return a model of Keras's own around one of ours."""
    ids = keras.Input((IDS.shape[1],), dtype="int32")
    return keras.Model(ids, {"logits": model(ids)["logits"]})
