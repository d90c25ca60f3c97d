"""Every model of the oracle as numpy and torch's distributed checkpoints hold it: tensor by tensor what safetensors hold."""

import warnings

import numpy as np
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file

from loadstone.checkpoint.open import open_checkpoint
from loadstone.checkpoint.recipe import whole
from loadstone.read.engine import Request, Traffic, read_tensors
from loadstone.read.files import OpenFiles, identity
from loadstone.source import resolve
from loadstone.testing.cases import CASES
from tests.oracle import load


def read(folder):
    """Return what is stored in a folder."""
    index = open_checkpoint(resolve(folder))
    paths = {name: folder / name for name in index.files}
    requests = [
        Request(name=name, recipe=whole(info, info.dtype), shape=info.shape, mappable=False)
        for name, info in index.tensors.items()
    ]
    with OpenFiles(paths, {name: identity(path) for name, path in paths.items()}) as files:
        return {
            one.name: one.numpy() for one in read_tensors(files, requests, alignment=64, traffic=Traffic())
        }


def same(found, stored):
    return set(found) == set(stored) and all(
        (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        and found[name].tobytes() == array.tobytes()
        for name, array in stored.items()
    )


def kinds():
    """Return model type -> its cases."""
    found = {}
    for case, row in CASES.items():
        found.setdefault(row.model_type, []).append(case)
    return found


def test_every_model_is_the_same_in_npz_and_dcp(tmp_path):
    """The models of a type share a file of each format: their tensors have the names of their cases before their own."""
    for kind, cases in kinds().items():
        tensors = {
            f"{case}.{name}": tensor
            for case in cases
            for name, tensor in load_file(load.folder(case) / "model.safetensors").items()
        }
        stored = {name: tensor.numpy() for name, tensor in tensors.items()}
        for made in (tmp_path / kind / "npz", tmp_path / kind / "dcp"):
            made.mkdir(parents=True)
        np.savez(tmp_path / kind / "npz" / "model.npz", **stored)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            writer = dcp.FileSystemWriter(tmp_path / kind / "dcp", sync_files=False)
            dcp.save(tensors, storage_writer=writer, no_dist=True)
        assert same(read(tmp_path / kind / "npz"), stored), kind
        assert same(read(tmp_path / kind / "dcp"), stored), kind
    assert {"bert", "llama", "resnet"} <= set(kinds())
