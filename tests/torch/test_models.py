"""Every architecture and task that PyTorch has, against transformers."""

from loadstone.testing import Suite
from tests.oracle import load
from tests.oracle.real import RealSuite
from tests.torch.proofs import Torch


class TestTorch(Suite):
    driver = Torch()
    oracle = load.oracle


class TestReal(RealSuite):
    driver = Torch()
