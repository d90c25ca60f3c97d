"""Finding formats: loadstone's own first, those of plugins only where none of its own is there."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Container, Iterator

from loadstone import plugins
from loadstone.checkpoint.formats.format import Format
from loadstone.errors import PluginError, logger_of
from loadstone.plugins.hookspecs import FormatRecord

logger = logger_of(__name__)


def formats_asked(use_safetensors: bool | None, from_pt: bool = False) -> tuple[str, ...] | None:
    """Return the names of the only formats that the arguments leave, None where they leave all."""
    if use_safetensors is None:
        return ("safetensors", "pickle") if from_pt else None
    return ("safetensors",) if use_safetensors else ("pickle",)


def formats(
    *, use_safetensors: bool | None = None, from_pt: bool = False
) -> Iterator[tuple[plugins.Claim, Format]]:
    """Yield who brings a format and the format, one at a time: a plugin is imported when its turn has come.

    One that cannot be made is passed over, with a warning.

    Args:
        use_safetensors: True yields safetensors alone, False pickles alone, None all.
        from_pt: Yield what PyTorch's users write alone.
    """
    alone = formats_asked(use_safetensors, from_pt)
    others = () if alone else plugins.other_formats()
    for claim, record in itertools.chain(plugins.built_in_formats(), others):
        if alone is not None and record.name not in alone:
            continue
        try:
            made = format_of(claim, record)
        except PluginError as error:
            logger.warning("passed over: %s", error)
            continue
        yield claim, made


def format_named(name: str) -> tuple[plugins.Claim, Format]:
    """Return who brings a format and the format.

    Args:
        name: "safetensors", or "toy@distribution" to choose between two claims.

    Raises:
        PluginError: If no plugin claims the name, two do, or the one that does is broken.
    """
    claim, record = plugins.format_record(name)
    return claim, format_of(claim, record)


def refuse_contested(files: Container[str], variant: str | None) -> None:
    """Refuse files that two plugins of one format's name would read: the caller chooses.

    Args:
        files: Names of all files of a checkpoint in which no other format has weights.
        variant: Part of the weights' names.

    Raises:
        PluginError: If there is such a format; it names all its claimants.
    """
    for name, askings in plugins.contested_formats():
        for asked in askings:
            with contextlib.suppress(PluginError):
                claim, format = format_named(asked)
                with plugins.answerable(claim, "fails to name its files"):
                    entries = format.weight_names(variant)
                if any(entry in files for entry in entries):
                    break
        else:
            continue
        plugins.format_record(name)  # whose error names both


def format_of(claim: plugins.Claim, record: FormatRecord) -> Format:
    """Return the format that a record names.

    Raises:
        PluginError: If it cannot be imported or made, or is something else.
    """
    with plugins.blamed(claim, f"offers {record.format!r}, which cannot be made"):
        made = plugins.load_attribute(record.format)()
    if not isinstance(made, Format):
        raise plugins.wrong_offer(
            claim, record.format, expected="a subclass of loadstone.checkpoint.formats.Format", found=made
        )
    return made
