"""What a load decides, in TensorFlow."""

from tests.oracle.decided import DecidedSuite


class TestTensorFlow(DecidedSuite):
    backend = "tensorflow"
