"""The table of public names: it says what the code says, and naming a class imports its family alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import loadstone
from loadstone import _names
from loadstone.architectures import architectures, find_head, heads_named
from loadstone.architectures.registry import built_in
from tests.names import families, written


@pytest.mark.parametrize("path", written(), ids=lambda path: path.name)
def test_what_is_written_is_what_the_code_says(path: Path):
    assert path.read_text() == written()[path], "run make names"


def test_the_table_leads_to_every_architecture():
    assert [one.model_type for one in architectures()] == [one.model_type for _, one in families()]
    assert {name: find_head(name)[1].task for name in _names.HEADS} == {
        name: task for name, (_, task) in _names.HEADS.items()
    }
    for name, model_type in _names.CONFIGS.items():
        assert getattr(loadstone, name) is built_in()[model_type].config


@pytest.mark.parametrize(
    ("use", "families"),
    [
        ("from loadstone.architectures import architecture_for as f; f('mistral')", {"llama"}),
        ("from loadstone.architectures import find_head as f; f('ViTModel')", {"vit"}),
        ("from loadstone.architectures import heads_named as f; next(f('GPT2Model'))", {"gpt2"}),
        ("from loadstone.architectures import model_types as f; f()", set()),
        ("from loadstone import AutoConfig as f; f.for_model('roberta')", {"roberta", "bert"}),
        ("import loadstone as f; dir(f)", set()),
    ],
)
def test_a_name_imports_its_family_alone(use: str, families: set[str]):
    program = f"import json, sys\n{use}\nprint(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    known = {f"loadstone.architectures.{module}": module for module in _names.FAMILIES.values()}
    assert {known[name] for name in json.loads(done.stdout) if name in known} == families


def test_a_name_that_nobody_has_leads_nowhere():
    assert find_head("NothingForCausalLM") is None
    assert list(heads_named("NothingForCausalLM")) == []
