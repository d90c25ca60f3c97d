"""What transformers and PyTorch make of objects that `isinstance` takes for transformers' own."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from torch.nn.utils import parametrize

import loadstone
from loadstone.model.outputs import ModelOutput
from loadstone_torch.layers import Projection

IDS = torch.tensor([[5, 17, 42, 8, 3, 29]])


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


class Mixed:
    """What FSDP puts before a model's class."""


@pytest.fixture
def model() -> Any:
    config = loadstone.AutoConfig.for_model(
        "gpt2", vocab_size=61, n_embd=24, n_layer=2, n_head=4, n_positions=32
    )
    return loadstone.GPT2LMHeadModel.from_config(config).eval()


def test_they_are_instances_of_both_and_of_our_type(model: Any) -> None:
    output, projection = model(IDS), model.transformer.h[0].attn.c_attn
    for held, ours, theirs in (
        (model, loadstone.GPT2LMHeadModel, transformers.PreTrainedModel),
        (model.transformer, loadstone.GPT2Model, transformers.PreTrainedModel),
        (output, ModelOutput, transformers.utils.ModelOutput),
        (projection, Projection, transformers.pytorch_utils.Conv1D),
    ):
        assert isinstance(held, ours)
        assert isinstance(held, theirs)
        assert type(held) is ours
        assert issubclass(held.__class__, ours)
        assert held.__class__.__name__ == ours.__name__
        assert held.__class__.__module__ == ours.__module__
        assert theirs not in ours.__mro__
    assert not isinstance(model.lm_head, transformers.pytorch_utils.Conv1D)
    with pytest.raises(AttributeError):
        model.prune_heads  # noqa: B018  # an attribute that only transformers' class has


def test_what_is_made_of_the_class_is_ours(model: Any) -> None:
    assert type(model.__class__(model.config)) is loadstone.GPT2LMHeadModel
    assert type(model.__class__.from_config(model.config)) is loadstone.GPT2LMHeadModel


def test_they_are_copied_and_pickled_as_what_they_are(model: Any) -> None:
    expected = model(IDS)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for copied in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(file, weights_only=False),
    ):
        assert type(copied) is loadstone.GPT2LMHeadModel
        assert torch.equal(copied(IDS).logits, expected.logits)
    output = pickle.loads(pickle.dumps(expected))
    assert type(output) is ModelOutput
    assert torch.equal(output.logits, expected.logits)


def test_a_class_that_pytorch_puts_in_is_taken_out_again(model: Any) -> None:
    expected, projection = model(IDS).logits, model.transformer.h[0].attn.c_attn
    parametrize.register_parametrization(projection, "weight", Doubled())
    assert not torch.equal(model(IDS).logits, expected)
    assert isinstance(projection, Projection)
    parametrize.remove_parametrizations(projection, "weight", leave_parametrized=False)
    assert type(projection) is Projection
    assert torch.equal(model(IDS).logits, expected)

    seen = model.__class__
    model.__class__ = type("FSDPModel", (Mixed, seen), {})  # as `fully_shard` does
    assert isinstance(model, Mixed)
    assert isinstance(model, loadstone.GPT2LMHeadModel)
    assert type(model).save_pretrained is loadstone.GPT2LMHeadModel.save_pretrained
    assert torch.equal(model(IDS).logits, expected)
    model.__class__ = seen
    assert type(model) is loadstone.GPT2LMHeadModel
