"""Classes of one's own, in TensorFlow: parameters more, a head over a known model, a model with nothing of ours."""

import numpy as np

from loadstone import TFBertModel, TFBertPreTrainedModel, TFLlamaForCausalLM
from loadstone.outputs import ModelOutput
from loadstone_tensorflow.framework import keras
from loadstone_tensorflow.layers import Embedding, Linear, Parameter
from loadstone_tensorflow.modeling import PreTrainedModel
from tests import own_heads


class TFMore(TFLlamaForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        self.gain = Parameter(keras.initializers.Constant(2.5), shape=(3,))
        self.adapter = Linear(config.hidden_size, 4)


class TFDrawn(TFMore):
    def _init_weights(self, module):
        super()._init_weights(module)
        if module is self.adapter:
            module.weight.assign(np.full(module.weight.shape, 0.125))


class TFHead(TFBertPreTrainedModel):
    config_class = own_heads.WideConfig

    def __init__(self, config):
        super().__init__(config)
        self.bert = TFBertModel(config, add_pooling_layer=False)
        self.answer = Linear(config.hidden_size, config.answers)

    def forward(self, input_ids, training=False):
        return self.answer(self.bert(input_ids, training=training).last_hidden_state)


class TFReefModel(PreTrainedModel):
    config_class = own_heads.ReefConfig

    def __init__(self, config):
        super().__init__(config)
        self.line = Linear(config.size, 3)
        self.scale = Parameter(np.full((2,), 7.0, np.float32))

    def forward(self, x):
        return self.line(x)


class TFTalks(PreTrainedModel):
    config_class = own_heads.TalkConfig

    def __init__(self, config):
        super().__init__(config)
        self.table = Embedding(config.vocab_size, config.vocab_size)

    def forward(self, input_ids, **_):
        return ModelOutput(logits=self.table(input_ids))


def test_a_causal_model_without_a_cache_generates():
    TFTalks.register_for_auto_class("TFAutoModelForCausalLM")
    model = TFTalks(own_heads.TalkConfig())
    told = np.asarray(model.generate([[1, 2]], max_new_tokens=3))
    last, expected = 2, [1, 2]
    table = own_heads.read("tensorflow", model, "table.weight")
    for _ in range(3):
        expected.append(last := int(table[last].argmax()))
    assert told.tolist() == [expected]
    drawn = model.generate([[1, 2]], max_new_tokens=3, do_sample=True, top_k=1)
    assert np.array_equal(drawn, told)


SHOAL = """
from loadstone_tensorflow.layers import Linear
from loadstone_tensorflow.modeling import PreTrainedModel

from .configuration_shoal import ShoalConfig


class TFShoalModel(PreTrainedModel):
    config_class = ShoalConfig

    def __init__(self, config):
        super().__init__(config)
        self.line = Linear(config.size, 3)
"""


def test_parameters_more(tmp_path):
    own_heads.check_more("tensorflow", TFMore, tmp_path)


def test_a_head_over_a_known_model(tmp_path):
    own_heads.check_head("tensorflow", TFHead, np.array([[1, 2, 3]]), tmp_path)


def test_a_model_with_nothing_of_ours(tmp_path):
    own_heads.check_made("tensorflow", TFReefModel, tmp_path)
    model = TFReefModel(own_heads.ReefConfig(size=2))
    assert model(np.ones((1, 2), np.float32), training=True).shape == (
        1,
        3,
    )  # what its `forward` does not ask for


def test_a_class_with_its_code(tmp_path, monkeypatch):
    own_heads.check_shared("tensorflow", SHOAL, tmp_path, monkeypatch)


def test_init_weights_has_the_last_word(tmp_path):
    own_heads.check_last_word("tensorflow", TFDrawn, tmp_path)


def test_the_class_for_heads_counts_its_architectures_classes():
    own_heads.check_kinship("tensorflow")
