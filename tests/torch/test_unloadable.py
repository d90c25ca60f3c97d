"""Models that could be saved and not loaded again: an error before a byte is written, which says what to do."""

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, init_device_mesh
from torch.testing._internal.two_tensor import TwoTensor

from loadstone import LlamaForCausalLM
from loadstone.errors import ArgumentError, BackendError, MatchError
from loadstone.modeling_utils import load_sharded_checkpoint
from tests.torch.tiny import model_of, same, state

UP = "model.layers.{}.mlp.up_proj.weight"


def refused(model, folder, **arguments):
    """Return the error of a save, of which nothing is left."""
    with pytest.raises(ArgumentError) as caught:
        model.save_pretrained(folder, **arguments)
    assert not folder.exists()
    assert "state_dict=" in caught.value.hint
    return caught.value


def tied_by_hand():
    model = model_of("LlamaForCausalLM")
    one, other = (model.model.layers[i].mlp.up_proj for i in (0, 1))
    other.weight = one.weight
    return model


def test_parameters_that_somebody_tied_are_both_named(tmp_path):
    error = refused(tied_by_hand(), tmp_path / "out")
    assert error.problems == (f"{UP.format(1)} is {UP.format(0)}",)


def test_their_values_can_be_saved_apart(tmp_path):
    model = tied_by_hand()
    model.save_pretrained(tmp_path, state_dict=model.state_dict())
    assert same(state(LlamaForCausalLM.from_pretrained(tmp_path)), state(model))


def test_a_tie_that_the_configuration_denies_is_refused_and_one_that_it_names_saves(tmp_path):
    model = model_of("LlamaForCausalLM", tie_word_embeddings=False)
    model.lm_head.weight = model.model.embed_tokens.weight
    assert "config.tie_word_embeddings denies" in refused(model, tmp_path / "out").problems[0]
    model.config.tie_word_embeddings = True
    model.save_pretrained(tmp_path / "out")
    assert same(state(LlamaForCausalLM.from_pretrained(tmp_path / "out")), state(model))


def test_values_of_tied_parameters_that_differ_are_refused(tmp_path):
    model = model_of("LlamaForCausalLM", tie_word_embeddings=True)
    values = model.state_dict()
    model.save_pretrained(tmp_path / "same", state_dict={n: v.clone() for n, v in values.items()})
    values["lm_head.weight"] = values["lm_head.weight"] + 1
    with pytest.raises(ArgumentError, match=r"lm_head\.weight: differs") as caught:
        model.save_pretrained(tmp_path / "out", state_dict=values)
    assert len(caught.value.problems) == 1 and not (tmp_path / "out").exists()


def test_a_checkpoint_with_two_values_does_not_go_into_one_parameter(tmp_path):
    model_of("LlamaForCausalLM").save_pretrained(tmp_path)
    model = tied_by_hand()
    before = state(model)
    with pytest.raises(MatchError, match="two parameters tied"):
        load_sharded_checkpoint(model, tmp_path)
    assert same(state(model), before)


def with_a_layer_more(model):
    model.model.layers[0].extra = nn.Linear(2, 2)


def with_a_layer_fewer(model):
    del model.model.layers[2]


def with_other_sizes(model):
    model.lm_head = nn.Linear(model.config.hidden_size, 5, bias=False)


def parametrised(model):
    nn.utils.parametrizations.weight_norm(model.lm_head)


def of_integers(model):
    weight = model.lm_head.weight.detach().to(torch.int8)
    model.lm_head.weight = nn.Parameter(weight, requires_grad=False)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (with_a_layer_more, "model.layers.0.extra.weight: only the model has it"),
        (with_a_layer_fewer, "model.layers.2.mlp.up_proj.weight: only the class has it"),
        (with_other_sizes, "lm_head.weight: expected (61, 24), found (5, 24)"),
        (parametrised, "lm_head.parametrizations.weight.original0: only the model has it"),
        (of_integers, "lm_head.weight: expected float32, found int8"),
    ],
)
def test_what_no_checkpoint_of_the_class_can_hold_is_named(tmp_path, change, named):
    model = model_of("LlamaForCausalLM")
    values = model.state_dict()
    change(model)
    assert named in refused(model, tmp_path / "out").problems
    model.save_pretrained(tmp_path / "out", state_dict=values)
    assert same(state(LlamaForCausalLM.from_pretrained(tmp_path / "out")), values)


class Longer(LlamaForCausalLM):
    """A class of the user's own, which its checkpoints can be loaded into."""

    def __init__(self, config):
        super().__init__(config)
        self.value = nn.Linear(config.hidden_size, 1)


def test_a_class_of_ones_own_may_have_layers_of_its_own(tmp_path):
    model = Longer.from_config(model_of("LlamaForCausalLM").config)
    model.save_pretrained(tmp_path)
    assert same(state(Longer.from_pretrained(tmp_path)), state(model))


def test_options_of_the_class_are_no_difference(tmp_path):
    model = model_of("BertModel", add_pooling_layer=False)
    model.save_pretrained(tmp_path)
    assert same(state(type(model).from_pretrained(tmp_path, add_pooling_layer=False)), state(model))


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    """Return a mesh of this process alone."""
    store = tmp_path_factory.mktemp("store") / "file"
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def test_sharded_parameters_say_how_they_are_saved(tmp_path, mesh):
    model = model_of("LlamaForCausalLM")
    expected = state(model)
    fully_shard(model, mesh=mesh)
    assert isinstance(model.lm_head.weight, DTensor)
    error = refused(model, tmp_path / "out")
    assert "full_tensor()" in error.hint and len(error.problems) == len(expected)
    assert "DTensor" in refused(model, tmp_path / "out", state_dict=model.state_dict()).problems[0]
    whole = {name: value.full_tensor() for name, value in model.state_dict().items()}
    model.save_pretrained(tmp_path / "out", state_dict=whole)
    assert same(state(LlamaForCausalLM.from_pretrained(tmp_path / "out")), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda w: TwoTensor(w, w),
        torch.Tensor.to_sparse,
        lambda w: w.to(torch.complex128),
    ],
    ids=["subclass", "sparse", "dtype"],
)
def test_tensors_that_do_not_lie_in_memory_are_named(tmp_path, make):
    model = model_of("LlamaForCausalLM")
    weight = model.lm_head.weight.detach()
    model.lm_head.weight = nn.Parameter(make(weight))
    assert refused(model, tmp_path / "out").problems[0].startswith("lm_head.weight: ")


def test_a_tensor_without_values_is_named(tmp_path):
    model = model_of("LlamaForCausalLM")
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().to("meta"))
    with pytest.raises(BackendError, match="has no values") as caught:
        model.save_pretrained(tmp_path / "out")
    assert caught.value.problems == ("lm_head.weight",)
    assert not (tmp_path / "out").exists()
