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
from torch.nn.utils.rnn import pad_sequence

from loadstone import AutoModelForCausalLM, LlamaConfig

STEPS = 7000
STORIES_PER_STEP = 3
PEAK_LEARNING_RATE = 4e-3
WARM_UP_STEPS = 100
LONGEST_STORY = 576
"""Bytes, those before and after it included."""
NOT_SCORED = -100
"""The label of what follows the end of a story in a batch with a longer one."""
SEED = 1


def config() -> LlamaConfig:
    """The demo's shape: 228,400 parameters, no two dimensions alike, each tensor a multiple of 64 bytes."""
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=256,
        hidden_size=80,
        intermediate_size=224,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=LONGEST_STORY,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        initializer_range=0.08,
        tie_word_embeddings=True,
        bos_token_id=corpus.END_OF_STORY[0],
        eos_token_id=corpus.END_OF_STORY[0],
        dtype="float32",
    )


def encode(text: bytes) -> list[Tensor]:
    """The stories of a text, each with the byte before it and the byte after it: int64 `[bytes]`."""
    stories = text.strip(corpus.END_OF_STORY).split(corpus.END_OF_STORY)
    return [torch.tensor(list(corpus.END_OF_STORY + story + corpus.END_OF_STORY)) for story in stories]


def batches(stories: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the ids and labels of a few whole stories for each step: int64 `[stories, bytes]`.

    Whole stories and not windows of the text: with one cast in sight, it is soon learned that the cast stays.
    """
    chance = torch.Generator().manual_seed(SEED)
    order: list[int] = []
    for _ in range(STEPS):
        if len(order) < STORIES_PER_STEP:
            order = torch.randperm(len(stories), generator=chance).tolist()
        few = [stories[order.pop()] for _ in range(STORIES_PER_STEP)]
        yield (
            pad_sequence(few, batch_first=True),
            pad_sequence(few, batch_first=True, padding_value=NOT_SCORED),
        )


def learning_rate(step: int) -> float:
    """A straight warm-up, then a cosine down to a fiftieth of the peak."""
    warm_up = min(1.0, step / WARM_UP_STEPS)
    return PEAK_LEARNING_RATE * warm_up * (0.02 + 0.98 * (1 + math.cos(math.pi * step / STEPS)) / 2)


def optimizer(model: nn.Module) -> torch.optim.AdamW:
    """AdamW that decays the matrices and leaves the norms alone."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    norms = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98))


def train(model: nn.Module, text: bytes) -> None:
    """Trains the model in place, and prints how it goes."""
    adamw = optimizer(model.train())
    started = time.monotonic()
    for step, (ids, labels) in enumerate(batches(encode(text)), start=1):
        for group in adamw.param_groups:
            group["lr"] = learning_rate(step)
        loss = model(input_ids=ids, labels=labels).loss
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
    for story in encode(text):
        predicted = len(story) - 1
        bits += model(input_ids=story[None], labels=story[None]).loss.item() / math.log(2) * predicted
        count += predicted
    return bits / count


def go_on(model: nn.Module, prompt: str, *, max_new_tokens: int = 400) -> str:
    """The prompt and what the model finds most likely to follow, up to the end of the story."""
    ids = torch.tensor([list(corpus.END_OF_STORY + prompt.encode())])
    told = model.generate(ids, max_new_tokens=max_new_tokens)[0].tolist()
    return bytes(told).strip(corpus.END_OF_STORY).decode(errors="replace")


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
