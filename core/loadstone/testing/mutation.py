"""Whether the proofs can tell: every tensor and every field of a spec is changed, one at a time, and must move them.

    $ python -m loadstone.testing.mutation --cache .cache/oracle --driver tests.torch.proofs:Torch

A case that no change of a field moves is blind to that field, and says so by failing; `Case.unseen` names the fields that
nothing in it can depend on, with the reason; a reason that no case needs is a failure as well.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fnmatch
import functools
import importlib
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from loadstone.architectures import architecture_for
from loadstone.backend import get_backend
from loadstone.read.tensor import HostTensor
from loadstone.testing import proofs
from loadstone.testing.capabilities import Computes
from loadstone.testing.case import GREEDY, Case
from loadstone.testing.compare import FP32_TOLERANCE, relative_difference, valid_for
from loadstone.testing.reference import OURS, Oracle

AMOUNT = 0.02
"""How far each element of a tensor is moved, up or down, as a part of itself: at least half of that, at most half more."""
ENOUGH = 10 * FP32_TOLERANCE
"""A change that moves an answer this far is seen; the runs after that one are not asked."""
ELSEWHERE = 4
"""Values of other cases that a field is given at most."""
Path = tuple[str | int, ...]


def furthest(driver: Computes, oracle: Oracle, case: Case, model: Any) -> float:
    """Return the largest relative difference between a model's answers and what was recorded, until one is `ENOUGH`."""
    worst = 0.0
    for name in proofs.passes(driver, case):
        if name in ("bf16", "cache", GREEDY, "generate", "generate_eos"):
            continue  # what they show beside the others is no tensor's and no field's
        run = proofs.expected(driver, oracle.run(case, name))
        found = proofs.answers(driver, case, run, model)
        for field, theirs in run.outputs.items():
            layers = isinstance(theirs, tuple)
            for mine, one in zip(
                found[field] if layers else [found[field]], theirs if layers else [theirs], strict=True
            ):
                worst = max(worst, relative_difference(mine, one, valid_for(field, one, run)))
        if worst > ENOUGH:
            break
    return worst


# Tensors


def blind_tensors(driver: Computes, oracle: Oracle, case: Case | str) -> list[str]:
    """Return the parameters of a case that can change without moving its proof.

    Each is moved in its place, by a part of itself, and put back. Whole numbers are left alone.

    Raises:
        AssertionError: If the unchanged model is not what was recorded.
    """
    row = oracle.row(case)
    backend, model = get_backend(driver.backend), proofs.load(driver, oracle, row)
    unchanged = furthest(driver, oracle, row, model)
    if unchanged > FP32_TOLERANCE:
        raise AssertionError(f"{row.name} unchanged is {unchanged:g} from what was recorded")
    rng, seen, blind = np.random.default_rng(0), set(), []
    for name, parameter in backend.parameters(model).items():
        if parameter.identity in seen or not parameter.dtype.startswith(("float", "bfloat")):
            continue
        seen.add(parameter.identity)
        kept = backend.read(model, name).numpy().copy()
        noise = 1 + AMOUNT * rng.uniform(0.5, 1.5, kept.shape) * rng.choice((-1, 1), kept.shape)
        _put(backend, model, name, (kept * noise).astype(kept.dtype))
        moved = furthest(driver, oracle, row, model)
        _put(backend, model, name, kept)
        if moved <= ENOUGH:
            blind.append(name)
    return blind


def _put(backend: Any, model: Any, name: str, array: np.ndarray) -> None:
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    tensor = HostTensor(name=name, dtype=array.dtype.name, shape=array.shape, data=data)
    backend.put(model, name, tensor, backend.device(None))


# Fields of a spec


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield each field of a spec with its place: those of records inside it, and of records in tuples of them, too."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
        for index, one in enumerate(value):
            yield from leaves(one, (*path, index))
    else:
        yield path, value


def replaced(value: Any, path: Path, new: Any) -> Any:
    """Return a spec with another value at a place."""
    if not path:
        return new
    first, *rest = path
    if isinstance(first, int):
        return (*value[:first], replaced(value[first], tuple(rest), new), *value[first + 1 :])
    return dataclasses.replace(value, **{first: replaced(getattr(value, first), tuple(rest), new)})


def dotted(path: Path) -> str:
    """Return a place as it is written: `attention.rope.theta`."""
    return ".".join(map(str, path))


def changes(value: Any, others: Sequence[Any] = ()) -> list[Any]:
    """Return plausible values that are near one and not it.

    Args:
        value: A field's.
        others: What the field holds elsewhere: the only candidates for a field that holds nothing.
    """
    found: list[Any] = []
    if isinstance(value, bool):
        found = [not value]
    elif isinstance(value, int):
        found = [value + 1, value * 2, max(value // 2, 1)]
    elif isinstance(value, float):
        found = [value * 1.5, value / 3, value + 0.01, value + 0.5]
    elif isinstance(value, tuple) and value:
        places = sorted({0, len(value) - 1})
        found = [(*value[:at], new, *value[at + 1 :]) for at in places for new in changes(value[at])]
    elif isinstance(value, str):
        found = [f"{value}_"]
    found += others
    return [one for at, one in enumerate(found) if one != value and one not in found[:at]]


def _numbers(spec: Any, path: Path) -> list[float]:
    """Return a number of each kind that a field may hold, by its annotation."""
    kinds = typing.get_args(typing.get_type_hints(type(_owner(spec, path))).get(str(path[-1])))
    return [number for kind, number in ((float, 0.5), (int, 3)) if kind in kinds]


@contextlib.contextmanager
def changed_spec(model_type: str, change: Callable[[Any], Any]) -> Iterator[None]:
    """Have an architecture resolve every configuration into another spec.

    Args:
        model_type: The architecture's.
        change: Gets the spec, returns the other.
    """
    architecture = architecture_for(model_type)
    kept = architecture.spec
    object.__setattr__(architecture, "spec", lambda config: change(kept(config)))
    try:
        yield
    finally:
        object.__setattr__(architecture, "spec", kept)


def spec_of(oracle: Oracle, case: Case) -> Any:
    """Return the spec of a case."""
    from loadstone import AutoConfig

    return architecture_for(case.model_type).spec(AutoConfig.from_pretrained(oracle.folder(case)))


@functools.cache
def pool(oracle: Oracle) -> dict[tuple[str, str], list[Any]]:
    """Return class of a record and field -> every value that a case of the table has there."""
    found: dict[tuple[str, str], list[Any]] = {}
    for case in oracle.cases():
        spec = spec_of(oracle, case)
        for path, value in (*leaves(spec), *records(spec)):
            values = found.setdefault(_field(spec, path), [])
            if value not in values:
                values.append(value)
    return found


def _field(spec: Any, path: Path) -> tuple[str, str]:
    """Return the class of the record that has a field, and the field's name."""
    return type(_owner(spec, path)).__name__, str(path[-1])


def _owner(spec: Any, path: Path) -> Any:
    """Return the record that a field is of."""
    for part in path[:-1]:
        spec = spec[part] if isinstance(part, int) else getattr(spec, part)
    return spec


def records(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the records inside a spec with their places."""
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        several = inner if isinstance(inner, tuple) and any(map(dataclasses.is_dataclass, inner)) else ()
        if dataclasses.is_dataclass(inner):
            yield (*path, field.name), inner
            yield from records(inner, (*path, field.name))
        for index, one in enumerate(several):
            yield (*path, field.name, index), one
            yield from records(one, (*path, field.name, index))


def is_seen(driver: Computes, oracle: Oracle, case: Case, change: Callable[[Any], Any]) -> bool:
    """Return whether a changed spec is caught: it cannot be loaded, cannot compute, or answers something else."""
    with changed_spec(case.model_type, change):
        try:
            return furthest(driver, oracle, case, proofs.load(driver, oracle, case)) > ENOUGH
        except Exception:  # noqa: BLE001 - whatever a framework raises, nobody gets a wrong answer
            return True


def blind_fields(
    driver: Computes,
    oracle: Oracle,
    case: Case | str,
    others: Mapping[tuple[str, str], Sequence[Any]],
    among: Callable[[str], bool] = lambda field: True,
) -> list[str]:
    """Return the fields of a case's spec of which no change moves its proof; a name that is empty names nothing.

    Args:
        driver: As in `proof`.
        oracle: What was recorded.
        case: The case or its name.
        others: What `pool` gives.
        among: Says of a field whether it is asked about.
    """
    row = oracle.row(case)
    spec = spec_of(oracle, row)

    def seen(path: Path, value: Any) -> bool:
        elsewhere = others.get(_field(spec, path), ())[:ELSEWHERE]
        candidates = changes(value, (*elsewhere, *_numbers(spec, path)) if value is None else elsewhere)
        changed = (functools.partial(replaced, path=path, new=new) for new in candidates)
        return any(is_seen(driver, oracle, row, change) for change in changed)

    asked = [(path, value) for path, value in leaves(spec) if value != "" and among(dotted(path))]
    return [dotted(path) for path, value in asked if not seen(path, value)]


def is_known(case: Case, what: str) -> bool:
    """Return whether a case says of a field or of a parameter that nothing depends on it."""
    return any(fnmatch.fnmatchcase(what, pattern) for pattern in case.unseen)


def assert_not_blind(case: Case, blind: Sequence[str]) -> None:
    """Assert that whatever nothing moves is known to be so.

    Args:
        case: It.
        blind: Fields or parameters.

    Raises:
        AssertionError: If one is not; add a case that shows it, or say in `unseen` why none can.
    """
    unknown = [one for one in blind if not is_known(case, one)]
    if unknown:
        raise AssertionError(f"{case.name} is blind to {', '.join(unknown)}: no change of it moves the proof")


def main() -> None:
    """Ask every case about every tensor and field; the status is 1 where one is blind, or a reason why is not needed."""
    parser = argparse.ArgumentParser(prog="python -m loadstone.testing.mutation", description=__doc__)
    parser.add_argument("--cache", required=True, help="the oracle's folder")
    parser.add_argument(
        "--cases", default=OURS, help=f"module:attribute of a table of cases; default: {OURS}"
    )
    parser.add_argument("--driver", required=True, help="module:class of what the backend can")
    arguments = parser.parse_args()
    module, _, name = arguments.driver.partition(":")
    driver, oracle = (
        getattr(importlib.import_module(module), name)(),
        Oracle(arguments.cache, arguments.cases),
    )
    unneeded = {pattern for case in oracle.cases() for pattern in case.unseen}
    failed = False
    for case in oracle.cases():
        blind = blind_tensors(driver, oracle, case) + blind_fields(driver, oracle, case, pool(oracle))
        unneeded -= {pattern for pattern in unneeded if fnmatch.filter(blind, pattern)}
        unknown = [one for one in blind if not is_known(case, one)]
        failed |= bool(unknown)
        sys.stdout.write(f"{'BLIND to ' + ', '.join(unknown) if unknown else 'sees all'}  {case.name}\n")
    if unneeded:
        sys.stdout.write(f"unseen, it is said, and yet seen by every case: {', '.join(sorted(unneeded))}\n")
    sys.exit(failed or bool(unneeded))


if __name__ == "__main__":
    main()
