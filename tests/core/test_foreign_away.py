"""h5 and msgpack of a repository: planned from what describes their tensors, of which alone is fetched."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadstone.checkpoint.open import open_checkpoint
from loadstone.errors import CheckpointError, SourceError
from loadstone.source import resolve
from tests.foreign import H5, MSGPACK, write_h5, write_msgpack
from tests.pickled import held

TENSORS = {f"layer/model/part_{part}/kernel:0": np.full((512, 700), part, np.float32) for part in range(3)}
WRITERS = {H5: write_h5, MSGPACK: write_msgpack}


@pytest.fixture(params=WRITERS)
def file(request: pytest.FixtureRequest, tmp_path: Path, hub: Any) -> str:
    """Put one file of weights, whose name is returned, into the repository "org/foreign" and the folder "local"."""
    folder, name = tmp_path / "local", str(request.param)
    folder.mkdir()
    WRITERS[name](folder / name, TENSORS)
    hub.add_repo("org/foreign", {name: (folder / name).read_bytes(), "config.json": b"{}"})
    return name


def test_headers_alone_are_fetched(file: str, hub: Any, tmp_path: Path) -> None:
    index = open_checkpoint(resolve("org/foreign"))
    assert index == open_checkpoint(resolve(tmp_path / "local"))
    assert hub.bytes_sent(file) < (tmp_path / "local" / file).stat().st_size / 10
    for array in held("org/foreign").values():
        assert array.tobytes() == np.full((512, 700), array.flat[0], np.float32).tobytes()


def test_a_hub_that_sends_something_else_is_told(file: str, hub: Any) -> None:
    snapshot = resolve("org/foreign")
    hub.serve_instead("org/foreign", file, b"<!DOCTYPE html>")
    with pytest.raises((SourceError, CheckpointError)) as caught:
        open_checkpoint(snapshot)
    assert file in str(caught.value)
