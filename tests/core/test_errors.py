"""How errors are written: one tree, one form, at most fifteen lines, whole across processes."""

import pickle

import pytest

from loadstone import errors
from loadstone.errors import MAX_LINE, MAX_LINES, ConfigError, LoadstoneError, MatchError, counted, nearest

ALL = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, LoadstoneError)]


def test_the_form():
    error = ConfigError(
        "it is wrong", where="a file", expected="this", found="that", problems=["one", "two"], hint="do so"
    )
    assert str(error).splitlines() == [
        "it is wrong", "  where: a file", "  expected: this", "  found: that", "  - one", "  - two", "  next: do so",
    ]  # fmt: skip
    assert str(ConfigError("it is wrong")) == "it is wrong"


@pytest.mark.parametrize("number", [0, 1, 9, 10, 11, 12, 13, 500])
@pytest.mark.parametrize("hint", [None, "do so"])
@pytest.mark.parametrize("where", [None, "a file"])
def test_any_number_of_problems_fits(number, hint, where):
    problems = [f"problem {i}" for i in range(number)]
    error = MatchError("it is wrong", where=where, problems=problems, hint=hint)
    lines = str(error).splitlines()
    assert len(lines) <= MAX_LINES
    assert error.problems == tuple(problems), "all of them are kept"
    shown = [line for line in lines if line.startswith("  - ")]
    rest = [line for line in lines if "more (see `.problems`" in line]
    assert len(shown) + (int(rest[0].split()[2]) if rest else 0) == number
    assert (lines[-1] == "  next: do so") is (hint is not None)


def test_what_a_file_brought_cannot_break_the_form():
    error = MatchError(
        "wrong\nin two lines",
        where="a\nb",
        found="x" * 10**6,
        problems=["p\r\nq", "y" * 10**5],
        hint="do\nso",
    )
    lines = str(error).splitlines()
    assert len(lines) == 6
    assert max(map(len, lines)) <= MAX_LINE + 20
    assert lines[0] == "wrong in two lines" and lines[3] == "  - p q" and "xxx ... xxx" in lines[2]


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_errors_cross_process_boundaries_whole(cls):
    error = cls("it is wrong", where="a file", problems=["one"], hint="do so")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.problems, again.hint) == (cls, str(error), ("one",), "do so")


def test_one_tree_that_is_also_pythons():
    assert all(issubclass(cls, LoadstoneError) for cls in ALL) and len(ALL) >= 10
    kinds = {
        errors.ArgumentError: TypeError,
        errors.ConfigError: ValueError,
        errors.SourceError: OSError,
        errors.CheckpointError: ValueError,
        errors.MatchError: ValueError,
        errors.MissingFrameworkError: ImportError,
    }
    assert all(issubclass(ours, pythons) for ours, pythons in kinds.items())


def test_the_nearest_names():
    assert nearest("num_lables", ["num_labels", "revision"]) == "did you mean num_labels?"
    assert nearest("bert", ["berta", "berto"]) == "did you mean berto or berta?"
    assert nearest("name1", ["name2", "name3", "name4", "name5"], limit=3).count("name") == 3
    assert nearest("zebra", ["num_labels"]) is None
    assert nearest("encoder.layer.0.query", ["model.layers.0.query"], cutoff=0.9) is None


def test_counting():
    assert [counted(n, "problem") for n in (0, 1, 2, 12345)] == [
        "0 problems",
        "1 problem",
        "2 problems",
        "12,345 problems",
    ]
