"""What is wrong is caught: specs that misread a key, and backends that are wrong in one thing."""

import pytest

from loadstone.testing import sabotage
from tests.oracle import load
from tests.torch.proofs import Torch


def test_there_are_as_many_as_are_promised() -> None:
    assert len(sabotage.SPECS) >= 40 and len(sabotage.BACKENDS) >= 12


@pytest.mark.parametrize("wrong", sabotage.SABOTAGE, ids=str)
def test_it_is_caught(wrong: sabotage.Misread | sabotage.Fault) -> None:
    assert sabotage.is_caught(wrong, Torch(), load.oracle)


@pytest.mark.parametrize("case", sorted({wrong.case for wrong in sabotage.SABOTAGE}))
def test_what_is_right_is_not(case: str) -> None:
    assert not sabotage.is_caught(sabotage.Fault(what="nothing", case=case), Torch(), load.oracle)
