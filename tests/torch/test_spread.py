"""Models that lie in several places: on the host and on disk."""

import copy
import io
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import loadstone
from loadstone import LlamaForCausalLM
from loadstone.errors import ArgumentError, ChangedFileError, PlacementError, SourceError
from loadstone.modeling_utils import load_sharded_checkpoint
from loadstone_torch.blocks.away import Away
from tests.benchmarks import checkpoints
from tests.benchmarks.checkpoints import Generated
from tests.oracle import load
from tests.torch.tiny import IDS, same, state

PART = {"": "cpu", "model.layers.1": "disk"}
"""One block on disk."""


def left(model: torch.nn.Module) -> list[str]:
    """Return the parameters and buffers that are on disk now."""
    held = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
    return [name for name, value in held if isinstance(value, Away)]


def on_disk(folder: Path, device_map: Any = "disk", **options: Any) -> Any:
    return LlamaForCausalLM.from_pretrained(folder, device_map=device_map, **options)


# Numbers


CLASSES = {
    "bert-masked-lm": "BertForMaskedLM",
    "distilbert-masked-lm": "DistilBertForMaskedLM",
    "gemma2-causal-lm": "Gemma2ForCausalLM",
    "gpt2-causal-lm": "GPT2LMHeadModel",
    "qwen3-causal-lm": "Qwen3ForCausalLM",
    "resnet-image-classification": "ResNetForImageClassification",
    "roberta-masked-lm": "RobertaForMaskedLM",
    "vit-image-classification": "ViTForImageClassification",
}
"""One model of each family, by its name in the oracle."""


@pytest.mark.parametrize("case", CLASSES)
def test_a_model_on_disk_gives_the_numbers_of_the_resident_one(case: str) -> None:
    cls = getattr(loadstone, CLASSES[case])
    resident = cls.from_pretrained(load.folder(case))
    spread = cls.from_pretrained(load.folder(case), device_map="disk")
    assert spread.hf_device_map == {"": "disk"}
    assert len(left(spread)) == len(spread.state_dict())
    with torch.no_grad():
        found = [m(pixels(m) if "image" in case else IDS).logits for m in (resident, spread)]
    assert torch.equal(*found)
    assert len(left(spread)) == len(spread.state_dict())


def pixels(model: Any) -> torch.Tensor:
    size = getattr(model.config, "image_size", 32)
    size = (size, size) if isinstance(size, int) else tuple(size)
    generator = torch.Generator().manual_seed(0)
    return torch.randn((2, model.config.num_channels, *size), generator=generator)


@pytest.mark.parametrize(
    "options", [{}, {"dtype": "bfloat16"}, {"read": "copy"}, {"attn_implementation": "eager"}], ids=str
)
@pytest.mark.parametrize("device_map", ["disk", PART, {"model": "disk", "lm_head": "cpu"}], ids=str)
def test_a_model_that_is_spread_writes_the_same_text(folders, device_map, options) -> None:
    resident = LlamaForCausalLM.from_pretrained(folders["llama"], **options)
    spread = on_disk(folders["llama"], device_map, **options)
    assert left(spread)
    for call in ({}, {"do_sample": True, "seed": 3}, {"use_cache": False}):
        one, other = (m.generate(IDS, max_new_tokens=6, **call) for m in (resident, spread))
        assert torch.equal(one, other)
    assert torch.equal(resident(IDS, labels=IDS).loss, spread(IDS, labels=IDS).loss)


def test_budgets_decide_what_stays_on_disk(folders) -> None:
    resident = LlamaForCausalLM.from_pretrained(folders["tied"])
    size = resident.load_report.nbytes
    spread = on_disk(folders["tied"], "auto", max_memory={"cpu": size * 2 // 3})
    assert set(spread.hf_device_map.values()) == {"cpu", "disk"}
    held = {one.place.name: one.nbytes for one in spread.load_report.places}
    assert 0 < held["cpu"] <= size * 2 // 3
    assert held["cpu"] + held["disk"] == size
    assert torch.equal(resident(IDS).logits, spread(IDS).logits)
    assert spread.load_report.bytes_mapped == held["cpu"], "what stays on disk is not moved by the load"


def test_ties_come_as_one(folders) -> None:
    spread = on_disk(folders["tied"])
    assert spread.lm_head.weight is spread.model.embed_tokens.weight
    seen = []
    spread.lm_head.register_forward_pre_hook(lambda m, _: seen.append(m.weight.device.type))
    spread(IDS)
    assert seen == ["cpu"]
    assert spread.lm_head.weight is spread.model.embed_tokens.weight


# Coming and going


def test_one_block_is_there_at_a_time(folders) -> None:
    spread = on_disk(folders["llama"])
    layers, seen = spread.model.layers, []
    for layer in layers:
        layer.self_attn.register_forward_hook(lambda *_: seen.append([not left(one) for one in layers]))
    spread(IDS)
    assert seen == [[i == j for j in range(3)] for i in range(3)]


def test_what_fails_or_is_interrupted_leaves_nothing_behind(folders) -> None:
    spread = on_disk(folders["llama"])
    expected, count = spread(IDS).logits, len(left(spread))
    for error in (RuntimeError, KeyboardInterrupt):

        def fail(*_: object, error: type[BaseException] = error) -> None:
            raise error

        hook = spread.model.layers[1].mlp.register_forward_hook(fail)
        with pytest.raises(error):
            spread(IDS)
        hook.remove()
        assert torch.equal(spread(IDS).logits, expected)
        assert len(left(spread)) == count


def test_threads_share_a_model(folders) -> None:
    spread = on_disk(folders["llama"], dtype="bfloat16")
    expected, count = spread(IDS).logits, len(left(spread))
    found: list[torch.Tensor] = []
    threads = [
        threading.Thread(target=lambda: [found.append(spread(IDS).logits) for _ in range(10)])
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 30
    assert all(torch.equal(one, expected) for one in found)
    assert len(left(spread)) == count


def test_a_compiled_model_brings_its_blocks(folders) -> None:
    spread = on_disk(folders["llama"], PART)
    expected, count = spread(IDS).logits, len(left(spread))
    compiled = torch.compile(spread, backend="eager")
    with torch.no_grad():
        assert all(torch.equal(compiled(IDS).logits, expected) for _ in range(2))
    assert len(left(spread)) == count


def test_a_file_that_changes_is_an_error_where_its_block_runs(folder) -> None:
    spread = on_disk(folder, PART)
    expected = spread(IDS).logits
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    with open(file, "r+b") as stream:  # the same file, overwritten
        stream.write(content)
    os.utime(file, ns=(1, 1))
    entered = []
    spread.model.layers[0].register_forward_hook(lambda *_: entered.append(0))
    for _ in range(2):
        with pytest.raises(ChangedFileError, match="since the model was loaded"):
            spread(IDS)
    assert entered == [0, 0]
    assert expected.isfinite().all()


def test_a_model_saves_into_the_folder_that_it_runs_from(folder) -> None:
    spread = on_disk(folder)
    expected = spread(IDS).logits
    spread.save_pretrained(folder)
    assert torch.equal(spread(IDS).logits, expected)
    assert torch.equal(LlamaForCausalLM.from_pretrained(folder)(IDS).logits, expected)


# What models are asked for


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saving_gives_the_same_files(folders, tmp_path, dtype) -> None:
    LlamaForCausalLM.from_pretrained(folders["tied"], dtype=dtype).save_pretrained(tmp_path / "a")
    on_disk(folders["tied"], PART, dtype=dtype).save_pretrained(tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_model_on_disk_becomes_a_resident_one(folders) -> None:
    resident, spread = LlamaForCausalLM.from_pretrained(folders["tied"]), on_disk(folders["tied"])
    twin = loadstone.to_backend(spread, "torch")
    assert same(state(resident), state(twin))
    assert torch.equal(twin(IDS).logits, spread(IDS).logits)


def test_a_model_says_what_is_where(folders) -> None:
    resident, spread = LlamaForCausalLM.from_pretrained(folders["llama"]), on_disk(folders["llama"], PART)
    away = {name for name in spread.state_dict() if name.startswith("model.layers.1.")}
    assert (
        {n for n, value in spread.state_dict().items() if value.device.type == "meta"}
        == away
        == set(left(spread))
    )
    assert [(n, p.shape, p.dtype) for n, p in spread.named_parameters()] == [
        (n, p.shape, p.dtype) for n, p in resident.named_parameters()
    ]
    assert spread.num_parameters() == resident.num_parameters()
    assert spread.device == on_disk(folders["llama"]).device == torch.device("cpu")
    assert spread.dtype == torch.float32
    assert "on disk: model.layers.1.mlp.up_proj.weight" in repr(spread.model.layers[1].mlp.up_proj.weight)
    assert "disk" in str(spread.load_report)
    assert spread.hf_device_map == PART


def test_a_parameter_on_disk_has_the_dtype_that_it_comes_in(folders) -> None:
    spread = on_disk(folders["llama"], dtype="bfloat16")
    assert {value.dtype for value in spread.state_dict().values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    "move",
    [
        lambda m: m.half(),
        lambda m: m.to(torch.float64),
        lambda m: m.to("meta"),
        lambda m: m.to("meta", torch.half),
    ],
)
def test_what_is_on_disk_is_not_moved_or_cast(folders, move) -> None:
    spread = on_disk(folders["llama"], PART)
    with pytest.raises(ArgumentError, match="not all in memory"):
        move(spread)
    assert {value.dtype for value in spread.state_dict().values()} == {torch.float32}
    assert spread.to("cpu") is spread.float() is spread.to(torch.float32) is spread.eval() is spread


def test_what_is_on_disk_takes_no_other_values(folders) -> None:
    spread = on_disk(folders["llama"], PART)
    before = spread(IDS).logits
    values = LlamaForCausalLM.from_pretrained(folders["llama"]).state_dict()
    with pytest.raises(ArgumentError, match="takes no other values"):
        spread.load_state_dict({name: value + 1 for name, value in values.items()})
    with pytest.raises(ArgumentError, match="takes no other values"):
        load_sharded_checkpoint(spread, folders["llama"])
    with pytest.raises(ArgumentError, match="no other vocabulary"):
        spread.resize_token_embeddings(99)
    assert torch.equal(spread(IDS).logits, before)


@pytest.mark.parametrize("device_map", ["disk", PART], ids=str)
def test_copies_and_pickles_run(folders, device_map) -> None:
    spread = on_disk(folders["tied"], device_map)
    expected = spread(IDS).logits
    stream = io.BytesIO()
    torch.save(spread, stream)
    stream.seek(0)
    for twin in (
        copy.deepcopy(spread),
        pickle.loads(pickle.dumps(spread)),
        torch.load(stream, weights_only=False),
    ):
        assert left(twin) == left(spread)
        assert twin.lm_head.weight is twin.model.embed_tokens.weight
        assert torch.equal(twin(IDS).logits, expected)
        assert left(twin) == left(spread)
        assert twin.model.layers[1].mlp.up_proj.weight is not spread.model.layers[1].mlp.up_proj.weight


def test_a_pickle_whose_files_are_gone_says_so(folder) -> None:
    held = pickle.dumps(on_disk(folder, PART))
    shutil.rmtree(folder)
    with pytest.raises(SourceError, match=r"model\.safetensors"):
        pickle.loads(held)(IDS)


# Training


def test_blocks_on_disk_are_not_trained(folders) -> None:
    spread = on_disk(folders["llama"], PART).train()
    with pytest.raises(ArgumentError, match="cannot be trained") as caught:
        spread(IDS, labels=IDS)
    assert "model.layers.1.mlp.up_proj.weight" in str(caught.value)
    with torch.no_grad():
        spread(IDS)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("options", [{}, {"read": "copy"}], ids=str)
def test_gradients_flow_through_frozen_blocks_on_disk(folders, options, recompute) -> None:
    models = [LlamaForCausalLM.from_pretrained(folders["llama"]), on_disk(folders["llama"], PART, **options)]
    for model in models:
        model.train().model.layers[1].requires_grad_(False)
        if recompute:
            model.gradient_checkpointing_enable()
        model(IDS, labels=IDS).loss.backward()
    one, other = ({n: p.grad for n, p in m.named_parameters() if p.requires_grad} for m in models)
    assert len(one) == len(other) > 9
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert left(models[1])


def test_what_is_drawn_has_no_file_to_stay_in(folders) -> None:
    cls = loadstone.LlamaForSequenceClassification
    with pytest.raises(PlacementError, match="no file holds") as caught:
        cls.from_pretrained(folders["llama"], device_map="disk")
    assert "score.weight" in str(caught.value)
    model = cls.from_pretrained(folders["llama"], device_map={"": "disk", "score": "cpu"})
    assert model(IDS[:1]).logits.shape == (1, 2)


# Memory

WIDE = Generated(
    name="llama-160m", layers=12, hidden=768, intermediate=2560, heads=12, kv_heads=4, vocabulary=8000, shard=60 << 20
)  # fmt: skip
RUN = """
import sys
import torch
import numpy, loadstone
from loadstone import LlamaForCausalLM

def held(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))

before = held("RssAnon"), held("VmRSS")
model = LlamaForCausalLM.from_pretrained(sys.argv[1], device_map="disk", dtype=sys.argv[2])
most = [0, 0]
def look(*_):
    most[:] = (max(m, held(key)) for m, key in zip(most, ("RssAnon", "VmRSS")))
for module in model.modules():
    module.register_forward_hook(look)
with torch.no_grad():
    model(torch.arange(1, 9)[None])
print(most[0] - before[0], most[1] - before[1])
"""


@pytest.mark.parametrize(("dtype", "width"), [("bfloat16", 2), ("float32", 4)])
def test_a_forward_pass_takes_two_blocks(tmp_path_factory, dtype, width) -> None:
    folder = checkpoints.make(WIDE, tmp_path_factory.mktemp("spread"))
    command = [sys.executable, "-c", RUN, str(folder), dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    anonymous, resident = map(int, done.stdout.split())
    block = (2 * 768 * 768 + 2 * 768 * 256 + 3 * 768 * 2560) * width
    largest = max(block, 8000 * 768 * width)
    assert anonymous < 2 * largest + (32 << 20)
    assert resident < 4 * largest + (48 << 20) < WIDE.nbytes
