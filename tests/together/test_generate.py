"""`generate` is one in every framework: the same tokens from the same seed, and transformers' where nothing is drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import loadstone

DEMO = Path(loadstone.__file__).parent / "demo_checkpoint"
BACKENDS = ("torch", "flax", "tensorflow")
LONG, SHORT = "The captain looked at", "A bird"
SEVERAL = {"do_sample": True, "temperature": 1.4, "top_k": 30, "top_p": 0.9, "repetition_penalty": 1.2}


def encoded(*texts: str) -> dict[str, np.ndarray]:
    """The bytes of texts as ids and mask (B, T), padded on the left."""
    length = max(map(len, texts))
    ids = [[0] * (length - len(text)) + list(text.encode()) for text in texts]
    mask = [[0] * (length - len(text)) + [1] * len(text) for text in texts]
    return {"input_ids": np.array(ids), "attention_mask": np.array(mask)}


class Bytes:
    """The demo checkpoint's tokenizer, as far as stop strings and streamers ask for one."""

    def decode(self, ids: Any, **_: Any) -> str:
        return bytes(np.asarray(ids).astype(np.uint8).tolist()).decode(errors="replace")


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {
        backend: loadstone.AutoModelForCausalLM.from_pretrained(DEMO, backend=backend) for backend in BACKENDS
    }


@pytest.fixture(scope="module")
def oracle() -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(DEMO)


def written(model: Any, *texts: str, **arguments: Any) -> np.ndarray:
    inputs = encoded(*texts)
    if model.backend_name == "torch":
        inputs = {name: torch.from_numpy(array) for name, array in inputs.items()}
    return np.asarray(model.generate(**inputs, **arguments))


@pytest.mark.parametrize("use_cache", [True, False])
def test_one_seed_gives_the_same_tokens_everywhere(models: dict[str, Any], use_cache: bool) -> None:
    arguments = {**SEVERAL, "max_new_tokens": 24, "use_cache": use_cache}
    texts = [written(model, LONG, SHORT, seed=5, **arguments) for model in models.values()]
    np.testing.assert_array_equal(texts[1], texts[0])
    np.testing.assert_array_equal(texts[2], texts[0])
    for model in models.values():
        assert (written(model, LONG, SHORT, seed=6, **arguments) != texts[0]).any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "arguments", [{"repetition_penalty": 1.4}, {"max_length": 40}, {"eos_token_id": [46, 44]}]
)
def test_transformers_writes_the_same(
    models: Any, oracle: Any, backend: str, arguments: dict[str, Any]
) -> None:
    arguments = {"do_sample": False, "pad_token_id": 0} | arguments
    arguments |= {} if "max_length" in arguments else {"max_new_tokens": 30}
    inputs = {name: torch.from_numpy(array) for name, array in encoded(LONG, SHORT).items()}
    expected = oracle.generate(**inputs, **arguments).numpy()
    np.testing.assert_array_equal(written(models[backend], LONG, SHORT, **arguments), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_transformers_streamer_prints_what_is_written(models: Any, backend: str, capsys: Any) -> None:
    streamer = transformers.TextStreamer(Bytes())
    text = written(models[backend], LONG, max_new_tokens=20, do_sample=True, seed=1, streamer=streamer)
    assert capsys.readouterr().out == Bytes().decode(text[0]) + "\n"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stop_string_ends_a_sequence(models: Any, backend: str) -> None:
    free = Bytes().decode(written(models[backend], LONG, max_new_tokens=40)[0, len(LONG) :])
    stop = free[9:12]
    found = written(models[backend], LONG, max_new_tokens=40, stop_strings=[stop, "\0"], tokenizer=Bytes())
    assert Bytes().decode(found[0, len(LONG) :]) == free[: free.index(stop) + len(stop)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_drawing_from_the_best_token_alone_is_taking_it(models: Any, backend: str) -> None:
    greedy = written(models[backend], LONG, SHORT, max_new_tokens=12)
    np.testing.assert_array_equal(
        written(models[backend], LONG, SHORT, max_new_tokens=12, do_sample=True, top_k=1), greedy
    )
