"""What `import loadstone` costs, in a process that does nothing else."""

import os
import statistics
import subprocess
import sys

import pytest

from loadstone._names import CONFIGS, FAMILIES, MODELS
from tests.packaging.layout import ROOT

FRAMEWORKS = ("torch", "tensorflow", "keras", "jax", "flax")
HEAVY = (*FRAMEWORKS, "numpy", "ml_dtypes", "huggingface_hub", "typer", "rich")
LIMIT = 0.050
"""Seconds, beside what the bare interpreter takes."""
MARGIN = 1.4
"""What a machine may be slower than the one that the limits were set on."""
ROUNDS = 9
CLASSES = {
    "torch": ("torch", "LlamaForCausalLM"),
    "flax": ("flax.nnx", "FlaxLlamaForCausalLM"),
    "tensorflow": ("tensorflow, keras", "TFLlamaForCausalLM"),
}
"""Framework -> what a user has imported, and a class of it."""


def python(program: str, *, before: str = "") -> float:
    """Run a program in a process of its own, and return the processor time that it took, in seconds.

    Args:
        program: It.
        before: What runs first and does not count; without it, the start of Python counts.
    """
    began = "time.process_time()" if before else "0"
    timed = f"{before}\nimport time; began = {began}\n{program}\nprint(time.process_time() - began)"
    done = subprocess.run(
        [sys.executable, "-c", timed], check=True, capture_output=True, text=True, env=COMPILED
    )
    return float(done.stdout.splitlines()[-1])


COMPILED = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    "PYTHONPYCACHEPREFIX": str(ROOT / ".cache" / "bytecode"),
}
"""As where it is installed: each module is compiled once, and not in each of the processes."""
COMPILED.pop("PYTHONDONTWRITEBYTECODE", None)


def assert_unloaded(program: str, modules: tuple[str, ...]) -> None:
    """Assert that a program leaves modules unloaded."""
    python(f"{program}\nimport sys; found = {{*{modules!r}}} & {{*sys.modules}}; assert not found, found")


def test_import_loads_nothing_heavy():
    assert_unloaded("import loadstone", HEAVY)


def test_naming_classes_and_making_configurations_loads_no_framework():
    program = """
from loadstone import AutoConfig, AutoModel, AutoModelForCausalLM, FlaxAutoModel, LlamaConfig, TFAutoModel
LlamaConfig(num_hidden_layers=2)
"""
    assert_unloaded(program, FRAMEWORKS)


def test_naming_an_auto_class_loads_neither_numpy_nor_an_architecture():
    families = tuple(f"loadstone.architectures.{module}" for module in FAMILIES.values())
    heavy = ("loadstone.architectures", "loadstone.load.story", "importlib.metadata", *families)
    assert_unloaded("from loadstone import AutoModelForCausalLM", (*HEAVY, *heavy))
    assert_unloaded("from loadstone import FlaxAutoModelForMaskedLM", (*HEAVY, *families))


@pytest.mark.parametrize("name", ["BertConfig", "LlamaConfig", "ViTConfig"])
def test_naming_a_configuration_loads_its_family_alone(name):
    own = FAMILIES[CONFIGS[name]]
    others = tuple(f"loadstone.architectures.{module}" for module in FAMILIES.values() if module != own)
    assert_unloaded(f"from loadstone import {name}", (*HEAVY, *others))


@pytest.mark.parametrize("program", ["import loadstone", "from loadstone import AutoModelForCausalLM"])
def test_import_takes_fifty_milliseconds_at_most(program):
    pairs = [(python("pass"), python(program)) for _ in range(ROUNDS)]
    assert statistics.median(ours - bare for bare, ours in pairs) <= LIMIT


@pytest.mark.parametrize("framework", CLASSES)
def test_naming_a_class_takes_fifty_milliseconds_above_its_framework(framework):
    pytest.importorskip(framework)
    imported, name = CLASSES[framework]
    times = (python(f"from loadstone import {name}", before=f"import {imported}") for _ in range(5))
    assert any(seconds <= LIMIT * MARGIN for seconds in times)


@pytest.mark.parametrize("framework", CLASSES)
def test_naming_a_class_imports_neither_sources_nor_reports_nor_what_generate_does(framework):
    pytest.importorskip(framework)
    imported, name = CLASSES[framework]
    # Those whose classes are made of Llama's lie in its module of models.
    others = {FAMILIES[model_type] for model_type, module in MODELS.items() if module != "llama"}
    models = {module for module in MODELS.values() if module != "llama"}
    heavy = (
        "loadstone.source.hub",
        "loadstone.remote.modules",
        "loadstone.read.on_disk",
        "loadstone.backend.adoption",
        "loadstone.checkpoint.formats.absent",
        "loadstone.load.report",
        "loadstone.generate.decoding",
        *(f"loadstone.architectures.{module}" for module in others),
        "loadstone.checkpoint.recipe",
        *(f"loadstone_{framework}.models.{module}" for module in models),
    )
    assert_unloaded(f"import {imported}\nfrom loadstone import {name}", heavy)
