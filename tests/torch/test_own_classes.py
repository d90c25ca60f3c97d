"""Classes of one's own, in PyTorch: parameters more, a head over a known model, a model with nothing of ours."""

import pytest
import torch
from torch import nn

import loadstone
from loadstone import BertModel, BertPreTrainedModel, LlamaForCausalLM
from loadstone_torch.modeling import PreTrainedModel
from tests import own_heads
from tests.torch.tiny import model_of


class More(LlamaForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        self.gain = nn.Parameter(torch.full((3,), 2.5))
        self.adapter = nn.Linear(config.hidden_size, 4)


class Head(BertPreTrainedModel):
    config_class = own_heads.WideConfig

    def __init__(self, config):
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.answer = nn.Linear(config.hidden_size, config.answers)
        self.post_init()

    def forward(self, input_ids):
        return self.answer(self.bert(input_ids).last_hidden_state)


class ReefModel(PreTrainedModel):
    config_class = own_heads.ReefConfig

    def __init__(self, config):
        super().__init__(config)
        self.line = nn.Linear(config.size, 3)
        self.scale = nn.Parameter(torch.full((2,), 7.0))


def test_parameters_more(tmp_path):
    own_heads.check_more("torch", More, tmp_path)


def test_which_of_them_may_be_absent(tmp_path):
    model_of("LlamaForCausalLM").save_pretrained(tmp_path / "base2")
    own_heads.check_named("torch", More, tmp_path)


def test_a_head_over_a_known_model(tmp_path):
    own_heads.check_head("torch", Head, torch.tensor([[1, 2, 3]]), tmp_path)


def test_a_model_with_nothing_of_ours(tmp_path):
    own_heads.check_made("torch", ReefModel, tmp_path)


def test_what_a_class_draws_itself(tmp_path):
    class Drawn(More):
        def _init_weights(self, module):
            super()._init_weights(module)
            if module is self.adapter:
                module.weight.fill_(0.125)

    model_of("LlamaForCausalLM").save_pretrained(tmp_path)
    model = Drawn.from_pretrained(tmp_path, dtype="bfloat16")
    assert model.gain.dtype == torch.bfloat16 and torch.all(model.gain == 2.5)
    assert torch.all(model.adapter.weight == 0.125) and not model.adapter.bias.any()
    before = torch.get_rng_state()
    More.from_pretrained(tmp_path, seed=1)
    assert torch.equal(before, torch.get_rng_state()), (
        "what is drawn again is not drawn from the user's generator"
    )


def test_what_a_class_does_not_draw_is_told(caplog):
    class Bold(LlamaForCausalLM):
        def _init_weights(self, module):
            module.weight.fill_(1)

    assert Bold(own_heads.LLAMA).lm_head.weight.std() > 0
    assert "Bold._init_weights is asked for the class's own parameters alone" in caplog.text


def test_the_class_for_heads_is_one_and_found_again():
    assert loadstone.BertPreTrainedModel is BertPreTrainedModel
    assert BertPreTrainedModel.__module__ == BertModel.__module__
    assert issubclass(loadstone.LlamaPreTrainedModel, PreTrainedModel)
    assert "BertPreTrainedModel" in dir(loadstone)
    own_heads.check_kinship("torch")
    with pytest.raises(AttributeError, match="NonePreTrainedModel"):
        _ = loadstone.NonePreTrainedModel
