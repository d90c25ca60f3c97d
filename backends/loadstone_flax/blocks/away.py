"""Parameters that are not where they are used: each comes when the module runs that needs it, and is forgotten after.

A model that lies in several places is no one program. In a call a `Visit` stands in the place of each block, and of each module
outside of blocks that holds parameters; so whoever calls it (`run_blocks`, a head) need not know. A visit brings what its module
lacks and runs it as a program of its own, whose arguments the parameters are: layers of one spec share it. What stays on disk, or
is still being read, is an `Away` in its variable: it has a shape, a dtype and no values.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.errors import TraceContextError
from jax import Array

from loadstone.errors import ArgumentError, PlacementError
from loadstone_flax.blocks.run import Block, part_of, run_block
from loadstone_flax.devices import as_jax, spellings
from loadstone_flax.layers import (
    BatchNorm,
    Embedding,
    changed_state,
    named_modules,
    named_parameters,
    submodule,
)

if TYPE_CHECKING:
    from loadstone.backend import Placement
    from loadstone.read.arriving import Names
    from loadstone.read.on_disk import OnDisk


class Away:
    """What stands in the place of the value of a parameter that stays on disk, is absent, or is still being read.

    Copies of a model share it, and so each of them finds what has come.

    Attributes:
        on_disk: What brings it.
        path: Its name there.
        shape: Sizes of its axes.
        dtype: What it comes in.
        runs_on: Name of the device that it comes to.
        came: Its value, once that is in the model for good; None: it is not.
    """

    def __init__(self, on_disk: OnDisk, path: str, dtype: Any, runs_on: str) -> None:
        """Make it; it takes no memory."""
        self.on_disk, self.path, self.runs_on = on_disk, path, runs_on
        self.came: Any = None
        self.shape, self.dtype = on_disk.requests[path].shape, np.dtype(dtype)

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return int(np.prod(self.shape))

    @property
    def comes_once(self) -> bool:
        """Whether it is still being read, and then stays in the model."""
        return self.came is None and self.path in self.on_disk.awaited

    def arrived(self) -> Any:
        """Return its value, once it is there where it is still being read; itself where it stays on disk."""
        receive([self])
        return self if self.came is None else self.came

    def _value(self) -> Any:
        value = self.arrived()
        if value is not self:
            return value
        raise PlacementError(  # JAX would catch a TypeError, as others of ours are, and tell another one
            "a parameter that is not in memory has a shape and a dtype, and no values here",
            found=repr(self),
            hint="call the model, whose blocks bring it when they run, outside of jax.jit and jax.grad of this parameter;"
            " else load the model with all of it on a device",
        )

    @property
    def __jax_array__(self) -> Callable[[], Any]:
        value = self._value()  # JAX asks whether this is there, and must not go on without values
        return lambda: value

    def __reduce_ex__(self, protocol: Any) -> Any:
        value = self.arrived()
        return super().__reduce_ex__(protocol) if value is self else (_itself, (value,))

    def __repr__(self) -> str:
        where = "in memory" if self.came is not None else self.on_disk.where(self.path)
        return f"{where}: {self.path}, {self.dtype}, {list(self.shape)}"


def _itself(value: Any) -> Any:
    return value


def _of_value(name: str) -> Callable[..., Any]:
    def method(self: Away, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._value(), name)(*args, **kwargs)

    return method


_SUMS = ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "matmul", "rmatmul")
for _name in ("getitem", "array", *_SUMS):
    setattr(Away, f"__{_name}__", _of_value(f"__{_name}__"))


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
        module, came = self._looked_up(args) or self._filled()
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
        receive(leaves)
        leaves = [_now(leaf) for leaf in leaves]
        away = [leaf for leaf in leaves if isinstance(leaf, Away)]
        came = bool(away) or any(self._is_elsewhere(leaf) for leaf in leaves)
        if away:
            self._check()
            brought = away[0].on_disk.bring(names_of(away))
            leaves = [
                as_jax(brought[one.path], one.runs_on) if isinstance(one, Away) else one for one in leaves
            ]
        return jax.tree.unflatten(structure, self._moved(leaves, self.called.device)), came

    def _looked_up(self, args: tuple[Any, ...]) -> tuple[nnx.Module, bool] | None:
        """Return an embedding with a table of which only the rows are there that it looks up; None: `_filled` does."""
        held = self.module.weight.get_raw_value() if isinstance(self.module, Embedding) else None
        if not isinstance(held, Away) or not held.comes_once or spellings()[held.runs_on].platform != "cpu":
            return None
        if not args or isinstance(args[0], jax.core.Tracer):
            return None
        rows = held.on_disk.rows(held.path, np.unique(args[0]).tolist())
        if rows is None:
            return None
        return jax.tree.map(
            lambda leaf: as_jax(rows, held.runs_on) if leaf is held else leaf, self.module
        ), True

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


def receive(leaves: Iterable[object]) -> None:
    """Wait for what is still being read of some values."""
    awaited = [leaf for leaf in leaves if isinstance(leaf, Away) and leaf.comes_once]
    if awaited:
        untraced(lambda: awaited[0].on_disk.receive(names_of(awaited)))


def untraced(action: Callable[[], object]) -> None:
    """Do what changes variables of a model in a thread of its own, where no program is traced: nnx lets no program change them."""
    thread = ThreadPoolExecutor(1, "loadstone-receives")
    try:
        thread.submit(action).result()
    finally:
        thread.shutdown(wait=False)


def _now(value: Any) -> Any:
    """Return what stands now for a value that may have come since."""
    return value.came if isinstance(value, Away) and value.came is not None else value


def settle(model: nnx.Module) -> None:
    """Wait for what is still being read of a model, and have it, and no stand-in, in each variable; in those of a copy too."""
    variables = [variable for _, variable in named_parameters(model)]
    receive(variable.get_raw_value() for variable in variables)
    for variable in variables:
        held = variable.get_raw_value()
        if _now(held) is not held:
            # A program may change no variable, and takes the value from the stand-in.
            with contextlib.suppress(TraceContextError):
                variable.set_raw_value(_now(held))


def is_traced() -> bool:
    """Return whether a program is being compiled."""
    return isinstance(jnp.zeros(()), jax.core.Tracer)


def copied(model: Any) -> Any:
    """Return a model of the same parameters, whose modules may be changed; those that it holds itself are there once they can be."""
    held = (variable for variable in vars(model).values() if isinstance(variable, nnx.Variable))
    receive(variable.get_raw_value() for variable in held)  # no visit brings them
    return jax.tree.map(_now, model)


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
    if visits and is_traced():
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
        needs = {path: names_of(jax.tree.leaves(submodule(model, path))) for path in units}
        tables = (needs[path] for path in units if isinstance(submodule(model, path), Embedding))
        on_disk.in_order(needs.values(), tables=tuple(itertools.chain.from_iterable(tables)))
    return tuple(calls)


def _is_block(model: nnx.Module, path: str) -> bool:
    return isinstance(submodule(model, path), Block)
