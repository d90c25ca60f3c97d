"""transformers 4 beside the environment's transformers 5: `python tests/oracle/transformers4.py` installs it.

It goes into .peers/transformers4 without its dependencies and shares the environment's torch and numpy; a process that
finds that folder first on its path imports it in place of transformers 5.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from loadstone.testing import store

TRANSFORMERS4 = ("transformers==4.56.2", "huggingface_hub==0.36.2", "tokenizers==0.22.2")
"""The second saver: installed beside the environment, without dependencies; it shares the environment's torch."""

PEER = Path(__file__).parents[2] / ".peers" / "transformers4"


def install() -> Path:
    """The folder with transformers 4; installed when it is absent or holds other versions."""
    mark = PEER / "installed.txt"
    wanted = "\n".join(TRANSFORMERS4)
    with store.locked(PEER.parent):
        if not (mark.exists() and mark.read_text() == wanted):
            shutil.rmtree(PEER, ignore_errors=True)
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(PEER)]
            subprocess.run([*command, *TRANSFORMERS4], check=True)
            mark.write_text(wanted)
    return PEER


def environment() -> dict[str, str]:
    """The variables of a process that imports transformers 4, and of its frameworks torch alone."""
    paths = [str(install()), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "USE_TF": "0", "USE_FLAX": "0"}


if __name__ == "__main__":
    print(install())
