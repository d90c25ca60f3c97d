"""Checkpoints that Orbax wrote, as Flax's users save them: in every backend, in part, and damaged."""

import importlib.util
import json
import shutil

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import torch
from safetensors.numpy import load_file

import loadstone
from loadstone import AutoModelForCausalLM, FlaxLlamaForCausalLM, LlamaConfig
from loadstone.checkpoint.open import open_checkpoint
from loadstone.errors import ChangedFileError, CheckpointError, LoadstoneError, MatchError, SourceError
from loadstone.source import resolve

CONFIG = LlamaConfig(
    vocab_size=48,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
)


def save(tree, folder, handler=None):
    saver = ocp.StandardCheckpointer() if handler is None else ocp.Checkpointer(handler)
    with saver as checkpointer:
        checkpointer.save(folder, tree)


def nested(params):
    """Return a tree whose branches are what stands between the dots."""
    tree = {}
    for name, value in params.items():
        *branches, leaf = name.split(".")
        at = tree
        for branch in branches:
            at = at.setdefault(branch, {})
        at[leaf] = value
    return tree


@pytest.fixture(scope="module")
def params():
    return FlaxLlamaForCausalLM(CONFIG).params


@pytest.fixture(scope="module")
def written(tmp_path_factory, params):
    """How it was saved -> a folder."""
    base = tmp_path_factory.mktemp("orbax")
    save(params, base / "flat")
    save(nested(params), base / "nested" / "params")
    save(nested(params), base / "files", ocp.PyTreeCheckpointHandler(use_ocdbt=False))
    save(params, base / "zarr3", ocp.PyTreeCheckpointHandler(use_zarr3=True))
    for name in ("flat", "nested", "files", "zarr3"):
        CONFIG.save_pretrained(base / name)
    return base


@pytest.fixture
def copy(written, tmp_path):
    return shutil.copytree(written / "flat", tmp_path / "copy")


@pytest.mark.parametrize(
    "saved, backend", [("flat", "torch"), ("nested", "flax"), ("files", "tensorflow"), ("zarr3", "torch")]
)
def test_it_loads_in_every_backend(written, params, tmp_path, saved, backend):
    model = AutoModelForCausalLM.from_pretrained(written / saved, backend=backend)
    planned = loadstone.plan(written / saved, task="CausalLM", backend=backend)
    assert planned.names("loaded") == model.load_report.names("loaded")
    assert set(planned.names("loaded")) == set(params)
    assert model.load_report.bytes_read == sum(value.nbytes for value in params.values())
    model.save_pretrained(tmp_path)
    saved_again = load_file(tmp_path / "model.safetensors")
    assert all(np.array_equal(saved_again[name], value) for name, value in params.items())


def test_a_plan_reads_no_array(copy):
    for chunks in copy.glob("ocdbt.process_0/d/*"):  # of what is small the database has a copy
        shutil.move(chunks, chunks.with_suffix(".away"))
    loadstone.plan(copy, task="CausalLM", backend="torch")
    with pytest.raises(CheckpointError, match="cannot read") as caught:
        AutoModelForCausalLM.from_pretrained(copy, backend="torch")
    assert "in OCDBT database" in str(caught.value)


def test_casts_parts_and_what_stays_on_disk(written, params):
    folder, ids = written / "flat", torch.tensor([[1, 29, 40]])
    plain = AutoModelForCausalLM.from_pretrained(folder, backend="torch")
    half = AutoModelForCausalLM.from_pretrained(folder, backend="torch", dtype="bfloat16")
    assert all(torch.equal(v.bfloat16(), half.state_dict()[n]) for n, v in plain.state_dict().items())
    for how in ({"device_map": "disk"}, {"wait": False}):
        other = AutoModelForCausalLM.from_pretrained(folder, backend="torch", **how)
        assert torch.equal(other(ids).logits, plain(ids).logits)
    part = AutoModelForCausalLM.from_pretrained(folder, backend="torch", layers=[0])
    inside = sum(value.nbytes for name, value in params.items() if ".layers.1." not in name)
    assert part.load_report.bytes_read == inside


def test_it_is_converted_and_nothing_of_it_comes_along(written, params, tmp_path):
    for saved in ("flat", "nested", "files"):
        loadstone.convert(written / saved, tmp_path / saved)
        assert {path.name for path in (tmp_path / saved).iterdir()} == {"config.json", "model.safetensors"}
        found = load_file(tmp_path / saved / "model.safetensors")
        assert all(np.array_equal(found[name], value) for name, value in params.items())


def test_dtypes_chunks_and_a_training_state(tmp_path):
    tree = {
        "params": {
            "half": jnp.arange(40, dtype=jnp.bfloat16).reshape(8, 5),
            "narrow": jnp.arange(6, dtype=jnp.float8_e4m3fn),
            "flags": np.array([True, False]),
        },
        "opt": [jnp.float32(2.5), np.int64(7)],
        "step": 3,
        "nothing": {},
        "text": "adam",
    }
    folder = tmp_path / "state"
    save(tree, folder, ocp.PyTreeCheckpointHandler())
    index = open_checkpoint(resolve(folder))
    kinds = {name: (info.dtype, info.shape) for name, info in index.tensors.items()}
    assert kinds == {
        "params.half": ("bfloat16", (8, 5)),
        "params.narrow": ("float8_e4m3fn", (6,)),
        "params.flags": ("bool", (2,)),
        "opt.0": ("float32", ()),
        "opt.1": ("int64", ()),
        "step": ("int64", ()),
    }
    CONFIG.save_pretrained(folder)
    with pytest.raises(MatchError):
        AutoModelForCausalLM.from_pretrained(folder, backend="torch")


def test_a_training_state_takes_the_mapping_that_its_error_proposes(tmp_path, params):
    save({"params": nested(params), "step": 3}, tmp_path / "state", ocp.PyTreeCheckpointHandler())
    with pytest.raises(MatchError) as caught:
        AutoModelForCausalLM.from_pretrained(tmp_path / "state", config=CONFIG, backend="torch")
    assert r"key_mapping={'^params\\.': ''}" in str(caught.value)
    loaded = AutoModelForCausalLM.from_pretrained(
        tmp_path / "state", config=CONFIG, backend="torch", key_mapping={r"^params\.": ""}
    )
    assert loaded.load_report.names("unused") == ["step"]


def test_large_chunks_are_cut_and_windows_of_them_read(tmp_path):
    from loadstone.checkpoint.recipe import Cast, Recipe, Slice, Transpose
    from loadstone.read.engine import Request, Traffic, read_tensors
    from loadstone.read.files import OpenFiles, identity

    array = np.arange(300 * 9_000, dtype=np.float32).reshape(300, 9_000)
    cut = {"one": ocp.SaveArgs(), "many": ocp.SaveArgs(chunk_byte_size=1 << 20)}
    with ocp.PyTreeCheckpointer() as saver:
        saver.save(tmp_path / "saved", dict.fromkeys(cut, array), save_args=cut)
    index = open_checkpoint(resolve(tmp_path / "saved"))
    path, one, many = tmp_path / "saved" / "_METADATA", *(index.tensors[name].encoding for name in cut)
    assert one.together == array.shape[one.axis] and many.together <= array.shape[many.axis] / 10
    steps = (Slice(0, 3, 280), Slice(1, 7, 8_900), Transpose((1, 0)), Cast("float16"))
    requests = []
    for name, info in index.tensors.items():
        made = Recipe(sources=(info,), steps=steps)
        requests.append(Request(name=name, recipe=made, shape=made.shape, mappable=True))
    traffic = Traffic()
    with OpenFiles({"_METADATA": path}, {"_METADATA": identity(path)}) as files:
        tensors = list(read_tensors(files, requests, alignment=64, traffic=traffic))
    with np.errstate(over="ignore"):
        expected = array[3:280, 7:8_900].T.astype(np.float16)
    assert {tensor.name for tensor in tensors} == set(cut)
    assert all(np.array_equal(tensor.numpy(), expected) for tensor in tensors)
    assert traffic.read == 2 * 277 * 8_893 * 4


def edited(folder, change):
    path = folder / "_METADATA"
    described = json.loads(path.read_text())
    change(described)
    path.write_text(json.dumps(described))


def renamed(*keys):
    def change(described):
        first = next(iter(described["tree_metadata"].values()))
        first["key_metadata"] = [{"key": key, "key_type": 2} for key in keys]

    return change


DAMAGED = {
    "no JSON": (lambda folder: (folder / "_METADATA").write_text("{"), "is no JSON"),
    "deep": (lambda folder: (folder / "_METADATA").write_text("[" * 5_000), "nesting too deep"),
    "a list": (lambda folder: (folder / "_METADATA").write_text("[]"), "does not describe arrays"),
    "nothing": (lambda folder: edited(folder, lambda d: d["tree_metadata"].clear()), "describes no array"),
    "odd": (lambda folder: edited(folder, lambda d: d["tree_metadata"].update(a=3)), "not Orbax's"),
    "climbs": (lambda folder: edited(folder, renamed("..", "/../x")), "impossible name"),
    "absolute": (lambda folder: edited(folder, renamed("/etc/passwd")), "impossible name"),
    "twice": (lambda folder: edited(folder, renamed("model", "norm.weight")), "names two arrays the same"),
    "not there": (lambda folder: edited(folder, renamed("other")), "that tensorstore cannot read"),
    "no database": (lambda folder: (folder / "manifest.ocdbt").write_bytes(b""), "that tensorstore cannot"),
    "cut": (lambda folder: (folder / "manifest.ocdbt").write_bytes(b"\0" * 60), "that tensorstore cannot"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_damaged_is_refused(copy, name):
    damage, message = DAMAGED[name]
    damage(copy)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(resolve(copy))
    assert message in str(caught.value)


def test_a_chunk_that_is_not_there_is_no_zeros(written, tmp_path):
    copy = shutil.copytree(written / "files", tmp_path / "copy")
    (copy / "model.norm.weight" / "0").unlink()
    with pytest.raises(LoadstoneError, match=r"model\.norm\.weight"):
        AutoModelForCausalLM.from_pretrained(copy, backend="torch")


def test_one_that_is_saved_anew_is_a_change(copy, params):
    model = AutoModelForCausalLM.from_pretrained(copy, backend="torch", device_map="disk")
    shutil.rmtree(copy)
    save(params, copy)
    with pytest.raises(ChangedFileError):
        model(torch.tensor([[1]]))


def test_without_its_library_the_error_names_the_extra(copy, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "tensorstore" else find(name, *rest)
    )
    with pytest.raises(CheckpointError, match=r"loadstone\[orbax\]"):
        open_checkpoint(resolve(copy))


def test_far_away_it_is_refused(written):
    import fsspec

    fsspec.filesystem("memory").put(f"{written / 'flat'}/", "/orbax/", recursive=True)
    with pytest.raises(CheckpointError, match="a folder of this machine alone"):
        open_checkpoint(resolve("memory://orbax"))


def test_what_a_library_reads_is_read_here(copy):
    from loadstone.read.files import OpenFiles

    files = OpenFiles({}, {}, far=resolve(copy), far_names=["_METADATA"])
    with pytest.raises(SourceError, match="from files of this machine alone"):
        files.path("_METADATA")
