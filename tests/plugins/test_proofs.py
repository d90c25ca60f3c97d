"""A stranger proves its backend with what loadstone ships: an architecture of ours, and one of its own."""

from typing import ClassVar

import numpy as np
import pytest

from loadstone.testing import (
    Attentions,
    Computes,
    HiddenStates,
    Masks,
    Oracle,
    Suite,
    bits,
    notimpl,
    proof,
    sabotage,
)
from loadstone.testing.reference import cases_of
from tests.oracle import load


class Plain(Computes, Masks, HiddenStates, Attentions):
    """Infers: no losses, no gradients, no cache."""

    backend = "plain"

    def native(self, array):
        return array

    def array(self, value):
        return np.asarray(value)


class Echoes(Computes):
    """Takes tokens, and nothing beside them."""

    backend = "plain"
    native = array = staticmethod(np.asarray)


class TestOurs(Suite):
    driver = Plain()
    oracle = load.oracle
    cases = ("bert-base", "bert-sequence-classification-*", "llama-base", "llama-causal-lm")
    todo: ClassVar = {"proof[llama-*": notimpl("rotary attention")}


OWN = Oracle(load.ORACLE, "loadstone_example.cases:CASES")


class TestTheirs(Suite):
    driver = Echoes()
    oracle = OWN


FAULTS = [fault for fault in sabotage.BACKENDS if fault.case in ("bert-base",)]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_what_is_wrong_is_caught(fault):
    assert sabotage.is_caught(fault, Plain(), load.oracle)


def test_a_wrong_answer_is_told(monkeypatch):
    from loadstone_example.models import echo

    right = echo.PlainEchoModel.__call__
    monkeypatch.setattr(
        echo.PlainEchoModel, "__call__", lambda self, input_ids: right(self, input_ids[:, ::-1])
    )
    with pytest.raises(AssertionError, match="plain/echo-base/plain: last_hidden_state: differs"):
        proof(Echoes(), OWN, "echo-base")


def test_a_tensor_that_is_not_saved_is_told(monkeypatch, tmp_path):
    from loadstone_example.backend import PlainBackend

    right = PlainBackend.parameters
    monkeypatch.setattr(
        PlainBackend,
        "parameters",
        lambda self, model: {n: p for n, p in right(self, model).items() if "norm" not in n},
    )
    with pytest.raises(Exception, match="norm"):
        bits(Echoes(), OWN, "echo-base", tmp_path)


def test_a_mark_that_is_no_longer_needed_fails():
    with pytest.raises(AssertionError, match="this works now: take notimpl"), notimpl("something"):
        pass
    with pytest.raises(pytest.xfail.Exception, match="something"), notimpl("something"):
        raise NotImplementedError


def test_patterns_that_match_nothing_are_told():
    class Misspelt(TestTheirs):
        cases = ("ehco-*",)

    class Stale(TestTheirs):
        todo: ClassVar = {"proof[bert-*": notimpl("")}

    for suite, name in ((Misspelt, "ehco"), (Stale, "bert")):
        with pytest.raises(LookupError, match=name):
            suite.chosen()


def test_cases_of_a_stranger_do_not_know_ours():
    assert [case.name for case in OWN.cases()] == ["echo-base", "echo-causal-lm"]
    with pytest.raises(KeyError, match=r"no case and no family of loadstone_example.cases:CASES: llama"):
        cases_of(OWN.table, ["llama"])
