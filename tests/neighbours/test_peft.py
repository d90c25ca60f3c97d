"""PEFT's LoRA on GPT-2, whose projections are stored the other way round."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

import loadstone

IDS = torch.tensor([[5, 17, 42, 8, 3, 29], [11, 20, 60, 33, 7, 54]])


@pytest.fixture
def models(folders: dict[str, Path]) -> Any:
    """Our GPT-2 and transformers'."""
    ours = loadstone.AutoModelForCausalLM.from_pretrained(folders["gpt2"], backend="torch")
    return ours, transformers.AutoModelForCausalLM.from_pretrained(folders["gpt2"])


def trained(model: Any, target: str) -> Any:
    """Return a model with LoRA on some of its modules, trained two steps; the first moves only what is zero at the start."""
    modules = target if target == "all-linear" else [target]
    config = peft.LoraConfig(r=2, target_modules=modules, task_type="CAUSAL_LM", fan_in_fan_out=True)
    torch.manual_seed(0)
    adapted = peft.get_peft_model(model, config).train()
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        adapted(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
    return adapted.eval()


@pytest.mark.parametrize("target", ["c_attn", "all-linear"])
def test_lora_is_that_of_transformers_model(models: Any, target: str, tmp_path: Path) -> None:
    before = models[0](IDS).logits
    ours, theirs = (trained(model, target) for model in models)
    found = ours(input_ids=IDS).logits
    assert (found - before).abs().max() > 0.01
    torch.testing.assert_close(found, theirs(input_ids=IDS).logits, atol=1e-4, rtol=1e-4)
    adapted = [name for name, _ in ours.named_modules() if name.endswith("lora_A.default")]
    assert adapted == [name for name, _ in theirs.named_modules() if name.endswith("lora_A.default")]
    merged = ours.merge_and_unload()
    assert type(merged) is loadstone.GPT2LMHeadModel
    torch.testing.assert_close(merged(IDS).logits, found, atol=1e-4, rtol=1e-4)
    merged.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(again(IDS).logits, found, atol=1e-4, rtol=1e-4)
