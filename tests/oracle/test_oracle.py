"""The oracle itself: it can tell right from wrong, or nothing that is compared with it means anything."""

import dataclasses
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from loadstone.testing import Run, store
from loadstone.testing.case import Case
from loadstone.testing.cases import CASES
from loadstone.testing.compare import (
    FP32_TOLERANCE,
    assert_close,
    assert_run,
    assert_within_rounding,
    relative_difference,
)
from tests.oracle import load
from tests.oracle.resave4 import NOT_IN_4

FAMILIES_OF_4 = ("llama", "bert", "vit")


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    load.prepare()
    load.prepare4(*FAMILIES_OF_4)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_files_hold_what_the_row_says(case: Case) -> None:
    stored = load_file(load.folder(case) / "model.safetensors")
    constant = [name for name, tensor in stored.items() if tensor.size > 1 and len(np.unique(tensor)) == 1]
    assert not constant, "each stored tensor is drawn"
    assert len({tensor.tobytes() for tensor in stored.values()}) == len(stored), "no two tensors are alike"

    manifest = load.manifest(case)
    assert set(manifest["runs"]) == set(case.recorded)
    assert {entry["stored_as"] for entry in manifest["state_dict"].values()} == set(stored)
    for name in case.recorded:
        run = load.run(case, name)
        arrays = [
            array
            for field in run.outputs.values()
            for array in (field if isinstance(field, tuple) else [field])
        ]
        assert arrays and all(np.isfinite(array).all() for array in arrays), name
        assert all(len(np.unique(array)) > 1 for array in arrays if array.ndim), name
        assert run.valid is None or (run.valid.any(axis=1).all() and not run.valid.all()), name
    if case.task != "base":
        assert len(load.run(case, "proof").gradients) == 3
        assert load.run(case, "proof").outputs["loss"] > 0


@pytest.mark.parametrize(
    "case",
    [case for case in CASES.values() if "cache" in case.runs and "token_type_ids" not in case.fed],
    ids=lambda case: case.name,
)
def test_cached_steps_agree_with_the_whole_pass(case: Case) -> None:
    whole, steps = (load.run(case, name) for name in ("proof", "cache"))
    ((field, found),) = steps.outputs.items()
    distance = relative_difference(found, np.asarray(whole.outputs[field]), whole.valid)
    if case.config.get("rope_parameters", {}).get("rope_type") in ("dynamic", "longrope"):
        assert distance > 1e-3, "keys that were cached before the table grew stay turned by the old one"
    else:
        assert distance < FP32_TOLERANCE


@pytest.mark.parametrize("case", load.cases(task="causal-lm"), ids=lambda case: case.name)
def test_generation_is_long(case: Case) -> None:
    for name in {"generate", "greedy"} & {*case.runs}:
        run = load.run(case, name)
        new = np.asarray(run.outputs["sequences"])[:, run.inputs["input_ids"].shape[1] :]
        assert new.shape[1] == 12 and not (new == case.config["eos_token_id"]).any()


def test_rows_end_apart() -> None:
    (case,) = (case for case in CASES.values() if "generate_eos" in case.runs)
    run = load.run(case, "generate_eos")
    new = np.asarray(run.outputs["sequences"])[:, run.inputs["input_ids"].shape[1] :]
    ends = [int(np.flatnonzero(np.isin(row, run.inputs["eos_token_id"]))[0]) for row in new]
    assert ends[0] != ends[1] and max(ends) == new.shape[1] - 1 < 11
    assert (new[int(np.argmin(ends)), min(ends) + 1 :] == case.config["pad_token_id"]).all()


def test_half_precision_differs_by_rounding() -> None:
    for case in CASES.values():
        if "bf16" not in case.runs:
            continue
        field = next(iter(load.run(case, "bf16").outputs))
        half, full = (np.asarray(load.run(case, name).outputs[field]) for name in ("bf16", "plain"))
        assert 1e-4 < relative_difference(half, full) < 0.1, case.name


class TestCompare:
    run = Run(
        name="left",
        inputs={},
        outputs={"logits": np.arange(12.0).reshape(2, 3, 2), "hidden_states": (np.ones((2, 3, 1)),) * 2},
        valid=np.array([[False, True, True], [True, True, True]]),
        gradients={},
    )

    def outputs(self) -> dict[str, Any]:
        return {"logits": self.run.outputs["logits"].copy(), "hidden_states": [np.ones((2, 3, 1))] * 2}

    def test_padding_does_not_count(self) -> None:
        actual = self.outputs()
        actual["logits"][0, 0] = np.nan
        assert_run(actual, self.run, what="case")

    def test_names_the_worst_place(self) -> None:
        actual = self.outputs()
        actual["hidden_states"] = [np.ones((2, 3, 1)), np.ones((2, 3, 1)) + np.eye(2, 3)[..., None] * 1e-3]
        with pytest.raises(AssertionError, match=r"case/left: hidden_states of layer 1: .* at \(1, 1, 0\)"):
            assert_run(actual, self.run, what="case")

    @pytest.mark.parametrize("wrong", [np.nan, np.inf, 11.01])
    def test_sees_one_wrong_value(self, wrong: float) -> None:
        actual = self.outputs()
        actual["logits"][1, 2, 1] = wrong
        with pytest.raises(AssertionError, match="logits: differs"):
            assert_run(actual, self.run, what="case")

    def test_sees_absent_fields_layers_and_shapes(self) -> None:
        with pytest.raises(AssertionError, match="lacks hidden_states"):
            assert_run({"logits": self.run.outputs["logits"]}, self.run, what="case")
        with pytest.raises(AssertionError, match="1 layers, expected 2"):
            assert_run(self.outputs() | {"hidden_states": [np.ones((2, 3, 1))]}, self.run, what="case")
        with pytest.raises(AssertionError, match="shape"):
            assert_run(self.outputs() | {"logits": np.zeros((2, 3))}, self.run, what="case")

    def test_integers_are_exact(self) -> None:
        large = np.array([2**60, 1])
        with pytest.raises(AssertionError, match="exact"):
            assert_close(large + np.array([1, 0]), large, what="ids")

    def test_rounding_is_measured_against_full_precision(self) -> None:
        full = np.array([1.0, 0.5], np.float32)
        half = full + np.float32(0.004)
        assert_within_rounding(full - np.float32(0.004), half, full, what="x")
        with pytest.raises(AssertionError):
            assert_within_rounding(full + np.float32(0.017), half, full, what="x")


class TestStore:
    def test_an_interrupted_folder_is_not_taken(self, tmp_path: Path) -> None:
        folder = tmp_path / "case"
        with store.replaced(folder) as new:
            (new / "old").touch()
        with pytest.raises(KeyboardInterrupt), store.replaced(folder) as new:
            (new / "half").touch()
            raise KeyboardInterrupt
        assert [path.name for path in tmp_path.rglob("*")] == ["case", "old"]

    def test_a_changed_row_is_stale(self, tmp_path: Path) -> None:
        case = CASES["llama-base"]
        (tmp_path / store.MANIFEST).write_text(json.dumps({"fingerprint": store.fingerprint(case)}))
        assert store.is_fresh(tmp_path, store.fingerprint(case))
        changed = dataclasses.replace(case, config=dict(case.config) | {"rms_norm_eps": 1e-6})
        assert not store.is_fresh(tmp_path, store.fingerprint(changed))

    def test_two_processes_make_it_once(self, tmp_path: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "loadstone.testing.oracle",
            "--cache",
            str(tmp_path),
            "--only",
            "resnet",
        ]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        made = sorted(process.communicate()[0].split(" cases")[0] for process in both)
        assert made == ["oracle: 0 of 4", "oracle: 4 of 4"]
        for case in load.cases("resnet"):
            for file in ("model.safetensors", "reference.npz"):
                assert (tmp_path / case.name / file).read_bytes() == (
                    load.folder(case) / file
                ).read_bytes(), file


class TestTransformers4:
    @pytest.mark.parametrize("family", FAMILIES_OF_4)
    def test_saves_the_same_tensors(self, family: str) -> None:
        for case in load.cases(family):
            if case.name in NOT_IN_4:
                continue
            folder = load.saved_by_transformers4(case)
            config = json.loads((folder / "config.json").read_text())
            assert config["transformers_version"].startswith("4.")
            assert "rope_parameters" not in config
            theirs, ours = (
                load_file(folder / "model.safetensors"),
                load_file(load.folder(case) / "model.safetensors"),
            )
            assert theirs.keys() == ours.keys()
            assert all(theirs[name].tobytes() == ours[name].tobytes() for name in ours)

    def test_spells_rope_as_it_did(self) -> None:
        config = json.loads(
            (load.saved_by_transformers4("llama-causal-lm-rope-llama3") / "config.json").read_text()
        )
        row = CASES["llama-causal-lm-rope-llama3"].config["rope_parameters"]
        assert config["rope_theta"] == row["rope_theta"]
        assert config["rope_scaling"] == {key: value for key, value in row.items() if key != "rope_theta"}


def test_versions_are_those_of_the_project_file() -> None:
    project = tomllib.loads((load.REPOSITORY / "pyproject.toml").read_text())
    assert f"transformers=={store.TRANSFORMERS}" in project["dependency-groups"]["test"]


def test_reading_the_oracle_imports_no_framework() -> None:
    code = (
        "import sys; sys.path.insert(0, '.'); import loadstone.testing; from tests.oracle import load; load.run('llama-base', 'plain');"
        "print(*{'torch', 'transformers', 'jax', 'tensorflow', 'pytest'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=load.REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
