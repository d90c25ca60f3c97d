"""How one checkpoint takes another's place in a folder: all of it or nothing, wherever the power fails.

A save goes through these states. A kill leaves the folder in one of them, and each loads as one checkpoint,
its weights, config.json and generation_config.json all of the same save:

1. A staging folder `loadstone-save-<token>/` fills with the new files, under the names that they will have.
   Nothing looks into it: the folder is the old checkpoint. An error removes it; after a kill the next save does.
2. Every file in it has reached the disk, and so has its journal `switch.json`, which came by a rename. The journal
   names the new generation, the entry (the one file of weights, or the index of shards) and all new files. The entry in
   the folder is of another generation, or not there, so the folder still is the old checkpoint.
3. *The switch*: the entry is renamed from the staging folder into the folder, and the rename synced. From now
   on the journal counts, because the entry's own generation is the one that it names: each of its files is read
   from the staging folder if it is there, else from the folder, and a name that only the old checkpoint used
   (the other kind of entry, its shards, a generation config that the new one lacks) does not exist.
4. Tidying up, each step one system call that changes nothing of what 3 says: the old entry of the other kind goes;
   the files leave the staging folder, over old ones of the same name (a mapping of an old file lives on); stale
   shards go; the names are synced; the journal goes, and the empty staging folder.

`settle` shows a snapshot in state 3 or 4 as what it is. The next save into the folder first finishes the tidying.
Other files of the folder (tokenizer, README, another variant's weights) are not touched. The generation is a
digest of the new checkpoint's content, so that equal parameters give equal bytes; it stands in `__metadata__` of
each file of weights and in the index, whose shards must agree with it. When a foreign tool replaces the entry in
state 4, the entry's generation is gone and the staging folder no longer counts.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadstone.checkpoint.formats.names import is_weights, weight_names
from loadstone.checkpoint.formats.saved import generation_of
from loadstone.config.json_text import parse_json
from loadstone.source import Snapshot, SourceFile

JOURNAL = "switch.json"
CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"

MAX_JOURNAL = 100_000
"""Names that a journal may hold."""

STAGING = re.compile(r"loadstone-save-[0-9a-f]{16}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """The journal of one save.

    Attributes:
        generation: Of the new checkpoint.
        entry: The file whose rename is the switch.
        files: Names of all files of the new checkpoint.
        variant: Of the weights.
    """

    generation: str
    entry: str
    files: tuple[str, ...]
    variant: str | None = None

    def to_json(self) -> str:
        """Return the journal's text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Switch | None:
        """Return the switch that a journal describes; None if the text is no journal of ours."""
        try:
            values = parse_json(text, most=MAX_JOURNAL)
            switch = cls(
                generation=str(values["generation"]),
                entry=str(values["entry"]),
                files=tuple(map(str, values["files"])),
                variant=values["variant"] and str(values["variant"]),
            )
        except (ValueError, LookupError, TypeError):
            return None
        return switch if switch.entry in weight_names(switch.variant) else None

    def replaces(self, name: str) -> bool:
        """Return whether a file belongs to the checkpoint that this one replaces, and not to this one."""
        return name not in self.files and (name == GENERATION_CONFIG or is_weights(name, self.variant))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SettledSnapshot(Snapshot):
    """A snapshot of a folder in which a switch is half-done, seen as if it were finished.

    Attributes:
        below: The snapshot as it was listed.
        moved: Name -> where the file lies as long as the switch is half-done.
    """

    below: Snapshot
    moved: Mapping[str, str]

    def _bring(self, files: Sequence[SourceFile]) -> Sequence[Path]:
        places = [self.moved.get(file.name, file.name) for file in files]
        brought = self.below.fetch(places)
        return [brought[place] for place in places]

    @property
    def reads_at_once(self) -> int:
        """As of the snapshot below."""
        return self.below.reads_at_once

    def _read_into(self, file: SourceFile, offset: int, buffers: Sequence[memoryview]) -> None:
        self.below.read_into(self.moved.get(file.name, file.name), offset, buffers)

    def _check(self, file: SourceFile) -> None:
        self.below.check_unchanged([self.moved.get(file.name, file.name)])

    def _read(self, file: SourceFile, offset: int, length: int) -> bytes:
        return self.below.read_range(self.moved.get(file.name, file.name), offset, length)


def settle(snapshot: Snapshot) -> Snapshot:
    """Return a snapshot in which no switch is half-done: the same one, or a view of it. Nothing is written.

    Call it once, before anything is read: config.json and the weights are then of the same save.

    Raises:
        SourceError: If a file that has to be looked at cannot be read.
    """
    for staging in {name.split("/")[0] for name in snapshot.files if name.endswith(f"/{JOURNAL}")}:
        switch = pending(snapshot, staging)
        if switch is not None:
            return _finished(snapshot, staging, switch)
    return snapshot


def pending(snapshot: Snapshot, staging: str) -> Switch | None:
    """Return the switch of a staging folder if it has happened and is not tidied up yet."""
    journal = f"{staging}/{JOURNAL}"
    if not STAGING.fullmatch(staging) or not snapshot.has(journal):
        return None
    switch = Switch.from_json(snapshot.read_text(journal))
    if switch is None or generation_of(snapshot, switch.entry) != switch.generation:
        return None
    return switch


def _finished(snapshot: Snapshot, staging: str, switch: Switch) -> SettledSnapshot:
    moved = {name: place for name in switch.files if snapshot.has(place := f"{staging}/{name}")}
    files = {
        name: file
        for name, file in snapshot.files.items()
        if not switch.replaces(name) and not is_staging(name)
    }
    files |= {name: dataclasses.replace(snapshot.files[place], name=name) for name, place in moved.items()}
    return SettledSnapshot(
        location=snapshot.location,
        commit=snapshot.commit,
        root=snapshot.root,
        files=dict(sorted(files.items())),
        below=snapshot,
        moved=moved,
    )


def is_staging(name: str) -> bool:
    """Return whether a name is that of a staging folder, or of something in one."""
    return STAGING.fullmatch(name.split("/")[0]) is not None
