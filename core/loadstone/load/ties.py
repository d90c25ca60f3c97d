"""Ties that only the values decide: two parameters that the configuration makes one, and of which each is stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from loadstone.checkpoint.index import TensorInfo
from loadstone.errors import MatchError, logger_of
from loadstone.planning.records import Assignment, LoadPlan

logger = logger_of(__name__)


def with_ties_decided(
    plan: LoadPlan,
    stored: Mapping[str, TensorInfo],
    equal: Callable[[TensorInfo, TensorInfo], bool],
    *,
    where: object,
) -> LoadPlan:
    """Tie parameters that are stored twice with equal bytes; keep the others apart, with a warning.

    Args:
        plan: A plan.
        stored: What there is, by its name.
        equal: Whether two stored tensors hold the same bytes.
        where: What to call the checkpoint in a message.

    Raises:
        MatchError: If a tie cannot be kept that has to be.
    """
    if not plan.compare:
        return plan
    assignments = dict(plan.assignments)
    for name, to in plan.compare:
        one, other = (_stored_whole(assignments[tied], stored) for tied in (name, to))
        if equal(one, other):
            shape = assignments[name].shape
            assignments[name] = Assignment(name=name, state="tied", shape=shape, to=to)
        elif not plan.may_differ:
            raise MatchError(
                "the model has two parameters tied that the checkpoint stores with different values",
                where=where,
                problems=[f"{one.file}: {one.name}", f"{other.file}: {other.name}"],
                hint="load the checkpoint with from_pretrained, which keeps them apart",
            )
        else:
            logger.warning(
                "%s: the configuration ties %s and %s, the checkpoint stores them with different values: kept apart",
                where,
                name,
                to,
            )
    return dataclasses.replace(plan, assignments=assignments)


def _stored_whole(assignment: Assignment, stored: Mapping[str, TensorInfo]) -> TensorInfo:
    """Return the stored tensor of a parameter that is compared with another; it is one, and taken as it is."""
    assert assignment.recipe is not None
    [name] = {info.name for info in assignment.recipe.sources}
    return stored[name]
