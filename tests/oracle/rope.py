"""Records rope's numbers as transformers computes them: `python -m tests.oracle.rope` writes tests/core/rope.json.

Of each kind the frequencies of a short sequence and of a long one, for several sizes of a head.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

PAGE = Path(__file__).parents[1] / "core" / "rope.json"
HEADS = (6, 10, 64)
LENGTHS = (7, 40)
"""Within the original context and beyond it."""
ORIGINAL = {"original_max_position_embeddings": 16}
YARN = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0} | ORIGINAL
KINDS: tuple[dict[str, Any], ...] = (
    {"rope_type": "default", "rope_theta": 500.0},
    {"rope_type": "default", "rope_theta": 1e6},
    {"rope_type": "linear", "rope_theta": 500.0, "factor": 3.0},
    {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 2.0},
    {
        "rope_type": "llama3",
        "rope_theta": 100.0,
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 2.2,
    }
    | ORIGINAL,
    YARN,
    YARN | {"beta_fast": 2.0, "beta_slow": 0.5},
    YARN | {"attention_factor": 1.3, "truncate": False},
    YARN | {"mscale": 0.7, "mscale_all_dim": 1.4},
    {"rope_type": "longrope", "rope_theta": 500.0, "factor": 4.0} | ORIGINAL,
    {"rope_type": "longrope", "rope_theta": 500.0, "factor": 4.0, "attention_factor": 1.1} | ORIGINAL,
)


def lists(kind: dict[str, Any], head: int) -> dict[str, Any]:
    """Return a kind with the lists that it needs a number of for each pair of channels."""
    if kind["rope_type"] != "longrope":
        return kind
    pairs = range(head // 2)
    return kind | {
        "short_factor": [1 + i / 7 for i in pairs],
        "long_factor": [1.2 + i * 0.9 for i in pairs],
    }


def recorded(parameters: dict[str, Any], head: int, tokens: int) -> dict[str, Any]:
    """Return what transformers turns positions by, in a sequence of some tokens."""
    config = LlamaConfig(
        hidden_size=2 * head,
        num_attention_heads=2,
        head_dim=head,
        max_position_embeddings=16 if parameters["rope_type"] == "dynamic" else 64,
        rope_parameters=parameters,
    )
    rope = LlamaRotaryEmbedding(config)
    rope(torch.zeros(1, tokens, 2 * head), torch.arange(tokens)[None])  # a table that grows does so here
    return {
        "parameters": parameters,
        "head_dim": head,
        "tokens": tokens,
        "max_position_embeddings": config.max_position_embeddings,
        "frequencies": [float(f) for f in rope.inv_freq],
        "scaling": float(rope.attention_scaling),
    }


def main() -> None:
    """Write the page."""
    assert {kind["rope_type"] for kind in KINDS} >= ROPE_INIT_FUNCTIONS.keys() - {"proportional"}
    rows = [
        recorded(lists(kind, head), head, n) for kind, head, n in itertools.product(KINDS, HEADS, LENGTHS)
    ]
    PAGE.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
