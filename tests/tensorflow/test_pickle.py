"""What torch.save writes, loaded where there is no torch."""

import sys
from pathlib import Path

import pytest

import loadstone
from loadstone.modeling_utils import load_sharded_checkpoint
from tests.oracle import load
from tests.pickled import agree, resaved

CASES = {"llama-causal-lm": "TFLlamaForCausalLM", "gpt2-causal-lm": "TFGPT2LMHeadModel"}


@pytest.mark.parametrize("form", ["zip", "older"])
@pytest.mark.parametrize("case", CASES)
def test_the_model_is_that_of_safetensors(case: str, form: str, tmp_path: Path) -> None:
    source, model_class = load.folder(case), getattr(loadstone, CASES[case])
    folder = resaved(source, tmp_path / "pickled", form)
    model = agree(model_class, source, folder, tmp_path)
    agree(model_class, source, folder, tmp_path / "half", dtype="bfloat16")
    assert load_sharded_checkpoint(model, folder) == ([], [])
    assert loadstone.plan(folder, model_class=model_class).notes == model.load_report.notes
    assert not sys.modules.get("torch")
