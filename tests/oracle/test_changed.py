"""Every key of config.json that transformers reads has its row, and changed configurations agree or are refused."""

from collections import defaultdict

import pytest

from loadstone.architectures import architecture_for
from loadstone.errors import ConfigError
from tests.oracle import changed, config_keys, config_reads, load

SAMPLE = 4
"""Changed configurations of each model type that are judged in every run; `README.md` says how to judge all."""
SEED = 20

TYPES = sorted(config_keys.OF_TYPE)


@pytest.fixture(scope="module")
def read():
    """Return model type -> key -> the places where transformers reads it."""
    load.prepare()
    found = defaultdict(lambda: defaultdict(set))
    for case in config_reads.one_case_a_class():
        for key, places in config_reads.reads_of(case, load.ORACLE / case.name).items():
            found[case.model_type][key] |= places
    return found


@pytest.mark.parametrize("model_type", TYPES)
def test_every_key_that_transformers_reads_has_its_row(read, model_type):
    unknown = {key: sorted(places) for key, places in read[model_type].items()}
    for key in config_keys.keys_of(model_type):
        unknown.pop(key, None)
    assert not unknown, "say in config_keys.py what becomes of them"


@pytest.mark.parametrize("model_type", TYPES)
def test_the_recorder_sees_what_is_surely_read(read, model_type):
    """Sizes are read as attributes, `model_type` out of the file, `torch_dtype` out of what `__post_init__` is given."""
    size = {"gpt2": "n_embd", "distilbert": "dim", "resnet": "embedding_size"}.get(model_type, "hidden_size")
    assert {size, "model_type", "torch_dtype", "auto_map"} <= read[model_type].keys()


@pytest.mark.parametrize("model_type", TYPES)
def test_what_the_table_calls_followed_is_declared_and_what_it_calls_refused_is_refused(model_type):
    config = architecture_for(model_type).config
    rows = config_keys.keys_of(model_type)
    assert [
        name for name, key in rows.items() if key.treatment == "followed" and not config.knows(name)
    ] == []
    refused = {name for name, key in rows.items() if key.treatment == "refused"}
    assert refused == config.neutral.keys()
    assert [
        name for name, key in rows.items() if key.treatment in ("harmless", "elsewhere") and not key.why
    ] == []
    unexplained = [name for name, key in rows.items() if (key.refuses or key.takes) and not key.because]
    assert [name for name in unexplained if rows[name].treatment not in ("refused", "elsewhere")] == []


@pytest.mark.parametrize("model_type", TYPES)
def test_a_key_that_is_not_followed_is_refused_by_name_unless_it_changes_nothing(model_type):
    architecture = architecture_for(model_type)
    for key, values in architecture.config.neutral.items():
        for value in (None, *values):
            architecture.spec(architecture.config(**{key: value}))
        other = (
            {"hidden_size": 16} if not values else not values[0] if values[0] in (True, False) else "another"
        )
        with pytest.raises(ConfigError) as caught:
            architecture.spec(architecture.config(**{key: other}))
        assert caught.value.where == key
        assert caught.value.found == repr(other)
        assert all(repr(value) in caught.value.expected for value in values)


def test_all_keys_that_are_not_followed_are_named_at_once():
    config = architecture_for("bert").config(is_decoder=True, decoder={"hidden_size": 3})
    with pytest.raises(ConfigError) as caught:
        architecture_for("bert").spec(config)
    assert "is_decoder=True" in str(caught.value)
    assert "decoder={'hidden_size': 3}" in str(caught.value)


def test_a_nested_configuration_is_looked_at_too():
    config = architecture_for("llama").config(text_config={"hidden_size": 8, "attention_chunk_size": 4})
    with pytest.raises(ConfigError, match="attention_chunk_size"):
        architecture_for("llama").spec(config)


@pytest.mark.parametrize("model_type", TYPES)
def test_a_sample_of_changed_configurations(model_type):
    load.prepare()
    verdicts = changed.judged(model_type, SEED, SAMPLE)
    assert [str(verdict) for verdict in verdicts if verdict.word == "WRONG"] == []


def test_the_comparison_can_tell(monkeypatch):
    """Another number, another dtype, an output too few and a refusal that no row speaks of are each wrong."""
    load.prepare()
    case = next(case for case in load.cases("llama") if case.class_name == "LlamaModel")
    change = changed.Change(case=case, keys={"rms_norm_eps": 0.1})
    assert changed.judge(change).word == "same"
    ours = changed._ours

    def altered(**faults):
        def answer(change, folder):
            true = ours(change, folder)
            for name, value in faults.items():
                setattr(true, name, value(getattr(true, name)))
            return true

        monkeypatch.setattr(changed, "_ours", answer)
        return changed.judge(change).word

    assert altered(outputs=lambda all: {name: value * (1 + 3e-5) for name, value in all.items()}) == "WRONG"
    assert altered(outputs=lambda all: {k: v for k, v in all.items() if "left" not in k}) == "WRONG"
    assert altered(dtype=lambda _: "torch.float64") == "WRONG"
    assert altered(error=lambda _: ConfigError("no")) == "WRONG"
    assert altered(error=lambda _: ValueError("raw")) == "WRONG"
