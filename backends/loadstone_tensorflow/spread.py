"""A model that is spread: which of its layers are called by what brings their parameters and their inputs to them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from loadstone.errors import PlacementError
from loadstone_tensorflow.blocks.away import HOST, AsTensorFlow, Away, Visit, is_table
from loadstone_tensorflow.framework import keras, tf
from loadstone_tensorflow.layers import Layer, Parameter, attribute
from loadstone_tensorflow.programs import Programs

if TYPE_CHECKING:
    from loadstone.backend import Placement
    from loadstone.read.on_disk import OnDisk


class Leaf(NamedTuple):
    """A parameter or buffer of a layer.

    Attributes:
        layer: Who holds it.
        name: Its name there.
        path: Its name in checkpoints.
    """

    layer: keras.layers.Layer
    name: str
    path: str

    @property
    def held(self) -> Parameter:
        """What the layer holds."""
        found: Parameter = getattr(self.layer, attribute(self.name))
        return found

    def replace(self, held: Parameter) -> None:
        """Have the layer hold something else."""
        self.layer._untrack_variable(self.held)
        setattr(self.layer, attribute(self.name), held)


def spread(
    model: keras.Model,
    leaves: Iterable[Leaf],
    placement: Placement,
    *,
    blocks: Callable[[str], str],
    on_disk: OnDisk | None,
    as_tensorflow: AsTensorFlow,
) -> None:
    """Make a model run whose parameters lie in several places.

    Args:
        model: It.
        leaves: All that a checkpoint may hold of it, in the order in which it runs.
        placement: Where each parameter is.
        blocks: Parameter -> the name of its block, or "".
        on_disk: What stays on disk; None: nothing.
        as_tensorflow: Makes a tensor of what comes from disk.
    """
    if tf.distribute.has_strategy():
        raise PlacementError(
            "under a strategy of tf.distribute that decides where a model lies, and not several places of a device map",
            found=str(placement),
            hint="load it outside of strategy.scope(), or leave device_map, max_memory and wait out",
        )
    leaves = list(leaves)
    if on_disk is not None:
        _leave(leaves, placement, on_disk, as_tensorflow)
    units: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        block = blocks(leaf.path)
        # One of a stack is called as one; of others, such as embeddings, each part is.
        called = block if block.rpartition(".")[2].isdigit() else leaf.path.rpartition(".")[0]
        units.setdefault(called, []).append(leaf)
    devices = {name: placement.runs_on(unit[0].path).name for name, unit in units.items()}
    hops = len(set(devices.values())) > 1 or any(device != HOST for device in devices.values())
    visits, programs = {}, Programs()
    for name, unit in units.items():
        stays = [held for leaf in unit if isinstance(held := leaf.held, Away)]
        if stays or hops:
            visits[name] = Visit(stays, devices[name], hops=hops, programs=programs)
    for name, visit in visits.items():
        layer = model.module_at(name)
        if isinstance(layer, Layer):  # what a model itself holds comes alone
            layer.visit = visit
        # What calls Python cannot be compiled by XLA, which Keras would take where it can.
        layer.supports_jit = layer.supports_jit and all(one.comes_once for one in visit.stays)
    if on_disk is not None:
        tables = (
            visit.names for name, visit in visits.items() if is_table(model.module_at(name), visit.device)
        )
        on_disk.in_order(
            (visit.names for visit in visits.values()), tables=tuple(itertools.chain.from_iterable(tables))
        )
    model.forget_compiled()


def _leave(
    leaves: Sequence[Leaf], placement: Placement, on_disk: OnDisk, as_tensorflow: AsTensorFlow
) -> None:
    """Put an `Away` in the place of each parameter that stays on disk, and of those that are tied to it."""
    away = {
        id(leaf.held): Away(on_disk, leaf.path, placement.runs_on(leaf.path).name, as_tensorflow, leaf.held)
        for leaf in leaves
        if leaf.path in on_disk.requests
    }
    found = [(leaf, away.get(id(leaf.held))) for leaf in leaves]
    for leaf, stand_in in found:
        if stand_in is not None:
            leaf.replace(stand_in)
