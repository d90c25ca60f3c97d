"""Configurations larger than their checkpoint, in PyTorch."""

from tests.oracle.oversized import OversizedSuite


class TestTorch(OversizedSuite):
    backend = "torch"
