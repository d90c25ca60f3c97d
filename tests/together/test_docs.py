"""The documentation's code runs: every Python snippet of a page, top to bottom, in one process.

The pages name repositories of the real Hub; here a Hub on loopback has tiny checkpoints of the same architectures.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.oracle import load

REPOSITORY = Path(__file__).parents[2]
PAGES = ("README.md", "docs/loading.md", "docs/extending.md")
REPOSITORIES = {
    "HuggingFaceTB/SmolLM2-135M": "llama-causal-lm-tied",
    "meta-llama/Llama-2-7b-hf": "llama-causal-lm",
    "mistralai/Mistral-7B-v0.1": "mistral-causal-lm",
    "google/gemma-7b": "gemma-causal-lm",
}
FILES = ("config.json", "generation_config.json", "model.safetensors")


def snippets(page: str) -> list[str]:
    """Return the Python snippets of a page."""
    return re.findall(r"^```python\n(.*?)^```$", (REPOSITORY / page).read_text(), re.DOTALL | re.MULTILINE)


def test_snippets_run(hub: Any, tmp_path: Path) -> None:
    for name, case in REPOSITORIES.items():
        folder = load.folder(case)
        hub.add_repo(name, {file: (folder / file).read_bytes() for file in FILES if (folder / file).exists()})
    script = tmp_path / "snippets.py"
    # PyTorch is imported first: TensorFlow before it can crash the process. Each page has its names to itself.
    pages = [f"print({page!r})\nexec({chr(10).join(snippets(page))!r}, {{}})" for page in PAGES]
    script.write_text("\n".join(["import torch", *pages]))
    run = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-300:] + run.stderr[-3000:]


def test_links_lead_somewhere() -> None:
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]
    links = [
        (page, link) for page in pages for link in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text())
    ]
    assert len(links) >= 6
    assert not [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()]


def test_extending_shows_the_hooks_that_there_are() -> None:
    from loadstone import hookspecs

    hooks = {name for name in vars(hookspecs) if name.startswith("loadstone_")}
    assert set(re.findall(r"def (loadstone_\w+)\(", (REPOSITORY / "docs/extending.md").read_text())) == hooks
