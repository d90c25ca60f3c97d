"""Parameters that are not where they are used: each comes when the module runs that needs it, and is forgotten after.

A model that lies in several places is no one program. In a call a `Visit` stands in the place of each block, and of each module
outside of blocks that holds parameters; so whoever calls it (`run_blocks`, a head) need not know. A visit brings what its module
lacks and runs it as a program of its own, whose arguments the parameters are: layers of one spec share it. What stays on disk is
an `Away` in its variable: it has a shape, a dtype and no values.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from loadstone.errors import ArgumentError, PlacementError
from loadstone_flax.blocks.run import Block, part_of, run_block
from loadstone_flax.devices import as_jax, spellings
from loadstone_flax.layers import BatchNorm, changed_state, named_modules, named_parameters, submodule

if TYPE_CHECKING:
    from loadstone.backend import Placement
    from loadstone.read.arriving import Names
    from loadstone.read.on_disk import OnDisk


class Away:
    """What stands in the place of the value of a parameter that stays on disk.

    Attributes:
        on_disk: What brings it.
        path: Its name there.
        shape: Sizes of its axes.
        dtype: What it comes in.
        runs_on: Name of the device that it comes to.
    """

    def __init__(self, on_disk: OnDisk, path: str, dtype: Any, runs_on: str) -> None:
        """Make it; it takes no memory."""
        self.on_disk, self.path, self.runs_on = on_disk, path, runs_on
        self.shape, self.dtype = on_disk.requests[path].shape, np.dtype(dtype)

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return int(np.prod(self.shape))

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise PlacementError(  # JAX would catch a TypeError, as others of ours are, and tell another one
            "a parameter that is not in memory has a shape and a dtype, and no values here",
            found=repr(self),
            hint="call the model, whose blocks bring it when they run, outside of jax.jit and jax.grad of this parameter;"
            " else load the model with all of it on a device",
        )

    __getitem__ = __array__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = __matmul__ = __rmatmul__ = _refuse
    __jax_array__ = property(_refuse)  # JAX asks whether this is there, and must not go on without values

    def __repr__(self) -> str:
        return f"on disk: {self.path}, {self.dtype}, {list(self.shape)}"


class Called(NamedTuple):
    """A module that is called as one.

    Attributes:
        path: Its path in the model.
        device: Name of the device that computes it; None: all compute on one, and nothing is moved.
        home: Name of the device that its output is moved to; None: none.
    """

    path: str
    device: str | None
    home: str | None


class Visit(nnx.Module):
    """Stands in the place of a module while its model is called: what the module needs comes before it runs.

    Attributes:
        module: It.
        called: Where it runs.
        gradient_checkpointing: False for whoever calls it: its program computes a layer again.
    """

    gradient_checkpointing = False

    def __init__(self, module: nnx.Module, called: Called) -> None:
        """Stand for a module."""
        self.module, self.called = module, called

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # nnx's own, and those that are not there yet
            raise AttributeError(name)
        return getattr(self.module, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Bring what the module needs, and run it."""
        cache = layer = None
        if isinstance(self.module, Block):
            x, context = args
            cache, layer = context.cache, context.layer
            args = x, context.alone()
        module, came = self._filled()
        given, structure = jax.tree.flatten((args, kwargs))
        fixed = tuple(None if isinstance(one, Array | np.ndarray) else one for one in given)
        arrays = [one if isinstance(one, Array | np.ndarray) else None for one in given]
        arrays = self._moved(arrays, self.called.device)
        output, grown, changed = _program(module, arrays, fixed=fixed, structure=structure)
        if cache is not None:
            cache.join(layer, grown)
        if changed is not None:
            nnx.update(self.module, changed)
        if came:  # else the next ones would come while these still wait to be used
            jax.block_until_ready(output)
        return self._moved(output, self.called.home)

    def _filled(self) -> tuple[nnx.Module, bool]:
        """Return the module with values on its device, and whether some have come for this call."""
        leaves, structure = jax.tree.flatten(self.module)
        away = [leaf for leaf in leaves if isinstance(leaf, Away)]
        came = bool(away) or any(self._is_elsewhere(leaf) for leaf in leaves)
        if away:
            self._check()
            brought = away[0].on_disk.bring(names_of(away))
            leaves = [
                as_jax(brought[one.path], one.runs_on) if isinstance(one, Away) else one for one in leaves
            ]
        return jax.tree.unflatten(structure, self._moved(leaves, self.called.device)), came

    def _is_elsewhere(self, leaf: object) -> bool:
        if self.called.device is None or not isinstance(leaf, Array) or isinstance(leaf, jax.core.Tracer):
            return False
        return leaf.devices() != {spellings()[self.called.device]}

    def _check(self) -> None:
        """Make sure that nothing here learns by looking: what comes and goes keeps no change."""
        trained = [
            name
            for path, module in named_modules(self.module)
            if isinstance(module, BatchNorm) and not module.use_running_average
            for name in (f"{self.called.path}.{path}running_mean", f"{self.called.path}.{path}running_var")
        ]
        if trained:
            raise ArgumentError(
                "parameters that only come when their block runs cannot be trained",
                problems=trained,
                hint="run the model in eval(), or give their blocks a device in device_map=",
            )

    @staticmethod
    def _moved(tree: Any, device: str | None) -> Any:
        return tree if device is None else jax.device_put(tree, spellings()[device])


@functools.partial(jax.jit, static_argnames=("fixed", "structure"))
def _program(module: Any, arrays: list[Any], *, fixed: tuple[Any, ...], structure: Any) -> Any:
    """Return a module's output, what a layer's cache has become, and what training has changed beside parameters."""
    given = [one if array is None else array for one, array in zip(fixed, arrays, strict=True)]
    args, kwargs = jax.tree.unflatten(structure, given)
    if not isinstance(module, Block):
        return module(*args, **kwargs), None, changed_state(module)
    x, context = args
    return run_block(module, x, context), context.cache, changed_state(module)


def names_of(leaves: Iterable[object]) -> Names:
    """Return what comes from disk, in the order in which a module holds it."""
    return tuple(dict.fromkeys(leaf.path for leaf in leaves if isinstance(leaf, Away)))


def copied(model: Any) -> Any:
    """Return a model of the same parameters, whose modules may be changed."""
    return jax.tree.map(lambda leaf: leaf, model)


def at_home(calls: Iterable[Called], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return inputs where a model computes what is in no block of it; a cache stays where its layers are."""
    device = next((spellings()[one.home] for one in calls if one.home is not None), None)
    return {
        name: jax.device_put(value, device) if isinstance(value, Array) and device is not None else value
        for name, value in arrays.items()
    }


@contextlib.contextmanager
def visited(model: nnx.Module, calls: Iterable[Called]) -> Iterator[None]:
    """Put a `Visit` in the place of each module that is called as one, for a while.

    Raises:
        ArgumentError: If a program is being compiled.
    """
    visits = [(*_owner(model, one.path), one) for one in calls]
    if visits and isinstance(jnp.zeros(()), jax.core.Tracer):
        raise ArgumentError(
            "a model that lies in several places is no part of one program",
            hint="call it outside of jax.jit: each of its blocks is compiled, and those that are alike once",
        )
    for parts, name, one in visits:
        parts[name] = Visit(parts[name], one)
    try:
        yield
    finally:
        for parts, name, _ in visits:
            parts[name] = parts[name].module


def _owner(model: nnx.Module, path: str) -> tuple[dict[str, Any], str]:
    """Return the parts among which a module is, and its name there."""
    owner, _, name = path.rpartition(".")
    return part_of(submodule(model, owner)), name


def spread(
    model: nnx.Module,
    placement: Placement,
    *,
    blocks: Callable[[str], str],
    on_disk: OnDisk | None,
    dtypes: Mapping[str, Any],
) -> tuple[Called, ...]:
    """Make a model ready to run whose parameters lie in several places.

    Args:
        model: It.
        placement: Where each parameter is.
        blocks: Parameter -> the name of its block, or "".
        on_disk: What stays on disk; None: nothing.
        dtypes: Canonical dtype -> JAX's.

    Returns:
        The modules that are called as one, in the order in which they run.
    """
    first: dict[str, str] = {}  # module -> its first parameter
    for name, variable in named_parameters(model):
        if on_disk is not None and name in on_disk.requests:
            dtype = dtypes[on_disk.requests[name].dtype]
            variable.set_raw_value(Away(on_disk, name, dtype, placement.runs_on(name).name))
        block = blocks(name)
        # One of a stack is called as one; of others, such as embeddings, each part is.
        called = block if block.rpartition(".")[2].isdigit() else name.rpartition(".")[0]
        first.setdefault(called, name)
    units = [
        path for path in first if path and not any(path.startswith(f"{above}.") for above in first if above)
    ]
    devices = {path: placement.runs_on(first[path]).name for path in units}
    main = placement.main.name if placement.main is not None else devices[units[0]]
    hops = len({main, *devices.values()}) > 1 or not all(
        place.is_host for place in placement.places if place.device
    )
    calls = []
    for path, after in zip(units, [*units[1:], ""], strict=True):
        stays = _is_block(model, path) and bool(after) and _is_block(model, after)
        calls.append(Called(path, devices[path] if hops else None, main if hops and not stays else None))
    if on_disk is not None:
        on_disk.in_order(names_of(jax.tree.leaves(submodule(model, path))) for path in units)
    return tuple(calls)


def _is_block(model: nnx.Module, path: str) -> bool:
    return isinstance(submodule(model, path), Block)
