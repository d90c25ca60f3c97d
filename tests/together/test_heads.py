"""What heads, masks and settings mean is the same in every framework, and in transformers."""

import torch  # isort: skip

from typing import Any

import flax.nnx
import keras
import numpy as np
import pytest
import transformers

import loadstone
from loadstone.errors import ArgumentError
from tests.oracle import load

BACKENDS = ("torch", "flax", "tensorflow")
RATES = {
    "hidden_dropout_prob": 0.31,
    "classifier_dropout": 0.32,
    "dropout": 0.33,
    "seq_classif_dropout": 0.34,
    "attention_probs_dropout_prob": 0.35,
}
"""Every rate is another, so that a head that takes a wrong one is found."""
IDS = np.array([[5, 6, 7, 9, 9], [5, 6, 7, 8, 10]])


def auto(task: str, backend: str, case: str, **arguments: Any) -> Any:
    make = getattr(loadstone, f"AutoModelFor{task}").from_pretrained
    return make(load.folder(case), backend=backend, **arguments)


def rate(model: Any) -> float:
    layer = model.dropout if hasattr(model, "dropout") else model.classifier.dropout
    return float(layer.p if hasattr(layer, "p") else layer.rate)


@pytest.mark.parametrize("task", ["SequenceClassification", "TokenClassification", "MultipleChoice"])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "xlm-roberta"])
def test_heads_drop_out_as_often_as_transformers(family: str, task: str) -> None:
    base = load.folder(f"{family}-base")
    known = loadstone.AutoConfig.from_pretrained(base)
    rates = {name: value for name, value in RATES.items() if type(known).knows(name)}
    expected = rate(getattr(transformers, f"AutoModelFor{task}").from_pretrained(base, **rates))
    for backend in BACKENDS:
        assert rate(auto(task, backend, f"{family}-base", **rates)) == expected, backend


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_and_problem_may_be_said_after_loading(backend: str) -> None:
    case = "llama-sequence-classification"
    oracle = transformers.AutoModelForSequenceClassification.from_pretrained(load.folder(case))
    model = auto("SequenceClassification", backend, case)
    ids, native = torch.from_numpy(IDS), torch.from_numpy(IDS) if backend == "torch" else IDS
    for pad in (model.config.pad_token_id, 9, 7):
        model.config.pad_token_id = oracle.config.pad_token_id = pad
        with torch.no_grad():
            found, expected = model(native).logits, oracle(ids).logits
        np.testing.assert_allclose(np.asarray(found), expected, atol=1e-5)
    labels = np.array([0, 2]), np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]], np.float32)
    for kind, given in zip(
        ("single_label_classification", "multi_label_classification"), labels, strict=True
    ):
        model.config.problem_type = oracle.config.problem_type = kind
        target = torch.from_numpy(given)
        with torch.no_grad():
            loss = model(native, labels=target if backend == "torch" else given).loss
            np.testing.assert_allclose(float(loss), float(oracle(ids, labels=target).loss), rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["llama-base", "gpt2-base", "bert-base", "distilbert-base"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (1, 1, 5, 5), (5,)])
def test_a_mask_that_does_not_fit_the_tokens(backend: str, case: str, shape: tuple[int, ...]) -> None:
    model = loadstone.AutoModel.from_pretrained(load.folder(case), backend=backend)
    ids, mask = IDS[:1], np.ones(shape, np.int64)
    if backend == "torch":
        ids, mask = torch.from_numpy(ids), torch.from_numpy(mask)
    with pytest.raises(ArgumentError, match="attention_mask"):
        model(ids, attention_mask=mask)


FOREIGN = {
    "torch": lambda: torch.nn.Linear(32, 67),
    "flax": lambda: flax.nnx.Embed(67, 32, rngs=flax.nnx.Rngs(0)),
    "tensorflow": lambda: keras.layers.Embedding(67, 32),
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_takes_the_place_of_an_embedding_has_its_names(backend: str) -> None:
    case = "llama-causal-lm"
    model, other = auto("CausalLM", backend, case), auto("CausalLM", backend, case)
    theirs = other.get_input_embeddings()
    model.set_input_embeddings(theirs)
    assert model.get_input_embeddings() is theirs
    for replace in (model.set_input_embeddings, model.set_output_embeddings):
        with pytest.raises(ArgumentError, match="parameters have other names"):
            replace(FOREIGN[backend]())
    assert model.get_input_embeddings() is theirs
    assert model(torch.from_numpy(IDS) if backend == "torch" else IDS).logits.shape == (2, 5, 67)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(2, 1), (3,)])
def test_labels_of_several_classes_that_do_not_fit(backend: str, shape: tuple[int, ...]) -> None:
    model = auto("SequenceClassification", backend, "bert-sequence-classification-multi-label")
    ids, labels = IDS, np.ones(shape, np.float32)
    if backend == "torch":
        ids, labels = torch.from_numpy(ids), torch.from_numpy(labels)
    with pytest.raises((ArgumentError, ValueError), match=r"(?i)labels|target size"):
        model(ids, labels=labels)
