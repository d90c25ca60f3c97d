"""Faults that Flax has a part in."""

from tests.oracle.faults import OwnFaultSuite


class TestFlax(OwnFaultSuite):
    backend = "flax"
