"""Configurations larger than their checkpoint, in Flax."""

from tests.oracle.oversized import OversizedSuite


class TestFlax(OversizedSuite):
    backend = "flax"
