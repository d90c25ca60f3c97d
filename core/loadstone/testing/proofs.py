"""The two tests of a class: `proof`, that it computes what the oracle does, and `bits`, that it loads and saves every bit.

Both are plain functions that raise `AssertionError`; `suite.py` has them as pytest classes. numpy only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loadstone.architectures import find_head
from loadstone.backend import get_backend
from loadstone.checkpoint.formats.second_opinion import stored_arrays
from loadstone.testing.capabilities import (
    Attentions,
    Caches,
    Computes,
    Differentiates,
    Embeds,
    Generates,
    Halves,
    HiddenStates,
    Losses,
    Masks,
)
from loadstone.testing.case import GREEDY, PROOF, Case
from loadstone.testing.compare import assert_close, assert_run, assert_within_rounding, check

if TYPE_CHECKING:
    from loadstone.testing.reference import Oracle, Run

Comparison = Callable[[Any, "Oracle", Case, Any, str], None]
"""Gets driver, oracle, case, model and run, and raises where they disagree."""

NEW_TOKENS = 12
GRADIENT_TOLERANCE = 3e-5
MASKED = ("attention_mask", "position_ids", "token_type_ids")
LABELS = ("labels", "next_sentence_label", "start_positions", "end_positions")
BODIES = ("logits", "last_hidden_state", "start_logits", "end_logits", "prediction_logits")
"""Output fields that are compared in half precision."""
NEEDS: Mapping[str, type] = {
    "embeds": Embeds,
    "bf16": Halves,
    "cache": Caches,
    "keep": Generates,
    GREEDY: Generates,
    "generate": Generates,
    "generate_eos": Generates,
}
"""Run -> what it asks of a driver beside what its inputs do."""


def proof(driver: Computes, oracle: Oracle, case: Case | str) -> None:
    """Prove that a backend computes what the oracle does: every run of the case that the driver can make.

    Args:
        driver: How arrays go in and out, and what the backend can.
        oracle: What was recorded.
        case: The case or its name.

    Raises:
        AssertionError: If an answer is another; the message names case, run, field and place.
    """
    row = oracle.row(case)
    model = load(driver, oracle, row)
    for name in passes(driver, row):
        compare: Comparison = _PASSES.get(name, _forward)
        compare(driver, oracle, row, model, name)


def passes(driver: Computes, case: Case) -> tuple[str, ...]:
    """Return the runs of a case that a driver can make; tokens alone, where it can make none."""
    able = tuple(name for name in case.runs if _can(driver, case, name))
    return able if any(name not in NEEDS for name in able) else ("plain", *able)


def _can(driver: Computes, case: Case, name: str) -> bool:
    masked = case.modality != "image" and name not in ("plain", "short", "embeds", "bf16", "keep", "generate")
    return (not masked or isinstance(driver, Masks)) and isinstance(driver, NEEDS.get(name, Computes))


def load(driver: Computes, oracle: Oracle, case: Case, dtype: str = "float32") -> Any:
    """Return the case's model, loaded by its class."""
    arguments = {"dtype": dtype, **case.model_arguments}
    return model_class(driver, case).from_pretrained(oracle.folder(case), **arguments)


def model_class(driver: Computes, case: Case) -> Any:
    """Return the class of a case.

    Raises:
        ArchitectureError: If the backend has none.
        AssertionError: If loadstone knows no such class.
    """
    found = find_head(case.class_name)
    if found is None:
        raise AssertionError(f"loadstone has no class {case.class_name}")
    return get_backend(driver.backend).model_class(*found)


def answers(driver: Computes, case: Case, run: Run, model: Any) -> dict[str, Any]:
    """Return what a model answers on a run that is one pass, every layer included where the driver shows them."""
    given = arguments_of(driver, case, run)
    asked = {f"output_{field}": True for field in run.outputs if field in ("hidden_states", "attentions")}
    shown = {name: True for name in asked if _shows(driver, name.removeprefix("output_"))}
    return arrays(driver, driver.forward(model, given | shown))


def expected(driver: Computes, run: Run) -> Run:
    """Return a run without the fields that a driver does not show."""
    outputs = {field: value for field, value in run.outputs.items() if _shows(driver, field)}
    return dataclasses.replace(run, outputs=outputs)


def _shows(driver: Computes, field: str) -> bool:
    needed = {"hidden_states": HiddenStates, "attentions": Attentions, "loss": Losses}
    return isinstance(driver, needed.get(field, Computes))


def arguments_of(driver: Computes, case: Case, run: Run) -> dict[str, Any]:
    """Return a run's inputs as keyword arguments: 0-d arrays as plain numbers, and no labels where no loss is asked for."""
    return {
        name: driver.native(array) if array.ndim else array.item()
        for name, array in run.inputs.items()
        if isinstance(driver, Losses) or name not in LABELS
    }


def arrays(driver: Computes, output: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's output as numpy arrays, caches left out."""
    return {
        name: tuple(map(driver.array, value)) if isinstance(value, tuple | list) else driver.array(value)
        for name, value in output.items()
        if name != "past_key_values"
    }


def _forward(driver: Computes, oracle: Oracle, case: Case, model: Any, name: str) -> None:
    run = expected(driver, oracle.run(case, name))
    assert_run(answers(driver, case, run, model), run, what=f"{driver.backend}/{case.name}")


def _proof(driver: Computes, oracle: Oracle, case: Case, model: Any, name: str) -> None:
    """Compare once with every layer, and once as models are trained and used: without layers, and with gradients."""
    run = expected(driver, oracle.run(case, name))
    what = f"{driver.backend}/{case.name}"
    assert_run(answers(driver, case, run, model), run, what=what)
    layers = ("hidden_states", "attentions")
    plain = dataclasses.replace(run, outputs={k: v for k, v in run.outputs.items() if k not in layers})
    given = arguments_of(driver, case, run)
    if not (case.gradients and run.gradients and isinstance(driver, Differentiates)):
        if len(plain.outputs) < len(run.outputs):
            assert_run(arrays(driver, driver.forward(model, given)), plain, what=f"{what} without layers")
        return
    output, gradients = driver.differentiate(model, given, tuple(run.gradients))
    assert_run(arrays(driver, output), plain, what=f"{what} without layers")
    _assert_gradients({name: driver.array(value) for name, value in gradients.items()}, run, what)


def _assert_gradients(found: Mapping[str, np.ndarray], run: Run, what: str) -> None:
    # A gradient that is zero but for rounding is measured against the largest of the others.
    largest = max(float(np.abs(expected).max()) for expected in run.gradients.values())
    for name, gradient in run.gradients.items():
        tolerance = GRADIENT_TOLERANCE * largest / float(np.abs(gradient).max())
        assert_close(found[name], gradient, what=f"{what}: gradient of {name}", tolerance=tolerance)


def _cache(driver: Any, oracle: Oracle, case: Case, model: Any, name: str) -> None:
    run = oracle.run(case, name)
    inputs, past = run.inputs, None
    ends = inputs["chunks"].cumsum()
    pieces: list[dict[str, Any]] = []
    for start, end in zip((0, *ends[:-1]), ends, strict=True):
        given = {
            "input_ids": driver.native(inputs["input_ids"][:, start:end]),
            "attention_mask": driver.native(inputs["attention_mask"][:, :end]),
            "position_ids": driver.native(inputs["position_ids"][:, start:end]),
        }
        output, past = driver.step(model, given, past)
        pieces.append(arrays(driver, output))
    joined = {field: np.concatenate([piece[field] for piece in pieces], axis=1) for field in pieces[0]}
    assert_run(joined, run, what=f"{driver.backend}/{case.name}")


def _generate(driver: Any, oracle: Oracle, case: Case, model: Any, name: str) -> None:
    run = oracle.run(case, name)
    inputs = dict(run.inputs)
    given: dict[str, Any] = {"max_new_tokens": NEW_TOKENS, "do_sample": False}
    if "eos_token_id" in inputs:
        given["eos_token_id"] = inputs.pop("eos_token_id").tolist()
    given |= {name: driver.native(array) for name, array in inputs.items()}
    written = driver.array(driver.generate(model, given))
    sequences = np.asarray(run.outputs["sequences"])
    assert_close(written, sequences, what=f"{driver.backend}/{case.name}/{name}")


def _half(driver: Any, oracle: Oracle, case: Case, model: Any, name: str) -> None:
    half, full = oracle.run(case, name), oracle.run(case, "plain")
    narrow = load(driver, oracle, case, "bfloat16")
    output = arrays(driver, driver.forward(narrow, arguments_of(driver, case, half)))
    for field in filter(half.outputs.__contains__, BODIES):
        assert_within_rounding(
            output[field],
            np.asarray(half.outputs[field]),
            np.asarray(full.outputs[field]),
            what=f"{driver.backend}/{case.name}/bf16: {field}",
            valid=full.valid,
            slack=driver.rounding,
        )


_PASSES: dict[str, Comparison] = {
    PROOF: _proof,
    "cache": _cache,
    "bf16": _half,
    GREEDY: _generate,
    "generate": _generate,
    "generate_eos": _generate,
}
"""How a run is compared, where it is not one pass."""


def bits(driver: Computes, oracle: Oracle, case: Case | str, folder: Path) -> None:
    """Prove that a backend loads every tensor of a case bit for bit, says so, and saves the same bits again.

    Args:
        driver: As in `proof`.
        oracle: What was recorded.
        case: The case or its name.
        folder: An empty folder to save into.

    Raises:
        AssertionError: If a tensor is another, or the report is.
    """
    row = oracle.row(case)
    stored = stored_arrays(oracle.folder(row))
    model = load(driver, oracle, row)
    _assert_held(driver, model, stored, f"{driver.backend}/{row.name}")
    model.save_pretrained(folder)
    saved = stored_arrays(folder)
    check(saved.keys() == stored.keys(), f"{row.name}: saved {set(saved) ^ set(stored)} beside or instead")
    for name in different(saved, stored):
        raise AssertionError(f"{driver.backend}/{row.name}: {name} is saved with other bits")
    again = type(model).from_pretrained(folder, dtype="float32", **row.model_arguments)
    _assert_held(driver, again, stored, f"{driver.backend}/{row.name} saved and loaded again")


def _assert_held(driver: Computes, model: Any, stored: Mapping[str, np.ndarray], what: str) -> None:
    backend, report = get_backend(driver.backend), model.load_report
    strange = report.names("new") + report.names("unused") + report.names("ignored") + report.names("cast")
    check(not strange, f"{what}: the report says new, unused, ignored or cast of {', '.join(strange)}")
    check(set(report.names("used")) == stored.keys(), f"{what}: the report does not use what is stored")
    parameters = backend.parameters(model)
    for name, assignment in report.plan.assignments.items():
        recipe = assignment.recipe or report.plan.assignments[assignment.to].recipe
        if assignment.to:
            same = parameters[name].identity == parameters[assignment.to].identity
            check(same, f"{what}: {name} is not the same parameter as {assignment.to}")
        if len(recipe.sources) > 1 or recipe.steps:
            continue  # what is arranged otherwise is compared as it is saved again
        held, source = backend.read(model, name).numpy(), stored[recipe.sources[0].name]
        check(held.dtype == source.dtype and held.shape == source.shape, f"{what}: {name} is {held.dtype}")
        check(held.tobytes() == source.tobytes(), f"{what}: {name} has other bits than were stored")


def different(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield the names whose arrays differ in shape, dtype or bits."""
    for name, array in one.items():
        twin = other[name]
        if (array.dtype, array.shape, array.tobytes()) != (twin.dtype, twin.shape, twin.tobytes()):
            yield name
