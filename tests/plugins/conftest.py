"""The example plugin is installed for this process too: its backend, "plain", computes in numpy alone."""

import atexit
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "hub")]

from hub_fixture import hub  # noqa: F401
from install import EXAMPLE, install

SITE = Path(tempfile.mkdtemp(prefix="loadstone-example-"))
atexit.register(shutil.rmtree, SITE, ignore_errors=True)
install(SITE, "loadstone-example", EXAMPLE)
sys.path.insert(0, str(SITE))
