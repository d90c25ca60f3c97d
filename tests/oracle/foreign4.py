"""Records how transformers 4's TensorFlow and Flax classes call and turn parameters: `python tests/oracle/foreign4.py`.

It needs an environment with transformers 4, torch, TensorFlow, tf-keras, Flax and h5py, and writes foreign4.json beside itself:
case -> file -> path of the tensor in it -> the parameter and axes, "classifier.weight 1,0": axis `i` of what is stored is
axis `axes[i]` of the parameter, and one of size 1 that is in no checkpoint is -1. Which parameter a tensor is, its numbers say.
"""

import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

TABLE = Path(__file__).with_suffix(".json")
CASES = {
    "bert": {"pre-training", "token-classification", "base"},
    "roberta": {"masked-lm"},
    "xlm-roberta": {"sequence-classification"},
    "distilbert": {"masked-lm", "question-answering"},
    "gpt2": {"causal-lm", "sequence-classification"},
    "vit": {"image-classification"},
    "resnet": {"image-classification"},
    "mistral": {"causal-lm"},
    "llama": {"causal-lm"},
    "gemma": {"causal-lm"},
}
"""Model type -> tasks of the oracle, those with tensors that no other has."""


def wanted() -> list[str]:
    """Names of the cases, the plainest of each type and task."""
    from loadstone.testing.cases import CASES as ROWS

    found: dict[tuple[str, str], str] = {}
    for row in ROWS.values():
        if row.task in CASES.get(row.model_type, ()):
            found.setdefault((row.model_type, row.task), row.name)
    return list(found.values())


def h5_tensors(path: Path) -> dict[str, np.ndarray]:
    """Return path in the file -> tensor."""
    import h5py

    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, one: found.update({name: one[()]} if hasattr(one, "shape") else {}))
    return found


def msgpack_tensors(path: Path) -> dict[str, np.ndarray]:
    """Return path in the tree -> tensor."""
    from flax.serialization import msgpack_restore
    from flax.traverse_util import flatten_dict

    return dict(flatten_dict(msgpack_restore(path.read_bytes()), sep="/"))


def record(name: str) -> dict[str, dict[str, str]]:
    """Save one case's model, its parameters drawn, with each framework's class; return the table of each."""
    import torch
    import transformers

    from loadstone.testing.cases import CASES as ROWS
    from tests.oracle.resave4 import config_of_4

    row, found = ROWS[name], {}
    fields = config_of_4(row)
    if row.model_type in ("llama", "mistral"):
        fields["head_dim"] = 8  # their TensorFlow and Flax classes take no other
    config = transformers.CONFIG_MAPPING[row.model_type](**fields, torch_dtype="float32")
    model = getattr(transformers, row.class_name)(config, **row.model_arguments)
    generator = torch.Generator().manual_seed(0)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.normal_(generator=generator)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(f"{folder}/torch", safe_serialization=False)
        for prefix, file, read in (
            ("TF", "tf_model.h5", h5_tensors),
            ("Flax", "flax_model.msgpack", msgpack_tensors),
        ):
            other = getattr(transformers, prefix + row.class_name, None)
            if other is not None:
                loaded = other.from_pretrained(f"{folder}/torch", from_pt=True, **row.model_arguments)
                extra = {"safe_serialization": False} if prefix == "TF" else {}
                loaded.save_pretrained(f"{folder}/{prefix}", **extra)
                tensors = read(Path(folder, prefix, file))
                found[file] = {path: same(array, model.state_dict()) for path, array in tensors.items()}
    return found


def same(array: np.ndarray, parameters: dict[str, Any]) -> str:
    """Return which parameter a tensor is, and what its axes are of it."""
    for name, parameter in parameters.items():
        values = parameter.numpy()
        lead = array.ndim - values.ndim
        for axes in itertools.permutations(range(values.ndim)):
            turned = values.transpose(axes).reshape((1,) * lead + tuple(values.shape[a] for a in axes))
            if lead >= 0 and turned.shape == array.shape and np.array_equal(turned, array):
                return f"{name} {','.join(map(str, [-1] * lead + list(axes)))}"
    raise RuntimeError(f"a tensor of shape {array.shape} is no parameter")


if __name__ == "__main__":
    import sys

    sys.path[0] = str(Path(__file__).parents[2])
    rows = {name: record(name) for name in wanted()}
    TABLE.write_text(json.dumps(rows, indent=0, separators=(",", ": ")) + "\n")
