"""The documentation's code runs: every Python snippet of a page, top to bottom, in one process.

The pages name repositories of the real Hub; here a Hub on loopback has tiny checkpoints of the same architectures.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.oracle import load
from tests.plugins import gguf_files

REPOSITORY = Path(__file__).parents[2]
PAGES = ("README.md", "docs/loading.md", "docs/extending.md")
REPOSITORIES = {
    "HuggingFaceTB/SmolLM2-135M": "llama-causal-lm-tied",
    "meta-llama/Llama-2-7b-hf": "llama-causal-lm",
    "mistralai/Mistral-7B-v0.1": "mistral-causal-lm",
    "google/gemma-7b": "gemma-causal-lm",
}
GGUF = "bartowski/SmolLM2-135M-Instruct-GGUF", "SmolLM2-135M-Instruct-Q8_0.gguf"
FILES = ("config.json", "generation_config.json", "model.safetensors")
CUSTOM = "sgugger/custom-resnet50d"
PINNED = "ed94a7c6247d8aedce4647f00f20de6875b5b292"
CODE = """
from torch import nn

from loadstone import Config
from loadstone.outputs import ModelOutput
from loadstone_torch.modeling import PreTrainedModel


class ShapeConfig(Config):
    model_type = "shape-own"
    width: int = 4


class ShapeForImageClassification(PreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.look = nn.Conv2d(3, config.width, 3)
        self.norm = nn.BatchNorm2d(config.width)
        self.classifier = nn.Linear(config.width, config.num_labels)

    def forward(self, pixel_values):
        return ModelOutput(logits=self.classifier(self.norm(self.look(pixel_values)).mean((2, 3))))
"""


def snippets(page: str) -> list[str]:
    """Return the Python snippets of a page."""
    return re.findall(r"^```python\n(.*?)^```$", (REPOSITORY / page).read_text(), re.DOTALL | re.MULTILINE)


def custom(folder: Path) -> Path:
    """Write a checkpoint with code of its own, and return its folder."""
    import torch
    from safetensors.torch import save_file

    auto_map = {
        "AutoConfig": "shape.ShapeConfig",
        "AutoModelForImageClassification": "shape.ShapeForImageClassification",
    }
    folder.mkdir()
    (folder / "shape.py").write_text(CODE)
    (folder / "config.json").write_text(json.dumps({"model_type": "shape-own", "auto_map": auto_map}))
    shapes = {
        "look.weight": (4, 3, 3, 3),
        "classifier.weight": (2, 4),
        "classifier.bias": (2,),
        "look.bias": (4,),
    }
    norm = {f"norm.{name}": (4,) for name in ("weight", "bias", "running_mean", "running_var")}
    save_file(
        {name: torch.ones(shape) for name, shape in (shapes | norm).items()}, folder / "model.safetensors"
    )
    return folder


def test_snippets_run(hub: Any, tmp_path: Path) -> None:
    for name, case in REPOSITORIES.items():
        folder = load.folder(case)
        hub.add_repo(name, {file: (folder / file).read_bytes() for file in FILES if (folder / file).exists()})
    gguf_files.write(tmp_path / GGUF[1], load.folder("llama-causal-lm-tied"), gguf_files.Kind.Q8_0)
    hub.add_repo(GGUF[0], {GGUF[1]: tmp_path / GGUF[1]})
    hub.tag(CUSTOM, PINNED, hub.add_repo(CUSTOM, folder=custom(tmp_path / "custom")))
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
