"""What transformers answers on real checkpoints: `python -m tests.oracle.real_reference OUT FOLDER...`.

Run in a process of its own; writes one .npz per checkpoint, named after the folder, with the token ids that it was
asked about, its logits (or last hidden states) and, for a causal model, 30 greedy tokens.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

SEED = 20


def record(folder: Path, out: Path) -> None:
    """Ask transformers about one checkpoint."""
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
    temporary = out / f".{folder.name}.npz"
    np.savez(temporary, **arrays)
    temporary.rename(out / f"{folder.name}.npz")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:]:
        record(Path(name), Path(sys.argv[1]))
