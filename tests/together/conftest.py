"""These tests need every framework in one process, or several processes that meet."""

import sys
from pathlib import Path

from tests.xla import DIRECT, UNOPTIMISED, told

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))
from hub_fixture import hub

told(DIRECT, UNOPTIMISED)

__all__ = ["hub"]
