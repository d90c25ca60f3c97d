"""What `import loadstone` costs, in a process that does nothing else."""

import statistics
import subprocess
import sys

import pytest

from loadstone._names import CONFIGS, FAMILIES

FRAMEWORKS = ("torch", "tensorflow", "keras", "jax", "flax")
HEAVY = (*FRAMEWORKS, "numpy", "ml_dtypes", "huggingface_hub", "typer", "rich")
LIMIT = 0.050
"""Seconds, beside what the bare interpreter takes."""
AUTO_LIMIT = 0.100
ROUNDS = 9


def python(program: str) -> float:
    """Run a program in a process of its own, and return the processor time that it took, in seconds."""
    timed = f"{program}\nimport time; print(time.process_time())"
    done = subprocess.run([sys.executable, "-I", "-c", timed], check=True, capture_output=True, text=True)
    return float(done.stdout)


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


def test_naming_an_auto_class_takes_a_hundred_milliseconds_at_most():
    pairs = [(python("pass"), python("from loadstone import AutoModelForCausalLM")) for _ in range(ROUNDS)]
    assert statistics.median(ours - bare for bare, ours in pairs) <= AUTO_LIMIT


def test_import_takes_fifty_milliseconds_at_most():
    pairs = [(python("pass"), python("import loadstone")) for _ in range(ROUNDS)]
    assert statistics.median(ours - bare for bare, ours in pairs) <= LIMIT
