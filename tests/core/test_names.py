"""The table of public names: it says what the code says, and naming a class imports its family alone."""

import dataclasses
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import loadstone
from loadstone import _names, errors
from loadstone.architectures import architectures, find_head
from loadstone.architectures.registry import built_in
from loadstone.generate.arguments import GenerateArguments
from loadstone.generate.kinds import FOLLOWED
from loadstone.keywords import ConfigArguments, said, told
from loadstone.load import story
from loadstone.load.arguments import LoadArguments, MakeArguments
from loadstone.load.create import from_config
from loadstone.model.pretrained import Pretrained
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


# The top package


def test_every_error_is_at_the_top():
    ours = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }
    assert len(ours) > 10
    for name in ours:
        assert getattr(loadstone, name) is getattr(errors, name)
        assert name in loadstone.__all__


def test_dir_tells_what_is_public_and_no_more():
    told = dir(loadstone)
    assert {
        "AutoModelForCausalLM",
        "FlaxLlamaForCausalLM",
        "BertConfig",
        "MatchError",
        "plan",
        "__version__",
    } <= {*told}
    small = {name for name in told if not name[0].isupper() and not name.startswith("__")}
    assert small == {"convert", "plan", "register", "to_backend"}


def test_a_star_brings_names_and_no_framework():
    program = (
        "from loadstone import *\nimport sys\nprint(AutoModel, LlamaConfig, plan, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.endswith(" False\n")
    assert {*loadstone.__all__} <= {*dir(loadstone)}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("AutoModelForCasualLM", "AutoModelForCausalLM"),
        ("AutoConfg", "AutoConfig"),
        ("MatchEror", "MatchError"),
        ("to_backned", "to_backend"),
    ],
)
def test_a_misspelt_import_says_what_was_meant(typed: str, meant: str):
    with pytest.raises(ImportError, match=f"did you mean {meant}"):
        __import__("loadstone", fromlist=[typed])
    with pytest.raises(AttributeError, match=f"did you mean {meant}"):
        getattr(loadstone, typed)


@pytest.mark.parametrize(
    ("function", "record"),
    [
        (story.from_pretrained, LoadArguments),
        (story.plan, LoadArguments),
        (loadstone.AutoModelForCausalLM.from_pretrained, LoadArguments),
        (Pretrained.from_pretrained, LoadArguments),
        (from_config, MakeArguments),
        (loadstone.AutoModel.from_config, MakeArguments),
        (Pretrained.from_config, MakeArguments),
        (loadstone.AutoConfig.from_pretrained, ConfigArguments),
        (loadstone.Config.from_pretrained, ConfigArguments),
        (loadstone.BertConfig.from_pretrained, ConfigArguments),
        (loadstone.Config.get_config_dict, ConfigArguments),
    ],
    ids=lambda value: getattr(value, "__qualname__", None),
)
def test_signatures_and_help_show_every_keyword(function, record):
    shown = inspect.signature(function).parameters
    for field in dataclasses.fields(record):
        assert (shown[field.name].annotation, shown[field.name].default) == (field.type, field.default)
        assert f"\n    {field.name}: " in inspect.getdoc(function), "its text stands among the arguments"
    assert list(shown.values())[-1].kind is inspect.Parameter.VAR_KEYWORD


def test_every_keyword_has_a_text():
    records = (ConfigArguments, LoadArguments, MakeArguments, GenerateArguments)
    for record in records:
        inherited = {name for base in record.__mro__[1:] for name in getattr(base, "__annotations__", ())}
        for name in record.__annotations__.keys() - inherited:
            assert f"\n    {name}: " in inspect.getdoc(record)


def test_generate_tells_every_setting_that_it_follows():
    told = {*GenerateArguments.__annotations__}
    assert told == {*FOLLOWED, "generation_config", "tokenizer", "token_type_ids"} - {"bos_token_id"}


def test_who_passes_the_defaults_of_a_signature_says_nothing():
    @told(GenerateArguments)
    def function(**arguments):
        """Do it."""
        return said(arguments)

    bound = inspect.signature(function).bind(top_k=3)
    bound.apply_defaults()
    assert function(**bound.kwargs) == {"top_k": 3}
