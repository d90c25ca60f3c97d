"""What a load decides, in PyTorch."""

from tests.oracle.decided import DecidedSuite


class TestTorch(DecidedSuite):
    backend = "torch"
