"""Models that lie in several places: on two CPUs and on disk."""

import copy
import gc
import os
import pickle
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import loadstone
from loadstone import TFLlamaForCausalLM
from loadstone.errors import ArgumentError, ChangedFileError, PlacementError
from loadstone.modeling_utils import load_sharded_checkpoint
from loadstone_tensorflow.backend import TensorFlowBackend
from loadstone_tensorflow.blocks.away import stays_on_disk
from tests.benchmarks import checkpoints
from tests.benchmarks.checkpoints import Generated
from tests.oracle import load
from tests.oracle.real import minilm

IDS = np.random.default_rng(0).integers(6, 67, (2, 9))
LLAMA, TIED = "llama-causal-lm", "llama-causal-lm-tied"
PART = {"": "CPU:0", "model.layers.1": "disk"}
"""One block on disk."""
MIXED = {"": 0, "model.layers.1": "disk", "lm_head": 1}
"""Two devices and the disk."""


def left(model: Any) -> list[str]:
    """Return the parameters and buffers that are on disk."""
    return [away.stored for away in stays_on_disk(model)]


def resident(case: str = LLAMA, **options: Any) -> Any:
    return TFLlamaForCausalLM.from_pretrained(load.folder(case), **options)


def on_disk(
    device_map: Any = "disk", *, folder: Path | None = None, case: str = LLAMA, **options: Any
) -> Any:
    return TFLlamaForCausalLM.from_pretrained(folder or load.folder(case), device_map=device_map, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of the test's own."""
    resident().save_pretrained(tmp_path / "own")
    return tmp_path / "own"


def same(one: Any, other: Any) -> bool:
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


def values(model: Any) -> dict[str, bytes]:
    backend = TensorFlowBackend()
    return {name: backend.read(model, name).data.tobytes() for name in backend.parameters(model)}


# Numbers


CLASSES = {
    "bert-masked-lm": "TFBertForMaskedLM",
    "distilbert-masked-lm": "TFDistilBertForMaskedLM",
    "gemma2-causal-lm": "TFGemma2ForCausalLM",
    "gpt2-causal-lm": "TFGPT2LMHeadModel",
    "resnet-image-classification": "TFResNetForImageClassification",
    "roberta-masked-lm": "TFRobertaForMaskedLM",
    "vit-image-classification": "TFViTForImageClassification",
}
"""One model of each family, by its name in the oracle."""


@pytest.mark.parametrize("case", CLASSES)
def test_a_model_on_disk_gives_the_numbers_of_the_resident_one(case: str) -> None:
    cls = getattr(loadstone, CLASSES[case])
    one, spread = (
        cls.from_pretrained(load.folder(case)),
        cls.from_pretrained(load.folder(case), device_map="disk"),
    )
    assert spread.hf_device_map == {"": "disk"}
    assert len(left(spread)) == len(spread.weights) == len(one.weights)
    inputs = load.run(case, "plain").inputs
    assert same(one(**inputs).logits, spread(**inputs).logits)
    if case in ("gemma2-causal-lm", "resnet-image-classification"):
        found = tf.function(spread, autograph=False)(**inputs).logits
        np.testing.assert_allclose(found, one(**inputs).logits, rtol=1e-4, atol=1e-5)


def test_a_real_model_runs_from_disk() -> None:
    folder, inputs = minilm(), {"input_ids": IDS, "attention_mask": np.ones_like(IDS)}
    one, spread = (loadstone.TFAutoModel.from_pretrained(folder, device_map=where) for where in (0, "disk"))
    assert len(left(spread)) > 100 and spread.load_report.bytes_read == 0
    assert same(one(**inputs).last_hidden_state, spread(**inputs).last_hidden_state)


def test_a_model_that_is_spread_writes_the_same_text() -> None:
    models = resident(dtype="bfloat16"), on_disk(MIXED, dtype="bfloat16")
    one, other = (m.generate(IDS, max_new_tokens=5, do_sample=True, seed=3) for m in models)
    assert same(one, other)
    one, other = (m(IDS, labels=IDS, output_attentions=True) for m in models)
    assert same(one.loss, other.loss) and same(one.attentions[1], other.attentions[1])


def test_a_balanced_map_runs_on_both_devices() -> None:
    one, spread = resident(), on_disk("balanced")
    assert set(spread.hf_device_map.values()) == {"CPU:0", "CPU:1"} and spread.device == "CPU:0"
    output = spread(IDS)
    assert output.logits.device.endswith("CPU:1") and output.past_key_values[0][0].device.endswith("CPU:0")
    assert same(one(IDS).logits, output.logits)
    assert len(gradients(spread)) == len(gradients(one)) == len(one.weights)
    assert all(same(a, b) for a, b in zip(gradients(one), gradients(spread), strict=True))
    assert same(
        one.generate(IDS, max_new_tokens=3, use_cache=False),
        spread.generate(IDS, max_new_tokens=3, use_cache=False),
    )


def test_budgets_decide_what_stays_on_disk() -> None:
    one = resident(TIED)
    size = one.load_report.nbytes
    spread = on_disk("auto", case=TIED, max_memory={"CPU:0": size * 2 // 3})
    held = {at.place.name: at.nbytes for at in spread.load_report.places}
    assert held.keys() == {"CPU:0", "disk"} and 0 < held["CPU:0"] <= size * 2 // 3
    assert held["CPU:0"] + held["disk"] == size
    assert same(one(IDS).logits, spread(IDS).logits)
    report = spread.load_report
    assert report.bytes_mapped + report.bytes_read == held["CPU:0"], (
        "what stays on disk is not moved by the load"
    )


def test_one_program_runs_all_blocks_on_disk() -> None:
    config = loadstone.LlamaConfig.from_pretrained(load.folder(LLAMA))
    assert config.num_hidden_layers > 1
    spread = on_disk()
    assert same(resident().generate(IDS, max_new_tokens=3), spread.generate(IDS, max_new_tokens=3))
    found = spread.model.layers_[0].visit.programs._compiled
    assert [one.experimental_get_tracing_count() for one in found.values()] == [2], (
        "the prompt's, and a token's"
    )


def test_blocks_that_differ_share_no_program() -> None:
    one, spread = resident(), on_disk()
    for model in (one, spread):
        model.model.layers_[1].mlp.activation = tf.tanh
    expected = one(IDS).logits
    found = tf.function(spread, autograph=False)(tf.constant(IDS)).logits
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert len(spread.model.layers_[0].visit.programs._compiled) == 2


def test_ties_come_as_one() -> None:
    spread = on_disk(case=TIED)
    assert spread.lm_head.weight is spread.model.embed_tokens.weight
    assert same(resident(TIED)(IDS).logits, spread(IDS).logits)


# Coming and going


def watched(spread: Any) -> list[weakref.ref[Any]]:
    """Have all that comes from disk gathered, as long as somebody else holds it."""
    seen: list[weakref.ref[Any]] = []
    for away in stays_on_disk(spread):

        def made(tensor: Any, plain: Any = away.as_tensorflow) -> Any:
            value = plain(tensor)
            seen.append(weakref.ref(value))
            return value

        away.as_tensorflow = made
    return seen


def test_what_came_goes_with_its_block() -> None:
    spread = on_disk()
    seen, alive = watched(spread), []
    for layer in spread.model.layers_:
        plain = layer.self_attn.call
        layer.self_attn.call = lambda *a, plain=plain: (
            alive.append(sum(s() is not None for s in seen)),
            plain(*a),
        )[1]
    spread(IDS)
    block = len(spread.model.layers_[0].weights)
    assert alive == [block] * len(spread.model.layers_)
    assert len(seen) == len(spread.weights) and not any(one() is not None for one in seen)


def test_what_fails_or_is_interrupted_leaves_nothing_behind() -> None:
    spread = on_disk()
    expected, seen = spread(IDS).logits, watched(spread)
    mlp = spread.model.layers_[1].mlp
    for error in (RuntimeError, KeyboardInterrupt):

        def fail(*_: object, error: type[BaseException] = error) -> None:
            raise error

        mlp.call = fail
        with pytest.raises(error):
            spread(IDS)
        del mlp.call
        gc.collect()
        assert not any(one() is not None for one in seen)
        assert same(spread(IDS).logits, expected)


def test_threads_share_a_model() -> None:
    spread = on_disk(dtype="bfloat16")
    expected, found = spread(IDS).logits.numpy(), []
    threads = [
        threading.Thread(target=lambda: [found.append(spread(IDS).logits.numpy()) for _ in range(3)])
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 9 and all(same(one, expected) for one in found)


def test_a_file_that_changes_is_an_error_where_its_block_runs(folder: Path) -> None:
    spread = on_disk(PART, folder=folder)
    assert np.isfinite(spread(IDS).logits).all()
    spread.generate(IDS, max_new_tokens=2)
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    with open(file, "r+b") as stream:  # the same file, overwritten
        stream.write(content)
    os.utime(file, ns=(1, 1))
    for run in (spread, spread.predict_on_batch, lambda ids: spread.generate(ids, max_new_tokens=2)):
        with pytest.raises(
            (ChangedFileError, tf.errors.OpError), match="since the model was loaded"
        ) as caught:
            run(IDS)
        assert isinstance(caught.value, ChangedFileError) or run == spread.predict_on_batch


def test_a_model_saves_into_the_folder_that_it_runs_from(folder: Path) -> None:
    spread = on_disk(folder=folder)
    expected = spread(IDS).logits
    spread.save_pretrained(folder)
    assert same(spread(IDS).logits, expected)
    assert same(TFLlamaForCausalLM.from_pretrained(folder)(IDS).logits, expected)


# What models are asked for


def test_saving_gives_the_same_files(tmp_path: Path) -> None:
    resident(TIED, dtype="bfloat16").save_pretrained(tmp_path / "a")
    on_disk(PART, case=TIED, dtype="bfloat16").save_pretrained(tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_model_on_disk_becomes_a_resident_one() -> None:
    spread = on_disk(case=TIED)
    twin = loadstone.to_backend(spread, "tensorflow")
    assert values(resident(TIED)) == values(twin) and not left(twin)
    assert same(twin(IDS).logits, spread(IDS).logits)


def test_a_model_says_what_is_where(capsys: pytest.CaptureFixture[str]) -> None:
    one, spread = resident(dtype="bfloat16"), on_disk(PART, dtype="bfloat16")
    assert left(spread) == [name for name in values(spread) if name.startswith("model.layers.1.")]
    told = [[(w.path, w.name, w.shape, w.dtype, w.trainable) for w in m.weights] for m in (one, spread)]
    assert told[0] == told[1]
    assert spread.num_parameters() == one.num_parameters() == spread.count_params()
    assert spread.device == on_disk().device == "CPU:0" and spread.hf_device_map == PART
    assert "on disk: model.layers.1.mlp.up_proj.weight" in repr(spread.model.layers_[1].mlp.up_proj.weight)
    assert "disk" in str(spread.load_report)
    spread.summary()
    assert "lm_head" in capsys.readouterr().out


def test_statistics_on_disk_are_no_parameters() -> None:
    make, name = loadstone.TFResNetForImageClassification.from_pretrained, "resnet-image-classification"
    one, spread = make(load.folder(name)), make(load.folder(name), device_map="disk")
    assert one.num_parameters() == spread.num_parameters() < spread.count_params()


def test_keras_reads_what_is_on_disk(tmp_path: Path) -> None:
    one, spread = resident(), on_disk(PART)
    assert all(same(a, b) for a, b in zip(one.get_weights(), spread.get_weights(), strict=True))
    assert all(same(a, b) for a, b in zip(one.weights, spread.weights, strict=True))
    spread.save_weights(tmp_path / "all.weights.h5")
    spread.save(tmp_path / "whole.keras")
    tf.train.Checkpoint(model=spread).write(str(tmp_path / "checkpoint"))
    others = [
        resident(),
        keras.saving.load_model(tmp_path / "whole.keras"),
        copy.deepcopy(spread),
        pickle.loads(pickle.dumps(spread)),
    ]
    others[0].set_weights([np.zeros_like(value) for value in one.get_weights()])
    others[0].load_weights(tmp_path / "all.weights.h5")
    blank = resident()
    blank.set_weights([np.zeros_like(value) for value in one.get_weights()])
    tf.train.Checkpoint(model=blank).read(str(tmp_path / "checkpoint")).assert_consumed()
    assert all(values(other) == values(one) and not left(other) for other in (*others, blank))


def test_what_is_on_disk_takes_no_other_values(tmp_path: Path) -> None:
    one, spread = resident(), on_disk(PART)
    before = spread(IDS).logits
    one.save_weights(tmp_path / "all.weights.h5")
    ones = [np.ones_like(value) for value in one.get_weights()]
    held = spread.model.layers_[1].mlp.up_proj.weight
    for change in (
        lambda: spread.set_weights(ones),
        lambda: spread.load_weights(tmp_path / "all.weights.h5"),
        lambda: load_sharded_checkpoint(spread, load.folder(LLAMA)),
        lambda: held.assign(np.ones(held.shape)),
        lambda: held.assign_sub(np.ones(held.shape)),
    ):
        with pytest.raises(ArgumentError, match="takes no other value"):
            change()
    with pytest.raises(ArgumentError, match="no other vocabulary"):
        spread.resize_token_embeddings(99)
    with pytest.raises(ArgumentError, match="cannot be exported"):
        spread.export(tmp_path / "exported", verbose=False)
    with pytest.raises(ArgumentError, match="in no SavedModel"):
        tf.saved_model.save(spread, str(tmp_path / "saved"))
    assert same(spread(IDS).logits, before)


def test_a_load_into_a_model_leaves_each_parameter_on_its_device() -> None:
    spread, stored = on_disk({"": "CPU:0", "model.layers.1": "CPU:1"}), resident()
    where = [variable.value.device for variable in spread.weights]
    for variable in spread.weights:
        variable.assign(variable * 2)
    load_sharded_checkpoint(spread, load.folder(LLAMA))
    assert [variable.value.device for variable in spread.weights] == where and len(set(where)) == 2
    assert values(spread) == values(stored) and same(spread(IDS).logits, stored(IDS).logits)


def test_a_strategy_and_a_device_map_are_two_words_for_one_thing() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope(), pytest.raises(PlacementError, match="strategy"):
        on_disk(PART)


def test_what_is_drawn_has_no_file_to_stay_in() -> None:
    with pytest.raises(PlacementError, match="no file holds"):
        loadstone.TFLlamaForSequenceClassification.from_pretrained(load.folder(LLAMA), device_map="disk")


# Training


def gradients(model: Any, *, compiled: bool = False) -> list[Any]:
    def compute() -> list[Any]:
        with tf.GradientTape() as tape:
            loss = model(IDS, labels=IDS, training=True).loss
        return tape.gradient(loss, model.trainable_weights)

    found = tf.function(compute, autograph=False)() if compiled else compute()
    return [tf.convert_to_tensor(one) for one in found]


def test_blocks_on_disk_are_not_trained() -> None:
    spread = on_disk(PART)
    with pytest.raises(ArgumentError, match="cannot be trained") as caught:
        spread(IDS, labels=IDS, training=True)
    assert "model.layers.1.mlp.up_proj.weight" in str(caught.value)
    with tf.GradientTape() as tape:
        loss = spread(IDS, labels=IDS).loss
    with pytest.raises(ArgumentError, match="cannot be trained"):
        tape.gradient(loss, spread.trainable_weights)


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_flow_through_frozen_blocks_on_disk(recompute: bool) -> None:
    models = [resident(), on_disk(PART)]
    for model in models:
        model.model.layers_[1].trainable = False
        if recompute:
            model.gradient_checkpointing_enable()
    one, other = map(gradients, models)
    assert len(one) == len(other) > 9 and all(same(a, b) for a, b in zip(one, other, strict=True))
    compiled = other if recompute else gradients(models[1], compiled=True)
    for a, b in zip(one, compiled, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_what_is_resident_is_trained() -> None:
    spread = on_disk(PART)
    spread.model.layers_[1].trainable = False
    before = values(spread)
    spread.compile(keras.optimizers.SGD(0.1))
    spread.fit({"input_ids": IDS, "labels": IDS}, epochs=1, verbose=0)
    after = values(spread)
    assert {name for name in before if before[name] == after[name]} == set(left(spread))


# Memory

WIDE = Generated(
    name="llama-30m", layers=8, hidden=512, intermediate=1536, heads=8, kv_heads=4, vocabulary=4000, shard=30 << 20
)  # fmt: skip
RUN = """
import sys
import numpy, tensorflow, keras

def held(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))

before = held("RssAnon"), held("VmRSS")
import loadstone
from loadstone_tensorflow.layers import Layer
most, plain = [0, 0], Layer.__call__

def look(layer, *args, **kwargs):
    output = plain(layer, *args, **kwargs)
    most[:] = (max(m, held(key)) for m, key in zip(most, ("RssAnon", "VmRSS")))
    return output

Layer.__call__ = look
model = loadstone.TFLlamaForCausalLM.from_pretrained(sys.argv[1], device_map="disk", dtype="float32")
model(numpy.arange(1, 9)[None])
print(most[0] - before[0], most[1] - before[1])
"""


def test_a_forward_pass_takes_two_blocks(tmp_path: Path) -> None:
    folder = checkpoints.make(WIDE, tmp_path)
    command = [sys.executable, "-c", RUN, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    anonymous, whole = map(int, done.stdout.split())
    block = (2 * 512 * 512 + 2 * 512 * 256 + 3 * 512 * 1536) * 4
    assert anonymous < 2 * block + (40 << 20) < WIDE.nbytes * 3 // 2
    assert whole < 2 * block + (56 << 20) < WIDE.nbytes * 3 // 2
