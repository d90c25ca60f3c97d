"""What transformers' TensorFlow and Flax classes wrote, loaded into PyTorch, for every family that they had."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))

from checkpoint_files import shared

import loadstone
from loadstone import AutoModel, AutoModelForSequenceClassification
from loadstone.errors import ArgumentError, CheckpointError, MatchError
from loadstone.modeling_utils import load_sharded_checkpoint
from loadstone.testing.cases import CASES
from tests import foreign
from tests.foreign import ASKED, H5, MSGPACK
from tests.oracle import load

REAL = "bert-tiny-ticket-classifier-all-formats"


@pytest.mark.parametrize(("case", "file"), foreign.cases())
def test_the_model_is_that_of_safetensors(case: str, file: str, tmp_path: Path) -> None:
    row = CASES[case]
    folder = foreign.resaved(case, file, tmp_path / "foreign")
    foreign.agree(getattr(loadstone, row.class_name), case, folder, tmp_path, **row.model_arguments)


@pytest.mark.parametrize("file", [H5, MSGPACK])
@pytest.mark.parametrize("case", ["gpt2-causal-lm", "mistral-causal-lm", "resnet-image-classification"])
def test_shards(case: str, file: str, tmp_path: Path) -> None:
    folder = foreign.resaved(case, file, tmp_path / "foreign", shards=3)
    model = foreign.agree(getattr(loadstone, CASES[case].class_name), case, folder, tmp_path)
    assert load_sharded_checkpoint(model, folder, strict=False).missing_keys in ([], counters(model))


def counters(model: Any) -> list[str]:
    return [name for name in model.state_dict() if name.endswith("num_batches_tracked")]


@pytest.mark.parametrize("file", [H5, MSGPACK])
def test_shards_of_another_checkpoint_are_refused(file: str, tmp_path: Path) -> None:
    folder = foreign.resaved("gpt2-causal-lm", file, tmp_path / "foreign", shards=3)
    first, second, _ = sorted(path for path in folder.iterdir() if "-of-" in path.name)
    first.write_bytes(second.read_bytes())
    with pytest.raises(CheckpointError, match="do not fit together"):
        AutoModel.from_pretrained(folder)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
@pytest.mark.parametrize("file", [H5, MSGPACK])
def test_turned_tensors_are_cast(file: str, dtype: str, tmp_path: Path) -> None:
    folder = foreign.resaved("gpt2-causal-lm", file, tmp_path / "foreign")
    foreign.agree(loadstone.GPT2LMHeadModel, "gpt2-causal-lm", folder, tmp_path, dtype=dtype)


@pytest.mark.parametrize("file", [H5, MSGPACK])
def test_another_head_and_the_base_model(file: str, tmp_path: Path) -> None:
    folder = foreign.resaved("gpt2-causal-lm", file, tmp_path / "foreign")
    base = AutoModel.from_pretrained(folder)
    expected = AutoModel.from_pretrained(load.folder("gpt2-causal-lm"))
    for name, tensor in expected.state_dict().items():
        assert torch.equal(base.state_dict()[name], tensor), name
    scored = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    assert scored.load_report.names("new") == ["score.weight"]


@pytest.mark.parametrize("file", [H5, MSGPACK])
def test_a_wrong_config_is_told_in_the_names_of_checkpoints(file: str, tmp_path: Path) -> None:
    folder = foreign.resaved("gpt2-causal-lm", file, tmp_path / "foreign")
    with pytest.raises(MatchError, match=r"transformer\.h\.0\.mlp\.c_fc\.weight: expected shape \[32, 40\]"):
        AutoModel.from_pretrained(folder, n_inner=40)
    config = (load.folder("bert-base") / "config.json").read_text()
    (folder / "config.json").write_text(config)
    with pytest.raises((CheckpointError, MatchError)):
        AutoModel.from_pretrained(folder)


@pytest.mark.parametrize(
    "arguments", [{}, {"from_tf": True}, {"from_flax": True}, {"use_safetensors": False}]
)
def test_the_real_one_answers_the_same_from_every_format(arguments: dict[str, Any]) -> None:
    folder = shared(REAL)
    model = AutoModelForSequenceClassification.from_pretrained(folder, **arguments)
    expected = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True).state_dict()
    for name, tensor in expected.items():
        assert torch.equal(model.state_dict()[name], tensor), name
    with np.load(folder / "reference_io.npz") as reference, torch.no_grad():
        inputs = {name: torch.tensor(reference[name]) for name in ("input_ids", "attention_mask")}
        assert np.allclose(model(**inputs).logits.numpy(), reference["logits"], atol=2e-5)


def test_safetensors_come_first_then_pickles_then_h5(tmp_path: Path) -> None:
    folder = foreign.resaved("gpt2-causal-lm", H5, tmp_path / "all")
    foreign.write_msgpack(folder / MSGPACK, foreign.arrays("gpt2-causal-lm", MSGPACK))
    assert files_of(folder) == {H5}
    assert files_of(folder, from_flax=True) == files_of(folder, weights_format="msgpack") == {MSGPACK}
    weights = AutoModel.from_pretrained(folder).state_dict()
    torch.save(weights, folder / "pytorch_model.bin")
    assert files_of(folder) == files_of(folder, from_pt=True) == {"pytorch_model.bin"}
    (folder / "model.safetensors").write_bytes(
        (load.folder("gpt2-causal-lm") / "model.safetensors").read_bytes()
    )
    assert files_of(folder) == files_of(folder, from_pt=True) == {"model.safetensors"}
    assert files_of(folder, from_tf=True) == files_of(folder, weights_format="h5") == {H5}
    assert files_of(folder, from_tf=False, from_flax=None) == {"model.safetensors"}


def files_of(folder: Path, **arguments: Any) -> set[str]:
    plan = loadstone.plan(folder, task="", **arguments).plan
    return {info.file for one in plan.reads() for info in one.recipe.sources}


WRONG = [
    {"from_tf": True, "from_flax": True},
    {"from_pt": True, "from_tf": True},
    {"from_tf": True, "weights_format": "msgpack"},
    {"from_flax": True, "use_safetensors": True},
    {"from_pt": True, "weights_format": "h5"},
]


@pytest.mark.parametrize("arguments", WRONG)
def test_arguments_that_disagree(arguments: dict[str, Any], tmp_path: Path) -> None:
    folder = foreign.resaved("gpt2-causal-lm", H5, tmp_path / "foreign")
    with pytest.raises(ArgumentError, match="disagree"):
        AutoModel.from_pretrained(folder, **arguments)


@pytest.mark.parametrize("arguments", [{"from_pt": True}, {"use_safetensors": True}, {"from_flax": True}])
def test_what_is_asked_for_and_not_there(arguments: dict[str, Any], tmp_path: Path) -> None:
    folder = foreign.resaved("gpt2-causal-lm", H5, tmp_path / "foreign")
    with pytest.raises(CheckpointError, match=r"leaves out|no weights of the format 'msgpack'") as caught:
        AutoModel.from_pretrained(folder, **arguments)
    assert H5 in str(caught.value)


@pytest.mark.parametrize("file", ASKED)
def test_the_plan_is_that_of_safetensors(file: str, tmp_path: Path) -> None:
    folder = foreign.resaved("bert-pre-training", file, tmp_path / "foreign")
    report = loadstone.plan(folder)
    assert set(report.names("loaded")) == set(
        loadstone.plan(load.folder("bert-pre-training")).names("loaded")
    )


def test_each_format_is_saved_as_a_conversion_writes_it(tmp_path: Path) -> None:
    foreign.saves_as_converted(loadstone.GPT2LMHeadModel, "gpt2-causal-lm", tmp_path)
