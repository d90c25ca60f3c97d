"""Where checkpoints come from: a folder of this machine, a repository on the Hub, or where a plugin's scheme leads.

`resolve` turns what the user said into a `Snapshot`: an immutable list of files with their sizes, at one
commit, from which files are fetched and bytes are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadstone.lazily import lazily

if TYPE_CHECKING:
    from loadstone.source.hub_errors import HubUnreachableError
    from loadstone.source.lookup import resolve
    from loadstone.source.names import safe_name
    from loadstone.source.snapshot import Name, Snapshot, SourceFile

__all__ = ["HubUnreachableError", "Name", "Snapshot", "SourceFile", "resolve", "safe_name"]

# What loadstone claims to open is read before anything is opened.
_HOMES = {
    "HubUnreachableError": "loadstone.source.hub_errors",
    "resolve": "loadstone.source.lookup",
    "safe_name": "loadstone.source.names",
    "Name": "loadstone.source.snapshot",
    "Snapshot": "loadstone.source.snapshot",
    "SourceFile": "loadstone.source.snapshot",
}
__getattr__ = lazily(__name__, _HOMES)
