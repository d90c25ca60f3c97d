"""Every architecture and task that Flax has, against transformers, where no other framework can be imported."""

import importlib

import pytest

from loadstone.testing import Suite
from tests.flax.proofs import Flax
from tests.oracle import load
from tests.oracle.real import RealSuite


@pytest.mark.parametrize("framework", ["torch", "tensorflow", "keras", "transformers"])
def test_no_other_framework_can_be_imported(framework: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(framework)


@pytest.mark.usefixtures("compile_little")
class TestFlax(Suite):
    driver = Flax()
    oracle = load.oracle


class TestReal(RealSuite):
    driver = Flax()
