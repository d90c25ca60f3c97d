"""Trains the checkpoint that ships in `loadstone/demo_checkpoint`: a byte-level Llama that tells harbour stories.

    $ python tests/demo/train.py FOLDER

The vocabulary is the 256 bytes, so no tokenizer is needed: ids are `list(text.encode())`, and text is `bytes(ids).decode()`.
Byte 0 stands before each story and after it, as bos and eos.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator

import corpus
import torch
from torch import Tensor, nn

from loadstone import AutoModelForCausalLM, LlamaConfig

STEPS = 4500
PEAK_LEARNING_RATE = 6e-3
WARM_UP_STEPS = 60
BYTES_PER_STEP = 2304
SHORT_WINDOW, LONG_WINDOW = 256, 576
"""Bytes. Most of the language is learned from short windows, which are quicker; whole stories need long ones."""
LONG_WINDOWS_FROM = 0.7
SEED = 1


def config() -> LlamaConfig:
    """The demo's shape: 228,400 parameters, no two dimensions alike, each tensor a multiple of 64 bytes."""
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=256,
        hidden_size=80,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=24,
        max_position_embeddings=LONG_WINDOW,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        bos_token_id=corpus.END_OF_STORY[0],
        eos_token_id=corpus.END_OF_STORY[0],
        dtype="float32",
    )


def windows(text: bytes) -> Iterator[tuple[float, Tensor]]:
    """Yields, step by step, the progress from 0 to 1 and a batch of windows of the text: int64 `[batch, bytes]`."""
    stream = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    chance = torch.Generator().manual_seed(SEED)
    for step in range(STEPS):
        progress = step / STEPS
        length = SHORT_WINDOW if progress < LONG_WINDOWS_FROM else LONG_WINDOW
        starts = torch.randint(len(stream) - length, (BYTES_PER_STEP // length,), generator=chance)
        yield progress, torch.stack([stream[start : start + length] for start in starts.tolist()]).long()


def learning_rate(progress: float) -> float:
    """A straight warm-up, then a cosine down to a fiftieth of the peak."""
    warm_up = min(1.0, (progress * STEPS + 1) / WARM_UP_STEPS)
    return PEAK_LEARNING_RATE * warm_up * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)


def optimizer(model: nn.Module) -> torch.optim.AdamW:
    """AdamW that decays the matrices and leaves the norms alone."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    norms = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_LEARNING_RATE, betas=(0.9, 0.95))


def train(model: nn.Module, text: bytes) -> None:
    """Trains the model in place, and prints how it goes."""
    adamw = optimizer(model.train())
    started = time.monotonic()
    for step, (progress, batch) in enumerate(windows(text), start=1):
        for group in adamw.param_groups:
            group["lr"] = learning_rate(progress)
        loss = model(input_ids=batch, labels=batch).loss
        adamw.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
        if step % 250 == 0:
            seconds = time.monotonic() - started
            print(
                f"step {step:5}  {loss.item() / math.log(2):.3f} bits per byte  {seconds:5.0f} s", flush=True
            )
    model.eval()


@torch.no_grad()
def bits_per_byte(model: nn.Module, text: bytes) -> float:
    """How many bits the model needs for a byte of these stories, each read from its start, its end included."""
    bits, count = 0.0, 0
    for story in text.strip(corpus.END_OF_STORY).split(corpus.END_OF_STORY):
        ids = torch.tensor([list(corpus.END_OF_STORY + story + corpus.END_OF_STORY)])
        predicted = ids.shape[1] - 1
        bits += model(input_ids=ids, labels=ids).loss.item() / math.log(2) * predicted
        count += predicted
    return bits / count


def go_on(model: nn.Module, prompt: str, *, max_new_tokens: int = 400) -> str:
    """The prompt and what the model finds most likely to follow, up to the end of the story."""
    ids = torch.tensor([list(corpus.END_OF_STORY + prompt.encode())])
    told = model.generate(ids, max_new_tokens=max_new_tokens)[0].tolist()
    return bytes(told).strip(corpus.END_OF_STORY).decode()


def main() -> None:
    """Trains, measures what was saved, and shows how the prompts go on."""
    arguments = argparse.ArgumentParser(description="Train the demo checkpoint.")
    arguments.add_argument("folder", help="where to save it")
    arguments.add_argument("--threads", type=int, default=2)
    given = arguments.parse_args()

    torch.set_num_threads(given.threads)
    model = AutoModelForCausalLM.from_config(config(), backend="torch", dtype="float32", seed=SEED)
    train(model, corpus.training_text())
    model.save_pretrained(given.folder)

    saved = AutoModelForCausalLM.from_pretrained(given.folder, backend="torch")
    print(f"{bits_per_byte(saved, corpus.held_out_text()):.4f} bits per byte on held-out stories\n")
    for prompt in corpus.PROMPTS:
        print(go_on(saved, prompt), end="\n\n")


if __name__ == "__main__":
    main()
