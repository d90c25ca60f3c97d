"""An architecture as T5 is: one table of words under four names, three of them tied to the first, and biases of its own."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from loadstone.architectures import Architecture, Head, Tie
from loadstone.architectures.registry import registered
from loadstone.config import Config
from loadstone.errors import BackendError
from loadstone.read.memory import aligned_empty
from loadstone.read.tensor import HostTensor

VOCABULARY, CHANNELS = 19, 6
TABLES = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")


class TrioConfig(Config):
    """Configuration of Trio."""

    model_type = "trio"

    vocab_size: int = VOCABULARY
    hidden_size: int = CHANNELS


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrioSpec:
    """What the models of every framework read."""

    vocab_size: int
    hidden_size: int


TRIO = Architecture(
    model_type="trio",
    family="trio",
    config=TrioConfig,
    spec=lambda config: TrioSpec(vocab_size=config.vocab_size, hidden_size=config.hidden_size),
    heads=(
        Head(
            task="CausalLM",
            class_name="TrioForCausalLM",
            prefix="",
            ties=(
                Tie(name=TABLES[1], to=TABLES[0], when=""),
                Tie(name=TABLES[2], to=TABLES[0], when=""),
                Tie(name=TABLES[3], to=TABLES[0]),
            ),
            output="lm_head",
        ),
    ),
    embedding="shared",
    modules={name: f"tests.{name}.test_resize" for name in ("torch", "flax", "tensorflow")},
)


def offer(monkeypatch: Any) -> None:
    """Let loadstone know the architecture for the time of a test."""
    monkeypatch.setitem(registered, TRIO.model_type, TRIO)


def check_resizing(model: Any, backend: Any, folder: Any, rows: int, tied: bool) -> None:
    """Resize a Trio, and check names, ties and values of what is there, of what is saved and of what loads again."""

    def held(model: Any) -> dict[str, np.ndarray]:
        return {name: backend.read(model, name).numpy().copy() for name in backend.parameters(model)}

    def identities(model: Any, names: tuple[str, ...]) -> set[int | None]:
        found = backend.parameters(model)
        return {found[name].identity for name in names}

    before = held(model)
    model.resize_token_embeddings(rows)
    after, kept = held(model), min(rows, VOCABULARY)
    assert model.config.vocab_size == rows
    for name, value in after.items():
        assert value.shape[0] == rows, name
        np.testing.assert_array_equal(value[:kept], before[name][:kept])
    assert len(identities(model, TABLES[:3])) == 1
    assert len(identities(model, TABLES)) == (1 if tied else 2)
    model.save_pretrained(folder)
    again = type(model).from_pretrained(folder)
    assert len(identities(again, TABLES[:3])) == 1
    assert len(identities(again, TABLES)) == (1 if tied else 2)
    for name, value in held(again).items():
        np.testing.assert_array_equal(value, after[name])


def check_put(model: Any, backend: Any) -> None:
    """Hold that `put` fills and never resizes, and that `resize` gives a shape, which the next `put` fills."""
    name, device = TABLES[0], backend.device(model.device)
    old = backend.read(model, name).numpy().copy()
    longer = HostTensor(
        name=name,
        dtype="float32",
        shape=(VOCABULARY + 1, CHANNELS),
        data=aligned_empty(old.nbytes + 4 * CHANNELS),
    )
    longer.numpy()[:] = 3
    for wrong in (longer, dataclasses.replace(longer, shape=(CHANNELS, VOCABULARY + 1))):
        with pytest.raises(BackendError) as caught:
            backend.put(model, name, wrong, device)
        assert caught.value.where == name
        assert caught.value.expected == f"shape {[VOCABULARY, CHANNELS]}"
        assert caught.value.found == f"shape {list(wrong.shape)}"
    np.testing.assert_array_equal(backend.read(model, name).numpy(), old)
    backend.resize(model, name, longer.shape)
    assert (backend.parameters(model)[name].shape, backend.parameters(model)[name].dtype) == (
        longer.shape,
        "float32",
    )
    with pytest.raises(BackendError):
        backend.finish(model, training=False)
    backend.put(model, name, longer, device)
    backend.finish(model, training=False)
    np.testing.assert_array_equal(backend.read(model, name).numpy(), longer.numpy())
