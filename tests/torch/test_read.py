"""Mapped or read: what a load gives, whom a write reaches, and what a file that changes meanwhile does."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

import loadstone
from loadstone.dtypes import CASTABLE
from loadstone.errors import ChangedFileError
from loadstone.load import supply
from loadstone.read.cast import cast
from loadstone_torch.backend import TORCH_DTYPES, TorchBackend
from tests.benchmarks import checkpoints
from tests.benchmarks.checkpoints import Generated

SMALL = Generated(
    name="small", layers=2, hidden=64, intermediate=128, heads=4, kv_heads=2, vocabulary=256, shard=1 << 17
)
MODES = pytest.mark.parametrize("read", ["auto", "map", "copy"])


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return checkpoints.make(SMALL, tmp_path_factory.mktemp("read"))


@pytest.fixture
def folder(original, tmp_path) -> Path:
    """A copy of the checkpoint that a test may change."""
    return Path(shutil.copytree(original, tmp_path / "checkpoint"))


def load(folder: Path, **options: object) -> torch.nn.Module:
    return loadstone.AutoModelForCausalLM.from_pretrained(folder, backend="torch", **options)


def stored(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {name: t for file in folder.glob("*.safetensors") for name, t in load_file(file).items()}


def sums(folder: Path) -> dict[str, str]:
    files = folder.glob("*.safetensors")
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def traffic(model: torch.nn.Module) -> tuple[int, int]:
    return model.load_report.bytes_read, model.load_report.bytes_mapped


@MODES
@pytest.mark.parametrize("dtype", ["auto", "stored", "float32", "float16", "float64"])
def test_every_parameter_is_what_is_stored(folder, read, dtype):
    model, expected = load(folder, read=read, dtype=dtype), stored(folder)
    wanted = TORCH_DTYPES[dtype if dtype not in ("auto", "stored") else "bfloat16"]
    found = dict(model.named_parameters())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == wanted
        assert torch.equal(found[name], value.to(wanted))
    is_mapped = wanted == torch.bfloat16 and read != "copy"
    assert traffic(model) == ((0, SMALL.nbytes) if is_mapped else (SMALL.nbytes, 0))


def test_a_file_that_cannot_be_mapped_safely_is_read_unless_mapping_was_asked_for(folder, monkeypatch):
    monkeypatch.setattr(supply, "is_mappable", lambda path: "00001" not in path.name)
    first = (folder / next(iter(SMALL.shards()))).stat().st_size
    read, mapped = traffic(load(folder))
    assert read + mapped == SMALL.nbytes and 0 < first - read < 4096  # all of the first file but its header
    assert traffic(load(folder, read="map")) == (0, SMALL.nbytes)


@MODES
def test_a_write_reaches_neither_the_file_nor_another_load(folder, read):
    before = sums(folder)
    one, other = load(folder, read=read), load(folder, read=read)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.fill_(7)
    assert sums(folder) == before
    assert all(torch.equal(value, stored(folder)[name]) for name, value in other.named_parameters())
    assert all((parameter == 7).all() for parameter in one.parameters())


def test_training_a_mapped_model_leaves_the_file_alone(folder):
    before, model = sums(folder), load(folder, read="map").train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ids = torch.arange(8)[None]
    model(ids, labels=ids).loss.backward()
    optimizer.step()
    assert not torch.equal(model.lm_head.weight, stored(folder)["lm_head.weight"])
    assert sums(folder) == before


def test_a_mapped_model_outlives_its_folder(folder):
    expected, model = stored(folder), load(folder, read="map")
    shutil.rmtree(folder)
    assert all(torch.equal(value, expected[name]) for name, value in model.named_parameters())


def test_parameters_do_not_share_a_storage(folder):
    storages = [parameter.untyped_storage() for parameter in load(folder, read="map").parameters()]
    assert len({storage.data_ptr() for storage in storages}) == len(storages)
    assert sum(storage.nbytes() for storage in storages) == SMALL.nbytes


def overwrite(folder: Path) -> None:
    """Write other weights into the files themselves, as `cp` does."""
    for file in folder.glob("*.safetensors"):
        age = file.stat().st_mtime_ns
        with open(file, "r+b") as stream:
            stream.seek(-64, os.SEEK_END)
            stream.write(bytes(64))
        os.utime(file, ns=(age + 1, age + 1))


def exchange(folder: Path) -> None:
    """Let two shards take each other's names."""
    one, other, *_ = sorted(folder.glob("*.safetensors"))
    one.rename(folder / "aside")
    other.rename(one)
    (folder / "aside").rename(other)


def truncate(folder: Path) -> None:
    for file in folder.glob("*.safetensors"):
        os.truncate(file, file.stat().st_size // 2)


def empty(folder: Path) -> None:
    for file in folder.glob("*.safetensors"):
        os.truncate(file, 0)


CHANGES = pytest.mark.parametrize("change", [overwrite, exchange, truncate, empty])


@MODES
@CHANGES
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_change_under_a_running_load_is_an_error(folder, monkeypatch, read, change, dtype):
    """It neither gives a model of two checkpoints nor ends the process, at whatever tensor it comes."""
    names, put = [], TorchBackend.put

    def put_and_change(self: TorchBackend, model: torch.nn.Module, name: str, *rest: object) -> None:
        put(self, model, name, *rest)
        names.append(name)
        if len(names) == 3:
            change(folder)

    monkeypatch.setattr(TorchBackend, "put", put_and_change)
    with pytest.raises(ChangedFileError, match="load again"):
        load(folder, read=read, dtype=dtype)


@MODES
@CHANGES
def test_a_change_between_plan_and_load_is_an_error(
    folder, monkeypatch, read, change: Callable[[Path], None]
):
    build = TorchBackend.build

    def build_and_change(self: TorchBackend, *arguments: object, **options: object) -> torch.nn.Module:
        change(folder)
        return build(self, *arguments, **options)

    monkeypatch.setattr(TorchBackend, "build", build_and_change)
    with pytest.raises(ChangedFileError, match="load again"):
        load(folder, read=read)


@pytest.mark.parametrize("target", sorted(CASTABLE - {"bfloat16"}))
def test_bfloat16_widens_as_torch_widens_it(target):
    bits = np.arange(1 << 16, dtype=np.uint16)
    found = np.empty(len(bits), target)
    cast(bits.view(np.uint8), "bfloat16", found.view(np.uint8), target)
    expected = torch.from_numpy(bits).view(torch.bfloat16).to(TORCH_DTYPES[target])
    assert torch.equal(torch.from_numpy(found).nan_to_num(nan=1.5), expected.nan_to_num(nan=1.5))


@pytest.mark.parametrize("source", ["float16", "float32", "float64"])
def test_bfloat16_is_rounded_to_as_torch_rounds(source):
    values = np.random.default_rng(0).integers(0, 256, 1 << 18, np.uint8).view(source)
    found = np.empty(len(values), ml_dtypes.bfloat16)
    cast(values.view(np.uint8), source, found.view(np.uint8), "bfloat16")
    expected = torch.from_numpy(values).to(torch.bfloat16)
    result = torch.from_numpy(found.view(np.uint16)).view(torch.bfloat16)
    assert torch.equal(result.nan_to_num(nan=1.5), expected.nan_to_num(nan=1.5))
