"""Device maps and budgets as callers give them, and what of a spread model moves."""

import json
import logging
from types import SimpleNamespace

import pytest
from made_up import BASE, LM, ToyConfig, index, plan, shapes_of

from loadstone.backend import Device, unknown_device
from loadstone.errors import ArgumentError, PlacementError
from loadstone.load.report import LoadReport
from loadstone.planning.held import bandwidths, held, tokens_per_second
from loadstone.planning.parts import in_part
from loadstone.planning.place import check_runs, place, sizes_of
from loadstone.planning.rooms import bytes_of, rooms_of
from loadstone.planning.spread import block_finder

BLOCKS = block_finder(["layers.{}"], "model")
SIZES = {"model.embed": 112, "model.layers.0": 96, "model.layers.1": 96, "model.norm": 24, "head": 112}
"""Module of the language model -> its bytes."""


class Machine:
    """A backend with devices of our choice, and a host."""

    def __init__(self, *free: int, hosts: int = 1, spreads: bool = False) -> None:
        self.capabilities = SimpleNamespace(spreads=spreads)
        self.found = tuple(
            Device(name=f"gpu:{i}", is_host=False, free=size, total=9999) for i, size in enumerate(free)
        )
        self.found += tuple(
            Device(name=f"cpu:{i}" if hosts > 1 else "cpu", is_host=True, free=0, total=1)
            for i in range(hosts)
        )
        self.looks = 0

    def devices(self) -> tuple[Device, ...]:
        return self.found

    def device(self, requested: object) -> Device:
        self.looks += 1
        for device in self.found:
            if str(requested) in (device.name, device.name.partition(":")[0]):
                # What is free is another number at each look.
                free = device.free + self.looks if device.free else 0
                return Device(name=device.name, is_host=device.is_host, free=free, total=device.total)
        if requested is None:
            return self.found[-1]
        raise unknown_device(requested, self.found)


@pytest.fixture
def toy():
    """Two layers, nothing tied."""
    return plan(LM, shapes_of(LM), config=ToyConfig.from_dict({"tie_word_embeddings": False}))


@pytest.fixture
def tied():
    stored = {n: s for n, s in shapes_of(LM).items() if n != "head.weight"}
    return plan(LM, stored, config=ToyConfig.from_dict({"architectures": ["ToyForCausalLM"]}))


def mapped(found_plan, machine, device_map, **arguments):
    return place(found_plan, machine, device_map, block_of=BLOCKS, **arguments).device_map


def test_the_sizes_that_these_tests_count_with(toy):
    found = dict.fromkeys(SIZES, 0)
    for name, size in sizes_of(toy).items():
        found[next(module for module in SIZES if name.startswith(f"{module}."))] += size
    assert found == SIZES


# Strategies


def test_every_strategy_on_two_accelerators(toy):
    machine = Machine(400, 400)
    first = {"model.embed": "gpu:0", "model.layers.0": "gpu:0"}
    second = {"model.layers.1": "gpu:1", "model.norm": "gpu:1", "head": "gpu:1"}
    assert mapped(toy, machine, "auto") == mapped(toy, machine, "balanced") == first | second
    assert mapped(toy, Machine(400, 500), "auto") == {"": "gpu:1"}
    assert mapped(toy, machine, "sequential") == {"model": "gpu:0", "head": "gpu:1"}
    assert mapped(toy, machine, "balanced_low_0") == {
        "model.embed": "gpu:0", "model.layers": "gpu:1", "model.norm": "gpu:1", "head": "gpu:1"
    }  # fmt: skip
    assert mapped(toy, Machine(400, 500), "balanced_low_0") == {"": "gpu:1"}


def test_what_accelerators_do_not_hold_goes_to_the_host(toy):
    assert mapped(toy, Machine(300), "auto") == {
        "model.embed": "gpu:0",
        "model.layers": "cpu",
        "model.norm": "cpu",
        "head": "cpu",
    }, "room is kept for the head that comes back"
    assert mapped(toy, Machine(), "balanced") == {"": "cpu"}


def test_hosts_that_are_several_are_devices(toy):
    machine = Machine(hosts=2)
    assert mapped(toy, machine, "auto") == {"": "cpu:0"}
    assert set(mapped(toy, machine, "balanced").values()) == {"cpu:0", "cpu:1"}
    assert mapped(toy, machine, 1) == {"": "cpu:1"}
    assert set(mapped(toy, machine, "balanced", max_memory={0: 300, 1: 300}).values()) == {"cpu:0", "cpu:1"}


def test_a_tenth_of_an_accelerator_is_left_to_activations(toy):
    assert mapped(toy, Machine(489), "auto") == {"": "gpu:0"}
    assert mapped(toy, Machine(488), "auto") != {"": "gpu:0"}
    assert mapped(toy, Machine(488), "auto", max_memory={0: 440}) == {"": "gpu:0"}, "the caller's own budget"


def test_ties_stay_together(tied):
    found = mapped(tied, Machine(300, 300), "balanced")
    assert found["head"] == found["model.embed"] == "gpu:0"
    assert found["model.norm"] == "gpu:1"


def test_what_may_turn_out_to_be_tied_stays_together():
    config = ToyConfig.from_dict({"architectures": ["ToyForCausalLM"]})
    twice = plan(LM, shapes_of(LM), config=config)
    assert twice.compare
    found = mapped(twice, Machine(400, 400), "sequential")
    assert found["head"] == found["model.embed"]
    with pytest.raises(PlacementError, match="takes apart"):
        mapped(twice, Machine(400, 400), {"model": 0, "head": 1})


# Budgets


def test_budgets_for_devices_that_this_machine_does_not_have(toy):
    budgets = {"cpu": "120B", 0: 224, 1: "0.1kB"}
    found = place(toy, Machine(), None, max_memory=budgets, block_of=BLOCKS)
    assert found.asked
    assert found.device_map == {"model.embed": "0"} | {
        "model.layers.0": "1",
        "model.layers.1": "disk",
        "model.norm": "disk",
        "head": "disk",
    }
    assert [p.name for p in found.places] == ["0", "1", "disk"]
    with pytest.raises(PlacementError, match="no device 0 here") as caught:
        check_runs(found, Machine(spreads=True))
    assert "1 device here: cpu" in str(caught.value)


def test_numbers_go_before_the_host_and_in_order(toy):
    assert mapped(toy, Machine(9, 9), "sequential", max_memory={1: 440, 0: 220}) == {
        "model.embed": "gpu:0", "model.layers.0": "gpu:0", "model.layers.1": "gpu:1",
        "model.norm": "gpu:1", "head": "gpu:1",
    }  # fmt: skip
    assert set(mapped(toy, Machine(hosts=2), "auto", max_memory={"cpu": 1, 0: 440}).values()) == {"0"}


def test_a_budget_for_the_host_alone_makes_it_the_device(toy):
    found = mapped(toy, Machine(), "auto", max_memory={"cpu": 352})
    assert found == {"model.embed": "cpu", "model.layers.0": "cpu"} | {
        "model.layers.1": "disk",
        "model.norm": "disk",
        "head": "disk",
    }
    assert mapped(toy, Machine(), "auto", max_memory={"cpu": 440}) == {"": "cpu"}


def test_a_disk_that_is_excluded(toy):
    with pytest.raises(PlacementError, match="too little of it may stay on disk"):
        mapped(toy, Machine(), "auto", max_memory={"cpu": 439, "disk": 0})


def test_a_map_is_held_to_the_budgets(toy):
    budgets = {0: 112, "cpu": 999}
    halves = {"model.embed": 0, "": "cpu"}
    assert mapped(toy, Machine(999), halves, max_memory=budgets) == {"model.embed": "gpu:0", "": "cpu"}
    assert mapped(toy, Machine(), halves, max_memory=budgets) == {"model.embed": "0", "": "cpu"}
    for device_map in (0, {"": 0}, {"model": "gpu:0", "head": "disk"}):
        with pytest.raises(PlacementError, match="more on a place than max_memory= allows") as caught:
            mapped(toy, Machine(999), device_map, max_memory=budgets)
        assert "gpu:0" in caught.value.problems[0]
    with pytest.raises(PlacementError, match="more on a place") as caught:
        mapped(toy, Machine(999), "cpu", max_memory={0: 999})
    assert caught.value.problems == ("cpu: it has no budget",)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (7, 7), (7.9, 7), ("7", 7), ("10GiB", 10 * 2**30), ("10gib", 10 * 2**30), ("1.5 GB", 1_500_000_000),
        ("2TB", 2 * 10**12), ("3KB", 3000), ("3kB", 3000), ("4MiB", 4 * 2**20),
    ],
)  # fmt: skip
def test_sizes_in_words(size, expected):
    assert bytes_of(size, what="max_memory") == expected


@pytest.mark.parametrize("size", ["", "ten", "10Gb", "10gb", "-1GB", -1, True, None, "1GB2", float("nan")])
def test_what_is_no_size(size):
    with pytest.raises(ArgumentError, match="is no number of bytes"):
        bytes_of(size, what="max_memory")


@pytest.mark.parametrize("budgets", [{}, "10GB", {0: 1, "gpu:0": 1}], ids=str)
def test_what_are_no_budgets(budgets):
    with pytest.raises(ArgumentError, match="max_memory="):
        rooms_of(Machine(9), budgets)


def test_a_device_of_the_budgets_that_is_not_there():
    with pytest.raises(PlacementError, match="no device 'gpo:0' here") as caught:
        rooms_of(Machine(9, 9), {"gpo:0": 5})
    message = str(caught.value)
    assert "3 devices here: gpu:0, gpu:1, cpu" in message
    assert "did you mean gpu:0" in message
    assert "max_memory=" in message


@pytest.mark.parametrize("key", [-1, True])
def test_a_number_that_counts_no_device(key):
    with pytest.raises(PlacementError, match=f"no device {key} here"):
        rooms_of(Machine(9), {key: 5})


# Maps


def test_the_guides_own_map(toy):
    asked = {"model.layers.1": 1, "model": 0, "head.weight": "disk"}
    found = place(toy, Machine(9, 9), asked, block_of=BLOCKS)
    assert found.device_map == {"model.layers.1": "gpu:1", "model": "gpu:0", "head.weight": "disk"}
    assert found.of("model.layers.1.proj.weight").name == "gpu:1"
    assert found.of("model.layers.0.proj.weight").name == "gpu:0"


def test_two_spellings_of_one_device_are_one_place(toy):
    found = place(toy, Machine(9, 9), {"model": 0, "head": "gpu:0"}, block_of=BLOCKS)
    assert len(found.places) == 1
    check_runs(found, Machine(9, 9))


def test_a_map_that_takes_a_block_apart(toy):
    asked = {"": 0, "model.layers.1.proj": "cpu", "model.layers.0.proj.weight": "disk"}
    with pytest.raises(PlacementError, match="takes apart what is one") as caught:
        mapped(toy, Machine(9), asked)
    first, second = caught.value.problems
    assert first.startswith("model.layers.0 is a block")
    assert "model.layers.0.proj.weight on disk" in first
    assert "model.layers.0.router.weight on gpu:0" in first
    assert second.startswith("model.layers.1 is a block")


def test_a_map_that_takes_a_tie_apart(tied):
    with pytest.raises(PlacementError, match="takes apart what is one") as caught:
        mapped(tied, Machine(9), {"": 0, "head": "cpu"})
    (problem,) = caught.value.problems
    assert "head.weight is tied to model.embed.weight" in problem
    assert "model.embed.weight on gpu:0, head.weight on cpu" in problem


@pytest.mark.parametrize(("wanted", "said"), [(2, "no device 2 here"), (True, "no device True"), (-1, "-1")])
def test_a_number_beyond_the_devices(toy, wanted, said):
    for device_map in (wanted, {"": wanted}):
        with pytest.raises(PlacementError, match=said) as caught:
            mapped(toy, Machine(9, 9), device_map)
        assert "3 devices here: gpu:0, gpu:1, cpu" in str(caught.value)
    with pytest.raises(PlacementError, match="no device 0 here"):
        mapped(toy, Machine(), 0)


def test_a_word_that_is_nearly_a_strategy(toy):
    with pytest.raises(PlacementError, match="did you mean balanced"):
        mapped(toy, Machine(9), "balancd")


def test_a_module_without_a_device_is_absent(toy):
    assert mapped(toy, Machine(9), {"model": 0, "head": None}) == {"model": "gpu:0", "head": None}
    found = place(toy, Machine(9), {"model": 0, "head": None}, block_of=BLOCKS)
    assert in_part(toy, found).assignments["head.weight"].state == "absent"
    assert sum(one.nbytes for one in held(in_part(toy, found), found)) == sum(SIZES.values()) - SIZES["head"]


def test_a_name_without_parameters_is_told(toy, caplog):
    with caplog.at_level(logging.WARNING):
        mapped(toy, Machine(9), {"": 0, "model.layer.1": "cpu"})
    assert "model.layer.1 has no parameters: did you mean model.layers.1" in caplog.text


# Running


@pytest.mark.parametrize(
    "device_map", ["balanced", "disk", {"": "disk"}, {"model": "cpu", "head": 0}], ids=str
)
def test_a_spread_model_is_planned_and_not_run_yet(toy, device_map):
    found = place(toy, Machine(400, 400), device_map, block_of=BLOCKS)
    with pytest.raises(PlacementError, match="not there yet") as caught:
        check_runs(found, Machine(400, 400))
    assert "name one device" in str(caught.value)
    check_runs(found, Machine(400, 400, spreads=True))
    check_runs(place(toy, Machine(400), 0), Machine(400))


# What it comes to


def report(toy, placement, **facts):
    return LoadReport(
        model_class="ToyModel", backend="toy", location="a folder", commit=None, placement=placement,
        dtype="float32", dtype_origin="config", plan=toy, **facts,
    )  # fmt: skip


def test_what_moves_in_a_forward_pass(toy):
    asked = {"model.embed": 0, "model.layers.0": "cpu", "": "disk"}
    found = held(toy, place(toy, Machine(9), asked, block_of=BLOCKS))
    assert [(one.place.name, one.nbytes, one.parameters, one.moves) for one in found] == [
        ("gpu:0", 112, 1, False),
        ("cpu", 96, 2, True),
        ("disk", 232, 5, True),
    ]
    (alone,) = held(toy, place(toy, Machine(), "cpu"))
    assert (alone.nbytes, alone.moves) == (440, False)
    assert tokens_per_second(found, bandwidths("328B/s", found)) == 1
    assert tokens_per_second(found, bandwidths({"cpu": 96, "disk": "232B"}, found)) == 0.5
    assert tokens_per_second(found, bandwidths({"cpu": 96, "disk": 232, "gpu:0": 56}, found)) == 0.25
    assert tokens_per_second(found, {}) is None
    assert tokens_per_second((alone,), bandwidths(5, (alone,))) is None
    assert tokens_per_second((alone,), bandwidths({"cpu": 44, "disk": 3}, (alone,))) == 0.1
    with pytest.raises(ArgumentError, match="names 'dsk', which holds nothing") as caught:
        bandwidths({"dsk": 5}, found)
    assert "did you mean disk" in str(caught.value)
    with pytest.raises(ArgumentError, match=r"bandwidth\['cpu'\] is 0"):
        bandwidths({"cpu": 0}, found)


def test_a_report_tells_the_map(toy):
    asked = {"model.embed": 0, "model.layers.0": "cpu", "": "disk"}
    placement = place(toy, Machine(9), asked, block_of=BLOCKS)
    lines = str(report(toy, placement, bandwidth={"cpu": 96, "disk": 232})).splitlines()
    assert [line.split() for line in lines[-5:]] == [
        ["place", "number", "bytes", "modules"],
        ["gpu:0", "1", "112", "B", "stays", "model.embed"],
        ["cpu", "2", "96", "B", "moves", "model.layers.0"],
        ["disk", "5", "232", "B", "moves", "the", "rest"],
        [
            "a",
            "forward",
            "pass",
            "moves",
            "328",
            "B:",
            "at",
            "best",
            "0.5",
            "tokens/s",
            "at",
            "cpu",
            "96",
            "B/s,",
            "disk",
            "232",
            "B/s",
        ],
    ]
    facts = json.loads(json.dumps(report(toy, placement).to_dict()))
    assert facts["places"]["disk"] == {"nbytes": 232, "moved": 232}
    assert facts["places"]["gpu:0"] == {"nbytes": 112, "moved": 0}
    assert facts["tokens_per_second"] is None
    assert "tokens/s" not in str(report(toy, placement))


def test_a_report_of_one_place_needs_no_map(toy):
    assert "forward" not in str(report(toy, place(toy, Machine(), "cpu")))
    whole = str(report(toy, place(toy, Machine(), "disk")))
    assert "a forward pass moves 440 B" in whole
    assert whole.splitlines()[-2].split()[-1] == "all"


def test_a_base_model_has_blocks_too():
    found = plan(BASE, index(shapes_of(BASE)))
    with pytest.raises(PlacementError, match=r"layers\.1 is a block"):
        place(found, Machine(9), {"": 0, "layers.1.proj": "cpu"}, block_of=block_finder(["layers.{}"], ""))
