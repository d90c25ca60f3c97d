"""Every tensor and every field of a spec moves the proof of each case: none is blind."""

from loadstone.testing import MutationSuite
from tests.oracle import load
from tests.torch.proofs import Torch


class TestTorch(MutationSuite):
    driver = Torch()
    oracle = load.oracle
