"""A type that is like one of ours is one file of a plugin, and agrees with transformers in three frameworks."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from install import install, run, told

BACKENDS = ("torch", "flax", "tensorflow")
CLASSES = ("ArceeForCausalLM", "ArceeForSequenceClassification", "ArceeForQuestionAnswering")
IDS = [[5, 9, 2, 11, 3], [7, 1, 8, 4, 6]]

REFERENCE = """
import json, sys
import numpy as np, torch, transformers

folder, ids = sys.argv[1], torch.tensor(json.loads(sys.argv[2]))
torch.manual_seed(0)
config = transformers.ArceeConfig(
    vocab_size=23, hidden_size=32, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=6, mlp_bias=True, attention_bias=True, rms_norm_eps=1e-3, pad_token_id=0,
    max_position_embeddings=64, rope_parameters={"rope_type": "default", "rope_theta": 77.0},
)
for name in sys.argv[3:]:
    model = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
        output = model(ids, output_hidden_states=True)
    model.save_pretrained(folder + name)
    np.savez(folder + name + ".npz", *[value.numpy() for value in (*output.hidden_states, output[0])])
"""
OURS = """
import json, sys
import numpy as np
import loadstone

folder, ids, backend = sys.argv[1], np.array(json.loads(sys.argv[2])), sys.argv[3]
prefix = {"torch": "", "flax": "Flax", "tensorflow": "TF"}[backend]
if backend == "torch":
    import torch
    ids = torch.tensor(ids)
for name in sys.argv[4:]:
    model = getattr(loadstone, prefix + name).from_pretrained(folder + name)
    output = model(ids, output_hidden_states=True)
    found = [*output.hidden_states, next(iter(output.values()))]
    arrays = [value.detach().numpy() if backend == "torch" else np.asarray(value) for value in found]
    np.savez(folder + name + backend + ".npz", *arrays)
    model.save_pretrained(folder + name + backend)
    kind = type(model)
    print(kind.__name__, kind.__module__, kind.__mro__[1].__name__, type(model.config).__name__)
"""
OPENED = """
import sys, transformers
for name in sys.argv[2:]:
    for backend in ("torch", "flax", "tensorflow"):
        _, info = getattr(transformers, name).from_pretrained(sys.argv[1] + name + backend, output_loading_info=True)
        print(sorted(kind for kind, found in info.items() if found))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return a folder in which the plugin is installed."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, "loadstone-arcee", {"architecture.arcee": "loadstone_arcee.plugin"})
    return folder


def test_it_agrees_with_transformers_and_saves_what_transformers_opens(site, tmp_path):
    folder = str(tmp_path / "arcee")
    run(REFERENCE, site, folder, json.dumps(IDS), *CLASSES)
    for backend in BACKENDS:
        said = told(OURS, site, folder, json.dumps(IDS), backend, *CLASSES)
        prefix = {"torch": "", "flax": "Flax", "tensorflow": "TF"}[backend]
        for name, line in zip(CLASSES, said, strict=True):
            parent, module = f"{prefix}{name.replace('Arcee', 'Llama')}", f"loadstone_{backend}.models.llama"
            assert line.split() == [f"{prefix}{name}", module, parent, "ArceeConfig"]
            assert_same(f"{folder}{name}{backend}.npz", f"{folder}{name}.npz")
    assert told(OPENED, site, folder, *CLASSES) == ["[]"] * len(CLASSES) * len(BACKENDS)


def assert_same(one, other):
    with np.load(one) as found, np.load(other) as expected:
        for ours, theirs in zip(found.values(), expected.values(), strict=True):
            assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max(), one


def test_a_task_that_the_family_has_no_head_for_is_refused_by_name(site):
    script = """
from loadstone.architectures import Head, architecture_for
from loadstone.backend import get_backend
from loadstone.errors import ArchitectureError
head = Head(task="MaskedLM", class_name="ArceeForMaskedLM", prefix="model")
try:
    get_backend("torch").model_class(architecture_for("arcee"), head)
except ArchitectureError as error:
    print(error)
"""
    assert "PyTorch has no class ArceeForMaskedLM yet" in "".join(told(script, site))
