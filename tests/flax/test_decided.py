"""What a load decides, in Flax."""

from tests.oracle.decided import DecidedSuite


class TestFlax(DecidedSuite):
    backend = "flax"
