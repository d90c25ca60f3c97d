"""Spreading a model over places: budgets, ties and blocks are kept, and the largest load is the smallest that there is."""

import dataclasses
import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from loadstone.backend import STRATEGIES
from loadstone.errors import PlacementError
from loadstone.planning.spread import Room, Unit, above_all, block_finder, compact, spread, units_of

BLOCKS = block_finder(["layers.{}", "embeddings"], "model")


@dataclasses.dataclass(frozen=True)
class Case:
    """A model and where it may go."""

    sizes: dict[str, int]
    ties: tuple[tuple[str, str], ...]
    devices: tuple[Room, ...]
    offload: tuple[Room, ...]
    strategy: str

    @property
    def units(self) -> tuple[Unit, ...]:
        return units_of(self.sizes, ties=self.ties, block_of=BLOCKS)

    def place(self) -> dict[str, str]:
        """Parameter -> its place, as the map says it: the longest name that fits."""
        found = spread(self.units, self.devices, self.offload, self.strategy)
        return {
            name: next(found[above] for above in reversed(above_all(name)) if above in found)
            for name in self.sizes
        }

    def loads(self) -> dict[str, int]:
        loads = dict.fromkeys([room.name for room in (*self.devices, *self.offload)], 0)
        for name, place in self.place().items():
            loads[place] += self.sizes[name]
        return loads


@st.composite
def cases(draw: st.DrawFn, *, disk: bool = True) -> Case:
    size = st.integers(0, 40)
    sizes = {"model.embed.weight": draw(size)}
    for layer in range(draw(st.integers(0, 6))):
        for leaf in ("attention.weight", "attention.bias", "mlp.up.weight"):
            sizes[f"model.layers.{layer}.{leaf}"] = draw(size)
    sizes |= {"model.scale": draw(size), "model.norm.weight": draw(size), "head.weight": draw(size)}
    pairs = [("head.weight", "model.embed.weight"), ("model.scale", "model.norm.weight")]
    pairs += [("model.layers.0.mlp.up.weight", "model.layers.2.mlp.up.weight")]
    ties = tuple(pair for pair in pairs if draw(st.booleans()) and all(name in sizes for name in pair))
    sizes |= {name: 0 for name, _ in ties}
    budget = st.integers(0, 200)
    devices = tuple(Room(name=str(i), budget=draw(budget)) for i in range(draw(st.integers(1, 4))))
    host = (Room(name="cpu", budget=draw(budget)),) if draw(st.booleans()) else ()
    last = Room(name="disk", budget=None if disk else 0)
    return Case(sizes, ties, devices, (*host, last), draw(st.sampled_from(STRATEGIES)))


def placed(case: Case) -> dict[str, str]:
    """Place a case, and leave out those in which a unit fits nowhere."""
    try:
        return case.place()
    except PlacementError as error:
        assume("budget" not in str(error))
        raise


@given(cases(disk=False) | cases())
def test_no_place_holds_more_than_its_budget(case):
    placed(case)
    loads = case.loads()
    assert sum(loads.values()) == sum(case.sizes.values())
    for room in (*case.devices, *case.offload):
        assert room.holds(loads[room.name])


@given(cases())
def test_ties_lie_together_and_blocks_are_whole(case):
    places = placed(case)
    assert places.keys() == case.sizes.keys()
    assert all(places[name] == places[to] for name, to in case.ties)
    blocks = {(BLOCKS(name), place) for name, place in places.items() if BLOCKS(name)}
    assert len(blocks) == len({block for block, _ in blocks})
    assert placed(case) == places


@given(cases())
def test_units_go_from_place_to_place_in_order(case):
    places = placed(case)
    order = [room.name for room in (*case.devices, *case.offload)]
    ranks = [
        order.index(next(place for name, place in places.items() if unit.names[0] in above_all(name)))
        for unit in case.units
    ]
    assert ranks == sorted(ranks)


@given(cases())
def test_what_comes_back_to_the_first_device_has_room_there(case):
    places = placed(case)
    homes = {name: unit for unit in case.units for name in unit.names}

    def largest(*rooms):
        away = (
            homes[home].nbytes
            for name, place in places.items()
            if place in rooms
            for home in above_all(name)
            if home in homes
        )
        return max(away, default=0)

    loads = case.loads()
    assert not loads["0"] or case.devices[0].holds(loads["0"] + largest("cpu", "disk"))
    if len(case.offload) == 2:
        assert not loads["cpu"] or case.offload[0].holds(loads["cpu"] + largest("disk"))


@given(cases(), st.integers(0, 4), st.integers(1, 100))
def test_more_memory_never_makes_it_worse(case, number, more):
    rooms = [*case.devices, *case.offload[:-1]]
    number %= len(rooms)
    rooms[number] = dataclasses.replace(rooms[number], budget=rooms[number].budget + more)
    count = len(case.devices)
    larger = dataclasses.replace(
        case, devices=tuple(rooms[:count]), offload=(*rooms[count:], case.offload[-1])
    )
    placed(case)
    before, after = case.loads(), larger.loads()
    assert after["disk"] <= before["disk"]
    assert after["disk"] + after.get("cpu", 0) <= before["disk"] + before.get("cpu", 0)
    away = after["disk"] + after.get("cpu", 0)
    if case.strategy == "balanced" and not away and before["disk"] + before.get("cpu", 0) == 0:
        assert max(after.values()) <= max(before.values())


def splits(count: int, devices: int):
    """Yield every way to cut so many units into runs for the devices in order."""
    for cuts in itertools.combinations_with_replacement(range(count + 1), devices - 1):
        yield [(start, end) for start, end in itertools.pairwise([0, *cuts, count])]


def feasible(case: Case):
    """Yield the loads of every split that keeps the devices' budgets."""
    sizes = [unit.nbytes for unit in case.units]
    for runs in splits(len(sizes), len(case.devices)):
        loads = [sum(sizes[start:end]) for start, end in runs]
        if all(room.holds(load) for room, load in zip(case.devices, loads, strict=True)):
            yield loads


@given(cases())
def test_the_largest_load_is_the_smallest_that_there_is(case):
    best = min(map(max, feasible(case)), default=None)
    balanced = dataclasses.replace(case, strategy="balanced")
    placed(balanced)
    loads = balanced.loads()
    if best is None:
        assert loads["disk"] + loads.get("cpu", 0) > 0
    else:
        assert max(loads.values()) == best
        assert loads["disk"] == loads.get("cpu", 0) == 0


@given(cases())
def test_the_first_device_is_as_empty_as_the_others_allow(case):
    low = dataclasses.replace(case, strategy="balanced_low_0")
    assume(len(case.devices) > 1)
    found = list(feasible(case))
    assume(found)
    placed(low)
    loads = low.loads()
    least = min(one[0] for one in found)
    assert loads["0"] == least
    best = min(max(one[1:]) for one in found if one[0] == least)
    assert max(loads[room.name] for room in case.devices[1:]) == best


@given(cases())
def test_auto_takes_one_device_where_one_has_room(case):
    auto = dataclasses.replace(case, strategy="auto")
    placed(auto)
    total = sum(case.sizes.values())
    alone = [room.name for room in case.devices if room.holds(total)]
    if alone:
        assert set(auto.place().values()) == {alone[0]}
    else:
        assert auto.place() == dataclasses.replace(case, strategy="balanced").place()


def rooms(*budgets):
    return [Room(name=str(i), budget=budget) for i, budget in enumerate(budgets)]


def units(*sizes):
    return [Unit(names=(f"layers.{i}",), nbytes=size) for i, size in enumerate(sizes)]


DISK = Room(name="disk", budget=None)


def test_filling_one_device_after_the_other_would_be_worse():
    found = spread(units(4, 3, 3, 3, 3), rooms(99, 99), [DISK], "balanced")
    assert list(found.values()) == ["0", "0", "1", "1", "1"]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=9), st.integers(1, 4))
def test_the_largest_load_of_small_units(sizes, devices):
    found = spread(units(*sizes), rooms(*[99] * devices), [DISK], "balanced")
    loads = dict.fromkeys(found.values(), 0)
    for i, size in enumerate(sizes):
        loads[found.get(f"layers.{i}") or found.get("layers") or found[""]] += size
    every = (max(sum(sizes[start:end]) for start, end in runs) for runs in splits(len(sizes), devices))
    assert max(loads.values()) == min(every)


def test_what_is_left_is_shared_evenly():
    found = spread(units(*[1] * 9), rooms(9, 9, 9, 9), [DISK], "balanced")
    loads = [list(found.values()).count(str(device)) for device in range(4)]
    assert sorted(loads) == [2, 2, 2, 3], "filling up to the largest load would leave the last one empty"


def test_a_small_device_is_left_what_it_holds():
    found = spread(units(*[1] * 10), rooms(9, 2), [DISK], "balanced")
    assert list(found.values()).count("1") == 2
    found = spread(units(*[1] * 10), rooms(99, 1, 1), [DISK], "balanced")
    assert list(found.values())[-2:] == ["1", "2"]


def test_a_model_without_bounds_stays_where_it_is():
    assert spread(units(1, 2), rooms(None), [DISK], "sequential") == {"": "0"}
    assert list(spread(units(1, 2), rooms(None, None), [DISK], "balanced").values()) == ["0", "1"]
    assert spread([], rooms(5), [DISK], "balanced") == {}


def test_what_is_one_unit():
    sizes = {
        "model.embeddings.word.weight": 1,
        "model.embeddings.norm.weight": 2,
        "model.layers.0.mlp.weight": 3,
        "model.token": 4,
        "model.pooler.weight": 5,
        "model.pooler.bias": 6,
        "head.weight": 0,
        "head.bias": 7,
    }
    found = units_of(sizes, ties=[("head.weight", "model.embeddings.word.weight")], block_of=BLOCKS)
    assert [(unit.names, unit.nbytes) for unit in found] == [
        (("model.embeddings", "head"), 10),
        (("model.layers.0",), 3),
        (("model.token",), 4),
        (("model.pooler",), 11),
    ]


def test_a_name_is_no_name_that_starts_alike():
    places = {"layers.1": 0, "layers.10": 1, "layers.1x": 1}
    assert compact(places) == places


def test_a_block_larger_than_every_budget():
    with pytest.raises(PlacementError, match="larger than every budget") as caught:
        spread(units(10, 30, 31), rooms(20, 29), [Room(name="cpu", budget=5), DISK], "auto")
    assert caught.value.problems == ("layers.1: 30 B", "layers.2: 31 B")
    assert "31 bytes" in str(caught.value)
    assert "0: 20 B, 1: 29 B, cpu: 5 B" in str(caught.value)
    assert spread(units(10, 30, 31), rooms(20, 29), [Room(name="cpu", budget=31), DISK], "auto")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_disk_where_one_is_needed(strategy):
    with pytest.raises(PlacementError, match="too little of it may stay on disk") as caught:
        spread(units(10, 10, 10), rooms(10, 10), [Room(name="disk", budget=9)], strategy)
    assert "disk: 9 B" in str(caught.value)
