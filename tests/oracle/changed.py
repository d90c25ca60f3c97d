"""Compares changed configurations with transformers: the same numbers, or an error; never a silent difference.

    python -m tests.oracle.changed --all                    # 200 of each model type, some minutes
    python -m tests.oracle.changed --type llama --count 50 --seed 3
    python -m tests.oracle.changed --type llama --number 17  # one of them again, with its errors

Each takes a case of the oracle, sets a few keys of its config.json to values from `config_keys.py`, plausible and
impossible ones, lets transformers build, draw and save that model, and loads it in both. The verdicts:

* `same`: both compute, and every output agrees to 1e-5 (the largest difference as a part of the largest value);
* `both refuse`;
* `refused`: only loadstone refuses, with an error of its own; the table says so of a value, and without that all is well;
* `lenient`: only transformers refuses; the table says so of a value, and without that all is well;
* `WRONG`: anything else.
"""

import argparse
import contextlib
import dataclasses
import json
import logging
import random
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import GenerationConfig
from transformers.configuration_utils import PreTrainedConfig

import loadstone
from loadstone.architectures import architecture_for
from loadstone.errors import LoadstoneError
from loadstone.testing import inputs
from loadstone.testing.case import PROOF, Case
from loadstone.testing.cases import CASES
from loadstone.testing.compare import FP32_TOLERANCE
from loadstone.testing.oracle import record
from loadstone.testing.oracle.forward import flatten, tensors
from tests.oracle import config_keys, load

COUNT = 200
RUNS = ("plain", "short", "right", "left", "positions", PROOF)
NEW_TOKENS = 4
HALF = {"torch.bfloat16": 0.05, "torch.float16": 0.02}
"""Dtype -> what roundings in other orders come to, as a part of the largest value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One changed configuration.

    Attributes:
        case: What it starts from.
        keys: What is set in config.json.
    """

    case: Case
    keys: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a change: one of the words above, and the facts for a reader."""

    word: str
    change: Change
    facts: str = ""

    def __str__(self) -> str:
        return f"{self.word}: {self.change.case.name} with {self.change.keys}: {self.facts}"


@dataclass(slots=True)
class Answer:
    """What one side made of a configuration: its outputs, or the error that it refused it with."""

    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    dtype: str = ""
    error: BaseException | None = None

    def __str__(self) -> str:
        if self.error is None:
            return f"computed in {self.dtype}"
        return f"{type(self.error).__name__}: {' '.join(str(self.error).split())[:300]}"


def changes(model_type: str, *, seed: int, count: int) -> Iterator[Change]:
    """Yield `count` changes of a model type; the first ones go through the keys one by one, so that none is left out."""
    keys = config_keys.keys_of(model_type)
    classes = _first_of_each_class(model_type)
    singles = [(name, value) for name, key in keys.items() for value in key.values]
    random.Random(f"{model_type}/{seed}").shuffle(singles)
    singles.sort(key=_turn(singles))  # each key once before any is there twice
    for number in range(count):
        chance = random.Random(f"{model_type}/{seed}/{number}")
        case = chance.choice(classes)
        chosen = dict([singles[number % len(singles)]])
        for name in chance.sample(sorted(keys), chance.choice((0, 0, 1, 2))):
            if keys[name].values:
                chosen.setdefault(name, chance.choice(keys[name].values))
        yield Change(case=case, keys=chosen)


def _turn(singles: list[tuple[str, Any]]) -> Callable[[tuple[str, Any]], int]:
    seen: Counter[str] = Counter()
    turns = {}
    for name, value in singles:
        turns[name, repr(value)] = seen[name]
        seen[name] += 1
    return lambda single: turns[single[0], repr(single[1])]


def _first_of_each_class(model_type: str) -> list[Case]:
    firsts: dict[str, Case] = {}
    for case in CASES.values():
        if case.model_type == model_type:
            firsts.setdefault(case.class_name, case)
    return list(firsts.values())


def judge(change: Change, *, show: bool = False) -> Verdict:
    """Load a changed configuration in transformers and in loadstone, and compare what they make of it.

    Where the table says that the two disagree about a value, the change must be well without it.
    """
    verdict = _judge(change, show=show)
    disagreed = {"refused": config_keys.refused_alone, "lenient": config_keys.taken_alone}.get(verdict.word)
    if disagreed is None:
        return verdict
    about = disagreed(change.case.model_type, change.keys)
    rest = {name: value for name, value in change.keys.items() if name not in about}
    if not about or (rest and judge(dataclasses.replace(change, keys=rest)).word == "WRONG"):
        return dataclasses.replace(verdict, word="WRONG")
    return verdict


def _judge(change: Change, *, show: bool) -> Verdict:
    with tempfile.TemporaryDirectory() as made, _quiet():
        folder = Path(made)
        theirs = _theirs(change, folder)
        ours = _ours(change, folder)
    if show:
        print(f"transformers: {theirs}\nloadstone: {ours.error if ours.error else ours}")
    told = f"transformers: {theirs}; loadstone: {ours}"
    if theirs.error is not None:
        word = "lenient" if ours.error is None else "both refuse"
        return Verdict(word=word, change=change, facts=told)
    if ours.error is not None:
        word = "refused" if isinstance(ours.error, LoadstoneError) else "WRONG"
        return Verdict(word=word, change=change, facts=told)
    differing = list(_differences(theirs, ours))
    facts = f"{'; '.join(differing[:3])}; {told}"
    return Verdict(word="WRONG" if differing else "same", change=change, facts=facts)


def _differences(theirs: Answer, ours: Answer) -> Iterator[str]:
    if theirs.dtype != ours.dtype:
        yield f"dtype {ours.dtype}, expected {theirs.dtype}"
        return
    tolerance = HALF.get(theirs.dtype, FP32_TOLERANCE)
    for name in sorted(theirs.outputs.keys() ^ ours.outputs.keys()):
        # transformers gives none where a file asks for them and nobody for eager attention, and warns.
        if name in theirs.outputs or "/attentions/" not in name:
            yield f"{name} is in one alone"
    for name in sorted(theirs.outputs.keys() & ours.outputs.keys()):
        expected, found = theirs.outputs[name], ours.outputs[name]
        if expected.shape != found.shape:
            yield f"{name}: shape {found.shape}, expected {expected.shape}"
        elif expected.dtype.kind in "iu":
            if theirs.dtype not in HALF and not np.array_equal(expected, found):
                yield f"{name}: {found.tolist()}, expected {expected.tolist()}"
        elif not np.array_equal(np.isfinite(expected), np.isfinite(found)):
            yield f"{name}: not finite elsewhere"
        else:
            finite = np.isfinite(expected)
            scale = np.abs(expected[finite]).max(initial=0.0) or 1.0
            off = float(np.abs(expected[finite] - found[finite]).max(initial=0.0) / scale)
            if off > tolerance:
                yield f"{name}: differs by {off:.3g} of the largest value"


# transformers


def _theirs(change: Change, folder: Path) -> Answer:
    """Write the changed checkpoint into the folder, and compute with it."""
    shutil.copyfile(load.ORACLE / change.case.name / "model.safetensors", folder / "model.safetensors")
    _write_config(change, folder)
    answer = Answer()
    try:
        _draw(change, folder)
        model = _auto(transformers, change.case).from_pretrained(
            folder, output_loading_info=True, **change.case.model_arguments
        )
        model, info = model
        if any(info.values()):
            raise RuntimeError(f"does not load what it saved: {info}")
        answer.outputs = dict(_computed(model.eval(), change.case))
        answer.dtype = str(model.dtype)
    except Exception as error:  # noqa: BLE001  # whatever it is, transformers does not take this configuration
        answer.error = error
    return answer


def _write_config(change: Change, folder: Path) -> None:
    values = json.loads((load.ORACLE / change.case.name / "config.json").read_text())
    values = {key: value for key, value in values.items() if key not in ("transformers_version",)}
    for key, other in config_keys.SPELLINGS.get(change.case.model_type, {}).items():
        if key in change.keys and other not in change.keys:
            values.pop(other, None)
    (folder / "config.json").write_text(json.dumps(values | change.keys))


def _draw(change: Change, folder: Path) -> None:
    """Give the folder weights of the changed sizes."""
    config = transformers.AutoConfig.from_pretrained(folder)
    auto = _auto(transformers, change.case)
    model = auto.from_config(config, **change.case.model_arguments)
    record.draw_parameters(model, inputs.seed(change.case, "parameters"), change.case.embedding_deviation)
    with tempfile.TemporaryDirectory() as elsewhere:
        model.save_pretrained(elsewhere)
        (folder / "model.safetensors").unlink()
        shutil.copyfile(Path(elsewhere) / "model.safetensors", folder / "model.safetensors")


def _auto(library: Any, case: Case) -> Any:
    task = next(h.task for h in architecture_for(case.model_type).heads if h.class_name == case.class_name)
    return getattr(library, f"AutoModelFor{task}" if task else "AutoModel")


# loadstone


def _ours(change: Change, folder: Path) -> Answer:
    answer = Answer()
    try:
        model = _auto(loadstone, change.case).from_pretrained(
            folder, backend="torch", **change.case.model_arguments
        )
        answer.outputs = dict(_computed(model, change.case))
        answer.dtype = str(model.dtype)
    except Exception as error:  # noqa: BLE001
        answer.error = error
    return answer


# Both


def _computed(model: Any, case: Case) -> Iterator[tuple[str, np.ndarray]]:
    """Yield every output of a few runs, where tokens are not padding."""
    for run in RUNS:
        if run not in case.feeds:
            continue
        arrays = _fed(case, run, model)
        mask = arrays.get("attention_mask")
        with torch.no_grad():
            output = model(**arrays)
        named = output if isinstance(output, dict) else {str(i): value for i, value in enumerate(output)}
        for name, value in flatten(dict(named), run):
            yield name, value if mask is None else _valid(value, mask.numpy() == 1)
    if "generate" in case.feeds:
        arrays = _fed(case, "generate", model)
        written = model.generate(**arrays, max_new_tokens=NEW_TOKENS, do_sample=False)
        # transformers returns a record where the file asks for hidden states.
        yield "generate", getattr(written, "sequences", written).numpy()


def _fed(case: Case, run: str, model: Any) -> dict[str, Any]:
    arguments = tensors(inputs.draw(case, run))
    for name in {"pixel_values", "inputs_embeds"} & arguments.keys():
        arguments[name] = arguments[name].to(model.dtype)
    return arguments


def _valid(value: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return what an output says of tokens; all of it where it is not one value a token."""
    mask = mask.reshape(-1, mask.shape[-1])
    return value[mask] if value.shape[:2] == mask.shape else value if value.ndim < 4 else np.zeros(0)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let neither library say anything, and transformers save weights alone, whatever it thinks of the config."""
    saves = [(kind, kind.save_pretrained) for kind in (PreTrainedConfig, GenerationConfig)]
    for kind, _ in saves:
        kind.save_pretrained = lambda self, *args, **kwargs: None
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        for kind, save in saves:
            kind.save_pretrained = save


# The command


def judged(model_type: str, seed: int, count: int) -> list[Verdict]:
    """Judge `count` changes of a model type."""
    torch.set_num_threads(1)
    return [judge(change) for change in changes(model_type, seed=seed, count=count)]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the status is 1 where anything is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.oracle.changed", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--all", action="store_true", help="every model type")
    parser.add_argument("--type", action="append", default=[], help="a model type; may be repeated")
    parser.add_argument("--count", type=int, default=COUNT, help="changes of each type")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--number", type=int, help="this one alone")
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args(arguments)
    types = sorted({case.model_type for case in CASES.values()}) if given.all else given.type
    if not types:
        parser.error("name a --type, or --all")
    load.prepare()
    if given.number is not None:
        verdict = judge(list(changes(types[0], seed=given.seed, count=given.number + 1))[-1], show=True)
        print(verdict)
        return verdict.word == "WRONG"
    wrong = 0
    with ProcessPoolExecutor(given.processes) as pool:
        for model_type, verdicts in zip(
            types, pool.map(judged, types, [given.seed] * len(types), [given.count] * len(types)), strict=True
        ):
            words = Counter(verdict.word for verdict in verdicts)
            print(
                f"{model_type}: {', '.join(f'{n} {word}' for word, n in sorted(words.items()))}", flush=True
            )
            for number, verdict in enumerate(verdicts):
                if verdict.word == "WRONG":
                    print(f"  {number}: {verdict}", flush=True)
            wrong += words["WRONG"]
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
