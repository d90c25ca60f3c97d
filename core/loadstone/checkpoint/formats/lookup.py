"""Finding formats: loadstone's own first, those of plugins only where none of its own is there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from loadstone import plugins
from loadstone.checkpoint.formats.format import Format
from loadstone.errors import PluginError, logger_of
from loadstone.plugins.hookspecs import FormatRecord

logger = logger_of(__name__)


def formats(*, use_safetensors: bool | None = None) -> Iterator[tuple[plugins.Claim, Format]]:
    """Yield who brings a format and the format, one at a time: a plugin is imported when its turn has come.

    One that cannot be made is passed over, with a warning.

    Args:
        use_safetensors: True yields safetensors alone, False pickles alone, None all.
    """
    alone = None if use_safetensors is None else "safetensors" if use_safetensors else "pickle"
    others = () if alone else plugins.other_formats()
    for claim, record in itertools.chain(plugins.built_in_formats(), others):
        if alone not in (None, record.name):
            continue
        try:
            made = format_of(claim, record)
        except PluginError as error:
            logger.warning("passed over: %s", error)
            continue
        yield claim, made


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
