"""The list of faults, in Flax."""

from tests.oracle.faults import FaultSuite


class TestFlax(FaultSuite):
    backend = "flax"
