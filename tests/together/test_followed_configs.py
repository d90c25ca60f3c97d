"""What config.json says of a model is followed in every framework as transformers follows it, or it is an error."""

import torch  # isort: skip

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import transformers
from safetensors.numpy import load_file, save_file

import loadstone
from loadstone.architectures import find_head
from loadstone.backend import get_backend
from loadstone.errors import ArgumentError, ConfigError
from loadstone.testing.cases import CASES
from loadstone.testing.compare import relative_difference
from loadstone_flax.layers import full_precision
from tests.oracle import load

BACKENDS = ("torch", "flax", "tensorflow")
IDS = np.random.default_rng(3).integers(6, 67, (2, 20))
PIXELS = np.random.default_rng(4).standard_normal((2, 3, 20, 20)).astype(np.float32)
LEFT = np.array([[0, 0, 0] + [1] * 17, [1] * 20])


@pytest.fixture(autouse=True, scope="module")
def compile_little() -> Iterator[None]:
    """Programs that are used once are not worth the compiler's work."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def changed(case: str, folder: Path, **fields: Any) -> Path:
    """Copy a checkpoint, change its config.json, where None takes a key out, and return the folder."""
    folder.mkdir()
    shutil.copy(load.folder(case) / "model.safetensors", folder)
    values = json.loads((load.folder(case) / "config.json").read_text()) | fields
    kept = {key: value for key, value in values.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))
    return folder


def ours(backend: str, case: str, folder: Path, **arguments: Any) -> Any:
    found = find_head(CASES[case].class_name)
    assert found is not None
    return get_backend(backend).model_class(*found).from_pretrained(folder, **arguments)


def theirs(case: str, folder: Path, **arguments: Any) -> Any:
    task = CASES[case].class_name.replace("LMHeadModel", "ForCausalLM").partition("For")[2]
    auto = getattr(transformers, f"AutoModelFor{task}" if task else "AutoModel")
    return auto.from_pretrained(folder, **arguments)


def inputs(backend: str, **arrays: np.ndarray) -> dict[str, Any]:
    return {k: torch.from_numpy(v) for k, v in arrays.items()} if backend == "torch" else arrays


def answer(model: Any, **arrays: np.ndarray) -> np.ndarray:
    """Return what a model says; Flax an operation at a time, as a program for one use takes longer to make."""
    if model.backend_name == "flax":
        with full_precision():
            return first(model.forward(**arrays))
    with torch.no_grad():
        return first(model(**inputs(model.backend_name, **arrays)))


def first(output: Any) -> np.ndarray:
    value = output["logits"] if "logits" in output else output["last_hidden_state"]
    return np.asarray(value.detach() if isinstance(value, torch.Tensor) else value)


def assert_followed(case: str, folder: Path, *, matters: bool = True, mask: np.ndarray | None = None) -> None:
    """Assert that each backend computes what transformers does, and that it is not what the case's own config gives."""
    given = {"input_ids": IDS} if CASES[case].modality != "image" else {"pixel_values": PIXELS}
    if mask is not None:
        given["attention_mask"] = mask
    with torch.no_grad():
        expected, plain = (
            first(theirs(case, path)(**inputs("torch", **given))) for path in (folder, load.folder(case))
        )
    seen = None if mask is None else mask.astype(bool)
    if matters:
        assert relative_difference(expected, plain, seen) > 1e-3, (
            "the change moves nothing: the case is blind"
        )
    for backend in BACKENDS:
        found = answer(ours(backend, case, folder), **given)
        assert relative_difference(found, expected, seen) < 1e-5, backend


# The rope

YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "beta_fast": 2.0,
    "beta_slow": 0.5,
    "original_max_position_embeddings": 16,
}


def test_a_scaling_that_is_added_beside_the_parameters_holds(tmp_path: Path) -> None:
    folder = changed("llama-causal-lm", tmp_path / "a", rope_scaling=YARN)
    assert_followed("llama-causal-lm", folder)
    theta = YARN | {"rope_theta": 300.0}
    assert_followed("llama-causal-lm", changed("llama-causal-lm", tmp_path / "b", rope_scaling=theta))
    outer = changed("llama-causal-lm", tmp_path / "c", rope_scaling=YARN, rope_theta=700.0)
    assert_followed("llama-causal-lm", outer)


@pytest.mark.parametrize("kind", ["yarn", "llama3", "longrope", "dynamic"])
def test_an_original_context_beside_the_rope_goes_before_the_one_in_it(kind: str, tmp_path: Path) -> None:
    case = f"llama-causal-lm-rope-{kind}"
    folder = changed(case, tmp_path / "a", original_max_position_embeddings=40)
    assert_followed(case, folder, matters=kind != "dynamic")


# Windows


def test_mistral_follows_the_types_of_its_layers(tmp_path: Path) -> None:
    types = ["full_attention", "sliding_attention"]
    assert_followed("mistral-causal-lm", changed("mistral-causal-lm", tmp_path / "a", layer_types=types))


def test_qwen2_windows_no_layer_where_windows_are_off(tmp_path: Path) -> None:
    case = "qwen2-causal-lm-window"
    folder = changed(case, tmp_path / "a", use_sliding_window=False)
    for backend in BACKENDS:
        with pytest.raises(ConfigError, match="windowed layers, and no window"):
            ours(backend, case, folder)
    types = ["full_attention"] * 2
    assert_followed(case, changed(case, tmp_path / "b", use_sliding_window=False, layer_types=types))


# Heads and activations


def test_qwen2_has_the_size_of_heads_that_it_says(tmp_path: Path) -> None:
    """Four heads of six channels beside a hidden size of 32; the projections' shapes say so too."""
    config = transformers.Qwen2Config(
        **{**CASES["qwen2-causal-lm"].config, "hidden_size": 32, "num_attention_heads": 4, "head_dim": 6}
    )
    torch.manual_seed(0)
    expected = transformers.Qwen2ForCausalLM(config).eval()
    expected.save_pretrained(tmp_path)
    with torch.no_grad():
        logits = expected(torch.from_numpy(IDS)).logits.numpy()
    for backend in BACKENDS:
        found = answer(ours(backend, "qwen2-causal-lm", tmp_path), input_ids=IDS)
        assert relative_difference(found, logits) < 1e-5, backend


@pytest.mark.parametrize(
    ("case", "key", "name"),
    [
        ("llama-causal-lm", "hidden_act", "quick_gelu"),
        ("llama-causal-lm", "hidden_act", "relu2"),
        ("llama-causal-lm", "hidden_act", "mish"),
        ("llama-causal-lm", "hidden_act", "gelu_accurate"),
        ("llama-causal-lm", "hidden_act", "gelu_python_tanh"),
        ("bert-masked-lm", "hidden_act", "mish"),
        ("distilbert-masked-lm", "activation", "relu2"),
        ("vit-image-classification", "hidden_act", "quick_gelu"),
    ],
)
def test_activations(case: str, key: str, name: str, tmp_path: Path) -> None:
    assert_followed(case, changed(case, tmp_path / "a", **{key: name}))


@pytest.mark.parametrize(
    ("case", "fields", "matters"),
    [
        ("gemma-causal-lm", {"hidden_act": "gelu"}, False),
        ("gemma-causal-lm", {"hidden_act": "gelu", "hidden_activation": "relu"}, False),
        ("gemma-causal-lm", {"hidden_act": "relu", "hidden_activation": "gelu_pytorch_tanh"}, True),
        ("gemma2-causal-lm", {"hidden_act": "relu"}, False),
        ("gemma2-causal-lm", {"hidden_activation": "gelu", "hidden_act": "relu"}, True),
    ],
)
def test_the_activation_of_gemma(case: str, fields: dict[str, str], matters: bool, tmp_path: Path) -> None:
    arguments = {"attn_implementation": "eager"} if case.startswith("gemma2") else {}
    folder = changed(case, tmp_path / "a", **fields)
    with torch.no_grad():
        expected, plain = (
            first(theirs(case, path, **arguments)(torch.from_numpy(IDS)))
            for path in (folder, load.folder(case))
        )
    assert (relative_difference(expected, plain) > 1e-5) == matters
    for backend in BACKENDS:
        found = answer(ours(backend, case, folder), input_ids=IDS)
        assert relative_difference(found, expected) < 1e-5, backend


# Which tokens see which

DECODERS = [
    "llama-causal-lm",
    "mistral-causal-lm",
    "gemma-causal-lm",
    "gemma2-causal-lm",
    "qwen2-causal-lm-window",
    "qwen3-causal-lm",
    "gpt2-causal-lm",
]


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("case", DECODERS)
def test_a_decoder_that_is_not_causal_sees_both_ways(case: str, padded: bool, tmp_path: Path) -> None:
    folder = changed(case, tmp_path / "a", is_causal=False)
    assert_followed(case, folder, mask=LEFT if padded else None)


@pytest.mark.parametrize("case", ["llama-causal-lm", "gpt2-causal-lm"])
def test_one_that_is_not_causal_generates_as_transformers(case: str, tmp_path: Path) -> None:
    folder = changed(case, tmp_path / "a", is_causal=False)
    arguments = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": 66, "pad_token_id": 0}
    given = {"input_ids": IDS, "attention_mask": LEFT}
    expected = theirs(case, folder).generate(**inputs("torch", **given), **arguments).numpy()
    plain = theirs(case, load.folder(case)).generate(**inputs("torch", **given), **arguments).numpy()
    assert (expected != plain).any()
    for backend in BACKENDS:
        found = ours(backend, case, folder).generate(**inputs(backend, **given), **arguments)
        np.testing.assert_array_equal(np.asarray(found), expected, err_msg=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_that_is_not_causal_and_windowed_does_not_generate(backend: str, tmp_path: Path) -> None:
    folder = changed("mistral-causal-lm", tmp_path / "a", is_causal=False)
    with pytest.raises(ArgumentError, match="within a window cannot generate"):
        ours(backend, "mistral-causal-lm", folder).generate(
            **inputs(backend, input_ids=IDS), max_new_tokens=2
        )


# Classifiers


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "case",
    [
        "bert-sequence-classification-single-label",
        "roberta-sequence-classification",
        "resnet-image-classification",
    ],
)
def test_a_stored_classifier_decides_how_many_labels_there_are(
    case: str, backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = {"0": "no", "1": "yes", "2": "maybe"}
    folder = changed(case, tmp_path / "a", num_labels=5, id2label=names)
    model = ours(backend, case, folder)
    said = "config.json says num_labels=5 and names 3 labels in id2label; the stored classifier has 3"
    assert said in str(model.load_report) and said in caplog.text
    assert model.config.id2label == {0: "no", 1: "yes", 2: "maybe"}
    plain = ours(backend, case, load.folder(case))
    given = {"pixel_values": PIXELS} if CASES[case].modality == "image" else {"input_ids": IDS[:, :13]}
    assert relative_difference(answer(model, **given), answer(plain, **given)) == 0
    assert not plain.load_report.notes


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_stored_classifier_the_number_of_labels_holds(backend: str, tmp_path: Path) -> None:
    names = {"0": "no", "1": "yes", "2": "maybe"}
    case = "bert-sequence-classification-single-label"
    folder = changed("bert-base", tmp_path / "a", num_labels=5, id2label=names)
    model = ours(backend, case, folder)
    expected = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.num_labels == expected.config.num_labels == 5
    assert model.config.id2label == expected.config.id2label
    assert "5 were taken, and the names left out" in str(model.load_report)


# Counters


@pytest.mark.parametrize("backend", BACKENDS)
def test_counters_that_are_not_stored_start_at_zero(
    backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = "resnet-image-classification"
    folder = changed(case, tmp_path / "a")
    stored = load_file(folder / "model.safetensors")
    counters = [name for name in stored if name.endswith("num_batches_tracked")]
    save_file({n: t for n, t in stored.items() if n not in counters}, folder / "model.safetensors")
    model = ours(backend, case, folder)
    assert sorted(model.load_report.names("new")) == sorted(counters)
    assert "not stored, counts from 0" in str(model.load_report)
    assert "to be trained" not in caplog.text
    read = get_backend(backend).read
    assert all(not np.frombuffer(bytes(read(model, name).data), np.int64).any() for name in counters)
    plain = ours(backend, case, load.folder(case))
    assert relative_difference(answer(model, pixel_values=PIXELS), answer(plain, pixel_values=PIXELS)) == 0


def test_a_strict_load_into_a_model_misses_its_counters(tmp_path: Path) -> None:
    case = "resnet-image-classification"
    folder = changed(case, tmp_path / "a")
    stored = load_file(folder / "model.safetensors")
    save_file(
        {n: t for n, t in stored.items() if not n.endswith("num_batches_tracked")},
        folder / "model.safetensors",
    )
    model = ours("torch", case, load.folder(case))
    with pytest.raises(loadstone.errors.MatchError, match="num_batches_tracked: missing"):
        loadstone.load.load_into(model, folder, strict=True)
