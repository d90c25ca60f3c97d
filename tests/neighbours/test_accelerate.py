"""accelerate's loop of training, with our models."""

from pathlib import Path
from typing import Any

import accelerate
import torch

import loadstone

IDS = torch.tensor([[5, 17, 42, 8, 3, 29], [11, 20, 60, 33, 7, 54]])


def test_a_tied_model_is_prepared_trained_saved_and_restored(ours: Any, tmp_path: Path) -> None:
    accelerator = accelerate.Accelerator(cpu=True)
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.1)
    model, optimizer = accelerator.prepare(ours, optimizer)

    def step() -> float:
        optimizer.zero_grad()
        loss = model(IDS, labels=IDS).loss
        accelerator.backward(loss)
        optimizer.step()
        return float(loss)

    first = step()
    accelerator.save_state(str(tmp_path / "state"))
    before = model(IDS).logits.detach()
    second = step()
    assert second < first
    assert not torch.equal(model(IDS).logits, before)
    accelerator.load_state(str(tmp_path / "state"))
    assert torch.equal(model(IDS).logits, before)
    assert ours.lm_head.weight is ours.model.embed_tokens.weight
    assert step() == second

    accelerator.unwrap_model(model).save_pretrained(
        tmp_path / "model",
        is_main_process=accelerator.is_main_process,
        save_function=accelerator.save,
        state_dict=accelerator.get_state_dict(model),
    )
    loaded = loadstone.AutoModelForCausalLM.from_pretrained(tmp_path / "model", backend="torch")
    assert torch.equal(loaded(IDS).logits, model(IDS).logits)
