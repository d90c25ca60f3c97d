"""The parity suite: one set of checks that every backend's tests run on every case that it has.

A backend's test module subclasses `ParitySuite`, says how arrays go in and out, and inherits the tests.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from safetensors.numpy import load_file

from loadstone.architectures import find_head
from loadstone.backend import get_backend
from loadstone.errors import ArchitectureError
from tests.oracle import load
from tests.oracle.cases import CASES, Case
from tests.oracle.compare import assert_close, assert_run, assert_within_rounding

# One pass of the model on the run's inputs; the others are told apart below.
PASSES = ("plain", "left", "right", "positions", "embeds", "short", "types", "keep", "train", "interpolate")
SHOWN_ONCE = {
    "class": ("right", "positions", "embeds", "types"),
    "head": ("right", "positions", "embeds", "types", "short", "bf16"),
}
"""What a case repeats -> the runs that need not be made again: neither a configuration nor a head makes a difference to them."""
GRADIENT_TOLERANCE = 3e-5
GENERATIONS = ("generate", "generate_left", "generate_eos")


def case_runs(names: tuple[str, ...], *, once: bool = False) -> Any:
    """Mark a test of a `ParitySuite` to run on each of the backend's cases, with each of the named runs that it has.

    Args:
        names: The runs.
        once: Where the suite is sparing, leave out the cases that repeat another's class or head.
    """

    def mark(test: Any) -> Any:
        test.runs, test.once = names, once
        return test

    return mark


def has_class(backend: str, case: Case) -> bool:
    """Return whether a backend has the model class of a case; docs/support.md shows what each has."""
    found = find_head(case.class_name)
    if found is None:
        return False
    try:
        get_backend(backend).model_class(*found)
    except ArchitectureError:
        return False
    return True


class ParitySuite:
    """Every check for one backend.

    Attributes:
        backend: Its name.
        rounding: How many times transformers' own bfloat16 rounding a bfloat16 answer may stray from fp32.
        sparing: Leave out what `SHOWN_ONCE` says, where a run takes seconds.
    """

    backend: ClassVar[str]
    rounding: ClassVar[float] = 3.0
    sparing: ClassVar[bool] = False

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give each test the cases that this backend has."""
        if "case" not in metafunc.fixturenames:
            return
        cases = [case for case in CASES.values() if has_class(self.backend, case)]
        if "run" not in metafunc.fixturenames:
            metafunc.parametrize("case", [case.name for case in cases])
            return
        pairs = [
            (case.name, run)
            for case in cases
            for run in case.runs
            if run in metafunc.function.runs
            and not (
                self.sparing and case.repeats and (metafunc.function.once or run in SHOWN_ONCE[case.repeats])
            )
        ]
        metafunc.parametrize(("case", "run"), pairs, ids=[f"{case}-{run}" for case, run in pairs])

    def native(self, array: np.ndarray) -> Any:
        """Return an array as the backend's models take it."""
        raise NotImplementedError

    def array(self, value: Any) -> np.ndarray:
        """Return a tensor of the backend's as a numpy array; bfloat16 as float32."""
        raise NotImplementedError

    def model(self, case: str, dtype: str = "float32") -> Any:
        """Return the case's model, loaded by its class; the same object for the same arguments."""
        return _load(self.backend, case, dtype)

    def arguments(self, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Return a run's inputs as keyword arguments: 0-d arrays as plain numbers."""
        return {name: self.native(array) if array.ndim else array.item() for name, array in inputs.items()}

    def arrays(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """Return a model's output as numpy arrays, caches left out."""
        return {
            name: tuple(self.array(v) for v in value)
            if isinstance(value, tuple | list)
            else self.array(value)
            for name, value in output.items()
            if name != "past_key_values"
        }

    def call(self, model: Any, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run the model; a backend that needs a context for inference enters it here."""
        return model(**arguments)  # type: ignore[no-any-return]

    def gradients(self, model: Any, arguments: Mapping[str, Any], names: list[str]) -> dict[str, np.ndarray]:
        """Return the gradients of the model's loss in the named parameters."""
        raise NotImplementedError

    @case_runs(PASSES)
    def test_agrees_with_transformers(self, case: str, run: str) -> None:
        recorded = load.run(case, run)
        arguments = self.arguments(recorded.inputs)
        for field in ("hidden_states", "attentions"):
            arguments |= {f"output_{field}": True} if field in recorded.outputs else {}
        output = self.call(self.model(case), arguments)
        assert_run(self.arrays(output), recorded, what=f"{self.backend}/{case}")

    @case_runs(("cache",))
    def test_cache_step_by_step(self, case: str, run: str) -> None:
        recorded = load.run(case, run)
        inputs, model, past = recorded.inputs, self.model(case), None
        ends = inputs["chunks"].cumsum()
        pieces: list[dict[str, Any]] = []
        for start, end in zip((0, *ends[:-1]), ends, strict=True):
            arguments = {
                "input_ids": inputs["input_ids"][:, start:end],
                "attention_mask": inputs["attention_mask"][:, :end],
                "position_ids": inputs["position_ids"][:, start:end],
            }
            output = self.call(
                model, self.arguments(arguments) | {"past_key_values": past, "use_cache": True}
            )
            past = output["past_key_values"]
            pieces.append(self.arrays(output))
        joined = {name: np.concatenate([piece[name] for piece in pieces], axis=1) for name in pieces[0]}
        assert_run(joined, recorded, what=f"{self.backend}/{case}")

    @case_runs(GENERATIONS)
    def test_generates_the_same_tokens(self, case: str, run: str) -> None:
        recorded = load.run(case, run)
        inputs = dict(recorded.inputs)
        arguments: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False}
        if "eos_token_id" in inputs:
            arguments["eos_token_id"] = inputs.pop("eos_token_id").tolist()
        sequences = self.model(case).generate(**self.arguments(inputs), **arguments)
        assert_close(
            self.array(sequences), recorded.outputs["sequences"], what=f"{self.backend}/{case}/{run}"
        )

    @case_runs(("bf16",))
    def test_bfloat16_within_its_rounding(self, case: str, run: str) -> None:
        half, full = load.run(case, "bf16"), load.run(case, "plain")
        output = self.arrays(self.call(self.model(case, "bfloat16"), self.arguments(half.inputs)))
        for field, expected in half.outputs.items():
            if field in ("logits", "last_hidden_state", "start_logits", "end_logits", "prediction_logits"):
                assert_within_rounding(
                    output[field],
                    expected,
                    full.outputs[field],
                    what=f"{self.backend}/{case}/{field}",
                    valid=full.valid,
                    slack=self.rounding,
                )

    @case_runs(("train",), once=True)
    def test_gradients(self, case: str, run: str) -> None:
        recorded = load.run(case, run)
        gradients = self.gradients(
            self.model(case), self.arguments(recorded.inputs), list(recorded.gradients)
        )
        # A gradient that is zero but for rounding is measured against the largest of the others.
        largest = max(np.abs(expected).max() for expected in recorded.gradients.values())
        for name, expected in recorded.gradients.items():
            tolerance = GRADIENT_TOLERANCE * float(largest / np.abs(expected).max())
            what = f"{self.backend}/{case}: gradient of {name}"
            assert_close(gradients[name], expected, what=what, tolerance=tolerance)

    def test_every_parameter_bit_for_bit(self, case: str) -> None:
        model, backend = self.model(case), get_backend(self.backend)
        report = model.load_report
        assert not report.names("new") + report.names("unused") + report.names("ignored")
        expected = stored_tensors(load.folder(case))
        assert set(report.names("used")) == set(expected)
        for name, assignment in report.plan.assignments.items():
            source = assignment.recipe or report.plan.assignments[assignment.to].recipe
            held = backend.read(model, name)
            assert held.numpy().tobytes() == expected[source.sources[0].name].tobytes(), name


@functools.lru_cache(maxsize=12)
def _load(backend: str, case: str, dtype: str) -> Any:
    row = CASES[case]
    found = find_head(row.class_name)
    assert found is not None, f"loadstone has no class {row.class_name}"
    model_class = get_backend(backend).model_class(*found)
    arguments = {"dtype": dtype, **row.model_arguments}
    return model_class.from_pretrained(load.folder(case), **arguments)  # type: ignore[attr-defined]


def stored_tensors(folder: Path) -> dict[str, np.ndarray]:
    """Return what the safetensors library reads from a checkpoint of one file."""
    return load_file(folder / "model.safetensors")
