"""The cases of Echo, which transformers does not know: what they are fed, and what the right answers are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from loadstone.testing import Case, decoder, inputs, save_answers


def answers(case: Case, folder: Path, fingerprint: str) -> None:
    """Draw Echo's weights, and compute what it answers with them."""
    rng = np.random.default_rng(inputs.seed(case, "parameters"))
    rows, size = case.config["vocab_size"], case.config["hidden_size"]
    prefix = "" if case.task == "base" else "model."
    weights = {
        f"{prefix}tokens.weight": rng.normal(0, 0.4, (rows, size)).astype(np.float32),
        f"{prefix}norm.weight": rng.uniform(0.7, 1.3, size).astype(np.float32),
    }
    given = inputs.draw(case, "plain")
    x = weights[f"{prefix}tokens.weight"][given["input_ids"]]
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * weights[f"{prefix}norm.weight"]
    outputs = {"last_hidden_state": x}
    if case.task == "causal-lm":
        weights["lm_head.weight"] = rng.normal(0, 0.2, (rows, size)).astype(np.float32)
        outputs = {"logits": x @ weights["lm_head.weight"].T}
    save_answers(case, folder, fingerprint, weights, {"plain": (given, outputs)})


ECHO = {"vocab_size": 67, "hidden_size": 24, "tie_word_embeddings": False}
WITHOUT_MASKS = {"feeds": ("plain",), "runs": ("plain",), "answers": "loadstone_example.cases:answers"}
ROWS = (decoder("echo", name, ECHO) for name in ("EchoModel", "EchoForCausalLM"))
CASES = {row.name: dataclasses.replace(row, **WITHOUT_MASKS) for row in ROWS}
