"""transformers reads the configurations that we save, and we read its own, with equal values."""

import json
import subprocess
import sys

import pytest

from loadstone import AutoConfig
from loadstone.architectures import architecture_for

pytest.importorskip("transformers")

# transformers keeps these elsewhere, or does not have them.
NOT_COMPARED = {
    "rope_theta": "in rope_parameters",
    "rope_scaling": "in rope_parameters",
    "rope_parameters": "the base is added to it",
    "text_config": "of composite models only",
    "hidden_dropout": "kept as it came, unless the file has it",
    "classifier_dropout": "of no Llama, unless the file has it",
    "compression_config": "not a field of its own",
    "quantization_config": "not a field where there is none",
    "torch_dtype": "an old name",
}

LABELS = {"id2label": {0: "no", 1: "yes", 2: "maybe"}, "label2id": {"no": 0, "yes": 1, "maybe": 2}}
CASES = {
    "llama": {"vocab_size": 61, "hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2},
    "llama-labels": {"num_labels": 3, "eos_token_id": [2, 7], "pad_token_id": 0, "attention_bias": True},
    "llama-linear": {
        "rope_parameters": {"rope_type": "linear", "rope_theta": 77.0, "factor": 2.0},
        "head_dim": 6,
    },
    "llama-old-linear": {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 77.0},
    "llama-tied": {
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
        "hidden_act": "gelu",
        "rms_norm_eps": 1e-3,
    },
    "bert": {"hidden_size": 24, "num_attention_heads": 4, "hidden_dropout_prob": 0.0, "pad_token_id": 3},
    "bert-labels": {"problem_type": "regression", "dtype": "float16", **LABELS},
}

SCRIPT = """
import json, sys
from pathlib import Path
from transformers import AutoConfig
told = {}
for folder in Path(sys.argv[1]).iterdir():
    config = AutoConfig.from_pretrained(folder)
    config.save_pretrained(Path(sys.argv[2]) / folder.name)
    wanted = json.loads((folder / "wanted.json").read_text())
    values = {name: getattr(config, name) for name in wanted if hasattr(config, name)}
    told[folder.name] = values | {"rope": getattr(config, "rope_parameters", None)}
print(json.dumps(told, default=str))
"""


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory):
    """Return ours, what transformers says of each of them, and the folder in which it saved them again."""
    ours, theirs = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs")
    configs = {}
    for name, fields in CASES.items():
        configs[name] = AutoConfig.for_model(name.partition("-")[0], **fields)
        configs[name].save_pretrained(ours / name)
        (ours / name / "wanted.json").write_text(json.dumps(list(known(configs[name]))))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, ours, theirs], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return configs, json.loads(done.stdout), theirs


def known(config):
    return {name: getattr(config, name) for name in type(config)._fields if name not in NOT_COMPARED}


def plain(value):
    """Return a value as JSON has it, and a dtype by its bare name."""
    value = json.loads(json.dumps(value))
    return value.removeprefix("torch.") if isinstance(value, str) else value


@pytest.mark.parametrize("name", CASES)
def test_transformers_reads_what_we_save(exchanged, name):
    configs, told, _ = exchanged
    ours, theirs = known(configs[name]), told[name]
    assert ours.keys() <= theirs.keys()
    assert {name: plain(theirs[name]) for name in ours} == {name: plain(ours[name]) for name in ours}
    if theirs["rope"] is not None:
        rope = architecture_for("llama").spec(configs[name]).layers[0].attention.rope
        again = AutoConfig.for_model(
            "llama", **CASES[name] | {"rope_scaling": None, "rope_parameters": theirs["rope"]}
        )
        assert architecture_for("llama").spec(again).layers[0].attention.rope == rope


@pytest.mark.parametrize("name", CASES)
def test_we_read_what_transformers_saves(exchanged, name):
    configs, _, folder = exchanged
    theirs = AutoConfig.from_pretrained(folder / name)
    architecture = architecture_for(theirs.model_type)
    assert architecture.spec(theirs) == architecture.spec(configs[name])
    assert known(theirs) == known(configs[name]) | {"is_encoder_decoder": False}
    assert json.loads(theirs.to_json_string()) == json.loads((folder / name / "config.json").read_text())
