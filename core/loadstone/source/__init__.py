"""Where checkpoints come from: a folder of this machine, a repository on the Hub, or where a plugin's scheme leads.

`resolve` turns what the user said into a `Snapshot`: an immutable list of files with their sizes, at one
commit, from which files are fetched and bytes are read.
"""

from loadstone.source.hub_errors import HubUnreachableError
from loadstone.source.lookup import resolve
from loadstone.source.names import safe_name
from loadstone.source.snapshot import Name, Snapshot, SourceFile

__all__ = ["HubUnreachableError", "Name", "Snapshot", "SourceFile", "resolve", "safe_name"]
