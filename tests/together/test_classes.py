"""Model classes that a family's module makes from heads behave as classes that are written out, in every framework."""

import torch  # isort: skip

import copy
import importlib
import inspect
import io
import pickle
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import loadstone
from loadstone import plugins
from loadstone.architectures import architectures, find_head
from loadstone.backend import get_backend
from tests.oracle.files import SIZES

BACKENDS = ("torch", "flax", "tensorflow")
HELD = [(a, head) for a in architectures() for head in a.heads]
MADE = {
    "MistralForCausalLM": "llama",
    "XLMRobertaForMultipleChoice": "bert",
    "BertForTokenClassification": "bert",
}
"""Classes without code of their own, one of them with a parent that has some, and whose sizes they have."""
IDS = np.array([[5, 6, 7, 9, 9], [5, 6, 7, 8, 10]])


def class_of(name: str, backend: str) -> Any:
    """Return a model class of a backend by its name without prefix."""
    found = find_head(name)
    assert found is not None
    return get_backend(backend).model_class(*found)


def model_of(name: str, backend: str) -> Any:
    """Return a small model with fresh weights."""
    found = find_head(name)
    assert found is not None
    config = loadstone.AutoConfig.for_model(found[0].model_type, **SIZES[MADE[name]])
    return class_of(name, backend).from_config(config)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_class_is_found_where_it_says_it_is(backend: str) -> None:
    prefix = plugins.class_prefix_of(backend)
    for architecture, head in HELD:
        cls: Any = get_backend(backend).model_class(architecture, head)
        assert cls.__name__ == cls.__qualname__ == prefix + head.class_name
        assert cls.__module__ == f"loadstone_{backend}.models.{architecture.family}"
        assert getattr(importlib.import_module(cls.__module__), cls.__name__) is cls
        assert pickle.loads(pickle.dumps(cls)) is cls
        assert cls.architecture_and_head() == (architecture, head)
        assert inspect.getdoc(cls).endswith(".")
        assert cls.__doc__ != cls.__mro__[1].__doc__, f"{cls.__name__} has no docstring of its own"


@pytest.mark.parametrize(
    "head", ["Model", "ForCausalLM", "ForSequenceClassification", "ForQuestionAnswering"]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_decoders_are_llamas(backend: str, head: str) -> None:
    assert issubclass(class_of(f"Qwen3{head}", backend), class_of(f"Llama{head}", backend))


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("backend", BACKENDS)
def test_copies(backend: str, name: str, how: str) -> None:
    model = model_of(name, backend)
    twin = copy.deepcopy(model) if how == "deepcopy" else pickle.loads(pickle.dumps(model))
    assert type(twin) is type(model)
    reader = get_backend(backend)
    names = sorted(reader.parameters(model))
    assert names == sorted(reader.parameters(twin)) and len(names) > 20
    for parameter in names:
        held, copied = (reader.read(one, parameter).data for one in (model, twin))
        np.testing.assert_array_equal(held, copied)


@pytest.mark.parametrize("name", MADE)
def test_torch_saves_them_whole(name: str) -> None:
    model, file = model_of(name, "torch"), io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    twin = torch.load(file, weights_only=False)
    assert type(twin) is type(model)
    assert all(torch.equal(value, twin.state_dict()[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", MADE)
def test_keras_files(name: str, tmp_path: Path) -> None:
    model = model_of(name, "tensorflow")
    registered = keras.saving.get_registered_name(type(model))
    assert registered == f"loadstone>TF{name}"
    assert keras.saving.get_registered_object(registered) is type(model)
    model.save(tmp_path / "model.keras")
    twin = keras.saving.load_model(tmp_path / "model.keras")
    assert type(twin) is type(model)
    ids = IDS[:, None] if name.endswith("MultipleChoice") else IDS
    np.testing.assert_array_equal(twin(ids).logits, model(ids).logits)


@pytest.mark.parametrize("name", [*MADE, "RobertaForMaskedLM"])
def test_signatures_name_all_inputs_for_trainers(name: str, monkeypatch: Any) -> None:
    monkeypatch.setitem(MADE, "RobertaForMaskedLM", "bert")
    found = inspect.signature(model_of(name, "torch").forward).parameters
    own = "past_key_values" if "Mistral" in name else "token_type_ids"
    assert {"input_ids", "attention_mask", "position_ids", "labels", own} <= found.keys()
    assert "inputs" not in found


@pytest.mark.parametrize(
    ("name", "pooled"),
    [
        ("BertForTokenClassification", False),
        ("BertForQuestionAnswering", False),
        ("BertForMaskedLM", False),
        ("BertForSequenceClassification", True),
        ("BertForNextSentencePrediction", True),
        ("RobertaForSequenceClassification", False),
        ("XLMRobertaForMultipleChoice", True),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_base_model_has_a_pooler_where_its_head_reads_it(
    backend: str, name: str, pooled: bool, monkeypatch: Any
) -> None:
    monkeypatch.setitem(MADE, name, "bert")
    model = model_of(name, backend)
    assert (model.base_model.pooler is not None) == pooled
