"""What all tests share: a missing framework skips its tests on a laptop, and fails them in continuous integration."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

FRAMEWORKS = {
    "torch": ("torch",),
    "flax": ("jax", "flax"),
    "tensorflow": ("tensorflow", "keras"),
    "oracle": ("torch", "transformers"),
    "neighbours": ("torch", "transformers", "peft", "accelerate", "trl", "datasets", "lm_eval"),
    "together": ("torch", "jax", "flax", "tensorflow", "keras"),
}
"""Folder of tests -> what it needs."""

IN_CI = bool(os.environ.get("CI"))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """Make a module whose framework is missing skipped, or the other way round."""
    report = yield
    missing = _missing(collector.path, getattr(report.call, "excinfo", None))
    if report.failed and missing and not IN_CI:
        report.outcome, report.longrepr = (
            "skipped",
            (str(collector.path), 1, f"Skipped: {missing} is not installed"),
        )
    return _judged(report)


def pytest_collection_finish() -> None:
    """Have the collector never look again at what was imported, which would also copy it for each process that is forked."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Judge a test that skipped itself, and say which case of which backend a proof is about."""
    report = yield
    case = getattr(item, "callspec", None) and item.callspec.params.get("case")  # type: ignore[attr-defined]
    suite = getattr(item, "cls", None)
    if report.when == "call" and case and hasattr(suite, "test_proof"):
        report.user_properties.append(("proof", (suite.driver.backend, case)))
    return _judged(report)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write down what a whole run of a backend's proofs showed, for docs/support.md, and how long it took."""
    if config.option.keyword or any("::" in argument for argument in config.args):
        return
    outcomes: dict[str, list[tuple[str, str, float]]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for kind, value in getattr(report, "user_properties", ()):
                if kind == "proof":
                    backend, case = value
                    outcomes.setdefault(backend, []).append((case, report.outcome, report.duration))
    if outcomes:
        from tests.oracle.support import TITLES, record

        for backend in outcomes.keys() & TITLES.keys():
            record(backend, outcomes[backend])


def _missing(path: Path, excinfo: pytest.ExceptionInfo[BaseException] | None) -> str | None:
    """Return the framework that a folder needs and that could not be found."""
    if excinfo is None or not path.is_relative_to(Path(__file__).parent):
        return None
    needed = FRAMEWORKS.get(path.relative_to(Path(__file__).parent).parts[0], ())
    # An import error is wrapped by pytest in one of its own.
    error: BaseException | None = excinfo.value
    while error is not None and not isinstance(error, ModuleNotFoundError):
        error = error.__cause__
    return error.name if error is not None and error.name in needed else None


def _judged(report: Any) -> Any:
    """Make a test fail in CI that was skipped because something could not be imported."""
    reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
    if IN_CI and "could not import" in reason:
        report.outcome, report.longrepr = "failed", f"{reason}; in CI everything must be installed"
    return report
