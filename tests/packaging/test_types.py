"""What a type checker sees of loadstone in a user's file."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.layout import ROOT

SETTINGS = """
[mypy]
strict = true
mypy_path = {core}:{backends}
explicit_package_bases = true

[mypy-torch.*,jax.*,flax.*,tensorflow.*,keras.*,optree.*,numpy.*,huggingface_hub.*]
follow_imports = skip
ignore_missing_imports = true

[mypy-loadstone.*,loadstone_torch.*,loadstone_flax.*,loadstone_tensorflow.*]
follow_imports = silent
"""

RIGHT = """
import loadstone
from loadstone import (
    AutoConfig, AutoModel, AutoModelForCausalLM, BertConfig, FlaxAutoModelForMaskedLM, FlaxLlamaForCausalLM, LlamaForCausalLM,
    MatchError, TFAutoModel, TFBertModel, to_backend,
)

name = "org/name"
reveal_type(AutoModelForCausalLM.from_pretrained(name, dtype="auto", revision="main", num_labels=3))
reveal_type(AutoModelForCausalLM.from_pretrained(name, backend="flax"))
reveal_type(AutoModel.from_pretrained(name, backend="tensorflow", output_loading_info=True))
reveal_type(FlaxAutoModelForMaskedLM.from_pretrained(name))
reveal_type(TFAutoModel.from_config(AutoConfig.for_model("bert"), seed=1))
reveal_type(AutoModel.from_config(BertConfig(), backend="flax"))
reveal_type(LlamaForCausalLM.from_pretrained(name, device_map="auto"))
reveal_type(FlaxLlamaForCausalLM.from_config(BertConfig(), dtype="bfloat16"))
reveal_type(loadstone.plan(name, strict=True))
twin = to_backend(TFBertModel.from_pretrained(name), "torch")
caught: type[loadstone.LoadstoneError] = MatchError
"""

REVEALED = [
    "loadstone_torch.modeling.PreTrainedModel",
    "loadstone_flax.modeling.PreTrainedModel",
    "tuple[loadstone_tensorflow.modeling.PreTrainedModel, dict[str, Any]]",
    "loadstone_flax.modeling.PreTrainedModel",
    "loadstone_tensorflow.modeling.PreTrainedModel",
    "loadstone_flax.modeling.PreTrainedModel",
    "loadstone.LlamaForCausalLM",
    "loadstone.FlaxLlamaForCausalLM",
    "loadstone.load.report.LoadReport",
]

WRONG = {
    "from loadstone import AutoModelForCasualLM": "AutoModelForCasualLM",
    "import loadstone; loadstone.LlamaForCausalLm": "LlamaForCausalLm",
    "import loadstone; loadstone.AutoModel.from_pretrained('x', revision=3)": "call-overload",
    "import loadstone; loadstone.LlamaModel.from_pretrained('x', token=3.5)": "call-overload",
    "import loadstone; loadstone.LlamaModel.from_config('x')": "arg-type",
    "import loadstone; loadstone.plan('x', strict='yes')": "arg-type",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """File -> the lines that mypy says of it; one run reads them all."""
    folder = tmp_path_factory.mktemp("user")
    settings = SETTINGS.format(core=ROOT / "core", backends=ROOT / "backends")
    (folder / "mypy.ini").write_text(settings)
    files = {"right.py": RIGHT, **{f"wrong_{i}.py": source for i, source in enumerate(WRONG)}}
    for name, source in files.items():
        (folder / name).write_text(f"{source}\n")
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(folder / "cache"), *files]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    found: dict[str, list[str]] = {name: [] for name in files}
    for line in done.stdout.splitlines():
        if (name := Path(line.partition(":")[0]).name) in found:
            found[name].append(line.partition(": ")[2])
    return found


def test_a_type_checker_sees_classes_keywords_and_what_comes_back(said):
    assert [line.partition('"')[2].strip('"') for line in said["right.py"]] == REVEALED


@pytest.mark.parametrize("source", WRONG)
def test_a_type_checker_finds_what_is_misspelt(said, source):
    [first, *_] = said[f"wrong_{list(WRONG).index(source)}.py"]
    assert first.startswith("error: ") and WRONG[source] in first
