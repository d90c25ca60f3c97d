"""`nnx.tabulate` tells a model's layers, and leaves the process as it was."""

from __future__ import annotations

import numpy as np
import pytest
from flax import nnx

import loadstone
from tests.oracle import load

CASES = {
    "bert-sequence-classification-single-label": "bert/encoder/layer/0/attention/self/query",
    "llama-causal-lm": "model/layers/1/self_attn/q_proj",
    "resnet-base": "embedder/embedder/convolution",
}
WIDE = {"force_terminal": False, "width": 400}


@pytest.mark.usefixtures("compile_little")
@pytest.mark.parametrize("case", CASES)
def test_a_table_names_every_layer(case: str) -> None:
    (class_name,) = (row.class_name for row in load.cases() if row.name == case)
    cls = getattr(loadstone, f"Flax{class_name}")
    model = cls.from_pretrained(load.folder(case))
    inputs = load.run(case, "plain").inputs
    first = next(iter(inputs))
    before = model(inputs[first]).to_tuple()[0]
    held = {kind: dict(vars(kind)) for kind in (cls, type(model.base_model))}
    table = nnx.tabulate(model, inputs[first], console_kwargs=WIDE)
    assert CASES[case] in table
    assert f"{model.num_parameters():,}" in table
    for kind, attributes in held.items():
        assert all(vars(kind)[name] is value for name, value in attributes.items())
    again = cls.from_pretrained(load.folder(case))
    for other in (model, again):
        np.testing.assert_array_equal(other(inputs[first]).to_tuple()[0], before)
