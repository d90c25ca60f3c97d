"""Draws docs/benchmarks.md and docs/benchmarks.svg from the results of a run: `python -m tests.benchmarks.render`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tests.benchmarks.rows import ROWS, Cost, Row
from tests.benchmarks.run import REPOSITORY, RESULTS, costs, differ, verdicts

Results = Mapping[str, Any]

DOCS = REPOSITORY / "docs"
BAR, GAP, GROUP, TOP = 18, 4, 44, 92
"""Height of a bar, space below it, space a row's title takes, space of the heading. All in pixels."""
LEFT, SECONDS, MEMORY, END = 24, 196, 620, 960
"""Where labels, bars of seconds and bars of memory begin, and where the picture ends."""
STYLE = """
  text { font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328; }
  .heading { font-size: 20px; font-weight: 600; } .title { font-weight: 600; }
  .quiet { fill: #656d76; font-size: 12px; } .page { fill: #ffffff; } .line { stroke: #d0d7de; }
  .ours { fill: #1a7f64; } .peer { fill: #afb8c1; } .baseline { fill: none; stroke: #8c959f; stroke-dasharray: 3 2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .quiet { fill: #8b949e; } .page { fill: #0d1117; } .line { stroke: #30363d; }
    .ours { fill: #2ea98a; } .peer { fill: #57606a; } .baseline { stroke: #8b949e; }
  }
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=DOCS)
    given = parser.parse_args(arguments)
    results = json.loads(given.results.read_text())
    (given.docs / "benchmarks.md").write_text(markdown(results))
    (given.docs / "benchmarks.svg").write_text(svg(results))
    return 0


def measured(results: Results) -> Iterator[tuple[Row, Mapping[str, Any]]]:
    """Yield the rows that were run, in the table's order, with their runs."""
    for row in ROWS:
        if row.name in results["rows"]:
            yield row, results["rows"][row.name]["runs"]


def seconds(value: float) -> str:
    """Return a time as the table says it.

    Example:
        >>> seconds(0.0123), seconds(1.234), seconds(36.6)
        ('12 ms', '1.23 s', '36.6 s')
    """
    return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.3g} s"


def times(value: float) -> str:
    """Return a ratio as the table says it.

    Example:
        >>> times(1.37), times(4675)
        ('1.4x', '4675x')
    """
    return f"{value:.1f}x" if value < 99.95 else f"{value:.0f}x"


def mebibytes(value: float) -> str:
    """Return a size as the table says it."""
    return f"{max(0, value) / 2**20:,.0f} MiB"


def markdown(results: Results) -> str:
    """Return the page."""
    machine = results["machine"]
    loads = [row["load_average"] for row in results["rows"].values()]
    head = f"""# Benchmarks

![Seconds and memory of loads, ours beside the peers'](benchmarks.svg)

`make bench` repeats this. Each load runs in a process of its own, ours and the peers' in turns; a figure is the median of
its rounds. Time runs from the call to the last byte touched and leaves importing out. Memory is the anonymous part of the
resident set, at its peak, above what the process had after importing; of a forward, above what it had before. "Warm": the
files were read just before. "Cold": the system was asked to drop them, and storage delivered them again. Run on {machine["processors"]} processors and
{machine["memory_bytes"] / 2**30:.0f} GiB of memory, {machine["system"]}, Python {machine["python"]}; the load average was
{min(loads):.1f} to {max(loads):.1f}, so that where it is well above 1 the ratios say more than the seconds.

| measure | who | seconds | to ours | peak memory |
| --- | --- | ---: | ---: | ---: |
"""
    table = [line for row, runs in measured(results) for line in _table_lines(row, runs)]
    promises = [line for row, runs in measured(results) for line in _promise_lines(row, runs)]
    return head + "\n".join(table) + "\n\n## What we promise\n\n" + "\n".join(promises) + "\n"


def _table_lines(row: Row, runs: Mapping[str, Any]) -> Iterator[str]:
    known = costs(runs)
    for number, (label, done) in enumerate(runs.items()):
        title = row.title if number == 0 else ""
        name = f"**{label}**" if label == row.ours else label
        if label not in known:
            yield f"| {title} | {name} | fails: {_cell(done[-1]['error'])} | | |"
            continue
        cost, ours = known[label], known.get(row.ours)
        ratio = times(cost.seconds / ours.seconds) if ours and label != row.ours else ""
        yield f"| {title} | {name} | {seconds(cost.seconds)} | {ratio} | {mebibytes(cost.peak_bytes)} |"


def _cell(text: str, limit: int = 80) -> str:
    return text.replace("|", "\\|").replace("\n", " ")[:limit]


def _promise_lines(row: Row, runs: Mapping[str, Any]) -> Iterator[str]:
    for text, kept in verdicts(row, runs):
        state = {True: ": kept", False: ": **missed**", None: ""}[kept]
        yield f"* {row.title}: {text}{state}."
    if differ(runs):
        yield f"* {row.title}: **the contenders loaded different models.**"


def svg(results: Results) -> str:
    """Return the chart: seconds on the left, memory on the right, both on logarithmic scales."""
    body, y = [], TOP
    for row, runs in measured(results):
        known = costs(runs)
        if row.ours in known:
            body += _group(row, {label: known.get(label) for label in runs}, y)
            y += GROUP + len(runs) * (BAR + GAP)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{END + LEFT}" height="{y}" role="img">',
            "<title>Seconds and memory of loads, ours beside the peers'</title>",
            f"<style>{STYLE}</style>",
            '<rect class="page" width="100%" height="100%" rx="8"/>',
            _text(LEFT, 38, "Loading a checkpoint", "heading"),
            _text(LEFT, 60, "Shorter is better; both scales are logarithmic.", "quiet"),
            _text(SECONDS, TOP - 8, "seconds", "quiet"),
            _text(MEMORY, TOP - 8, "peak memory above the imported framework", "quiet"),
            *body,
            "</svg>\n",
        ]
    )


def _group(row: Row, found: Mapping[str, Cost | None], y: int) -> Iterator[str]:
    """Yield the drawing of one row: its title, then a pair of bars for each contender, or that it fails."""
    ours = found[row.ours]
    assert ours is not None
    baselines = {contender.label for contender in row.contenders if contender.loader.startswith("read")}
    yield f'<line class="line" x1="{LEFT}" x2="{END}" y1="{y}" y2="{y}"/>'
    yield _text(LEFT, y + 22, row.title, "title")
    for number, (label, cost) in enumerate(found.items()):
        top = y + 32 + number * (BAR + GAP)
        yield _text(LEFT, top + 13, label if len(label) <= 25 else f"{label[:24]}…", "")
        if cost is None:
            yield _text(SECONDS, top + 13, "fails", "quiet")
            continue
        kind = "ours" if label == row.ours else "baseline" if label in baselines else "peer"
        ratio = "" if label == row.ours else f"  ({times(cost.seconds / ours.seconds)})"
        yield from _bar(SECONDS, top, _width(cost.seconds, 0.001, 100), seconds(cost.seconds) + ratio, kind)
        yield from _bar(MEMORY, top, _width(cost.peak_bytes, 1e6, 1e10), mebibytes(cost.peak_bytes), kind)


def _bar(x: int, y: int, width: float, label: str, kind: str) -> Iterator[str]:
    yield f'<rect class="{kind}" x="{x}" y="{y}" width="{width:.1f}" height="{BAR}" rx="3"/>'
    yield _text(x + width + 6, y + 13, label, "quiet")


def _width(value: float, least: float, most: float, widest: int = 250) -> float:
    """Return the length of a bar on a logarithmic scale; what is below the scale is a sliver."""
    return max(3.0, widest * min(1.0, math.log(max(value, least) / least) / math.log(most / least)))


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}">{escape(text)}</text>'


if __name__ == "__main__":
    sys.exit(main())
