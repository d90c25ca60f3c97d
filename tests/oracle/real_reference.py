"""What transformers answers on real checkpoints: `python -m tests.oracle.real_reference FOLDER OUT.npz FOLDER OUT.npz ...`.

Run in a process of its own; writes for each the token ids that it was asked about, its logits (or last hidden states) and, for a
causal model, 30 greedy tokens.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

SEED = 20


def record(folder: Path, out: Path) -> None:
    """Ask transformers about one checkpoint, and write what it says."""
    config = json.loads((folder / "config.json").read_text())
    model = (
        getattr(transformers, config["architectures"][0]).from_pretrained(folder, dtype=torch.float32).eval()
    )
    ids = np.random.default_rng(SEED).integers(3, config["vocab_size"], (2, 24))
    with torch.no_grad():
        output = model(torch.from_numpy(ids))
        arrays = {"input_ids": ids}
        for field in ("logits", "last_hidden_state"):
            if output.get(field) is not None:
                arrays[field] = output[field].numpy()
        if "CausalLM" in config["architectures"][0] or "LMHead" in config["architectures"][0]:
            prompt = torch.from_numpy(ids[:1, :6])
            arrays["sequences"] = model.generate(prompt, max_new_tokens=30, do_sample=False).numpy()
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{os.getpid()}-{out.name}")
    np.savez(temporary, **arrays)
    temporary.rename(out)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    paths = [Path(argument) for argument in sys.argv[1:]]
    for folder, out in zip(paths[::2], paths[1::2], strict=True):
        record(folder, out)
