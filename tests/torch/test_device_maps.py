"""Device maps and budgets with PyTorch's own devices."""

import pytest
import torch

import loadstone
from loadstone.errors import PlacementError
from tests.oracle import load

FOLDER = load.folder("llama-causal-lm-tied")
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def test_budgets_alone_ask_for_a_map() -> None:
    model = loadstone.LlamaForCausalLM.from_pretrained(FOLDER, max_memory={"cpu": "1GiB"})
    assert model.hf_device_map == {"": "cpu"}
    assert model.device == torch.device("cpu")


def test_the_meta_device_stands_for_one_that_is_not_here() -> None:
    asked = {"meta": "1GiB", "cpu": "1GiB"}
    assert loadstone.plan(FOLDER, backend="torch", max_memory=asked).device_map == {"": "meta"}
    with pytest.raises(PlacementError, match="'meta' holds no values"):
        loadstone.LlamaForCausalLM.from_pretrained(FOLDER, max_memory=asked)


@NO_GPU
@pytest.mark.parametrize("asked", [{0: "1GiB"}, {0: "1GiB", "cpu": "1GiB"}], ids=str)
def test_a_budget_for_a_gpu_that_is_not_there(asked: dict[int | str, str]) -> None:
    assert loadstone.plan(FOLDER, backend="torch", max_memory=asked).device_map == {"": "0"}
    with pytest.raises(PlacementError, match="no device 0 here") as caught:
        loadstone.LlamaForCausalLM.from_pretrained(FOLDER, max_memory=asked)
    assert caught.value.found == "1 device here: cpu"


def test_a_map_takes_no_tie_apart() -> None:
    with pytest.raises(PlacementError, match="takes apart what is one") as caught:
        loadstone.LlamaForCausalLM.from_pretrained(FOLDER, device_map={"model": "cpu", "lm_head": "disk"})
    assert "lm_head.weight is tied to model.embed_tokens.weight" in str(caught.value)
