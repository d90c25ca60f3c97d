"""Every architecture and task that TensorFlow has, against transformers, where no other framework is there."""

import importlib

import pytest

from loadstone.testing import Suite
from tests.oracle import load
from tests.oracle.real import RealSuite
from tests.tensorflow.proofs import TensorFlow


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_no_other_framework_is_there(name: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(name)


class TestTensorFlow(Suite):
    driver = TensorFlow()
    oracle = load.oracle


class TestReal(RealSuite):
    driver = TensorFlow()
