"""What transformers' TensorFlow and Flax classes wrote, loaded into TensorFlow."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))

from checkpoint_files import shared

import loadstone
from loadstone.testing.cases import CASES
from tests import foreign
from tests.foreign import H5, MSGPACK


@pytest.mark.parametrize(("case", "file"), foreign.cases("gpt2-causal", "vit", "resnet", "gemma", "roberta"))
def test_the_model_is_that_of_safetensors(case: str, file: str, tmp_path: Path) -> None:
    folder = foreign.resaved(case, file, tmp_path / "foreign", shards=2)
    foreign.agree(getattr(loadstone, f"TF{CASES[case].class_name}"), case, folder, tmp_path)
    assert not sys.modules.get("torch")


@pytest.mark.parametrize("arguments", [{"from_tf": True}, {"from_flax": True}])
def test_the_real_one_answers_the_same(arguments: dict[str, bool]) -> None:
    folder = shared("bert-tiny-ticket-classifier-all-formats")
    model = loadstone.TFAutoModelForSequenceClassification.from_pretrained(folder, **arguments)
    file = H5 if "from_tf" in arguments else MSGPACK
    plan = loadstone.plan(folder, backend="tensorflow", **arguments).plan
    assert {info.file for one in plan.reads() for info in one.recipe.sources} == {file}
    with np.load(folder / "reference_io.npz") as reference:
        inputs = {name: reference[name] for name in ("input_ids", "attention_mask")}
        assert np.allclose(np.asarray(model(**inputs).logits), reference["logits"], atol=2e-5)


def test_each_format_is_saved_as_a_conversion_writes_it(tmp_path: Path) -> None:
    foreign.saves_as_converted(loadstone.TFGPT2LMHeadModel, "gpt2-causal-lm", tmp_path)
