"""The command line, run in a process of its own."""

import subprocess
import sys


def apart(*words, path=None):
    """Run a command line in a process of its own."""
    environment = {"PATH": "/usr/bin:/bin"} | ({"PYTHONPATH": str(path)} if path else {})
    command = [sys.executable, "-m", "loadstone", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
