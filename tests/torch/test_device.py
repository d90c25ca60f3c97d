"""Models go where PyTorch puts parameters: blocks that set a device, the default device, accelerate's empty models."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable, Iterator
from typing import Any

import accelerate
import pytest
import torch

import loadstone
from loadstone import AutoModelForCausalLM, BertConfig, BertModel, LlamaConfig, LlamaForCausalLM
from loadstone.errors import BackendError, PlacementError
from loadstone.modeling_utils import load_sharded_checkpoint
from tests.torch.tiny import BERT, IDS, LLAMA, model_of, same, state

META = torch.device("meta")


@contextlib.contextmanager
def default_device(name: str) -> Iterator[None]:
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


EMPTY: dict[str, Callable[[], Any]] = {
    "torch.device": lambda: torch.device("meta"),
    "set_default_device": lambda: default_device("meta"),
    "init_empty_weights": accelerate.init_empty_weights,
    "init_empty_weights, buffers too": lambda: accelerate.init_empty_weights(include_buffers=True),
    "init_on_device": lambda: accelerate.init_on_device(META),
}
MADE: dict[str, Callable[[], Any]] = {
    "constructor": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, tie_word_embeddings=True)),
    "from_config": lambda: AutoModelForCausalLM.from_config(LlamaConfig(**LLAMA), backend="torch"),
    "BERT": lambda: BertModel(BertConfig(**BERT), add_pooling_layer=False),
}


@pytest.mark.parametrize("empty", EMPTY.values(), ids=EMPTY)
@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_an_empty_model_is_empty(empty: Callable[[], Any], make: Callable[[], Any]) -> None:
    before = torch.get_rng_state()
    with empty():
        model = make()
    assert torch.equal(torch.get_rng_state(), before)
    assert {parameter.device for parameter in model.parameters()} == {META}
    assert model.training and model.device == META
    real = make()
    assert {n: (v.shape, v.dtype) for n, v in state(model).items()} == {
        n: (v.shape, v.dtype) for n, v in state(real).items()
    }
    if model.config.tie_word_embeddings and isinstance(model, LlamaForCausalLM):
        assert model.lm_head.weight is model.model.embed_tokens.weight


def test_an_empty_model_takes_no_memory() -> None:
    sizes = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with META:
        model = LlamaForCausalLM(LlamaConfig(vocab_size=128256, num_attention_heads=64, **sizes))
    assert model.num_parameters() > 60e9
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


@pytest.mark.parametrize("include_buffers", [False, True])
def test_buffers_of_an_empty_model_are_where_accelerate_leaves_them(include_buffers: bool) -> None:
    with accelerate.init_empty_weights(include_buffers=include_buffers):
        llama = LlamaForCausalLM(LlamaConfig(**LLAMA))
        resnet = loadstone.ResNetModel(
            loadstone.AutoConfig.for_model("resnet", embedding_size=4, hidden_sizes=[4, 4], depths=[1, 1])
        )
    expected = META if include_buffers else torch.device("cpu")
    buffers = [*llama.named_buffers(), *resnet.named_buffers()]
    assert {buffer.device for _, buffer in buffers} == {expected}
    if not include_buffers:
        assert torch.equal(
            llama.model.rotary_emb.inv_freq, model_of("LlamaForCausalLM").model.rotary_emb.inv_freq
        )
        assert all(bool((buffer == ("var" in name)).all()) for name, buffer in resnet.named_buffers())


def test_accelerate_fills_an_empty_model(folders: Any) -> None:
    loaded = LlamaForCausalLM.from_pretrained(folders["llama"])
    with accelerate.init_empty_weights():
        model = LlamaForCausalLM(loaded.config)
    for name, value in loaded.state_dict().items():
        accelerate.utils.set_module_tensor_to_device(model, name, "cpu", value=value)
    assert torch.equal(model.eval()(IDS).logits, loaded(IDS).logits)


def test_memory_given_to_an_empty_model_holds_what_is_loaded(folders: Any) -> None:
    loaded = LlamaForCausalLM.from_pretrained(folders["tied"])
    with META:
        model = LlamaForCausalLM(loaded.config)
    model = model.to_empty(device="cpu").eval()
    model.load_state_dict(loaded.state_dict())
    assert torch.equal(model(IDS).logits, loaded(IDS).logits)


@pytest.mark.parametrize("empty", EMPTY.values(), ids=EMPTY)
def test_weights_are_not_loaded_where_there_are_none(empty: Callable[[], Any], folders: Any) -> None:
    model = model_of("LlamaForCausalLM")
    with empty():
        with pytest.raises(PlacementError, match="the device 'meta' holds no values"):
            LlamaForCausalLM.from_pretrained(folders["llama"])
        with pytest.raises(PlacementError, match="the device 'meta' holds no values"):
            loadstone.to_backend(model, "torch")
        loaded = LlamaForCausalLM.from_pretrained(folders["llama"], device_map="cpu")
    assert same(state(loaded), state(LlamaForCausalLM.from_pretrained(folders["llama"])))
    assert torch.equal(loaded(IDS).logits, LlamaForCausalLM.from_pretrained(folders["llama"])(IDS).logits)


def test_what_an_empty_model_cannot_do_is_told(folders: Any, tmp_path: Any) -> None:
    with META:
        model = LlamaForCausalLM(LlamaConfig(**LLAMA))
    with pytest.raises(BackendError, match="has no value"):
        model.save_pretrained(tmp_path / "saved")
    assert not list((tmp_path / "saved").glob("*"))
    with pytest.raises(PlacementError, match="holds no values"):
        model.resize_token_embeddings(70)
    with pytest.raises(PlacementError, match="holds no values"):
        load_sharded_checkpoint(model, folders["llama"])
    with pytest.raises(PlacementError, match="holds no values"):
        LlamaForCausalLM.from_pretrained(folders["llama"], device_map="meta")


def test_any_device_that_is_set_is_asked_for(monkeypatch: Any, folders: Any) -> None:
    asked = []
    monkeypatch.setattr(
        "loadstone_torch.backend._default_device", lambda: asked.append(1) or torch.device("cuda:7")
    )
    for make in (MADE["constructor"], lambda: LlamaForCausalLM.from_pretrained(folders["llama"])):
        with pytest.raises(PlacementError, match="there is no device 'cuda:7' here"):
            make()
    assert len(asked) == 2


def test_a_load_into_a_model_leaves_its_buffers_the_objects_that_they_are(tmp_path) -> None:
    config = loadstone.AutoConfig.for_model("resnet", embedding_size=4, hidden_sizes=[4, 4], depths=[1, 1])
    model, other = loadstone.ResNetModel(config), loadstone.ResNetModel(config)
    for buffer in other.buffers():
        buffer.add_(3)
    other.save_pretrained(tmp_path)
    held = dict(model.named_buffers())
    load_sharded_checkpoint(model, tmp_path)
    assert held and all(value is held[name] for name, value in model.named_buffers())
    assert same(state(model), state(other))
