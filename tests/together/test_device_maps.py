"""Device maps: the same budgets give the same map in every framework, from the order in which each lists parameters."""

import torch  # isort: skip  # first: after TensorFlow it crashes

from typing import Any

import pytest

import loadstone
from loadstone.backend import get_backend
from loadstone.errors import PlacementError
from tests.oracle import load

BACKENDS = ("torch", "tensorflow", "flax")
CASES = (
    "llama-causal-lm", "gemma2-causal-lm", "gpt2-causal-lm", "bert-pre-training", "roberta-masked-lm",
    "distilbert-sequence-classification", "vit-image-classification", "resnet-image-classification",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_map_in_every_framework(case: str) -> None:
    size = loadstone.plan(load.folder(case), backend="torch").nbytes
    found = [
        loadstone.plan(
            load.folder(case), backend=backend, device_map="balanced", max_memory={0: size, 1: size}
        )
        for backend in BACKENDS
    ]
    assert found[0].device_map == found[1].device_map == found[2].device_map
    assert set((found[0].device_map or {}).values()) == {"0", "1"}
    assert sum(one.nbytes for one in found[0].places) == size


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_spread_is_loaded_where_the_backend_runs_it(backend: str) -> None:
    name = get_backend(backend).devices()[-1].name
    asked = {"model.embed_tokens": "disk", "": name}
    assert loadstone.plan(load.folder(CASES[0]), backend=backend, device_map=asked).device_map == asked

    def loaded() -> Any:
        return loadstone.AutoModel.from_pretrained(
            load.folder("llama-base"), backend=backend, device_map={"layers": "disk", "": name}
        )

    if get_backend(backend).capabilities.spreads:
        assert loaded().hf_device_map == {"layers": "disk", "": name}
    else:
        with pytest.raises(PlacementError, match="not there yet"):
            loaded()


@pytest.mark.parametrize(
    ("source", "others"),
    [("torch", ("flax", "tensorflow")), ("flax", ("torch",)), ("tensorflow", ("torch",))],
)
def test_a_model_on_disk_goes_to_other_frameworks(source: str, others: tuple[str, ...]) -> None:
    resident, spread = (
        loadstone.AutoModelForCausalLM.from_pretrained(
            load.folder("llama-causal-lm-tied"), backend=source, device_map=device_map
        )
        for device_map in ("cpu", {"": "cpu", "model.layers.1": "disk"})
    )
    for backend in others:
        one, other = (loadstone.to_backend(model, backend) for model in (resident, spread))
        names = get_backend(backend).parameters(one)
        for name in names:
            values = [get_backend(backend).read(model, name).numpy() for model in (one, other)]
            assert values[0].tobytes() == values[1].tobytes()
        away = [name for name in names if name.startswith("model.layers.1.")]
        assert away
        assert {other.load_report.copied[name] for name in away} == {f"{source} gives only copies of it"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_device_that_is_not_there_tells_those_that_are(backend: str) -> None:
    name = get_backend(backend).devices()[-1].name
    with pytest.raises(PlacementError, match="there is no device") as caught:
        loadstone.AutoModel.from_pretrained(load.folder("llama-base"), backend=backend, device_map="cuda:7")
    assert "device" in str(caught.value.found)
    assert f"here: {name}" in str(caught.value.found) or torch.cuda.is_available()
