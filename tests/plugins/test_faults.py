"""What core catches, and what it decides, whatever the framework: on a backend that has none."""

from tests.oracle.decided import DecidedSuite
from tests.oracle.faults import FaultSuite


class TestFaults(FaultSuite):
    backend = "plain"


class TestDecided(DecidedSuite):
    backend = "plain"
