"""The list of faults, in TensorFlow."""

from tests.oracle.faults import FaultSuite


class TestTensorFlow(FaultSuite):
    backend = "tensorflow"
