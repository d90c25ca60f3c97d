"""Faults that TensorFlow has a part in."""

from tests.oracle.faults import OwnFaultSuite


class TestTensorFlow(OwnFaultSuite):
    backend = "tensorflow"
