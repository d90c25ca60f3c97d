"""Shows that the oracle can tell: changes one tensor or one configuration field of a transformers model at a time.

Reads `{"tensors": [CASE, ...], "fields": [[CASE, FIELD, VALUE], ...]}` from standard input and writes, for each change,
how far it moves the case's reference outputs, in the project's measure, up to the first run that shows it:
`{"tensors": {CASE: {NAME: FURTHEST}}, "fields": [FURTHEST, ...]}`. A dot in FIELD descends into a dict.
"""

import copy
import json
import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[2])

import torch
import transformers

from tests.oracle.cases import CASES, Case
from tests.oracle.compare import FP32_TOLERANCE, relative_difference, valid_for
from tests.oracle.forward import FORWARD_RUNS, call, flatten
from tests.oracle.load import folder, run

AMOUNT = 0.02
"""How far each element of a tensor is moved, as a part of itself (standard deviation)."""
ENOUGH = 10 * FP32_TOLERANCE
"""A change that moves an output this far is seen; the runs after that one are not asked."""


def furthest(model: Any, case: Case) -> float:
    """The largest relative difference between the model's outputs and the reference, until one is seen."""
    worst = 0.0
    for name in FORWARD_RUNS:
        if name not in case.runs or worst > ENOUGH:
            continue
        recorded = run(case, name)
        with torch.no_grad():
            output = call(copy.deepcopy(model), case, name, dict(recorded.inputs))
        for field in recorded.outputs:
            expected = recorded.outputs[field]
            fields = dict(flatten(output[field], field))
            pairs = zip(
                fields.values(), expected if isinstance(expected, tuple) else (expected,), strict=True
            )
            for mine, theirs in pairs:
                worst = max(worst, relative_difference(mine, theirs, valid_for(field, theirs, recorded)))
    return worst


def load(case: Case, field: str = "", value: Any = None) -> Any:
    """The case's model as transformers loads it, with one configuration field changed."""
    config = transformers.AutoConfig.from_pretrained(folder(case))
    if field:
        *parents, last = field.split(".")
        if parents:
            (parent,) = parents
            getattr(config, parent)[last] = value
        else:
            setattr(config, last, value)
    model_class = getattr(transformers, case.class_name)
    return model_class.from_pretrained(
        folder(case), config=config, dtype=torch.float32, attn_implementation="eager", **case.model_arguments
    ).eval()


def perturb_tensors(case: Case) -> dict[str, float]:
    """Name of each stored floating tensor -> how far the outputs move when it does; `unchanged` when none does."""
    model = load(case)
    moved = {"unchanged": furthest(model, case)}
    generator = torch.Generator().manual_seed(0)
    for name, tensor in dict(model.state_dict()).items():
        if not tensor.is_floating_point():
            continue
        kept = tensor.clone()
        tensor.mul_(1 + AMOUNT * torch.empty(tensor.shape).normal_(generator=generator))
        moved[name] = furthest(model, case)
        tensor.copy_(kept)
    return moved


def main() -> None:
    """Answer the question on standard input."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    asked = json.load(sys.stdin)
    tensors = {name: perturb_tensors(CASES[name]) for name in asked["tensors"]}
    fields = [
        furthest(load(CASES[name], field, value), CASES[name]) for name, field, value in asked["fields"]
    ]
    json.dump({"tensors": tensors, "fields": fields}, sys.stdout)


if __name__ == "__main__":
    main()
