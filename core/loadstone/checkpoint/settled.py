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
each file of weights and in the index, whose shards must agree with it. Formats other than ours for safetensors have no
place for it: of these the journal holds the entry's sum, which is taken anew where a switch is half-done. When a foreign tool replaces the entry in
state 4, the entry's generation is gone and the staging folder no longer counts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadstone.checkpoint.formats.format import Format
from loadstone.checkpoint.formats.lookup import format_named
from loadstone.checkpoint.formats.names import DEFAULT
from loadstone.checkpoint.formats.saved import generation_of
from loadstone.config.json_text import parse_json
from loadstone.errors import PluginError
from loadstone.source import Snapshot, SourceFile

JOURNAL = "switch.json"
CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"

MAX_JOURNAL = 100_000
"""Names that a journal may hold."""

_BLOCK = 8 * 1024 * 1024

STAGING = re.compile(r"loadstone-save-[0-9a-f]{16}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """The journal of one save.

    Attributes:
        generation: Of the new checkpoint.
        entry: The file whose rename is the switch.
        files: Names of all files of the new checkpoint.
        variant: Of the weights.
        format: Of the weights, as the format is claimed.
        sum: SHA-256 of the entry, where it does not note its generation itself; else "".
    """

    generation: str
    entry: str
    files: tuple[str, ...]
    variant: str | None = None
    format: str = DEFAULT
    sum: str = ""

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
                format=str(values.get("format", DEFAULT)),
                sum=str(values.get("sum", "")),
            )
            return switch if switch.entry in switch.entries else None
        except (ValueError, LookupError, TypeError, AttributeError, PluginError):
            return None

    @property
    def entries(self) -> tuple[str, ...]:
        """The names under which a load looks for weights of this kind; the entry's, where they may have any."""
        return self._written.weight_names(self.variant) or (self.entry,)

    @property
    def _written(self) -> Format:
        return format_named(self.format)[1]

    def replaces(self, name: str) -> bool:
        """Return whether a file belongs to the checkpoint that this one replaces, and not to this one.

        Where weights may have any name, each file of them is a checkpoint by itself.
        """
        if name in self.files:
            return False
        named = bool(self._written.weight_names(self.variant))
        return name == GENERATION_CONFIG or (named and self._written.is_weights(name, self.variant))


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
    return switch if switch is not None and _has_happened(snapshot, staging, switch) else None


def _has_happened(snapshot: Snapshot, staging: str, switch: Switch) -> bool:
    """Return whether the entry in the folder is the one that a switch brings."""
    if not switch.sum:
        return generation_of(snapshot, switch.entry) == switch.generation
    if snapshot.has(f"{staging}/{switch.entry}") or not snapshot.has(switch.entry):
        return False
    return _sum_of(snapshot, switch.entry) == switch.sum


def _sum_of(snapshot: Snapshot, name: str) -> str:
    digest, size = hashlib.sha256(), snapshot.file(name).size
    for start in range(0, size, _BLOCK):
        digest.update(snapshot.read_range(name, start, min(_BLOCK, size - start)))
    return digest.hexdigest()


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
