"""What torch itself saves, read by loadstone: both forms, every dtype, views, ties, training checkpoints."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))

from checkpoint_files import SHARED, shared

import loadstone
from loadstone import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaForCausalLM
from loadstone.checkpoint.open import open_checkpoint
from loadstone.errors import CheckpointError, MatchError
from loadstone.modeling_utils import load_sharded_checkpoint
from loadstone.source import resolve
from tests.oracle.files import copied
from tests.pickled import agree, held, resaved
from tests.torch.tiny import same, state

FORMS = {"zip": {}, "older": {"_use_new_zipfile_serialization": False}}
BIN = "pytorch_model.bin"
DTYPES = {
    name: getattr(torch, name)
    for name in (
        *(
            "float64",
            "float32",
            "float16",
            "bfloat16",
            "complex64",
            "int64",
            "int32",
            "int16",
            "int8",
            "uint8",
        ),
        *("bool", "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"),
    )
}


@pytest.fixture(params=FORMS)
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Return a function that saves an object in one of the two forms, with the configuration of a folder beside it."""

    def write(value: Any, source: Path | None = None, name: str = BIN, **options: Any) -> Path:
        folder = tmp_path / "saved"
        folder.mkdir(exist_ok=True)
        if source is not None:
            (folder / "config.json").write_bytes((source / "config.json").read_bytes())
        torch.save(value, folder / name, **FORMS[request.param], **options)
        return folder

    return write


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def check(folder: Path, expected: dict[str, torch.Tensor]) -> None:
    found = held(folder)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype.name == str(tensor.dtype).removeprefix("torch."), name
        assert found[name].shape == tuple(tensor.shape), name
        assert found[name].tobytes() == bits(tensor), name


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_dtype(save: Any, protocol: int) -> None:
    raw = torch.arange(48, dtype=torch.uint8)
    tensors = {
        name: raw.clone().view(dtype).reshape(2, -1) for name, dtype in DTYPES.items() if name != "bool"
    }
    tensors["bool"] = (raw % 2).to(torch.bool)
    check(save(tensors, pickle_protocol=protocol), tensors)


def test_views_of_one_storage(save: Any) -> None:
    base = torch.randn(6, 4, 5)
    tensors = {
        "base": base,
        "again": base,
        "transposed": base.transpose(0, 2),
        "permuted": base.permute(1, 2, 0),
        "rows": base[2:4],
        "inner": base[:, 1:3, 2:],
        "stepped": base[::2, :, ::3],
        "flat": base.view(-1)[7:],
        "number": base[3, 2, 1],
        "expanded": base[0, :, :1].expand(3, 4, 5),
        "empty": base[:0],
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.randn(3).expand(2, 3)),
    }
    folder = save(tensors)
    check(folder, tensors)
    assert open_checkpoint(resolve(folder)).aliases == {"again": "base"}


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_attributes_and_other_values(save: Any, protocol: int) -> None:
    marked, parameter = torch.ones(2), torch.nn.Parameter(torch.ones(3))
    marked.note, parameter.note = "kept by torch", "too"
    beside = {
        "rng": np.ones(3),
        "epoch": 3,
        "lr": 0.5,
        "sizes": torch.Size([1, 2]),
        "device": torch.device("cpu"),
    }
    folder = save(
        {"marked": marked, "parameter": parameter, "kind": torch.float16, "set": {1, 2}} | beside,
        pickle_protocol=protocol,
    )
    check(folder, {"marked": marked, "parameter": parameter})
    metadata = open_checkpoint(resolve(folder)).metadata
    assert metadata["epoch"] == "3" and metadata["rng"].startswith("a numpy array")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.ones(2, dtype=torch.complex64).conj(), "conjugate"),
        (torch.ones(2, dtype=torch.complex64).conj().imag, "negative view"),
        (torch.eye(2).to_sparse(), "sparse|weights have no use for"),
        (torch.eye(2, device="meta"), "without numbers"),
        (torch.ones(2, dtype=torch.complex128), "no name for"),
        (torch.nn.Linear(1, 1), "names code"),
    ],
)
def test_what_is_no_dense_tensor_is_refused(save: Any, value: Any, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        open_checkpoint(resolve(save({"w": torch.ones(1), "other": value})))


@pytest.mark.parametrize("given", [{}, {"dtype": "bfloat16"}, {"read": "copy"}, {"device_map": "cpu"}])
def test_a_model(save: Any, folders: dict[str, Path], tmp_path: Path, given: dict[str, Any]) -> None:
    model = LlamaForCausalLM.from_pretrained(folders["llama"])
    folder = save(model.state_dict(), folders["llama"])
    found = agree(LlamaForCausalLM, folders["llama"], folder, tmp_path, **given)
    assert "less safe" in str(loadstone.plan(folder)) and "less safe" in str(found.load_report)
    assert AutoModel.from_pretrained(folder) is not None


def test_ties_hold(save: Any, folders: dict[str, Path]) -> None:
    model = LlamaForCausalLM.from_pretrained(folders["tied"])
    folder = save(model.state_dict(), folders["tied"])
    assert open_checkpoint(resolve(folder)).aliases == {"lm_head.weight": "model.embed_tokens.weight"}
    found = LlamaForCausalLM.from_pretrained(folder)
    assert found.lm_head.weight is found.model.embed_tokens.weight
    assert same(state(found), state(model))


def test_tensors_that_share_bytes_and_are_not_tied_share_no_memory(
    save: Any, folders: dict[str, Path]
) -> None:
    held_as_one = LlamaForCausalLM.from_pretrained(folders["llama"]).state_dict()
    both = torch.randn(2, *held_as_one["model.norm.weight"].shape)
    joined = torch.cat([both.view(-1), both[0]])
    size = both.shape[1]
    held_as_one["model.norm.weight"] = joined[:size]
    held_as_one["model.layers.0.input_layernorm.weight"] = joined[size // 2 : size // 2 + size]
    found = LlamaForCausalLM.from_pretrained(save(held_as_one, folders["llama"]))
    before = found.model.layers[0].input_layernorm.weight.clone()
    with torch.no_grad():
        found.model.norm.weight.zero_()
    assert torch.equal(found.model.layers[0].input_layernorm.weight, before)


def test_tied_tensors_that_are_stored_as_views_are_compared(save: Any, folders: dict[str, Path]) -> None:
    held_twice = dict(LlamaForCausalLM.from_pretrained(folders["tied"]).state_dict())
    held_twice["lm_head.weight"] = held_twice["lm_head.weight"].t().clone().t()
    found = LlamaForCausalLM.from_pretrained(save(held_twice, folders["tied"]))
    assert found.lm_head.weight is found.model.embed_tokens.weight


@pytest.mark.parametrize(
    ("wrap", "mapping"),
    [
        (lambda tensors: {f"module.{name}": value for name, value in tensors.items()}, {r"^module\.": ""}),
        (lambda tensors: {"state_dict": tensors, "epoch": 3}, {r"^state_dict\.": ""}),
        (lambda tensors: {"model_state_dict": tensors}, {r"^model_state_dict\.": ""}),
        (
            lambda tensors: {"state_dict": {f"model.{name}": value for name, value in tensors.items()}},
            {r"^state_dict\.model\.": ""},
        ),
        (
            lambda tensors: {"model": tensors, "optimizer": optimiser(tensors), "args": {"lr": 1}},
            {r"^model\.": ""},
        ),
        (
            lambda tensors: {
                "model": {f"module.{n}": v for n, v in tensors.items()},
                "optimizer": optimiser(tensors),
            },
            {r"^model\.module\.": ""},
        ),
    ],
)
def test_training_checkpoints_name_the_argument_that_takes_them(
    save: Any, folders: dict[str, Path], wrap: Any, mapping: dict[str, str]
) -> None:
    model = LlamaForCausalLM.from_pretrained(folders["llama"])
    folder = save(wrap(model.state_dict()), folders["llama"])
    with pytest.raises(MatchError) as caught:
        AutoModelForCausalLM.from_pretrained(folder)
    assert f"pass key_mapping={mapping}" in str(caught.value)
    assert same(state(AutoModelForCausalLM.from_pretrained(folder, key_mapping=mapping)), state(model))


def optimiser(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    parameters = [torch.nn.Parameter(value.clone()) for value in tensors.values()]
    found = torch.optim.AdamW(parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    found.step()
    return found.state_dict()


def test_shards_and_loading_into_a_model(folders: dict[str, Path], tmp_path: Path) -> None:
    import json

    model = LlamaForCausalLM.from_pretrained(folders["llama"])
    tensors = model.state_dict()
    names, index = list(tensors), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"pytorch_model-{number:05d}-of-00002.bin"
        torch.save({name: tensors[name] for name in part}, tmp_path / file)
        index |= dict.fromkeys(part, file)
    (tmp_path / f"{BIN}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (tmp_path / "config.json").write_bytes((folders["llama"] / "config.json").read_bytes())
    assert same(state(AutoModelForCausalLM.from_pretrained(tmp_path)), state(model))
    other = LlamaForCausalLM(model.config)
    assert load_sharded_checkpoint(other, tmp_path, prefer_safe=False) == ([], [])
    assert same(state(other), state(model))


def test_safetensors_win_and_a_pickle_beside_them_can_be_asked_for(folder: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(folder)
    changed = {name: value + 1 for name, value in model.state_dict().items()}
    torch.save(changed, folder / BIN)
    assert same(state(LlamaForCausalLM.from_pretrained(folder)), state(model))
    assert same(state(LlamaForCausalLM.from_pretrained(folder, use_safetensors=False)), changed)


def test_mapped_where_aligned(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = resaved(folders["llama"], tmp_path / "plain")
    torch.save(LlamaForCausalLM.from_pretrained(folders["llama"]).state_dict(), folder / BIN)
    report = LlamaForCausalLM.from_pretrained(folder).load_report
    assert report.bytes_read == 0 and report.bytes_mapped > 0


def test_from_the_hub(hub: Any, folders: dict[str, Path], tmp_path: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(folders["llama"])
    for form, options in FORMS.items():
        torch.save(model.state_dict(), tmp_path / form, **options)
        files = {"config.json": folders["llama"] / "config.json", BIN: tmp_path / form}
        hub.add_repo(f"org/{form}", files)
        plan = loadstone.plan(f"org/{form}")
        assert not plan.names("new") and "less safe" in str(plan)
        assert same(state(AutoModelForCausalLM.from_pretrained(f"org/{form}")), state(model))


@pytest.mark.parametrize("name", [path.name for path in sorted(SHARED.glob("*-all-formats"))] or ["none"])
def test_real_files_hold_what_their_safetensors_do(name: str) -> None:
    folder = shared(name)
    ours, theirs = held(folder, use_safetensors=False), held(folder)
    assert ours.keys() >= theirs.keys() > set()
    assert all(ours[key].tobytes() == theirs[key].tobytes() for key in theirs)
    expected = torch.load(folder / BIN, weights_only=True)
    assert ours.keys() == expected.keys()
    assert all(ours[key].tobytes() == bits(value) for key, value in expected.items())


def test_a_real_model_is_the_same_of_both(tmp_path: Path) -> None:
    folder = copied(shared("bert-tiny-ticket-classifier-all-formats"), tmp_path / "copy")
    (folder / "model.safetensors").unlink()
    agree(
        AutoModelForSequenceClassification,
        shared("bert-tiny-ticket-classifier-all-formats"),
        folder,
        tmp_path,
        backend="torch",
    )
