"""What core asks of a model: a class that lacks a part of it is told with its plugin, and ours lack none."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from install import EXAMPLE, install, run

MISSING = """
import json, sys
from loadstone import AutoModel
from loadstone.backend import get_backend
from loadstone_example.models.echo import PlainEchoModel
from loadstone.pretrained import Pretrained

name = sys.argv[2]
if name == "device":
    del PlainEchoModel.__mro__[1].device
elif name != "nothing":
    delattr(Pretrained, name)
try:
    AutoModel.from_pretrained(sys.argv[1], backend="plain")
except Exception as error:
    print(type(error).__name__, *getattr(error, "problems", ()), error.where)
"""


@pytest.mark.parametrize("name", ["nothing", "device", "check_saves", "set_attn_implementation"])
def test_a_model_that_lacks_a_part_is_told_with_its_plugin(tmp_path, name):
    install(tmp_path / "site", "loadstone-example", EXAMPLE)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "echo"}))
    import numpy as np
    from safetensors.numpy import save_file

    tensors = {"tokens.weight": np.ones((16, 8), np.float32), "norm.weight": np.ones(8, np.float32)}
    save_file(tensors, tmp_path / "model.safetensors")
    told = run(MISSING, tmp_path / "site", tmp_path, name).stdout.strip()
    if name == "nothing":
        assert told == ""
    else:
        assert told == f"BackendError {name} loadstone_example.plugin of loadstone-example 1.0"
