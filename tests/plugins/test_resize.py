"""A backend that gives no parameter another shape: it loads, and says so where it is asked to."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from install import EXAMPLE, install, told

FIXED = """
from loadstone.backend import Backend
from loadstone.hookspecs import BackendRecord, hookimpl
from loadstone_example.backend import PlainBackend


class FixedBackend(PlainBackend):
    name = "fixed"
    resize = Backend.resize


@hookimpl
def loadstone_backends():
    yield BackendRecord(name="fixed", title="Fixed", requires=("numpy",), install="-",
                        backend="fixed:FixedBackend", models="loadstone_example.models")
"""
USE = """
import sys
import numpy as np
from loadstone import AutoConfig, AutoModelForCausalLM
from loadstone.backend import get_backend
from loadstone.errors import BackendError
from loadstone.model.embeddings import resize_token_embeddings

config = AutoConfig.for_model("echo", vocab_size=5, hidden_size=4)
model = AutoModelForCausalLM.from_config(config, backend="plain", seed=3)
model.save_pretrained(sys.argv[1])
plain = get_backend("plain")
plain.resize(model, "model.tokens.weight", (7, 4))
print(plain.parameters(model)["lm_head.weight"].shape)
fixed = AutoModelForCausalLM.from_pretrained(sys.argv[1], backend="fixed")
fixed.backend_name = "fixed"
before = fixed["model.tokens.weight"].copy()
try:
    resize_token_embeddings(fixed, 9)
except BackendError as error:
    print(error.what)
print(np.array_equal(before, fixed["model.tokens.weight"]), fixed.config.vocab_size)
"""


def test_a_backend_without_the_verb_loads_and_changes_nothing_when_asked_to_resize(tmp_path):
    site = tmp_path / "site"
    install(site, "fixed-dist", {"backend.fixed": "fixed [Plain]"}, {"fixed": FIXED})
    install(site, "loadstone-example", EXAMPLE)
    assert told(USE, site, tmp_path / "saved") == [
        "(7, 4)",
        "the backend 'fixed' gives no parameter another shape",
        "True 5",
    ]
