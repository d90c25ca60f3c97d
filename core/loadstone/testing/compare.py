"""Comparing a backend's answers with the oracle's. numpy only.

The project's measure: the largest absolute difference as a part of the largest absolute reference value. Positions that
are padding say nothing (a left-padded row attends to nothing there) and are left out of both.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loadstone.testing.reference import Run

FP32_TOLERANCE = 1e-5
BF16_ROUNDING = 2**-7
"""A unit in bfloat16's last place, as a part of the value: no chain of roundings is held to less."""


def check(holds: object, message: str) -> None:
    """Raise `AssertionError` with a message, also where Python leaves assertions out, if something does not hold."""
    if not holds:
        raise AssertionError(message)


def relative_difference(actual: Any, expected: np.ndarray, valid: np.ndarray | None = None) -> float:
    """The measure itself: 0 is equal, infinity where the actual value is not finite.

    Args:
        actual: An array of the expected shape.
        expected: The reference.
        valid: bool, broadcast to the expected array's leading axes; what counts. None: all does.
    """
    difference, scale = _differences(np.asarray(actual), expected, valid)
    return float(difference.max(initial=0.0) / scale)


def assert_close(
    actual: Any,
    expected: np.ndarray,
    *,
    what: str,
    valid: np.ndarray | None = None,
    tolerance: float = FP32_TOLERANCE,
) -> None:
    """Assert that an array agrees with the reference: integers exactly, floats by the project's measure.

    Args:
        actual: An array of any framework that numpy can read.
        expected: The reference.
        what: What is compared, for the message: case, run, field, layer.
        valid: bool, broadcast to the expected array's leading axes; what counts. None: all does.
        tolerance: Largest absolute difference, as a part of the largest absolute reference value.
    """
    actual = np.asarray(actual)
    check(actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}")
    exact = expected.dtype.kind in "iub"
    difference, scale = _differences(actual, expected, valid)
    allowed = 0.0 if exact else tolerance * scale
    if difference.max(initial=0.0) <= allowed:
        return
    worst = np.unravel_index(int(difference.argmax()), difference.shape)
    raise AssertionError(
        f"{what}: differs by {difference[worst]:.3g} at {tuple(map(int, worst))}: "
        f"got {actual[worst]:.8g}, expected {expected[worst]:.8g}; {int((difference > allowed).sum())} of "
        f"{difference.size} values differ by more than {allowed:.3g} ({'exact' if exact else f'{tolerance:g} of'} "
        f"{scale:.4g}, the largest)"
    )


def assert_within_rounding(
    actual: Any,
    half: np.ndarray,
    full: np.ndarray,
    *,
    what: str,
    valid: np.ndarray | None = None,
    slack: float = 2.0,
) -> None:
    """Assert that a half-precision answer strays from the fp32 one no further than transformers' own does.

    Args:
        actual: The backend's answer in half precision.
        half: transformers' answer in half precision.
        full: transformers' answer in fp32.
        what: What is compared, for the message.
        valid: As in `assert_close`.
        slack: How many times transformers' own rounding is allowed.
    """
    rounding = max(relative_difference(half, full, valid), BF16_ROUNDING)
    actual = np.asarray(actual).astype(np.float32)
    assert_close(actual, full, what=f"{what} against fp32", valid=valid, tolerance=slack * rounding)


def assert_run(actual: Mapping[str, Any], run: Run, *, what: str, tolerance: float = FP32_TOLERANCE) -> None:
    """Assert that a model's output has every field of the run, each layer included, and agrees with it.

    Args:
        actual: Field -> array, or sequence of arrays where the field has one per layer.
        run: The oracle's run that was fed to the model.
        what: Case and backend, for the message.
        tolerance: As in `assert_close`.
    """
    absent = [name for name in run.outputs if actual.get(name) is None]
    has = ", ".join(actual)
    check(not absent, f"{what}/{run.name}: the output lacks {', '.join(absent)}; it has {has}")
    for field, expected in run.outputs.items():
        name = f"{what}/{run.name}: {field}"
        if isinstance(expected, tuple):
            _assert_layers(actual[field], expected, run, what=name, field=field, tolerance=tolerance)
        else:
            valid = valid_for(field, expected, run)
            assert_close(actual[field], expected, what=name, valid=valid, tolerance=tolerance)


def valid_for(field: str, expected: np.ndarray, run: Run) -> np.ndarray | None:
    """The run's mask shaped for a field, None where the field has no axis of tokens.

    Attentions [B, heads, T, T] are masked by the token that attends; [B, T, ...] directly.
    """
    if run.valid is None:
        return None
    if field.endswith("attentions"):
        return run.valid[:, None]
    return run.valid if expected.shape[: run.valid.ndim] == run.valid.shape else None


def _assert_layers(
    actual: Sequence[Any],
    expected: tuple[np.ndarray, ...],
    run: Run,
    *,
    what: str,
    field: str,
    tolerance: float,
) -> None:
    check(len(actual) == len(expected), f"{what}: {len(actual)} layers, expected {len(expected)}")
    for layer, (mine, theirs) in enumerate(zip(actual, expected, strict=True)):
        valid = valid_for(field, theirs, run)
        assert_close(mine, theirs, what=f"{what} of layer {layer}", valid=valid, tolerance=tolerance)


def _differences(
    actual: np.ndarray, expected: np.ndarray, valid: np.ndarray | None
) -> tuple[np.ndarray, float]:
    """|actual - expected| with 0 where it does not count, and the largest |expected| that counts."""
    counts = np.ones(expected.shape, bool)
    if valid is not None:
        counts &= valid.reshape(valid.shape + (1,) * (expected.ndim - valid.ndim))
    wide = np.int64 if expected.dtype.kind in "iub" and actual.dtype.kind in "iub" else np.float64
    difference = np.abs(actual.astype(wide) - expected.astype(wide)).astype(np.float64)
    difference = np.where(np.isfinite(difference), difference, np.inf)
    scale = np.abs(expected.astype(np.float64)).max(where=counts, initial=0.0)
    return np.where(counts, difference, 0.0), float(scale) or 1.0
