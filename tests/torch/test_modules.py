"""What users of transformers expect of the models themselves: outputs, modules, vocabularies."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from loadstone import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
)
from loadstone.errors import (
    ArgumentError,
)
from tests.torch.tiny import BERT, IDS, LLAMA, model_of, same, state

torch.set_num_threads(1)


# Outputs


def test_outputs_by_name_key_and_place(llama):
    output = llama(IDS, labels=IDS)
    assert output[0] is output.loss is output["loss"]
    assert output[1] is output.logits is output["logits"]
    assert list(output.keys())[:2] == ["loss", "logits"]
    assert output.to_tuple()[1] is output.logits
    assert output[:2] == (output.loss, output.logits)
    assert output.hidden_states is None and "hidden_states" not in output
    with pytest.raises(AttributeError, match="no field 'logit'; did you mean logits"):
        _ = output.logit


def test_a_tuple_where_no_dict_is_wanted(llama):
    named, plain = llama(IDS), llama(IDS, return_dict=False)
    assert isinstance(plain, tuple)
    assert torch.equal(plain[0], named.logits) and len(plain) == len(named)
    llama.config.return_dict = False
    assert isinstance(llama(IDS), tuple)


def test_outputs_that_were_asked_for(llama):
    output = llama(IDS, output_hidden_states=True, output_attentions=True, use_cache=False)
    assert len(output.hidden_states) == 4 and output.hidden_states[0].shape == (2, 6, 24)
    assert len(output.attentions) == 3 and output.attentions[0].shape == (2, 4, 6, 6)
    assert output.past_key_values is None
    llama.config.output_hidden_states = True
    assert len(llama(IDS).hidden_states) == 4


@pytest.mark.parametrize("keep", [0, 1, 3, torch.tensor([0, 2])])
def test_logits_to_keep(llama, keep):
    whole, kept = llama(IDS).logits, llama(IDS, logits_to_keep=keep).logits
    expected = whole[:, keep] if isinstance(keep, torch.Tensor) else whole[:, -keep:] if keep else whole
    assert torch.allclose(kept, expected, atol=1e-6)


def test_labels_give_the_loss(llama):
    labels = IDS.clone()
    labels[0, 3:] = -100
    output = llama(IDS, labels=labels)
    expected = F.cross_entropy(output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert torch.allclose(output.loss, expected)


def test_embeddings_in_place_of_ids(llama):
    embeds = llama.get_input_embeddings()(IDS)
    assert torch.allclose(llama(inputs_embeds=embeds).logits, llama(IDS).logits, atol=1e-6)
    for wrong in ({}, {"input_ids": IDS, "inputs_embeds": embeds}):
        with pytest.raises(ArgumentError, match="exactly one of input_ids and inputs_embeds"):
            llama(**wrong)


def test_inputs_of_bert(folders):
    model = AutoModelForSequenceClassification.from_pretrained(folders["labels"])
    mask = torch.ones_like(IDS)
    mask[:, 4:] = 0
    changed = IDS.clone()
    changed[:, 4:] = 7
    output = model(
        input_ids=IDS, attention_mask=mask, token_type_ids=torch.zeros_like(IDS), labels=torch.tensor([0, 2])
    )
    assert torch.allclose(output.logits, model(changed, attention_mask=mask).logits, atol=1e-6)
    assert not torch.allclose(output.logits, model(IDS).logits, atol=1e-3)
    assert torch.allclose(output.loss, F.cross_entropy(output.logits, torch.tensor([0, 2])))


# Ordinary modules


def test_the_classes_are_ordinary_modules(llama):
    assert isinstance(llama.lm_head, nn.Linear) and isinstance(llama.model.embed_tokens, nn.Embedding)
    assert llama.load_state_dict(llama.state_dict()).missing_keys == []
    half = copy.deepcopy(llama).half()
    assert half.dtype == torch.float16 and llama.dtype == torch.float32
    assert half.model.rotary_emb.inv_freq.dtype == torch.float32


def test_a_step_of_training(llama):
    llama.train()
    optimiser = torch.optim.SGD(llama.parameters(), lr=0.1)
    first = llama(IDS, labels=IDS).loss
    first.backward()
    assert all(p.grad is not None for p in llama.parameters())
    optimiser.step()
    assert llama(IDS, labels=IDS).loss < first


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("name", ["tied", "bert"])
def test_copies(folders, again, name):
    model = {"tied": LlamaForCausalLM, "bert": BertForMaskedLM}[name].from_pretrained(folders[name])
    model.config.hidden_act = "gelu_new"
    other = again(model)
    assert same(state(other), state(model)) and other.config == model.config
    assert str(other.load_report) == str(model.load_report)
    assert len(list(other.parameters())) == len(list(model.parameters())), "ties stay"
    with torch.no_grad():
        next(other.parameters()).zero_()
    assert not same(state(other), state(model))


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "tanh"])
def test_every_activation_can_be_pickled(activation):
    model = model_of("LlamaForCausalLM", hidden_act=activation, num_hidden_layers=1)
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again(IDS).logits, model(IDS).logits)


def test_direct_construction_draws_the_weights():
    one = LlamaForCausalLM(LlamaConfig(**LLAMA))
    assert one.training
    assert one.lm_head.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert (one.model.norm.weight == 1).all()
    assert not one.model.embed_tokens.weight[0].any(), "the padding token's row"
    assert BertModel(BertConfig(**BERT), add_pooling_layer=False).pooler is None


def test_a_fresh_model_in_a_dtype():
    config = LlamaConfig(**LLAMA, dtype="bfloat16")
    assert AutoModelForCausalLM.from_config(config).dtype == torch.bfloat16
    assert AutoModelForCausalLM.from_config(config, dtype="float16").dtype == torch.float16
    assert LlamaForCausalLM(config).dtype == torch.float32, "PyTorch's default, as of any module"
    assert LlamaForCausalLM(config, dtype="float16").dtype == torch.float16
    with pytest.raises(ArgumentError, match="knows no argument 'sead'"):
        AutoModelForCausalLM.from_config(config, sead=1)
    assert config.dtype == "bfloat16"


# Vocabularies


@pytest.mark.parametrize("name", ["llama", "tied"])
@pytest.mark.parametrize("rows", [70, 50])
def test_resizing_the_vocabulary(folders, name, rows, tmp_path):
    model = LlamaForCausalLM.from_pretrained(folders[name])
    before = state(model)
    assert model.resize_token_embeddings(rows) is model.get_input_embeddings()
    kept = min(rows, 61)
    for weight in ("lm_head.weight", "model.embed_tokens.weight"):
        after = model.state_dict()[weight]
        assert after.shape == (rows, 24)
        assert torch.equal(after[:kept], before[weight][:kept])
        if rows > 61:
            assert torch.allclose(after[61:], before[weight].mean(0).expand(rows - 61, -1), atol=1e-4)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is (name == "tied")
    assert (
        model.config.vocab_size
        == model.lm_head.out_features
        == model.model.embed_tokens.num_embeddings
        == rows
    )
    assert model(IDS.clamp(max=rows - 1)).logits.shape[-1] == rows
    model.save_pretrained(tmp_path)
    assert same(state(LlamaForCausalLM.from_pretrained(tmp_path)), state(model))


def test_resizing_to_a_multiple(llama):
    assert llama.resize_token_embeddings(pad_to_multiple_of=16).num_embeddings == 64
    assert llama.resize_token_embeddings(60, pad_to_multiple_of=8, mean_resizing=False).num_embeddings == 64
    assert llama.resize_token_embeddings().num_embeddings == 64
    with pytest.raises(ArgumentError, match="at least one token"):
        llama.resize_token_embeddings(0)


def test_resizing_with_a_bias_on_the_output(folders):
    model = BertForMaskedLM.from_pretrained(folders["bert"])
    model.resize_token_embeddings(66)
    assert model(IDS).logits.shape[-1] == 66
    assert model.cls.predictions.bias is model.cls.predictions.decoder.bias
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
