"""A load looks once for a save that is half-done, and not again for the weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from loadstone import AutoModelForCausalLM
from loadstone.checkpoint.settled import settle
from loadstone.source import Snapshot, resolve
from tests.torch.tiny import model_of


def test_a_load_settles_its_snapshot_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_of("LlamaForCausalLM").save_pretrained(tmp_path)
    snapshot = resolve(tmp_path)
    settled: list[Snapshot] = []

    def counted(given: Snapshot) -> Any:
        if given is snapshot:  # and not the folder as it is after the load
            settled.append(given)
        return settle(given)

    for name, module in list(sys.modules.items()):
        if name.startswith("loadstone.") and getattr(module, "settle", None) is settle:
            monkeypatch.setattr(module, "settle", counted)
    AutoModelForCausalLM.from_pretrained(snapshot)
    assert len(settled) == 1
