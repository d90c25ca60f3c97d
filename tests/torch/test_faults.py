"""The list of faults, in PyTorch."""

from tests.oracle.faults import FaultSuite


class TestTorch(FaultSuite):
    backend = "torch"
