"""What transformers' TensorFlow and Flax classes wrote, loaded into Flax."""

import sys
from pathlib import Path

import flax.serialization
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))

from checkpoint_files import shared

import loadstone
from loadstone.save.convert import convert
from loadstone.testing.cases import CASES
from tests import foreign
from tests.foreign import H5, MSGPACK
from tests.oracle import load

pytestmark = pytest.mark.usefixtures("compile_little")


@pytest.mark.parametrize(("case", "file"), foreign.cases("gpt2-causal", "vit", "resnet", "gemma", "roberta"))
def test_the_model_is_that_of_safetensors(case: str, file: str, tmp_path: Path) -> None:
    folder = foreign.resaved(case, file, tmp_path / "foreign", shards=2)
    foreign.agree(getattr(loadstone, f"Flax{CASES[case].class_name}"), case, folder, tmp_path)
    assert not sys.modules.get("torch") and not sys.modules.get("tensorflow")


@pytest.mark.parametrize("arguments", [{"from_tf": True}, {"from_flax": True}])
def test_the_real_one_answers_the_same(arguments: dict[str, bool]) -> None:
    folder = shared("bert-tiny-ticket-classifier-all-formats")
    model = loadstone.FlaxAutoModelForSequenceClassification.from_pretrained(folder, **arguments)
    file = H5 if "from_tf" in arguments else MSGPACK
    plan = loadstone.plan(folder, backend="flax", **arguments).plan
    assert {info.file for one in plan.reads() for info in one.recipe.sources} == {file}
    with np.load(folder / "reference_io.npz") as reference:
        inputs = {name: reference[name] for name in ("input_ids", "attention_mask")}
        assert np.allclose(np.asarray(model(**inputs).logits), reference["logits"], atol=2e-5)


def test_each_format_is_saved_as_a_conversion_writes_it(tmp_path: Path) -> None:
    foreign.saves_as_converted(loadstone.FlaxGPT2LMHeadModel, "gpt2-causal-lm", tmp_path)


def test_arrays_in_pieces_are_those_of_flax(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 100)
    monkeypatch.setattr("loadstone.checkpoint.formats.msgpack.writer.MAX_CHUNK", 100)
    source = load.folder("gpt2-causal-lm")
    written = (convert(source, tmp_path / "ours", format="msgpack").folder / MSGPACK).read_bytes()
    tree = flax.serialization.msgpack_restore(written)
    assert flax.serialization.to_bytes(tree) == written
    (tmp_path / "ours" / MSGPACK).write_bytes(flax.serialization.to_bytes(tree))
    foreign.agree(loadstone.FlaxGPT2LMHeadModel, "gpt2-causal-lm", tmp_path / "ours", tmp_path)
