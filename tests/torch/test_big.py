"""Memory of whole loads, in processes of their own: the programs of `tests.benchmarks.big` on a small checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks import big, checkpoints
from tests.benchmarks.checkpoints import Generated

WIDE = Generated(
    name="llama-450m-sparse", layers=10, hidden=1536, intermediate=5632, heads=12, kv_heads=4, vocabulary=16000,
    shard=200 << 20, sparse=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.make(WIDE, tmp_path_factory.mktemp("big"))


AGAIN = """
import copy
try:
    copy.deepcopy(loaded)
except (MemoryError, RuntimeError):
    print(json.dumps({"peak": peak, "limit": limit, "base": base, "second": False}))
"""


def test_a_load_needs_no_more_than_the_model_and_a_tenth(wide: Path) -> None:
    code = f'{big.OURS}import loadstone, numpy\n{big.LIMIT}peak = held("VmData")\n{AGAIN}'
    found = big.ran(code, wide, json.dumps({"read": "copy"}))
    assert found["peak"] < found["limit"] < found["base"] + 1.11 * WIDE.nbytes
    assert found["second"] is False, "a second copy does not fit below the limit"


def test_processes_that_map_a_checkpoint_hold_it_once(wide: Path) -> None:
    found = big.sizes(wide, 2)
    mapped = sum(one["file"] - one["base"] for one in found)
    assert WIDE.nbytes * 0.9 < mapped < WIDE.nbytes * 1.1
