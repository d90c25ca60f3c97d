"""Asks transformers and writes down what it answers, for one case.

The model's parameters are drawn, all of them: in a fresh transformers model every norm is 1 and every bias 0, and a
loader that never loads a norm would pass. Then transformers saves it, loads it again, and answers from what it loaded.
"""

import copy
import importlib.metadata
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.pytorch_utils import Conv1D

from loadstone.checkpoint.formats.second_opinion import stored_arrays
from loadstone.testing import inputs
from loadstone.testing.case import GREEDY, PROOF, Case
from loadstone.testing.oracle.forward import Arrays, call, flatten, tensors
from loadstone.testing.store import MANIFEST, REFERENCE, TRANSFORMERS

NEW_TOKENS = 12
CLEAR_MARGIN = 1e-3
"""Least distance between the best and the second logit, as a part of the largest: above every backend's rounding."""
GRADIENT = f"{PROOF}/gradient/"
SEVERAL = 3
"""Distinct tokens that each generated row holds at least; fewer would hide a cache that stands still."""

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def record(case: Case, folder: Path, fingerprint: str) -> None:
    """Write the case's checkpoint, reference.npz and manifest.json into an empty folder."""
    if transformers.__version__ != TRANSFORMERS:
        raise RuntimeError(f"the oracle is transformers {TRANSFORMERS}, not {transformers.__version__}")
    save_drawn(case, folder)
    model = load(case, folder)
    arrays: Arrays = {}
    for run in case.recorded:
        # A copy for each run: rope tables that grow with the sequence are kept by the model that grew them.
        answer = _RUNS.get(run, _forward)
        source = load(case, folder, torch.bfloat16) if run == "bf16" else copy.deepcopy(model)
        arrays |= {f"{run}/{key}": value for key, value in answer(source, case, run).items()}
    state_dict = _state_dict(model, folder)
    for key in [key for key in arrays if key.startswith(GRADIENT)]:
        arrays[GRADIENT + state_dict[key.removeprefix(GRADIENT)]["stored_as"]] = arrays.pop(key)
    np.savez(folder / REFERENCE, **arrays)  # type: ignore[arg-type]
    manifest = _manifest(case, folder, arrays) | {"state_dict": state_dict, "fingerprint": fingerprint}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def save_drawn(case: Case, folder: Path) -> None:
    """Build the case's model, draw everything that it stores, and let transformers save it."""
    config = transformers.CONFIG_MAPPING[case.model_type](**copy.deepcopy(dict(case.config)))
    model = getattr(transformers, case.class_name)(config, **case.model_arguments)
    draw_parameters(model, inputs.seed(case, "parameters"), case.embedding_deviation)
    model.save_pretrained(folder)
    path = folder / "config.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in fields.items() if k not in case.absent}, indent=2) + "\n")


def load(case: Case, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The saved model as transformers loads it: eager attention, which is the one that can show its weights."""
    model, info = getattr(transformers, case.class_name).from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", output_loading_info=True, **case.model_arguments
    )
    if any(info.values()):
        raise RuntimeError(f"transformers does not load what it saved of {case.name}: {info}")
    return model.eval()


def draw_parameters(model: torch.nn.Module, seed: int, embedding_deviation: float) -> None:
    """Draw every parameter and every stored buffer: none keeps its value of a fresh model."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.empty(like.shape).uniform_(low, high, generator=generator)

    def normal(like: torch.Tensor, deviation: float) -> torch.Tensor:
        return torch.empty(like.shape).normal_(0.0, deviation, generator=generator)

    with torch.no_grad():
        for module, name, tensor in _stored(model):
            if not tensor.is_floating_point():
                tensor.copy_(torch.randint(1, 1000, tensor.shape, generator=generator))
            elif name == "running_var":
                tensor.copy_(uniform(tensor, 0.5, 1.5))
            elif bool((tensor == 1).all()):
                tensor.copy_(uniform(tensor, 0.7, 1.3))
            elif tensor.ndim == 1 or bool((tensor == 0).all()):
                tensor.copy_(uniform(tensor, -0.3, 0.3))
            elif isinstance(module, torch.nn.Embedding) or tensor.ndim == 3:
                tensor.copy_(normal(tensor, embedding_deviation))
            else:
                inputs_of_one_output = len(tensor) if isinstance(module, Conv1D) else tensor[0].numel()
                tensor.copy_(normal(tensor, 1.2 / inputs_of_one_output**0.5))


def _stored(model: torch.nn.Module) -> Iterator[tuple[torch.nn.Module, str, torch.Tensor]]:
    """Each parameter and buffer of the state dict once, with the module that holds it and its name there."""
    seen: set[int] = set()
    for module in model.modules():
        buffers = {k: v for k, v in module._buffers.items() if k not in module._non_persistent_buffers_set}
        for name, tensor in {**module._parameters, **buffers}.items():
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                yield module, name, tensor


def _named_inputs(case: Case, arrays: Arrays) -> Arrays:
    """The inputs under their keys, and `valid`, which says where an output of one token each counts."""
    named = {f"input/{name}": value for name, value in arrays.items()}
    if "attention_mask" in arrays:
        mask = arrays["attention_mask"]
        named["valid"] = mask.reshape(-1, mask.shape[-1]) == 1
    return named


def _forward(model: Any, case: Case, run: str) -> Arrays:
    arrays = inputs.draw(case, run)
    with torch.no_grad():
        output = call(model, case, run, arrays)
    return _named_inputs(case, arrays) | dict(flatten(output))


def _proof(model: Any, case: Case, run: str) -> Arrays:
    """The outputs, and the gradients of the loss in the first, the middle and the last parameter that it reaches.

    They go by transformers' own names here, and by the checkpoint's in the file.
    """
    arrays = inputs.draw(case, run)
    output = call(model, case, run, arrays)
    answers = _named_inputs(case, arrays) | dict(flatten(output))
    if output.get("loss") is None:
        return answers
    output.loss.backward()
    reached = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None and p.grad.any()]
    chosen = [reached[0], reached[len(reached) // 2], reached[-1]]
    gradients = {f"gradient/{name}": gradient.numpy() for name, gradient in chosen}
    return answers | gradients


def _cache(model: Any, case: Case, run: str) -> Arrays:
    """Feed the tokens in chunks through the cache; what comes out is put together again along the tokens."""
    arrays = inputs.draw(case, run)
    arguments = tensors(arrays)
    ends = arrays["chunks"].cumsum()
    past, pieces = None, []
    with torch.no_grad():
        for start, end in zip((0, *ends[:-1]), ends, strict=True):
            output = model(
                input_ids=arguments["input_ids"][:, start:end],
                attention_mask=arguments["attention_mask"][:, :end],
                position_ids=arguments["position_ids"][:, start:end],
                past_key_values=past,
                use_cache=True,
            )
            past = output.past_key_values
            pieces.append(dict(flatten(output)))
    joined = {key: np.concatenate([piece[key] for piece in pieces], axis=1) for key in pieces[0]}
    return _named_inputs(case, arrays) | joined


def _generate(model: Any, case: Case, run: str) -> Arrays:
    """Greedy generation from a prompt after which every choice is clear, so that no backend's rounding turns one."""
    for attempt in range(300):
        arrays = inputs.draw(case, run, attempt)
        sequences, margin = _greedy(model, arrays)
        new = sequences[:, arrays["input_ids"].shape[1] :]
        several = min(len(np.unique(row)) for row in new)
        ended = (new == case.config["eos_token_id"]).any()
        if ended or margin < CLEAR_MARGIN or several < SEVERAL:
            continue
        if run == "generate_eos":
            ends = _two_ends(new)
            if ends is None:
                continue
            arrays["eos_token_id"] = ends
            sequences, _ = _greedy(model, arrays)
        return _named_inputs(case, arrays) | {"output/sequences": sequences}
    raise RuntimeError(f"no prompt gives {case.name} clear choices in {run}")


def _greedy(model: Any, arrays: Arrays) -> tuple[np.ndarray, float]:
    arguments = tensors(arrays)
    if "eos_token_id" in arrays:
        arguments["eos_token_id"] = arrays["eos_token_id"].tolist()
    result = copy.deepcopy(model).generate(
        **arguments,
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    logits = torch.stack(result.logits)
    best = logits.topk(2).values
    return result.sequences.numpy(), float((best[..., 0] - best[..., 1]).min() / logits.abs().max())


def _two_ends(new: np.ndarray) -> np.ndarray | None:
    """Two tokens that end the two rows, each after a few tokens and one before the other, if there are such."""
    for ends in itertools.product(new[0, 2:-2], new[1, 2:-2]):
        first, second = (np.flatnonzero(np.isin(row, ends))[0] for row in new)
        if min(first, second) >= 2 and first != second:
            return np.asarray(ends)
    return None


def _manifest(case: Case, folder: Path, arrays: Arrays) -> dict[str, Any]:
    runs: dict[str, dict[str, list[str]]] = {}
    for key in arrays:
        run, kind, *rest = key.split("/", 2)
        runs.setdefault(run, {}).setdefault(kind, []).extend(rest)
    return {
        "case": case.name,
        "family": case.family,
        "model_type": case.model_type,
        "class_name": case.class_name,
        "task": case.task,
        "transformers": importlib.metadata.version("transformers"),
        "torch": importlib.metadata.version("torch"),
        "stored": {
            name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype)}
            for name, tensor in sorted(stored_arrays(folder).items())
        },
        "runs": runs,
    }


def _state_dict(model: Any, folder: Path) -> dict[str, dict[str, Any]]:
    """Every key of transformers' state dict, with the name of the stored tensor that it came from.

    That name differs where transformers 5 renamed its modules and still writes the checkpoint's old names; it is found
    by the bytes, as every tensor was drawn. A tied key names the key that it shares its memory with.
    """
    stored = {tensor.tobytes(): name for name, tensor in stored_arrays(folder).items()}
    entries: dict[str, dict[str, Any]] = {}
    first_of: dict[int, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        array = tensor.detach().numpy()
        entry = {"shape": list(array.shape), "dtype": str(array.dtype), "stored_as": stored[array.tobytes()]}
        first = first_of.setdefault(id(tensor), name)
        entries[name] = entry if first == name else entry | {"tied_to": first}
    return entries


_RUNS: dict[str, Callable[[Any, Case, str], Arrays]] = {
    PROOF: _proof,
    "cache": _cache,
    "generate": _generate,
    GREEDY: _generate,
    "generate_eos": _generate,
}
"""How a run is recorded, where it is more than one forward pass."""
