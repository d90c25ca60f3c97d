"""Models that lie in several places: on several devices, the host and on disk."""

import copy
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import loadstone
from loadstone import FlaxLlamaForCausalLM
from loadstone.errors import ArgumentError, ChangedFileError, PlacementError
from loadstone.modeling_utils import load_sharded_checkpoint
from loadstone_flax.blocks.away import Away, _program
from loadstone_flax.layers import named_parameters
from tests.benchmarks import checkpoints
from tests.benchmarks.checkpoints import Generated
from tests.oracle import load, real
from tests.oracle.files import copied
from tests.oracle.memory import MB

pytestmark = pytest.mark.usefixtures("compile_little")

IDS = np.arange(6, 22).reshape(2, 8)
TIED, UNTIED = "llama-causal-lm-tied", "llama-causal-lm"
PART = {"": "cpu", "model.layers.1": "disk"}
"""One block on disk."""
TWO = {"": "cpu", "model.layers.1": "cpu:1"}
"""One block on another device."""
THREE = {"": "disk", "model.layers.0": "cpu:1", "model.norm": "cpu"}


def left(model: nnx.Module) -> list[str]:
    """Return the parameters that are on disk now."""
    return [name for name, value in named_parameters(model) if isinstance(value.get_raw_value(), Away)]


def llama(device_map: Any = None, case: str | Path = TIED, **options: Any) -> Any:
    folder = load.folder(case) if isinstance(case, str) else case
    return FlaxLlamaForCausalLM.from_pretrained(folder, device_map=device_map, **options)


def assert_near(found: Any, expected: Any) -> None:
    """Hold numbers of two programs to 1e-5 of the largest."""
    found, expected = np.asarray(found, np.float32), np.asarray(expected, np.float32)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.fixture(scope="module")
def resident() -> Any:
    return llama()


@pytest.fixture(scope="module")
def text(resident: Any) -> Any:
    """What the resident model writes."""
    return np.asarray(resident.generate(IDS, max_new_tokens=4))


# Numbers


CLASSES = {
    "bert-masked-lm": "FlaxBertForMaskedLM",
    "vit-image-classification": "FlaxViTForImageClassification",
}
"""Words and patches, by their names in the oracle."""


@pytest.mark.parametrize("case", CLASSES)
def test_a_model_on_disk_gives_the_numbers_of_the_resident_one(case: str) -> None:
    cls = getattr(loadstone, CLASSES[case])
    one = cls.from_pretrained(load.folder(case))
    budgets = {0: one.load_report.nbytes, 1: one.load_report.nbytes}
    away = cls.from_pretrained(load.folder(case), device_map="disk")
    apart = cls.from_pretrained(load.folder(case), device_map="balanced", max_memory=budgets)
    assert set(apart.hf_device_map.values()) == {"cpu", "cpu:1"}
    assert away.hf_device_map == {"": "disk"} and len(left(away)) == len(dict(named_parameters(away)))
    given = load.run(case, "proof").inputs
    given = {name: given[name] for name in ("input_ids", "pixel_values") if name in given}
    found = [model(**given).logits for model in (one, away, apart)]
    assert_near(found[1], found[0])
    np.testing.assert_array_equal(found[1], found[2])  # the same programs
    assert len(left(away)) == len(dict(named_parameters(away)))


def test_a_model_that_is_spread_writes_the_same_text(text: Any) -> None:
    spread = llama(THREE, read="copy")
    for call in ({}, {"do_sample": True, "top_k": 1}, {"use_cache": False}):
        np.testing.assert_array_equal(spread.generate(IDS, max_new_tokens=4, **call), text)


def test_a_cache_goes_on_where_its_layers_are(resident: Any) -> None:
    spread, expected = (
        llama(THREE | {"lm_head": "cpu:1", "model.embed_tokens": "cpu:1"}),
        resident(IDS).logits,
    )
    first = spread(IDS[:, :5])
    assert [k.devices() for k, _ in first.past_key_values] == [{jax.devices()[1]}, {jax.devices()[1]}]
    rest = spread(jax.device_put(IDS[:, 5:], jax.devices()[0]), past_key_values=first.past_key_values).logits
    assert_near(rest, expected[:, 5:])


def test_layers_that_are_alike_share_a_program(resident: Any) -> None:
    spread, before = llama("disk"), _program._cache_size()
    spread(IDS[:1, :3])
    assert _program._cache_size() == before + 4  # words, one layer, norm, scores
    assert len(spread.model.layers) == 2


def test_a_real_encoder_gives_the_same_sentences() -> None:
    one, away = (loadstone.FlaxAutoModel.from_pretrained(real.minilm(), device_map=d) for d in (None, "disk"))
    ids = np.array([[101, 1996, 4937, 2938, 2006, 1996, 13523, 102]])
    assert_near(away(ids).last_hidden_state, one(ids).last_hidden_state)
    assert left(away) and away.load_report.bytes_read == 0


def test_budgets_decide_what_stays_on_disk(resident: Any) -> None:
    size = resident.load_report.nbytes
    spread = llama("auto", max_memory={"cpu": size * 2 // 3})
    held = {one.place.name: one.nbytes for one in spread.load_report.places}
    assert 0 < held["cpu"] <= size * 2 // 3 and held["cpu"] + held["disk"] == size
    assert_near(spread(IDS).logits, resident(IDS).logits)
    assert spread.load_report.bytes_read == held["cpu"], "what stays on disk is not moved by the load"


def test_threads_share_a_model() -> None:
    spread, found = llama("disk", dtype="bfloat16"), []
    expected = spread(IDS).logits
    threads = [
        threading.Thread(target=lambda: [found.append(spread(IDS).logits) for _ in range(5)])
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 15 and all(np.array_equal(one, expected) for one in found)


def test_a_file_that_changes_is_an_error_where_its_block_runs(tmp_path: Path) -> None:
    folder = copied(load.folder(TIED), tmp_path / "copy")
    spread = llama(PART, folder)
    expected, file = spread(IDS).logits, folder / "model.safetensors"
    with open(file, "r+b") as stream:  # the same file, overwritten
        content = bytearray(stream.read())
        content[-1] ^= 1
        stream.seek(0)
        stream.write(content)
    os.utime(file, ns=(1, 1))
    for _ in range(2):
        with pytest.raises(ChangedFileError, match="since the model was loaded"):
            spread(IDS)
    assert np.isfinite(expected).all()


# What models are asked for


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saving_gives_the_same_files(tmp_path: Path, dtype: str) -> None:
    maps = {"resident": None, "part": PART, "disk": "disk", "two": TWO}
    for name, device_map in maps.items():
        llama(device_map, dtype=dtype).save_pretrained(tmp_path / name)
    found = [{file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in maps]
    assert found[0] == found[1] == found[2] == found[3]
    spread = llama("disk", tmp_path / "disk", dtype=dtype)
    spread.save_pretrained(tmp_path / "disk")  # into the folder that it runs from
    assert {file.name: file.read_bytes() for file in (tmp_path / "disk").iterdir()} == found[0]
    assert np.isfinite(spread(IDS).logits.astype("float32")).all()


def test_a_model_in_several_places_becomes_a_resident_one(resident: Any) -> None:
    for device_map in (PART, TWO):
        twin = loadstone.to_backend(llama(device_map), "flax")
        assert twin.calls == () and twin.params.keys() == resident.params.keys()
        assert all(np.array_equal(twin.params[name], value) for name, value in resident.params.items())


def test_a_model_says_what_is_where(resident: Any) -> None:
    spread = llama(PART, dtype="bfloat16")
    away = [name for name in spread.params if name.startswith("model.layers.1.")]
    assert left(spread) == away and spread.hf_device_map == PART and "disk" in str(spread.load_report)
    held = nnx.to_pure_dict(nnx.state(spread))["model"]["layers"][1]["mlp"]["up_proj"]["weight"]
    assert (held.shape, held.dtype, held.ndim, held.size) == ((44, 32), jnp.bfloat16, 2, 44 * 32)
    assert "on disk: model.layers.1.mlp.up_proj.weight" in repr(spread.model.layers[1].mlp.up_proj.weight)
    assert spread.num_parameters() == resident.num_parameters() and spread.dtype == jnp.bfloat16
    assert spread.device == llama("disk").device == jax.devices()[0]
    assert llama({"": "cpu:1", "model.layers.0": "disk"}).device == jax.devices()[1]


def test_what_stays_on_disk_is_never_garbage() -> None:
    spread = llama(PART)
    weight = spread.model.layers[1].mlp.up_proj.weight
    uses = {
        "an array": lambda: jnp.asarray(weight.get_value()),
        "numpy": lambda: np.asarray(weight.get_value()),
        "arithmetic": lambda: weight * 2,
        "a layer alone": lambda: spread.model.layers[1].mlp(jnp.ones((1, 2, 32))),
        "moving": lambda: jax.device_put(nnx.state(spread), jax.devices()[1]),
        "nnx.jit": lambda: nnx.jit(lambda model: model(IDS).logits)(spread),
        "nnx.grad": lambda: nnx.grad(lambda model: model(IDS, labels=IDS).loss)(spread),
        "jax.grad": lambda: jax.grad(lambda p: spread(IDS, labels=IDS, params=p).loss)(spread.params),
    }
    for use in uses.values():
        with pytest.raises(PlacementError, match="no values here") as caught:
            use()
        assert "model.layers.1." in str(caught.value)
    with pytest.raises(ArgumentError, match="no part of one program"):
        jax.jit(lambda ids: spread(ids).logits)(IDS)
    assert left(spread)


def test_what_is_on_disk_takes_no_other_values(resident: Any) -> None:
    spread = llama(PART)
    backend, name = loadstone.backend.get_backend("flax"), "model.layers.1.mlp.up_proj.weight"
    with pytest.raises(ArgumentError, match="takes no other value"):
        backend.put(spread, name, backend.read(resident, name), backend.device(None))
    with pytest.raises(ArgumentError, match="takes no other values"):
        load_sharded_checkpoint(spread, load.folder(TIED))
    with pytest.raises(ArgumentError, match="no other vocabulary"):
        spread.resize_token_embeddings(99)


@pytest.mark.parametrize("device_map", ["disk", THREE], ids=str)
def test_copies_of_all_kinds_run(device_map: Any, resident: Any) -> None:
    spread = llama(device_map)
    expected = spread(IDS).logits
    twins = (
        copy.deepcopy(spread),
        pickle.loads(pickle.dumps(spread)),
        nnx.clone(spread),
        nnx.merge(*nnx.split(spread)),
        spread.with_params(spread.params),
    )
    for twin in twins:
        assert sorted(left(twin)) == sorted(left(spread))
        assert twin.lm_head.weight is twin.model.embed_tokens.weight
        np.testing.assert_array_equal(twin(IDS).logits, expected)
    np.testing.assert_array_equal(spread.base_model(IDS).last_hidden_state.shape, (2, 8, 32))


def test_arrays_in_the_place_of_what_is_on_disk_are_computed_with(resident: Any) -> None:
    spread = llama(PART)
    doubled = {name: value * 2 for name, value in resident.params.items()}
    expected = resident(IDS, params=doubled).logits
    assert_near(spread(IDS, params=doubled).logits, expected)
    assert left(spread)
    spread.params = doubled
    assert_near(spread(IDS).logits, expected)


def test_a_load_into_a_model_leaves_each_parameter_on_its_device(resident: Any) -> None:
    spread = llama(TWO)
    where = {name: value.devices() for name, value in spread.params.items()}
    spread.params = {name: value * 2 for name, value in spread.params.items()}
    load_sharded_checkpoint(spread, load.folder(TIED))
    assert {name: value.devices() for name, value in spread.params.items()} == where
    assert len(set(map(str, where.values()))) == 2
    assert all(np.array_equal(spread.params[name], value) for name, value in resident.params.items())
    assert_near(spread(IDS).logits, resident(IDS).logits)


# Training


def gradients(model: Any) -> dict[str, Any]:
    """Return the gradients of what is on a device."""
    held = {name: value for name, value in model.params.items() if isinstance(value, jax.Array)}

    def loss(params: dict[str, Any]) -> Any:
        return model(IDS, labels=IDS, params={**model.params, **params}).loss

    return dict(jax.grad(loss)(held))


def test_gradients_are_those_of_the_resident_model(resident: Any) -> None:
    """On two devices, computed again, and through a block on disk that is not trained."""
    spread = llama({"": "cpu", "model.layers.0": "cpu:1", "model.layers.1": "disk"})
    spread.gradient_checkpointing_enable()
    one, other = gradients(resident), gradients(spread)
    assert len(other) == len(one) - len(left(spread)) > 9
    for name, gradient in other.items():
        np.testing.assert_allclose(gradient, one[name], atol=2e-6, err_msg=name)


def test_dropout_draws_and_counts_on_every_device() -> None:
    folder = load.folder("bert-token-classification")
    device_map = {"": "cpu", "bert.encoder.layer.1": "cpu:1"}
    one = loadstone.FlaxBertForTokenClassification.from_pretrained(folder)
    spread = loadstone.FlaxBertForTokenClassification.from_pretrained(folder, device_map=device_map)
    for model in (one, spread):
        model.train()
    found = [spread(IDS).logits, spread(IDS).logits]
    for logits in found:
        np.testing.assert_allclose(logits, one(IDS).logits, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 0
    counts = [jax.tree.leaves(nnx.state(model, nnx.RngCount)) for model in (one, spread)]
    assert counts[0] and [int(n) for n in counts[0]] == [int(n) for n in counts[1]]


def test_running_statistics_are_learned_on_devices_and_not_on_disk() -> None:
    folder = load.folder("resnet-image-classification")
    cls = loadstone.FlaxResNetForImageClassification
    given = load.run("resnet-image-classification", "proof").inputs["pixel_values"]
    one, away = cls.from_pretrained(folder), cls.from_pretrained(folder, device_map="disk")
    two = cls.from_pretrained(folder, device_map={"": "cpu", "resnet.encoder.stages.1": "cpu:1"})
    for model in (one, two, away):
        model.train()
    assert_near(two(given).logits, one(given).logits)
    learned = [jax.tree.leaves(nnx.state(model, nnx.BatchStat)) for model in (one, two)]
    for a, b in zip(*learned, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    with pytest.raises(ArgumentError, match="cannot be trained") as caught:
        away(given)
    assert "resnet.embedder.embedder.normalization.running_mean" in str(caught.value)


def test_what_is_drawn_has_no_file_to_stay_in() -> None:
    cls = loadstone.FlaxLlamaForSequenceClassification
    with pytest.raises(PlacementError, match="no file holds") as caught:
        cls.from_pretrained(load.folder(TIED), device_map="disk")
    assert "score.weight" in str(caught.value)
    model = cls.from_pretrained(load.folder(TIED), device_map={"": "disk", "score": "cpu"})
    assert model(IDS[:1]).logits.shape == (1, 2)


# Four devices, and memory

FOUR = """
import sys
import jax, numpy as np
jax.config.update("jax_disable_most_optimizations", True)
from loadstone import FlaxLlamaForCausalLM

size, ids = 10**5, np.arange(6, 22).reshape(2, 8)
model = FlaxLlamaForCausalLM.from_pretrained(sys.argv[1], device_map="balanced", max_memory={n: size for n in range(4)})
held = {place.place.name: place.nbytes for place in model.load_report.places}
assert set(held) == {"cpu", "cpu:1", "cpu:2", "cpu:3"} , held
where = {next(iter(value.devices())) for value in model.params.values()}
assert where == set(jax.devices()) and len(where) == 4
np.savez(sys.argv[2], logits=model(ids).logits, text=model.generate(ids, max_new_tokens=4))
"""


def test_four_devices_hold_a_balanced_model(resident: Any, text: Any, tmp_path: Path) -> None:
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [sys.executable, "-c", FOUR, str(load.folder(TIED)), str(tmp_path / "found.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")
    assert_near(found["logits"], resident(IDS).logits)
    np.testing.assert_array_equal(found["text"], text)


SMALL = Generated(
    name="llama-32m", layers=8, hidden=512, intermediate=1536, heads=8, kv_heads=2, vocabulary=8000, shard=20 << 20
)  # fmt: skip
RUN = """
import sys
import flax.nnx, jax
import numpy, loadstone
from loadstone import FlaxLlamaForCausalLM

def held(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))

before = held("RssAnon"), held("VmRSS")
model = FlaxLlamaForCausalLM.from_pretrained(sys.argv[1], device_map="disk", dtype=sys.argv[2])
most = [0, 0]
from loadstone_flax.blocks.away import Visit
run = Visit._filled
def look(visit):
    found = run(visit)
    most[:] = (max(m, held(key)) for m, key in zip(most, ("RssAnon", "VmRSS")))
    return found
Visit._filled = look
ids = numpy.arange(1, 9)[None]
jax.block_until_ready(model(ids))
first, compiled = list(most), held("RssAnon")
most[0] = 0
jax.block_until_ready(model(ids))
print(first[0] - before[0], max(first[1], most[1]) - before[1], most[0] - compiled, model.load_report.nbytes)
"""


def test_a_forward_pass_takes_two_blocks(tmp_path: Path) -> None:
    folder = checkpoints.make(SMALL, tmp_path)
    command = [sys.executable, "-c", RUN, str(folder), "float32"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    anonymous, resident, again, nbytes = map(int, done.stdout.split())
    largest = 8000 * 512 * 4
    assert anonymous < 150 * MB + 2 * largest  # compiled programs among them
    assert again < 2 * largest + 16 * MB < nbytes // 2
    assert resident < 600 * MB
