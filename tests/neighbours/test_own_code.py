"""Code that comes with a checkpoint and stands on transformers: its classes are loaded by loadstone's engine."""

import copy
import importlib.util
import json
import pickle
import subprocess
import sys

import pytest
import torch
import transformers

import loadstone
from loadstone import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageClassification
from loadstone.errors import (
    ArchitectureError,
    ArgumentError,
    MatchError,
    MissingFrameworkError,
    UntrustedCodeError,
)
from tests.neighbours.own_models import (
    COMPOSED,
    CONFIG,
    DECODER,
    ENCODER,
    IMAGES,
    NETWORKS,
    drawn,
    write,
)

IDS = torch.tensor([[1, 2, 12, 5]])
PIXELS = torch.linspace(-1, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Keep what tests trust away from this user's cache."""
    monkeypatch.setenv("LOADSTONE_CODE_CACHE", str(tmp_path_factory.mktemp("code")))


def class_of(folder, auto):
    """Return a repository's class for an Auto class, and its configuration, without weights."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    module, _, name = config.auto_map[auto].rpartition(".")
    package = type(config).__module__.rpartition(".")[0]
    return getattr(importlib.import_module(f"{package}.{module}"), name), config


def made(folder, auto, repository, **fields):
    """Write a repository with weights for one of its classes; return the folder and the model as PyTorch itself fills it."""
    write(folder, repository, **fields)
    cls, config = class_of(folder, auto)
    model = cls(copy.deepcopy(config)).eval()
    weights = drawn(model)
    with torch.no_grad():
        for name, value in model.state_dict(keep_vars=True).items():
            if name in weights:
                value.copy_(weights[name])
    write(folder, repository, weights, **fields)
    return folder, model


def load(auto, folder, **arguments):
    return auto.from_pretrained(folder, backend="torch", trust_remote_code=True, **arguments)


# The shapes


def test_a_decoder_with_its_own_rotary(tmp_path):
    folder, reference = made(tmp_path, "AutoModelForCausalLM", DECODER)
    model = load(AutoModelForCausalLM, folder)
    assert type(model) is type(reference) and isinstance(model, transformers.PreTrainedModel)
    assert torch.equal(model(IDS).logits, reference(IDS).logits)
    assert model.lm_head.weight is model.model.embed.weight
    states = {a.name: a.state for a in model.load_report.plan.assignments.values()}
    assert states.pop("lm_head.weight") == "tied" and set(states.values()) == {"loaded"}
    assert sorted(model.load_report.computed) == [f"model.blocks.{n}.turning.inv_freq" for n in (0, 1)]
    assert torch.equal(model.generate(IDS, max_new_tokens=3), reference.generate(IDS, max_new_tokens=3))
    assert type(pickle.loads(pickle.dumps(model))) is type(model)
    base = load(AutoModel, folder)
    assert torch.equal(base(IDS), reference.model(IDS))
    assert type(base).architecture_and_head()[0].no_split == ("blocks.{}",)


def test_what_a_checkpoint_may_lack_and_hold_beside(tmp_path):
    folder, reference = made(tmp_path, "AutoModelForCausalLM", DECODER)
    weights = {k: v for k, v in drawn(reference).items() if k != "model.scale"} | {"rotary.3": torch.zeros(2)}
    report = (model := load(AutoModelForCausalLM, write(folder, DECODER, weights))).load_report
    assert model.model.scale.tolist() == [2.5] * 3  # as its class makes it
    assert report.plan.stored["rotary.3"].state == "ignored"
    del weights["model.blocks.1.mix.weight"]
    with pytest.raises(MatchError, match=r"model.blocks.1.mix.weight: missing"):
        load(AutoModelForCausalLM, write(folder, DECODER, weights))


def test_a_new_head_is_drawn_as_its_class_draws_it(tmp_path):
    untied = {"tie_word_embeddings": False, "architectures": ["TurningModel"]}
    folder, _ = made(tmp_path, "AutoModel", DECODER, **untied)
    state = torch.random.get_rng_state()
    model = load(AutoModelForCausalLM, folder, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [a.name for a in model.load_report.plan.in_state("new")] == ["lm_head.weight"]
    assert (model.lm_head.weight == 0.25).all() and not (model.model.embed.weight == 0.25).any()


def test_dtypes_and_what_stays_float32(tmp_path):
    folder, _ = made(tmp_path, "AutoModelForCausalLM", DECODER)
    model = load(AutoModelForCausalLM, folder, dtype="bfloat16")
    assert model.lm_head.weight.dtype == torch.bfloat16 and model.config.dtype == torch.bfloat16
    assert model.model.blocks[0].norm.weight.dtype == torch.float32
    assert model.model.blocks[0].turning.inv_freq.dtype == torch.float32
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_modules_stay_float32_where_transformers_keeps_them_so(tmp_path, dtype):
    folder, _ = made(tmp_path, "AutoModelForCausalLM", DECODER)
    model = load(AutoModelForCausalLM, folder, dtype=dtype)
    kept = [*model._get_dtype_plan(getattr(torch, dtype))]
    found = {name: value.dtype for name, value in model.named_parameters()}
    assert found == {
        name: torch.float32 if {*kept} & {*name.split(".")} else getattr(torch, dtype) for name in found
    }
    assert kept == {"float16": ["mix", "norm"], "bfloat16": ["norm"], "float32": []}[dtype]


def test_an_encoder_that_reads_a_file_beside_its_code_and_buffers_of_integers(tmp_path):
    folder, reference = made(tmp_path, "AutoModel", ENCODER)
    model = load(AutoModel, folder)
    assert torch.equal(model(IDS).last_hidden_state, reference(IDS).last_hidden_state)
    assert model.buckets.dtype == torch.int64 and model.buckets.min() > 0
    assert model.position_ids.tolist() == [list(range(20))] and model.factors.sum() == 0.75
    assert load(AutoModel, folder, add_pooling=False).pooled is False
    with pytest.raises(ArgumentError, match="add_poolin"):
        load(AutoModel, folder, add_poolin=False)


def test_a_model_composed_of_a_sub_config_that_calls_super(tmp_path):
    folder, reference = made(tmp_path, "AutoModel", COMPOSED)
    model = load(AutoModel, folder)
    assert model.finished and model.load_report is not None
    assert model.sight.look.out_features == 7
    x = torch.randn(2, 3)
    assert torch.equal(model(x), reference(x))


LARGE = """
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel


class LargeConfig(PretrainedConfig):
    model_type = "large-own"


class LargeModel(PreTrainedModel):
    config_class = LargeConfig

    def __init__(self, config):
        super().__init__(config)
        self.layers = nn.ModuleList(nn.Linear(4000, 4000) for _ in range(2))
        self.post_init()
"""
PROBE = """
import sys
import loadstone, torch
from transformers import PreTrainedModel


def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))


before = peak()
model = loadstone.AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True, backend="torch")
assert model.load_report.bytes_mapped == model.load_report.nbytes > 128e6
print(peak() - before)
"""


def test_it_takes_no_memory_beyond_its_weights(tmp_path):
    """128 MB of them, which are mapped: neither drawn nor copied."""
    names = (f"layers.{number}.{kind}" for number in range(2) for kind in ("weight", "bias"))
    shapes = {name: (4000, 4000) if name.endswith("weight") else (4000,) for name in names}
    auto_map = {"AutoConfig": "large.LargeConfig", "AutoModel": "large.LargeModel"}
    repository = {"large.py": LARGE, CONFIG: {"model_type": "large-own", "auto_map": auto_map}}
    folder = write(tmp_path, repository, {name: torch.ones(shape) for name, shape in shapes.items()})
    probe = [sys.executable, "-c", PROBE, str(folder)]
    run = subprocess.run(probe, capture_output=True, text=True, check=True)
    assert int(run.stdout) < 30_000, run.stdout  # kB


def test_an_auto_map_with_a_configuration_alone(tmp_path):
    auto_map = {"AutoConfig": DECODER[CONFIG]["auto_map"]["AutoConfig"]}
    folder = write(tmp_path, DECODER, {"x": torch.zeros(1)}, auto_map=auto_map)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True, hidden_size=16)
    assert isinstance(config, transformers.PretrainedConfig) and config.hidden_size == 16
    with pytest.raises(ArchitectureError, match="names no model"):
        load(AutoModelForCausalLM, folder)


def networks() -> list[str]:
    """The networks that the guide's case can be tested with here."""
    return ["ours", "timm"] if importlib.util.find_spec("timm") is not None else ["ours"]


@pytest.mark.parametrize("network", networks())
def test_the_guides_own_case(tmp_path, network):
    repository = IMAGES | {"network.py": NETWORKS[network]}
    folder, reference = made(tmp_path, "AutoModelForImageClassification", repository)
    model = load(AutoModelForImageClassification, folder)
    assert torch.equal(model(pixel_values=PIXELS).logits, reference(pixel_values=PIXELS).logits)
    assert model(pixel_values=PIXELS, labels=torch.tensor([0, 2])).loss.isfinite()
    counters = [name for name, _ in model.named_buffers() if name.endswith("num_batches_tracked")]
    assert len(counters) > 4 and all(model.get_buffer(name) > 0 for name in counters)
    old = {k: v for k, v in drawn(reference).items() if not k.endswith("num_batches_tracked")}
    again = load(AutoModelForImageClassification, write(folder, repository, old))
    assert all(again.get_buffer(name) == 0 for name in counters)
    wide = load(AutoModelForImageClassification, folder, num_labels=5, ignore_mismatched_sizes=True)
    assert wide(pixel_values=PIXELS).logits.shape == (2, 5)


# Around them


def test_lists_of_ties_as_transformers_4_had_them(tmp_path):
    code = DECODER["modeling_turning.py"].replace(
        '{"lm_head.weight": "model.embed.weight"}', '["lm_head.weight"]'
    )
    folder, _ = made(tmp_path, "AutoModelForCausalLM", DECODER)
    (folder / "modeling_turning.py").write_text(code)
    model = load(AutoModelForCausalLM, folder)
    assert model.lm_head.weight is model.model.embed.weight
    apart = load(AutoModel, folder, tie_word_embeddings=False)
    assert not apart.config.tie_word_embeddings


def test_a_subclass_of_a_model_of_transformers(tmp_path):
    code = """
from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "llama-own"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""
    sizes = {"vocab_size": 13, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "architectures": ["OwnForCausalLM"]}
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    values = {"model_type": "llama-own", "auto_map": auto_map, **sizes, **heads}
    folder, reference = made(tmp_path, "AutoModelForCausalLM", {"own.py": code, CONFIG: values})
    model = load(AutoModelForCausalLM, folder)
    assert torch.equal(model(IDS).logits, reference(IDS).logits)
    assert (
        transformers.LlamaForCausalLM.from_pretrained.__func__
        is transformers.PreTrainedModel.from_pretrained.__func__
    )


def test_a_configuration_made_before_is_taken(tmp_path):
    folder, reference = made(tmp_path, "AutoModelForCausalLM", DECODER)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    model = load(AutoModelForCausalLM, folder, config=config)
    assert torch.equal(model(IDS).logits, reference(IDS).logits)


def test_a_fresh_model_is_drawn_as_its_class_draws_it(tmp_path):
    config = AutoConfig.from_pretrained(write(tmp_path, DECODER), trust_remote_code=True)
    model = AutoModelForCausalLM.from_config(config, trust_remote_code=True)
    assert isinstance(model, transformers.PreTrainedModel) and model.training
    assert (model.model.blocks[0].mix.weight == 0.25).all() and model.model.scale.tolist() == [2.5] * 3
    assert model.lm_head.weight is model.model.embed.weight and model.lm_head.weight.std() > 0.1


def test_what_was_saved_is_loaded_again_by_both(tmp_path):
    folder, reference = made(tmp_path / "one", "AutoModelForCausalLM", DECODER)
    model = load(AutoModelForCausalLM, folder)
    model.save_pretrained(tmp_path / "two")
    for name, text in DECODER.items():
        if name != CONFIG:
            (tmp_path / "two" / name).write_text(text)
    assert torch.equal(load(AutoModelForCausalLM, tmp_path / "two")(IDS).logits, reference(IDS).logits)


def test_a_model_on_our_base_with_a_configuration_on_theirs_is_an_error(tmp_path):
    code = DECODER["modeling_turning.py"].replace(
        "from transformers import GenerationMixin, PreTrainedModel",
        "from transformers import GenerationMixin\nfrom loadstone_torch.modeling import PreTrainedModel",
    )
    folder = write(tmp_path, DECODER | {"modeling_turning.py": code}, {"x": torch.zeros(1)})
    with pytest.raises(
        ArchitectureError, match="stands on loadstone's base class, and its configuration does not"
    ):
        load(AutoModelForCausalLM, folder)


def test_without_transformers_the_error_says_so(tmp_path, monkeypatch):
    folder = write(tmp_path, DECODER, {"x": torch.zeros(1)})
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingFrameworkError, match="stands on transformers, which is not installed"):
        load(AutoModelForCausalLM, folder)


def test_without_trust_it_is_an_error_that_lists_what_would_run(tmp_path):
    folder = write(tmp_path, COMPOSED, {"x": torch.zeros(1)})
    with pytest.raises(UntrustedCodeError) as caught:
        AutoModel.from_pretrained(folder)
    for fact in (
        "configuration.py",
        "modeling.py",
        "inner/__init__.py",
        "inner/joining.py",
        "torch, transformers",
    ):
        assert fact in str(caught.value)
    assert json.loads((folder / CONFIG).read_text())["model_type"] == "composed-own"
    assert loadstone.UntrustedCodeError is UntrustedCodeError
