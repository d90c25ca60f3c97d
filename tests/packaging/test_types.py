"""What a type checker sees of loadstone in a user's file."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

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
reveal_type(AutoConfig.from_pretrained(name, revision="main", num_labels=3))
reveal_type(BertConfig.from_pretrained(name, token=True).hidden_size)
model = LlamaForCausalLM.from_pretrained(name)
reveal_type(model.config)
reveal_type(model.load_report)
reveal_type(model.generation_config)
reveal_type(model.num_parameters())
model.generate([[1, 2]], max_new_tokens=8, do_sample=True, top_p=0.9, stop_strings=["."], num_beams=1, output_scores=False)
flax = FlaxLlamaForCausalLM.from_config(BertConfig(), dtype="bfloat16")
flax.generate([[1, 2]], params=None, rngs=None, eos_token_id=[2, 3], return_dict_in_generate=False)
TFBertModel.from_pretrained(name).generate([[1]], attention_mask=[[1]], temperature=None)
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
    "loadstone.config.config.Config",
    "int",
    "loadstone.architectures.llama.LlamaConfig",
    "loadstone.load.report.LoadReport | None",
    "loadstone.generate.settings.GenerationConfig",
    "int",
]

WRONG = {
    "from loadstone import AutoModelForCasualLM": "AutoModelForCasualLM",
    "import loadstone; loadstone.LlamaForCausalLm": "LlamaForCausalLm",
    "import loadstone; loadstone.AutoModel.from_pretrained('x', revision=3)": "call-overload",
    "import loadstone; loadstone.LlamaModel.from_pretrained('x', token=3.5)": "call-overload",
    "import loadstone; loadstone.LlamaModel.from_config('x')": "arg-type",
    "import loadstone; loadstone.plan('x', strict='yes')": "arg-type",
    "import loadstone; loadstone.AutoConfig.from_pretrained('x', revision=3)": "arg-type",
    "import loadstone; loadstone.BertConfig.from_pretrained('x', local_files_only='x')": "arg-type",
    "import loadstone; loadstone.LlamaForCausalLM.from_pretrained('x').generate(max_new_token=8)": "max_new_token",
    "import loadstone; loadstone.FlaxGPT2LMHeadModel.from_pretrained('x').generate(top_k='x')": "arg-type",
    "import loadstone; loadstone.TFGPT2LMHeadModel.from_pretrained('x').generate(num_beams=4)": "arg-type",
}


PYRIGHT = {
    "typeCheckingMode": "standard",
    "extraPaths": [str(ROOT / "core"), str(ROOT / "backends")],
    "reportMissingImports": "none",
}
"""The one above finds types of numpy's and the framework's only where they are installed; so does this one."""

RULES = {
    "call-overload": "reportCallIssue",
    "arg-type": "reportArgumentType",
}
"""What mypy calls a kind of mistake -> what pyright does."""


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: a program without a mistake, and one for each mistake."""
    folder = tmp_path_factory.mktemp("user")
    files = {"right.py": RIGHT, **{f"wrong_{i}.py": source for i, source in enumerate(WRONG)}}
    for name, source in files.items():
        (folder / name).write_text(f"{source}\n")
    settings = SETTINGS.format(core=ROOT / "core", backends=ROOT / "backends")
    (folder / "mypy.ini").write_text(settings)
    (folder / "pyrightconfig.json").write_text(json.dumps(PYRIGHT))
    return folder


@pytest.fixture(scope="module")
def said(user: Path) -> dict[str, list[str]]:
    """File -> the lines that mypy says of it; one run reads them all."""
    files = sorted(path.name for path in user.glob("*.py"))
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(user / "cache"), *files]
    done = subprocess.run(command, cwd=user, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    found: dict[str, list[str]] = {name: [] for name in files}
    for line in done.stdout.splitlines():
        if (name := Path(line.partition(":")[0]).name) in found:
            found[name].append(line.partition(": ")[2])
    return found


@pytest.fixture(scope="module")
def pyright_said(user: Path) -> dict[str, list[dict[str, Any]]]:
    """The same of pyright, whose package for Python brings all that it runs on."""
    pytest.importorskip("basedpyright")
    command = [sys.executable, "-m", "basedpyright", "--outputjson"]
    done = subprocess.run(command, cwd=user, capture_output=True, text=True, check=False)
    found: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(done.stdout)["generalDiagnostics"]:
        found.setdefault(Path(one["file"]).name, []).append(one)
    return found


def test_a_type_checker_sees_classes_keywords_and_what_comes_back(said):
    assert [line.partition('"')[2].strip('"') for line in said["right.py"]] == REVEALED


@pytest.mark.parametrize("source", WRONG)
def test_a_type_checker_finds_what_is_misspelt(said, source):
    [first, *_] = said[f"wrong_{list(WRONG).index(source)}.py"]
    assert first.startswith("error: ") and WRONG[source] in first


def test_pyright_sees_the_same(pyright_said):
    assert [one["severity"] for one in pyright_said["right.py"]] == ["information"] * len(REVEALED)
    for one, revealed in zip(pyright_said["right.py"], REVEALED, strict=True):
        *_, kind = re.sub(r"\b[a-z_]+\.", "", revealed).rpartition('"')
        assert one["message"].endswith(f'is "{kind}"')


@pytest.mark.parametrize("source", WRONG)
def test_pyright_finds_what_is_misspelt(pyright_said, source):
    errors = pyright_said[f"wrong_{list(WRONG).index(source)}.py"]
    wanted = RULES.get(WRONG[source], WRONG[source])
    assert any(wanted in (one["rule"], *one["message"].split('"')) for one in errors)
