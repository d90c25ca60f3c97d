"""What the tests of the PyTorch backend share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

from hub_fixture import hub  # noqa: F401
