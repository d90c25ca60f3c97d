"""What weights are written as: a format that can be written, chosen by name before anything is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from loadstone import plugins
from loadstone.checkpoint.formats.format import Format
from loadstone.checkpoint.formats.lookup import format_named
from loadstone.checkpoint.formats.safetensors_writer import LAYOUTS, Aligned
from loadstone.checkpoint.formats.sharded import Safetensors
from loadstone.checkpoint.formats.writer import Writer
from loadstone.errors import ArgumentError, SourceError

NAMES = {"bin": "pickle"}
"""What users call a format -> how it is claimed."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A format that is written.

    Attributes:
        name: What the user calls it.
        claim: How it is claimed.
        format: What it reads.
        writer: What it writes.
    """

    name: str
    claim: str
    format: Format
    writer: Writer

    @property
    def hint(self) -> str:
        """What to do where it cannot hold something."""
        wide = ' dtype="float32" makes floats fit;' if self.claim == "h5" else ""
        return f'{wide} format="safetensors" holds everything'.strip()

    def refuse_shadowed(self, folder: Path, variant: str | None) -> None:
        """Refuse to write beside weights that a load would take in the place of these.

        Raises:
            SourceError: If the folder holds such weights.
        """
        for name in _before(self.claim, variant):
            if (folder / name).exists():
                raise SourceError(
                    f"the folder holds weights of another format, which loads would take before {self.name}",
                    where=folder,
                    found=name,
                    hint="name another folder, or remove those weights first",
                )


def _before(claim: str, variant: str | None) -> Iterator[str]:
    """Yield the names of weights that are looked for before those of a format."""
    for record in plugins.built_in_formats():
        if record[1].name == claim:
            return
        yield from format_named(record[1].name)[1].weight_names(variant)


PREFERRED = Target(name="safetensors", claim="safetensors", format=Safetensors(), writer=Aligned())
"""What is written where the user names no format."""


def target_named(name: str, layout: str = "aligned") -> Target:
    """Return the format of a name, if it can be written.

    Args:
        name: "safetensors", "bin", "h5", "msgpack", or what a plugin claims, with one of its varieties: "gguf-f16".
        layout: Of safetensors: "aligned" is ours, "torch" is that of the safetensors library.

    Raises:
        ArgumentError: If there is no such format or layout, or the format is only read.
        PluginError: If two plugins claim it, or the one that does is broken.
    """
    if layout not in LAYOUTS or (layout != "aligned" and name != "safetensors"):
        raise ArgumentError(
            f"layout={layout!r} is none that {name} has",
            expected=" or ".join(f'"{one}"' for one in (LAYOUTS if name == "safetensors" else ["aligned"])),
        )
    if name == "safetensors":
        return dataclasses.replace(PREFERRED, writer=LAYOUTS[layout]())
    claim, variety = _parted(NAMES.get(name, name))
    _, format = format_named(claim)
    writer = format.writer_of(variety) if variety else format.writer()
    if writer is None:
        known = [record.name for _, record in plugins.built_in_formats()]
        writable = [one for one in known if format_named(one)[1].writer() is not None]
        own = [f"{claim}-{one}" for one in format.varieties]
        raise ArgumentError(
            f"the format {name!r} is {'none that can be written' if own else 'read, and not written'}",
            expected=" or ".join(own or writable),
        )
    return Target(name=name, claim=claim, format=format, writer=writer)


def _parted(name: str) -> tuple[str, str]:
    """Return how a format is claimed, and which of its varieties is asked for: of "gguf-f16@owner" "gguf@owner" and "f16"."""
    stem, at, owner = name.partition("@")
    format, _, variety = stem.partition("-")
    if not variety or stem in plugins.claims_of("format"):
        return name, ""
    return f"{format}{at}{owner}", variety
