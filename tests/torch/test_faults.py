"""Faults that PyTorch has a part in."""

from tests.oracle.faults import OwnFaultSuite


class TestTorch(OwnFaultSuite):
    backend = "torch"
