"""Measures how long it takes to plan a device map, and how even it is: ours beside accelerate's and transformers', in turns.

    python -m tests.benchmarks.maps [--rounds N]

Models have real sizes and no memory (PyTorch's meta device). What is timed is the planning alone: the models, and our
plan of what goes into which parameter, are there before.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import accelerate
import torch
import transformers
from accelerate.utils import get_balanced_memory
from transformers.integrations import accelerate as forked

import loadstone
from loadstone.backend import get_backend
from loadstone.planning.place import place, sizes_of
from loadstone.planning.records import Assignment, LoadPlan
from loadstone.planning.spread import above_all, block_finder

LLAMA = {"num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False}
SIZES: dict[str, dict[str, Any]] = {
    "70B": {
        "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
    },
    "405B": {
        "hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126, "num_attention_heads": 128,
    },
}  # fmt: skip
Budgets = Mapping[int | str, int]
DeviceMap = Mapping[str, Any]


def without_memory(model_class: Any, config: Any) -> Any:
    """Return a model of bfloat16 on the meta device."""
    with torch.device("meta"):
        return model_class(config).to(torch.bfloat16)


def plan_of(model: Any) -> tuple[LoadPlan, Callable[[str], str]]:
    """Return the plan of a load of a model of ours, as if a checkpoint were there, and what names its blocks."""
    architecture, head = model.architecture_and_head()
    ties = head.ties_of(model.config)
    assignments = {
        name: Assignment(name=name, state="tied", shape=parameter.shape, to=ties[name])
        if name in ties
        else Assignment(name=name, state="loaded", dtype=parameter.dtype, shape=parameter.shape)
        for name, parameter in get_backend("torch").parameters(model).items()
    }
    return LoadPlan(assignments=assignments, stored={}), block_finder(architecture.no_split, head.prefix)


def ours(model: Any, strategy: str, budgets: Budgets) -> Callable[[], DeviceMap]:
    """Return what plans a map with loadstone, for a model of ours."""
    plan, block_of = plan_of(model)
    backend = get_backend("torch")
    return lambda: place(plan, backend, strategy, max_memory=budgets, block_of=block_of).device_map


def accelerates(model: Any, strategy: str, budgets: Budgets, library: Any = None) -> Callable[[], DeviceMap]:
    """Return what plans a map with accelerate, or with transformers' fork of it, for a model of anybody's."""
    balance = library.get_balanced_memory if library else get_balanced_memory
    infer = (library or accelerate).infer_auto_device_map
    blocks = model._no_split_modules

    def plan() -> DeviceMap:
        limits: Any = dict(budgets)
        if strategy != "sequential":
            low = strategy == "balanced_low_0"
            limits = balance(model, limits, no_split_module_classes=blocks, low_zero=low)
        return infer(model, limits, no_split_module_classes=blocks)  # type: ignore[no-any-return]

    return plan


def loads(sizes: Mapping[str, int], device_map: DeviceMap) -> dict[str, int]:
    """Return place -> the bytes of the parameters that a map puts there."""
    found: dict[str, int] = {}
    for name, size in sizes.items():
        where = next(str(device_map[above]) for above in reversed(above_all(name)) if above in device_map)
        found[where] = found.get(where, 0) + size
    return found


def main() -> None:
    """Print a line for each planner and model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    logging.disable(logging.WARNING)  # accelerate tells of each device that this machine does not have
    for name, sizes in SIZES.items():
        config = {**LLAMA, **sizes}
        model = without_memory(loadstone.LlamaForCausalLM, loadstone.LlamaConfig(**config))
        theirs = without_memory(transformers.LlamaForCausalLM, transformers.LlamaConfig(**config))
        held = sizes_of(plan_of(model)[0])
        budgets = dict.fromkeys(range(8), sum(held.values()) // 6)
        planners = {
            "loadstone": ours(model, "balanced", budgets),
            "accelerate": accelerates(theirs, "balanced", budgets),
            "transformers": accelerates(theirs, "balanced", budgets, forked),
        }
        for label, (seconds, found) in in_turns(planners, rounds).items():
            bytes_of = loads(held, found)
            even = max(bytes_of.values()) / (sum(bytes_of.values()) / 8)
            over = any(bytes_of.get(str(device), 0) > budget for device, budget in budgets.items())
            print(
                f"{name:>5} {label:<13} {statistics.median(seconds) * 1e3:7.1f} ms, at best"
                f" {min(seconds) * 1e3:6.1f}; largest load / mean {even:.3f}{', over a budget' if over else ''}"
            )


def in_turns(
    planners: Mapping[str, Callable[[], DeviceMap]], rounds: int
) -> dict[str, tuple[list[float], DeviceMap]]:
    """Return label -> the seconds of each round, and the map of the last."""
    seconds: dict[str, list[float]] = {label: [] for label in planners}
    maps: dict[str, DeviceMap] = {}
    for _ in range(rounds):
        for label, planner in planners.items():
            started = time.perf_counter()
            maps[label] = planner()
            seconds[label].append(time.perf_counter() - started)
    return {label: (seconds[label], maps[label]) for label in planners}


if __name__ == "__main__":
    main()
