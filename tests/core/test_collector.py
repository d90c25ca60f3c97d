"""The garbage collector rests during a load, and is afterwards what it was before."""

import gc

import pytest

from loadstone.load.collector import paused_collector


@pytest.fixture(autouse=True)
def restored():
    yield
    gc.unfreeze()
    gc.enable()


def test_it_rests_meanwhile_and_works_afterwards():
    with paused_collector():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_works_again_after_an_error():
    with pytest.raises(ValueError), paused_collector():
        raise ValueError
    assert gc.isenabled()


def test_who_had_switched_it_off_finds_it_off():
    gc.disable()
    with paused_collector():
        pass
    assert not gc.isenabled()


def test_two_loads_at_once_leave_it_on():
    with paused_collector(), paused_collector():
        pass
    assert gc.isenabled()


def test_what_was_made_meanwhile_is_old_and_can_still_be_collected():
    with paused_collector():
        circle: list[object] = []
        circle.append(circle)
    assert any(found is circle for found in gc.get_objects(generation=2))
    assert gc.get_freeze_count() == 0
    del circle
    assert gc.collect() > 0


def test_what_the_caller_had_frozen_stays_frozen():
    gc.freeze()
    frozen = gc.get_freeze_count()
    with paused_collector():
        pass
    assert gc.get_freeze_count() == frozen


def test_what_the_caller_had_frozen_is_counted_once(monkeypatch: pytest.MonkeyPatch):
    gc.freeze()
    count, counted = gc.get_freeze_count, []
    monkeypatch.setattr(gc, "get_freeze_count", lambda: counted.append(count()) or counted[-1])
    for _ in range(3):
        with paused_collector():
            circle: list[object] = []
        assert any(found is circle for found in gc.get_objects(generation=2))
    assert len(counted) <= 1
