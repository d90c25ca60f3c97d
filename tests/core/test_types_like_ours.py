"""Types that are one file of core: both spellings of their configurations, published ones, and what cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from loadstone.architectures import GrowthSpec, architecture_for, family
from loadstone.errors import ConfigError

YARN = {
    "factor": 16.0,
    "original_max_position_embeddings": 16384,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}


def spec(model_type: str, **keys: Any) -> Any:
    """Return what a config.json with these keys becomes."""
    architecture = architecture_for(model_type)
    return architecture.spec(architecture.config.from_dict(keys))


def test_a_family_is_all_types_that_share_its_classes_those_of_its_file_first() -> None:
    assert [one.model_type for one in family("roberta")] == ["roberta", "xlm-roberta", "camembert"]
    types = [one.model_type for one in family("llama")]
    assert types[:3] == ["llama", "mistral", "gemma"] and types[6:] == sorted(types[6:])


@pytest.mark.parametrize(
    ("model_type", "four", "five"),
    [
        ("smollm3", {"rope_theta": 5e6, "rope_scaling": None}, {"rope_parameters": {"rope_theta": 5e6}}),
        ("olmo2", {"rope_theta": 5e5}, {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
        ("granite", {"rope_theta": 1e7}, {"rope_parameters": {"rope_type": "default", "rope_theta": 1e7}}),
        (
            "olmo3",
            {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 8.0}},
            {
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "rope_theta": 5e5, "factor": 8.0}
                }
            },
        ),
        (
            "gemma3_text",
            {"rope_theta": 2e6, "rope_local_base_freq": 77.0, "sliding_window_pattern": 2},
            {
                "rope_parameters": {
                    "full_attention": {"rope_theta": 2e6},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 77.0},
                },
                "layer_types": ["sliding_attention", "full_attention"] * 13,
            },
        ),
        (
            "ministral3",
            {"rope_theta": 1e6, "rope_scaling": {"type": "yarn", **YARN}},
            {"rope_parameters": {"rope_type": "yarn", "type": "yarn", "rope_theta": 1e6, **YARN}},
        ),
    ],
)
def test_both_spellings_become_one_spec(model_type: str, four: Any, five: Any) -> None:
    assert spec(model_type, **four) == spec(model_type, **five)


def test_smollm3_rotates_all_layers_but_every_fourth_from_a_base_of_its_own() -> None:
    plain = spec("smollm3", num_hidden_layers=8)
    assert [layer.attention.rope is not None for layer in plain.layers] == [True, True, True, False] * 2
    assert plain == spec("smollm3", num_hidden_layers=8, no_rope_layers=[1, 1, 1, 0, 1, 1, 1, 0, 1])
    assert plain.ropes == spec("smollm3", rope_parameters={"rope_theta": 2000000.0}).ropes
    assert len(set(map(id, plain.layers))) == 2


def test_ministral3_without_a_word_of_its_rope_is_the_published_one() -> None:
    silent = spec("ministral3")
    assert silent == spec(
        "ministral3", rope_parameters={"rope_type": "yarn", "rope_theta": 1e6, **YARN}, rope_theta=77.0
    )
    assert silent.layers[0].attention.growth == GrowthSpec(rate=0.1, span=16384)
    assert silent.layers[0].attention.head_dim == 128
    assert spec("ministral3", head_dim=None, hidden_size=2048).layers[0].attention.head_dim == 64


def test_what_is_set_of_a_rope_is_that_of_the_full_layers() -> None:
    config = architecture_for("gemma3_text").config.from_dict(
        {"rope_parameters": {"sliding_attention": {"rope_theta": 77.0}}, "num_hidden_layers": 6}
    )
    config.rope_theta = 5e6
    config.rope_scaling = {"rope_type": "linear", "factor": 8.0}
    assert config.rope_parameters == {
        "sliding_attention": {"rope_theta": 77.0},
        "full_attention": {"rope_type": "linear", "rope_theta": 5e6, "factor": 8.0},
    }
    near, far = architecture_for("gemma3_text").spec(config).ropes
    assert (
        near
        == spec(
            "gemma3_text", rope_local_base_freq=77.0, rope_theta=5e6, num_hidden_layers=1, sliding_window=8
        ).ropes[0]
    )
    assert far.inverse_frequencies[0] == 1 / 8


def test_published_gemma3_and_granite_become_what_their_papers_say() -> None:
    small = spec(
        "gemma3_text",
        hidden_size=1152,
        num_attention_heads=4,
        num_key_value_heads=1,
        sliding_window=512,
        rope_theta=1000000,
        rope_local_base_freq=10000,
    )
    assert small.windows[:6] == (512,) * 5 + (None,) and len(set(map(id, small.layers))) == 2
    assert small.layers[0].attention.scale == 1 / 16 and small.embeddings.scale == 1152**0.5
    assert small.layers[0].attention.rope != small.layers[5].attention.rope and small.causal
    embeds = spec("gemma3_text", sliding_window=512, use_bidirectional_attention=True)
    assert embeds.windows[0] == 256 and not embeds.causal
    granite = spec(
        "granite",
        embedding_multiplier=12.0,
        logits_scaling=8.0,
        residual_multiplier=0.22,
        attention_multiplier=0.015625,
    )
    assert (granite.embeddings.scale, granite.logit_scale) == (12.0, 1 / 8)
    assert {(layer.residual, layer.attention.scale) for layer in granite.layers} == {(0.22, 0.015625)}


def test_published_cohere2_and_glm4_become_what_their_papers_say() -> None:
    command = spec("cohere2", hidden_size=4096, num_attention_heads=32, num_key_value_heads=8, head_dim=7)
    assert [layer.attention.rope is not None for layer in command.layers[:4]] == [True, True, True, False]
    assert command.windows[:4] == (4096, 4096, 4096, None)
    assert all(layer.parallel and layer.attention.head_dim == 128 for layer in command.layers)
    assert command.logit_scale == 0.0625 and command.layers[0].attention.rope.interleaved
    glm = spec("glm4")
    rope = glm.layers[0].attention.rope
    assert (rope.rotated, rope.interleaved) == (64, True)
    assert glm == spec("glm4", rope_parameters={"rope_theta": 10000.0, "partial_rotary_factor": 0.5})
    assert glm != spec("glm4", partial_rotary_factor=0.25)


def test_electra_projects_words_that_are_narrower() -> None:
    small, base = (
        spec("electra"),
        spec("electra", hidden_size=768, embedding_size=768, num_attention_heads=12),
    )
    assert small.names.embeddings.projection == "embeddings_project" and small.embeddings.size == 128
    assert not base.names.embeddings.projection
    assert (small.scores.size, base.scores.size) == (128, 768)


@pytest.mark.parametrize(
    ("model_type", "keys", "where"),
    [
        ("smollm3", {"no_rope_layers": [1, 0]}, "no_rope_layers"),
        ("smollm3", {"no_rope_layer_interval": 0}, "no_rope_layer_interval"),
        ("ministral3", {"rope_parameters": {"rope_type": "default", "rope_theta": 9.0}}, "rope_parameters"),
        (
            "ministral3",
            {"rope_scaling": {"type": "linear", "factor": 2.0, "llama_4_scaling_beta": 0.1}},
            "rope",
        ),
        ("ministral3", {"sliding_window": 0}, "Ministral3Config"),
        ("gemma3_text", {"rope_parameters": {"rope_type": "default"}}, "rope_parameters"),
        ("gemma3_text", {"sliding_window_pattern": 0}, "sliding_window_pattern"),
        ("olmo3", {"layer_types": ["full_attention"]}, "layer_types"),
        ("glm4", {"partial_rotary_factor": 0.51}, "head_dim"),
        ("glm4", {"partial_rotary_factor": 1.5}, "head_dim"),
        ("granite", {"residual_multiplier": 0.0}, "GraniteConfig"),
        ("electra", {"summary_type": "mean"}, "summary_type"),
        ("electra", {"embedding_size": 0}, "ElectraConfig"),
    ],
)
def test_what_cannot_be_is_refused(model_type: str, keys: Any, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        spec(model_type, **keys)
    assert where in str(caught.value.where)
