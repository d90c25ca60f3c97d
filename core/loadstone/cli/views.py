"""What the commands show on a terminal. Quiet by rule: colour only where something is to be looked at."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from loadstone.errors import human_bytes, plain
from loadstone.planning.fold import fold
from loadstone.source.snapshot import summary

if TYPE_CHECKING:
    from loadstone.checkpoint.digest import Verification
    from loadstone.cli.demo import Demo, Run, Written
    from loadstone.cli.examine import Examined
    from loadstone.cli.inspect import Inspection, Problem, TensorGroup
    from loadstone.errors import LoadstoneError
    from loadstone.load.report import LoadReport
    from loadstone.save.convert import Conversion

PIPED_WIDTH = 200
"""Columns where the output is no terminal, so that nothing is folded that another program reads."""

TEXT_WIDTH = 88
"""Columns that running text fills at most."""

PIPED_HEIGHT = 50
"""Rows of what fits a screen, where the output is no terminal."""

MAX_FILES, MAX_PROBLEMS, MAX_NAMES = 6, 8, 6
"""Files, problems and names of other files that an inspection shows, so that the tensors too fit the screen."""

STATE_STYLES = {
    "new": "yellow",
    "unused": "yellow",
    "note:": "yellow",
    "cast": "cyan",
    "broken": "red",
    "unusable": "red",
    "damaged": "red",
    "absent": "red",
}


def console(*, stderr: bool = False) -> Console:
    """Return a console on the streams as they are now."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPED_WIDTH
    return Console(file=stream, width=width, highlight=False)


def show_error(error: LoadstoneError) -> None:
    """Print an error's message, and nothing else, on the error stream."""
    what, _, rest = plain(error, keep="\n").partition("\n")
    text = Text.assemble((what, "bold red"), "\n" if rest else "", rest)
    console(stderr=True).print(text, soft_wrap=True)


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show on a terminal that something takes its time."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield
        return
    with screen.status(f"[dim]{what}[/dim]", spinner="dots", spinner_style="dim"):
        yield


def show_report(report: LoadReport) -> None:
    """Print a plan: the report's own table, with what is to be looked at in colour."""
    screen = console()
    for number, line in enumerate(plain(report, keep="\n").split("\n")):
        state = line.split(maxsplit=1)[0] if line.strip() else ""
        style = "bold" if number == 0 else "dim" if number == 2 else STATE_STYLES.get(state, "")
        screen.print(Text(line, style=style), soft_wrap=True)


def show_conversion(done: Conversion) -> None:
    """Print what a conversion did."""
    screen = console()
    for line in plain(done, keep="\n").split("\n"):
        screen.print(Text(line, style=STATE_STYLES.get(line.split(maxsplit=1)[0], "")), soft_wrap=True)


def show_inspection(found: Inspection, *, every: bool) -> None:
    """Print an inspection, of at most a screen unless every tensor is asked for."""
    screen = console()
    above = [_facts(found), _file_table(found, every=every)]
    below = min(len(found.problems), MAX_PROBLEMS) + len(found.notes) + 6
    height = screen.height if screen.is_terminal else PIPED_HEIGHT
    room = height - sum(table.row_count + 2 for table in above) - below
    screen.print()
    _title(screen, found.location, f"commit {found.commit[:8]}" if found.commit else "")
    for table in (*above, _tensor_table(found, every=every, room=max(room, 8))):
        _block(screen, table)
    _problems(screen, found)


def _title(screen: Console, title: str, aside: str = "") -> None:
    screen.print(
        Text.assemble("  ", (plain(title), "bold"), (f"  {aside}" if aside else "", "dim")), soft_wrap=True
    )
    screen.print()


def _block(screen: Console, table: Table) -> None:
    if table.row_count:
        _print(screen, Padding.indent(table, 2))
        screen.print()


def _print(screen: Console, block: RenderableType, width: int | None = None) -> None:
    """Print a block without the blanks with which rich fills its lines."""
    with screen.capture() as captured:
        screen.print(block, width=width)
    screen.file.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _table(*columns: str) -> Table:
    """Return a table without lines; a column whose name ends in ">" is aligned to the right."""
    table = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_header=any(columns)
    )
    for column in columns:
        table.add_column(column.removesuffix(">"), justify="right" if column.endswith(">") else "left")
    return table


def _facts(found: Inspection) -> Table:
    table = _table("", "")
    rows = {
        "model": _model(found.config or {}),
        "config": _sizes(found),
        "weights": _weights(found),
        "dtypes": ", ".join(f"{dtype} {human_bytes(size)}" for dtype, size in found.dtypes().items()),
        "aliases": ", ".join(f"{name} = {stored}" for name, stored in found.aliases.items()),
        "beside": summary(found.others, limit=MAX_NAMES) if found.others else "",
    }
    for label, text in rows.items():
        if text:
            table.add_row(Text(label, style="dim"), Text(plain(text), overflow="fold"))
    return table


def _model(config: Mapping[str, Any]) -> str:
    """Return the classes and the model type; nothing is sure of a configuration that may be wrong."""
    if "model_type" not in config:
        return ""
    classes = config.get("architectures")
    names = ", ".join(map(str, classes)) if isinstance(classes, list) else ""
    return f"{names or 'no class named'} ({config['model_type']})"


def _sizes(found: Inspection) -> str:
    """Return the few fields of a configuration by which people tell models apart."""
    config = dict(found.config or {})
    nested = config.get("text_config")
    config |= nested if isinstance(nested, dict) else {}
    wanted = {
        "num_hidden_layers": "layers",
        "hidden_size": "wide",
        "num_attention_heads": "heads",
        "num_key_value_heads": "key-value heads",
        "vocab_size": "tokens",
    }
    return ", ".join(
        f"{config[key]:,} {word}" for key, word in wanted.items() if isinstance(config.get(key), int)
    )


def _weights(found: Inspection) -> str:
    if not found.tensors:
        return ""
    files = "1 file" if len(found.files) == 1 else f"{len(found.files)} files"
    return (
        f"{human_bytes(found.nbytes)} in {files}: {len(found.tensors):,} tensors, {found.elements:,} numbers"
    )


def _file_table(found: Inspection, *, every: bool) -> Table:
    table = _table("file", "tensors>", "bytes>", *(["sum"] if found.verification else []))
    # What is wrong comes first, because the rest may be cut.
    files = sorted(found.files, key=lambda file: file.state == "ok")
    shown = files if every or len(files) <= MAX_FILES else files[: MAX_FILES - 1]
    for file in shown:
        style = STATE_STYLES.get(file.state, "")
        size = human_bytes(file.nbytes) if file.nbytes is not None else ""
        tensors = f"{file.tensors:,}" if file.tensors is not None else file.state
        state = [_sum_state(found.verification, file.name)] if found.verification else []
        table.add_row(Text(plain(file.name), style, overflow="fold"), Text(tensors, style), size, *state)
    if len(shown) < len(files):
        table.add_row(Text(f"and {len(files) - len(shown):,} more", "dim"))
    return table


def _sum_state(verification: Verification, name: str) -> Text:
    if name in verification.intact:
        return Text("intact", "green")
    return Text("not known", "dim") if name in verification.unknown else Text("changed", "red")


def _tensor_table(found: Inspection, *, every: bool, room: int) -> Table:
    """Return the tensors, those of one module or of all layers under a common heading."""
    table = _table("tensor", "number>", "dtype", "shape", "bytes>")
    groups = found.groups(folded=not every)
    shown = 0
    for heading, run in itertools.groupby(groups, key=lambda group: _parted(group)[0]):
        members = list(run)
        shared = bool(heading) and len(members) > 1
        if shared and (every or table.row_count < room):
            table.add_row(Text(plain(heading), "dim", overflow="fold"))
        for group in members:
            if every or table.row_count < room:
                table.add_row(*_tensor_row(group, f"  {_parted(group)[1]}" if shared else group.label))
                shown += 1
    if shown < len(groups):
        rest = sum(len(group.members) for group in groups[shown:])
        table.add_row(Text(f"and {rest:,} tensors more: --all", "dim"))
    return table


def _tensor_row(group: TensorGroup, label: str) -> tuple[Text, str, str, str, str]:
    shape = " x ".join(map(str, group.shape)) or "scalar"
    number, size = f"{len(group.members):,}", human_bytes(group.nbytes)
    return Text(plain(label), overflow="fold"), number, group.dtype, shape, size


def _parted(group: TensorGroup) -> tuple[str, str]:
    """Part a name after its last number, else before its module: neighbours share the first half."""
    segments = group.members[0].name.split(".")
    numbers = [i for i, segment in enumerate(segments) if segment.isdigit()]
    depth = numbers[-1] + 1 if numbers else max(0, len(segments) - 2)
    prefixes = dict.fromkeys(".".join(info.name.split(".")[:depth]) for info in group.members)
    return next(iter(fold(prefixes))), ".".join(segments[depth:])


def _problems(screen: Console, found: Inspection) -> None:
    table, count = _table("", ""), len(found.problems)
    for note in found.notes:
        table.add_row(Text("note", "cyan"), Text(plain(note), overflow="fold"))
    for problem in found.problems[:MAX_PROBLEMS]:
        table.add_row(Text("problem", "red"), _problem(problem))
    if count > MAX_PROBLEMS:
        table.add_row("", f"and {count - MAX_PROBLEMS} more: --json has all")
    for hint in dict.fromkeys(problem.hint for problem in found.problems if problem.hint):
        table.add_row(Text("next", "dim"), Text(plain(hint), overflow="fold"))
    _block(screen, table)
    verdict = f"{count} problem{'s' if count > 1 else ''}" if count else "no problems found"
    screen.print(Text(f"  {verdict}", "red" if count else "green"))


def _problem(problem: Problem) -> Text:
    text = Text(plain(problem.what), overflow="fold")
    for label, fact in (("expected", problem.expected), ("found", problem.found)):
        if fact is not None:
            text.append(f"\n{label}: {plain(fact)}", "dim")
    return text


def show_plugins(found: Sequence[Examined], default: str | None, why: str) -> None:
    """Print the plugins, then the traceback of each that is broken."""
    screen = console()
    table = _table("", "")
    for one in found:
        table.add_row(Text(plain(one.claim.name)), _plugin(one))
    screen.print()
    _block(screen, table)
    for one in found:
        if one.claim.traceback:
            _title(screen, f"{one.claim.name} is broken", one.claim.distribution)
            _indented(screen, one.claim.traceback)
    if default or why:
        screen.print(Text(f"  default backend: {default or 'none'}, {why}"), soft_wrap=True)


def _plugin(one: Examined) -> Text:
    claim = one.claim
    words = [
        f"priority {claim.priority}" if claim.priority else "",
        f"classes {claim.prefix}..." if claim.prefix else "",
        f"not installed: {one.install}" if one.framework == "missing" else one.framework or "",
    ]
    text = Text(overflow="fold")
    text.append(one.state, STATE_STYLES.get(one.state, ""))
    text.append("".join(f", {word}" for word in words if word))
    text.append(f"\n{plain(f'{claim.value} of {claim.distribution}')}", "dim")
    if one.problem:
        text.append(f"\n{plain(one.problem)}", "yellow")
    return text


def _indented(screen: Console, output: str) -> None:
    """Print what another program said, its lines whole."""
    for line in output.rstrip().splitlines():
        screen.print(Text(f"    {plain(line)}", "dim"), soft_wrap=True)
    screen.print()


def show_demo(demo: Demo) -> None:
    """Print the demo: one framework in detail, or a row for each."""
    screen = console()
    good = [run for run in demo.runs if not run.error]
    screen.print()
    if len(demo.runs) == 1:
        for run in good:
            _title(screen, run.model_class, f"{run.framework}, {run.dtype} on {run.device}")
            _block(screen, _part_table(run))
    else:
        _title(screen, "One checkpoint, every framework", "" if demo.is_ours else demo.checkpoint)
    _block(screen, _run_table(good))
    for run in demo.runs:
        if run.error:
            screen.print(Text(f"  {run.backend} failed", "bold red"))
            _indented(screen, run.error)
    for name, install in demo.not_installed.items():
        screen.print(Text(f"  {name} is left out: {install}", "dim"), soft_wrap=True)
    _texts(screen, demo, good)


def _part_table(run: Run) -> Table:
    table = _table("where each byte went", "tensors>", "bytes>", "state")
    for layers, parts in itertools.groupby(run.parts, key=lambda part: part.layers):
        if layers:
            table.add_row(Text(plain(layers), "dim", overflow="fold"))
        for part in parts:
            size = human_bytes(part.nbytes) if part.nbytes else "-"
            name = Text(plain(f"  {part.name}" if layers else part.name), overflow="fold")
            table.add_row(name, str(part.tensors), size, part.state)
    return table


def _run_table(runs: Sequence[Run]) -> Table:
    table = _table("framework", "tensors>", "bytes>", "mapped>", "read>", "seconds>", "peak memory>")
    for run in runs:
        sizes = (human_bytes(size) for size in (run.nbytes, run.bytes_mapped, run.bytes_read))
        peak = "-" if run.peak_memory is None else f"+{human_bytes(run.peak_memory)}"
        table.add_row(run.framework, str(run.tensors), *sizes, f"{run.seconds:.3f}", peak)
    return table


def _texts(screen: Console, demo: Demo, good: Sequence[Run]) -> None:
    """Print what was written: once, where all frameworks wrote the same."""
    if not any(run.texts for run in good):
        if good:
            screen.print(
                Text("  no text: this model is not byte-level, and loadstone brings no tokenizer", "dim")
            )
        return
    if len(good) > 1 and demo.same_text:
        screen.print(Text(f"  all {len(good)} frameworks wrote the same", "green"))
        screen.print()
    for run in good[:1] if demo.same_text else good:
        if not demo.same_text:
            _title(screen, run.framework, "wrote")
        for text in run.texts:
            written = Text.assemble((plain(text.prompt, keep="\n"), "bold"), *_told(text))
            _print(screen, Padding.indent(written, 2), width=min(screen.width, TEXT_WIDTH))
            screen.print()
    if not demo.same_text:
        screen.print(Text("  the frameworks wrote different texts", "bold red"))


def _told(written: Written) -> list[tuple[str, str]]:
    """Return a continuation up to its last whole sentence."""
    told = plain(written.continuation, keep="\n")
    if written.ended:
        return [(told.rstrip(), "")]
    end = max(told.rfind(mark) for mark in ".!?")
    return [(told[: end + 1], ""), (" ...", "dim")]
