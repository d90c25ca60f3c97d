"""Placements: which place a parameter has, by the names of modules."""

import pytest

from loadstone.backend import Device, Place, Placement
from loadstone.errors import PlacementError

ONE, TWO = (Device(name=f"gpu:{i}", is_host=False, free=1, total=1) for i in range(2))
DISK = Place(device=None)


def test_the_longest_name_decides_at_dots():
    one, two = Place(device=ONE), Place(device=TWO)
    found = Placement(modules={"": one, "layers.1": two, "layers.1.mlp.bias": DISK})
    assert found.of("layers.10.mlp.bias") == one
    assert found.of("layers.1.mlp.weight") == two
    assert found.of("layers.1.mlp.bias") == DISK
    assert found.of("layers.1") == two
    assert found.places == (one, two, DISK)
    assert found.device_map == {"": "gpu:0", "layers.1": "gpu:1", "layers.1.mlp.bias": "disk"}
    assert str(found) == "gpu:0, gpu:1, disk"


def test_a_parameter_of_which_nothing_is_said():
    with pytest.raises(KeyError, match=r"norm\.weight"):
        Placement(modules={"layers": DISK}).of("norm.weight")


def test_what_stays_on_disk_has_no_device():
    with pytest.raises(PlacementError, match="stays on disk"):
        Placement(modules={"": DISK}).device_of("norm.weight")
    assert not DISK.is_host


def test_one_device_is_the_simplest_case():
    found = Placement.on(ONE)
    assert found.device_of("anything.at.all") is ONE
    assert (str(found), found.device_map, found.asked) == ("gpu:0", {"": "gpu:0"}, False)
