"""Every error that loadstone raises on purpose: one tree, one way of writing a message.

A message answers, in this order and in at most 15 lines: what went wrong, where (file, key), what was
expected, what was found, and what to do next.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import reprlib
from collections.abc import Iterable, Iterator, Sequence

MAX_LINES = 15
MAX_LINE = 600


class LoadstoneError(Exception):
    """The root of the tree: catch it to catch everything that loadstone raises on purpose.

    Args:
        what: One sentence that says what went wrong.
        where: The file, repository, key or argument concerned.
        expected: What would have been right.
        found: What was there instead.
        problems: One line per problem, where several were collected; cut so that the message fits.
        hint: The next step, as an instruction.
    """

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        found: object = None,
        problems: Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.found = found
        self.problems = tuple(problems)
        self.hint = hint
        super().__init__(self._render())

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the keyword arguments, so that errors cross process boundaries whole."""
        facts = (self.where, self.expected, self.found, self.problems, self.hint)
        return _rebuild, (type(self), self.what, *facts)

    def _render(self) -> str:
        lines = [_one_line(self.what)]
        facts = (("where", self.where), ("expected", self.expected), ("found", self.found))
        lines += [f"  {label}: {_one_line(value)}" for label, value in facts if value is not None]
        room = MAX_LINES - len(lines) - (self.hint is not None)
        shown = self.problems if len(self.problems) <= room else self.problems[: room - 1]
        lines += [f"  - {_one_line(problem)}" for problem in shown]
        if len(shown) < len(self.problems):
            lines.append(f"  ... and {len(self.problems) - len(shown)} more (see `.problems` on this error)")
        if self.hint is not None:
            lines.append(f"  next: {_one_line(self.hint)}")
        return "\n".join(lines)


def _one_line(value: object) -> str:
    """Return a fact as one line of bounded length: a file may have brought it."""
    text = plain(" ".join(str(value).splitlines()))
    return text if len(text) <= MAX_LINE else f"{text[: MAX_LINE // 2]} ... {text[-MAX_LINE // 2 :]}"


def _rebuild(
    cls: type[LoadstoneError],
    what: str,
    where: object,
    expected: object,
    found: object,
    problems: Sequence[str],
    hint: str | None,
) -> LoadstoneError:
    return cls(what, where=where, expected=expected, found=found, problems=problems, hint=hint)


class ArgumentError(LoadstoneError, TypeError):
    """The caller passed an argument that is unknown, or that has no meaning here."""


class ConfigError(LoadstoneError, ValueError):
    """A configuration is missing, unreadable, or says something impossible."""


class UntrustedCodeError(ConfigError):
    """A checkpoint needs code of its author, and the caller did not say that it may run."""


class ArchitectureError(LoadstoneError, ValueError):
    """No architecture, or no task head of it, answers to what was asked for."""


class NoConfigError(ConfigError, OSError):
    """There is no config.json; transformers' callers catch an OSError there."""


class SourceError(LoadstoneError, OSError):
    """A folder, repository, revision or file could not be found or fetched."""


class CheckpointError(LoadstoneError, ValueError):
    """The bytes of a checkpoint are not what their format says."""


class NoWeightsError(CheckpointError, OSError):
    """There are no weights, or none that are read here; transformers' callers catch an OSError there."""


class MatchError(LoadstoneError, ValueError, RuntimeError):
    """The tensors of a checkpoint and the parameters of a model do not fit; transformers' callers catch a RuntimeError."""


class PlacementError(LoadstoneError, ValueError):
    """A device map asks for a device that is not there, or that cannot hold its part."""


class OutOfMemoryError(LoadstoneError, MemoryError):
    """There is less memory than a model, or a part of it, needs."""


class ChangedFileError(LoadstoneError, RuntimeError):
    """A file changed while the model was being loaded from it."""


class BackendError(LoadstoneError, RuntimeError):
    """A backend is missing, broken, or left something unfinished."""


class MissingFrameworkError(BackendError, ImportError):
    """The framework of a backend is not installed."""


class PluginError(LoadstoneError, RuntimeError):
    """Two plugins claim one name, or the plugin that was asked for cannot be imported."""


def plain(value: object, *, keep: str = "") -> str:
    """Return a text with every control character spelt out: what a file says must not steer a terminal or a log.

    Every message, warning, report and view goes through it.

    Args:
        value: The text, or what has one.
        keep: Characters to leave as they are.

    Example:
        >>> plain("\\x1b[2Jmodel.weight")
        '\\\\x1b[2Jmodel.weight'
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def logger_of(name: str) -> logging.Logger:
    """Return the logger of a module of ours; whatever is put into its messages is spelt out by `plain`.

    Args:
        name: The module's `__name__`.
    """
    logger = logging.getLogger(name)
    if _spell_out not in logger.filters:
        logger.addFilter(_spell_out)
    return logger


def _spell_out(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        # Numbers stay what they are, for `%d`; an error of ours has spelt its message out already.
        kept = (int, float, LoadstoneError)
        record.args = tuple(arg if isinstance(arg, kept) else plain(arg) for arg in record.args)
    return True


def human_bytes(number: int) -> str:
    """Return a number of bytes for people, in decimal units.

    Example:
        >>> human_bytes(2_200_000_000), human_bytes(17)
        ('2.2 GB', '17 B')
    """
    size = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def out_of_memory(what: str, *, asked: int | None = None, found: str | None = None) -> OutOfMemoryError:
    """Make the error for memory that the system does not give.

    Args:
        what: What it is for, e.g. "for a tensor".
        asked: Bytes that were asked for, where that is known.
        found: What there is, where that is known.
    """
    return OutOfMemoryError(
        f"there is not enough memory {what}",
        expected=None if asked is None else f"{human_bytes(asked)} ({asked:,} bytes)",
        found=found or "the machine's memory, or a limit of this process such as `ulimit -v`, is used up",
        hint="free memory, raise the limit, or take a smaller model or a smaller dtype=",
    )


@contextlib.contextmanager
def memory_told(what: str, *, asked: int | None = None) -> Iterator[None]:
    """Turn Python's MemoryError into one that says what the memory was for, and how much was asked.

    Args:
        what: As in `out_of_memory`.
        asked: As there; without it, the error's own words are told.

    Raises:
        OutOfMemoryError: If memory runs out inside.
    """
    try:
        yield
    except OutOfMemoryError:
        raise
    except MemoryError as error:
        raise out_of_memory(what, asked=asked, found=str(error) or None) from error


def counted(number: int, noun: str) -> str:
    """Return a number of things in words.

    Example:
        >>> counted(1, "problem"), counted(2, "problem")
        ('1 problem', '2 problems')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def nearest(name: str, known: Iterable[str], *, limit: int = 3, cutoff: float = 0.6) -> str | None:
    """Return "did you mean a, b or c?" for the known names nearest to `name`, or None.

    Args:
        name: What was said.
        known: What could have been meant.
        limit: How many names to return at most.
        cutoff: How alike they must be, from 0 to 1; long names are alike by chance.

    Example:
        >>> nearest("num_lables", ["num_labels", "revision"])
        'did you mean num_labels?'
    """
    matches = difflib.get_close_matches(name, sorted(set(known)), n=limit, cutoff=cutoff)
    if not matches:
        return None
    listed = matches[0] if len(matches) == 1 else f"{', '.join(matches[:-1])} or {matches[-1]}"
    return f"did you mean {listed}?"


def shown(value: object) -> str:
    """Return a value from a file as it may stand in a message: quoted, on one line, and short."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120
