"""The command line: `loadstone demo`, `inspect`, `plan` and `plugins`."""

from loadstone.cli.app import main

__all__ = ["main"]
