"""An interrupted load ends: no thread of it reads on, no file stays open, and the next load is whole."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loadstone import LlamaForCausalLM
from loadstone.read import engine, pieces
from loadstone_torch.backend import TorchBackend
from tests.torch.tiny import same, state


@pytest.fixture(autouse=True)
def listening() -> Iterator[None]:
    """Python leaves the signal alone where whoever started it does, as a shell does for what runs in the background."""
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, kept)


def in_put(monkeypatch: Any) -> None:
    put = TorchBackend.put

    def interrupted(*arguments: Any) -> None:
        monkeypatch.undo()
        put(*arguments)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(TorchBackend, "put", interrupted)


def in_read(monkeypatch: Any) -> None:
    fill = engine._fill

    def interrupted(*arguments: Any) -> None:
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGINT)
        fill(*arguments)

    monkeypatch.setattr(engine, "_fill", interrupted)
    monkeypatch.setattr(pieces, "PIECE", 256)  # many pieces are on their way


def open_files(folder: Path) -> list[str]:
    held = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [path for path in held if path.startswith(str(folder))]


@pytest.mark.parametrize("interrupt", [in_put, in_read])
def test_nothing_of_an_interrupted_load_is_left(
    interrupt: Callable[[Any], None], folder: Path, monkeypatch: Any
) -> None:
    expected = state(LlamaForCausalLM.from_pretrained(folder))
    with pytest.raises(KeyboardInterrupt) as caught:
        interrupt(monkeypatch)
        LlamaForCausalLM.from_pretrained(folder, read="copy")
    # The error still holds the frames of the load, as it does at a prompt.
    assert caught.value.__traceback__ is not None
    reading = [thread for thread in threading.enumerate() if thread.name.startswith("loadstone")]
    for thread in reading:
        thread.join(5)  # Python may be interrupted while it starts one, which then ends by itself
    assert not [thread.name for thread in reading if thread.is_alive()]
    assert not open_files(folder)
    assert same(state(LlamaForCausalLM.from_pretrained(folder, read="copy")), expected)
