"""accelerate's own ways to spread a model, and PEFT on a model that loadstone has spread."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import peft
import pytest
import torch

import loadstone
from loadstone.errors import ArgumentError

IDS = torch.tensor([[5, 17, 42, 8, 3, 29], [11, 20, 60, 33, 7, 54]])
PART = {"": "cpu", "model.layers.1": "disk"}


def load(folders: dict[str, Path], **options: Any) -> Any:
    return loadstone.LlamaForCausalLM.from_pretrained(folders["llama"], **options)


def mapped(model: Any) -> dict[str, str]:
    """Return a map with every second module on disk, in accelerate's words."""
    names = [
        *accelerate.infer_auto_device_map(model, max_memory={"cpu": "1GB"}, no_split_module_classes=None)
    ]
    layers = [f"model.layers.{number}" for number in range(model.config.num_hidden_layers)]
    assert names == [""]
    others = ["model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"]
    return dict.fromkeys(others, "cpu") | {n: ("cpu", "disk")[i % 2] for i, n in enumerate(layers)}


def dispatched(model: Any, folder: Path, source: Path) -> Any:
    return accelerate.dispatch_model(model, mapped(model), main_device="cpu", offload_dir=str(folder))


def from_checkpoint(model: Any, folder: Path, source: Path) -> Any:
    with accelerate.init_empty_weights():
        empty = type(model).from_config(model.config)
    empty.tie_weights()
    return accelerate.load_checkpoint_and_dispatch(
        empty.eval(), str(source), device_map=mapped(model), offload_folder=str(folder)
    )


WAYS: dict[str, Callable[[Any, Path, Path], Any]] = {
    "cpu_offload": lambda model, *_: accelerate.cpu_offload(model, execution_device="cpu"),
    "disk_offload": lambda model, folder, _: accelerate.disk_offload(
        model, str(folder), execution_device="cpu"
    ),
    "dispatch_model": dispatched,
    "load_checkpoint_and_dispatch": from_checkpoint,
}


@pytest.mark.parametrize("way", WAYS)
def test_accelerate_spreads_our_models(folders: dict[str, Path], tmp_path: Path, way: str) -> None:
    resident = load(folders)
    model = WAYS[way](load(folders), tmp_path / "offloaded", folders["llama"])
    assert any(parameter.is_meta for parameter in model.parameters())
    assert torch.equal(model(IDS).logits, resident(IDS).logits)
    assert torch.equal(model.generate(IDS, max_new_tokens=4), resident.generate(IDS, max_new_tokens=4))
    assert model.device == torch.device("cpu")
    if "dispatch" in way:
        assert model.hf_device_map["model.layers.1"] == "disk"


def trained(model: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **options)
    adapted = peft.get_peft_model(model, config).train()
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        adapted(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
    return adapted.eval()


def test_lora_trains_on_the_blocks_that_are_resident(folders: dict[str, Path], tmp_path: Path) -> None:
    before = load(folders)(IDS).logits
    resident, spread = (trained(load(folders, device_map=m), layers_to_transform=[0]) for m in ("cpu", PART))
    found = spread(input_ids=IDS).logits
    assert (found - before).abs().max() > 0.001
    assert torch.equal(found, resident(input_ids=IDS).logits)
    spread.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(load(folders, device_map=PART), tmp_path / "adapter")
    assert torch.equal(again(input_ids=IDS).logits, found)
    merged = spread.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    whole = loadstone.LlamaForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.equal(whole(IDS).logits, resident.merge_and_unload()(IDS).logits)


def test_lora_on_a_block_on_disk_says_why_it_cannot_be(folders: dict[str, Path]) -> None:
    with pytest.raises(ArgumentError, match="stays on disk, and have no values") as caught:
        trained(load(folders, device_map=PART))
    assert "layers_to_transform" in str(caught.value)
