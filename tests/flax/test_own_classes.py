"""Classes of one's own, in Flax: parameters more, a head over a known model, a model with nothing of ours."""

import jax.numpy as jnp
from flax import nnx

from loadstone import FlaxBertModel, FlaxBertPreTrainedModel, FlaxLlamaForCausalLM
from loadstone_flax.layers import Linear
from loadstone_flax.modeling import PreTrainedModel
from tests import own_heads


class FlaxMore(FlaxLlamaForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        self.gain = nnx.Param(jnp.full((3,), 2.5))
        self.adapter = Linear(config.hidden_size, 4)


class FlaxDrawn(FlaxMore):
    def _init_weights(self, module):
        super()._init_weights(module)
        if module is self.adapter:
            module.weight.set_value(jnp.full(module.weight.shape, 0.125))


class FlaxHead(FlaxBertPreTrainedModel):
    config_class = own_heads.WideConfig

    def __init__(self, config):
        super().__init__(config)
        self.bert = FlaxBertModel(config, add_pooling_layer=False)
        self.answer = Linear(config.hidden_size, config.answers)

    def forward(self, input_ids):
        return self.answer(self.bert.forward(input_ids).last_hidden_state)


class FlaxReefModel(PreTrainedModel):
    config_class = own_heads.ReefConfig

    def __init__(self, config):
        super().__init__(config)
        self.line = Linear(config.size, 3)
        self.scale = nnx.Param(jnp.full((2,), 7.0))


SHOAL = """
from loadstone_flax.layers import Linear
from loadstone_flax.modeling import PreTrainedModel

from .configuration_shoal import ShoalConfig


class FlaxShoalModel(PreTrainedModel):
    config_class = ShoalConfig

    def __init__(self, config):
        super().__init__(config)
        self.line = Linear(config.size, 3)
"""


def test_parameters_more(tmp_path):
    own_heads.check_more("flax", FlaxMore, tmp_path)


def test_a_head_over_a_known_model(tmp_path):
    own_heads.check_head("flax", FlaxHead, jnp.array([[1, 2, 3]]), tmp_path)


def test_a_model_with_nothing_of_ours(tmp_path):
    own_heads.check_made("flax", FlaxReefModel, tmp_path)


def test_a_class_with_its_code(tmp_path, monkeypatch):
    own_heads.check_shared("flax", SHOAL, tmp_path, monkeypatch)


def test_init_weights_has_the_last_word(tmp_path):
    own_heads.check_last_word("flax", FlaxDrawn, tmp_path)


def test_the_class_for_heads_counts_its_architectures_classes():
    own_heads.check_kinship("flax")
