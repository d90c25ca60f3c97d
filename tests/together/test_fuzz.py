"""The fuzzer of files of weights sees what it is there to see, and each format bears some of its inputs."""

import os
import random
import re
import sys
import time

import numpy as np
import pytest

from tests import fuzz


@pytest.fixture(scope="module")
def ran():
    found = fuzz.Ran()
    sys.addaudithook(found.hook)  # it stays, and looks only while an input is tried
    return found


@pytest.mark.parametrize("name", fuzz.SEEDS)
def test_changed_files_load_or_end_in_our_errors(name, tmp_path, ran):
    corpus, chance = fuzz.seeds(name, tmp_path), random.Random(7)
    for files in corpus:
        assert fuzz.one(files, tmp_path / "one", name, fuzz.Ran()) == ("loads", "")
    ends = set()
    for _ in range(25):
        end, fault = fuzz.one(
            fuzz.changed(chance.choice(corpus), corpus, chance), tmp_path / "one", name, ran
        )
        assert not fault
        ends.add(end)
    assert len(ends) > 2


def too_long():
    until = time.process_time() + fuzz.SECONDS + 0.1
    while time.process_time() < until:
        pass


WRONG = {
    "ran": lambda: os.system("true"),
    r"took .* 1\d\d MB": lambda: np.ones(fuzz.MEMORY + (8 << 20), np.uint8),
    r"took 0\.[2-9]": too_long,
    "KeyError": lambda: {}["a"],
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_seen(what, tmp_path, monkeypatch, ran):
    monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    monkeypatch.setattr(fuzz, "load", lambda folder, name: WRONG[what]())
    end, fault = fuzz.one({"a": b""}, tmp_path / "one", "npz", ran)
    assert re.search(what, fault), (end, fault)
