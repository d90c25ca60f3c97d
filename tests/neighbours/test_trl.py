"""TRL's trainers, with our models."""

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import trl

import loadstone
from tests.neighbours.conftest import losses

SETTINGS: dict[str, Any] = {
    "max_steps": 3,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
    "save_strategy": "no",
}
IDS = torch.tensor([[5, 17, 42, 8, 3, 29]])


def test_supervised_fine_tuning(ours: Any, theirs: Any, words: Any, tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list(
        [{"text": f"w{number} w{number + 1} w{number + 2} w9"} for number in range(8)]
    )
    found, expected = (
        losses(
            trl.SFTTrainer(
                model, trl.SFTConfig(str(tmp_path), **SETTINGS), train_dataset=rows, processing_class=words
            )
        )
        for model in (ours, theirs)
    )
    assert len(found) == 3
    assert found == pytest.approx(expected, rel=1e-4)
    ours.save_pretrained(tmp_path / "trained")
    loaded = loadstone.AutoModelForCausalLM.from_pretrained(tmp_path / "trained", backend="torch")
    assert torch.equal(loaded(IDS).logits, ours.eval()(IDS).logits)


@pytest.mark.parametrize("reference", ["given", "loaded"])
def test_direct_preference_optimisation(
    ours: Any, theirs: Any, words: Any, folder: Path, tmp_path: Path, reference: str
) -> None:
    """Where no reference is given, TRL loads one from where the model says that it is from."""
    rows = datasets.Dataset.from_list(
        [
            {"prompt": f"w{number} w1", "chosen": f" w{number} w4", "rejected": f" w{number} w6"}
            for number in range(8)
        ]
    )

    def run(model: Any) -> list[float]:
        model_class = loadstone.AutoModelForCausalLM
        given = model_class.from_pretrained(folder, backend="torch") if reference == "given" else None
        settings = trl.DPOConfig(str(tmp_path), **SETTINGS)
        return losses(trl.DPOTrainer(model, given, args=settings, train_dataset=rows, processing_class=words))

    found = run(ours)
    assert found[0] == pytest.approx(0.6931, abs=1e-3), "both prefer alike at the start"
    assert found[-1] < found[0]
    assert found == pytest.approx(run(theirs), rel=1e-3)
