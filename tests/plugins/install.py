"""Installing a distribution as pip would, for the processes that a test starts: a folder on their path."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent
EXAMPLE = {
    "architecture.echo": "loadstone_example.plugin",
    "backend.plain": "loadstone_example.plugin [Plain, 1]",
}

SHELF = {"format.raw": "loadstone_shelf.plugin", "source.mem": "loadstone_shelf.plugin"}


def install(
    site: Path,
    distribution: str,
    entry_points: Mapping[str, str],
    modules: Mapping[str, str] | None = None,
    *,
    version: str = "1.0",
) -> None:
    """Write a distribution's metadata, and its modules: name -> source."""
    info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    lines = [f"{name} = {value}" for name, value in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[loadstone]", *lines]) + "\n")
    for name, source in (modules or {}).items():
        (site / f"{name}.py").write_text(source)


def run(
    script: str, site: Path, *arguments: object, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a script in a process that has what was installed in `site`, and the example plugin's package."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LOADSTONE")}
    path = os.pathsep.join([str(site), str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=clean | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def told(script: str, site: Path, *arguments: object, **environment: str) -> list[str]:
    """Run a script and return the lines that it printed."""
    return run(script, site, *arguments, **environment).stdout.splitlines()
