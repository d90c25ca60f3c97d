"""GGUF: what llama.cpp's converter made of a checkpoint is that checkpoint again, in the three frameworks."""

import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "hub")]

import gguf_files as files
import torch
from gguf_files import Kind
from hub_fixture import hub  # noqa: F401

import loadstone
from loadstone import AutoConfig, AutoModel, AutoModelForCausalLM
from loadstone.backend import get_backend
from loadstone.checkpoint.open import open_checkpoint
from loadstone.cli.inspect import inspect
from loadstone.errors import ArgumentError, CheckpointError, ConfigError, NoWeightsError
from loadstone.read import engine, pieces
from loadstone.source import resolve
from tests.oracle import load

TYPES = ("llama", "llama-bias", "llama-tied", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gpt2")
TOKENS = [[3, 17, 41, 5, 9]]


def case(name):
    """Return the folder of one of the oracle's causal language models."""
    model_type, _, rest = name.partition("-")
    return load.folder(f"{model_type}-causal-lm" + (f"-{rest}" if rest else ""))


def written(path, name, kind=Kind.F32, **how):
    """Write one as GGUF, Mistral as llama.cpp does; return the numbers that are in the file."""
    if name == "mistral":
        how |= {"architecture": "llama", "named": "mistral"}
    return files.write(path, case(name), kind, **how)


def held(model, backend="torch"):
    """Return name -> numbers of a model, ties once."""
    found = get_backend(backend)
    tied = model.load_report.names("tied")
    return {name: found.read(model, name).numpy() for name in found.parameters(model) if name not in tied}


def agree(model, expected, backend="torch", dtype=np.float32):
    """Assert that a model holds what is expected, bit for bit."""
    found = held(model, backend)
    assert found.keys() == expected.keys()
    for name, array in found.items():
        with np.errstate(all="ignore"):  # random blocks hold what is no number
            same = np.array_equal(array, expected[name].astype(dtype), equal_nan=True)
        assert array.dtype == np.dtype(dtype) and same, name


@pytest.mark.parametrize("name", TYPES)
def test_each_type_is_what_it_was_made_of(tmp_path, name):
    expected = written(tmp_path / "x.gguf", name)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "x.gguf")
    original = AutoModelForCausalLM.from_pretrained(case(name))
    agree(model, expected)
    if "gemma" not in name:  # whose norms lose a bit by the one that is added and taken away
        agree(original, expected)
    assert type(model) is type(original) and not model.load_report.names("unused")
    if name == "gemma2":  # which the file says by other sizes; as llama.cpp computes it
        assert model.config.query_pre_attn_scalar == model.config.head_dim
        model = AutoModelForCausalLM.from_pretrained(
            tmp_path / "x.gguf", query_pre_attn_scalar=original.config.query_pre_attn_scalar
        )
    ids = torch.tensor(TOKENS)
    assert torch.allclose(model(ids).logits, original(ids).logits, atol=1e-6)
    keys = set(type(original.config).known_names()) - {"name_or_path"}
    assert {key for key in keys if getattr(model.config, key) != getattr(original.config, key)} == set()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("llama", Kind.Q8_0), ("llama-tied", Kind.Q4_0), ("qwen2", Kind.Q5_1), ("gemma2", Kind.F16)],
)
def test_transformers_reads_the_same(tmp_path, name, kind):
    import transformers

    written(tmp_path / "x.gguf", name, kind)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="x.gguf", dtype="float32")
    ours = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="x.gguf", dtype="float32")
    state = ours.state_dict()
    assert all(torch.equal(state[key], value) for key, value in theirs.state_dict().items())
    assert ours.config.model_type == theirs.config.model_type


# Every type of numbers

WIDE, ROWS, HEADS = 256, 32, 2
PACKED = [kind for kind, (numbers, _) in gguf.GGML_QUANT_SIZES.items() if numbers > 1 or kind.name == "BF16"]


def unpacked(data, kind):
    """Return what gguf-py makes of blocks; None where it makes nothing."""
    try:
        with np.errstate(all="ignore"):
            return gguf.dequantize(data, kind)
    except NotImplementedError:
        return None


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """A Llama with a layer for each type that gguf-py unpacks, of random blocks, and its numbers."""
    drawn, path = np.random.default_rng(0), tmp_path_factory.mktemp("every") / "every.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    kinds = [
        kind
        for kind in PACKED
        if unpacked(np.zeros(gguf.GGML_QUANT_SIZES[kind][1], np.uint8), kind) is not None
    ]
    assert len(kinds) >= 24
    config = {
        "max_position_embeddings": 8,
        "hidden_size": WIDE,
        "num_hidden_layers": len(kinds),
        "intermediate_size": ROWS,
    }
    config |= {
        "num_attention_heads": HEADS,
        "head_dim": ROWS // HEADS,
        "rms_norm_eps": 1e-5,
        "vocab_size": ROWS,
    }
    files.keys(writer, config)
    expected = {}

    def add(name, stored, shape, kind=Kind.F32, back=files.same):
        numbers, size = gguf.GGML_QUANT_SIZES[kind]
        data = drawn.standard_normal(shape, np.float32) if kind == Kind.F32 else None
        if data is None:
            data = drawn.integers(0, 256, (*shape[:-1], shape[-1] // numbers * size), np.uint8)
        writer.add_tensor(f"{stored}.weight", data, raw_dtype=kind)
        expected[f"{name}.weight"] = back(unpacked(data, kind).reshape(shape))

    add("model.embed_tokens", "token_embd", (ROWS, WIDE), kinds[0])
    add("model.norm", "output_norm", (WIDE,))
    for number, kind in enumerate(kinds):
        layer, block = f"model.layers.{number}", f"blk.{number}"
        order = lambda t: files.paired(t, HEADS, (-1, 2))
        for ours, theirs in (("q_proj", "attn_q"), ("k_proj", "attn_k")):
            add(f"{layer}.self_attn.{ours}", f"{block}.{theirs}", (ROWS, WIDE), kind, order)
        add(f"{layer}.self_attn.v_proj", f"{block}.attn_v", (ROWS, WIDE), kind)
        add(f"{layer}.self_attn.o_proj", f"{block}.attn_output", (WIDE, ROWS))
        add(f"{layer}.mlp.gate_proj", f"{block}.ffn_gate", (ROWS, WIDE), kind)
        add(f"{layer}.mlp.up_proj", f"{block}.ffn_up", (ROWS, WIDE), kind)
        add(f"{layer}.mlp.down_proj", f"{block}.ffn_down", (WIDE, ROWS))
        for ours, theirs in (("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm")):
            add(f"{layer}.{ours}", f"{block}.{theirs}", (WIDE,))
    files.finish(writer)
    return path, expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_type_is_unpacked_as_the_library_does(every, dtype):
    from loadstone.dtypes import to_numpy

    path, expected = every
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    agree(model, expected, dtype=to_numpy(dtype))
    report = model.load_report
    assert (
        report.bytes_read + report.bytes_mapped
        == open_checkpoint(resolve(path.parent), weights_format="gguf", weights_file=path.name).nbytes
    )


def test_it_is_read_a_piece_at_a_time(every, monkeypatch):
    path, expected = every
    asked = []
    monkeypatch.setattr(pieces, "PIECE", 3000)
    monkeypatch.setattr(
        engine, "_fill", lambda *a, was=engine._fill: (asked.append(sum(map(len, a[3]))), was(*a))[1]
    )
    agree(AutoModelForCausalLM.from_pretrained(path, read="copy"), expected)
    whole_head = max(expected["model.layers.0.self_attn.q_proj.weight"].nbytes // HEADS, 3000)
    assert len(asked) > 300 and max(asked) <= whole_head


@pytest.mark.parametrize("piece", [pieces.PIECE, 200])
def test_what_is_packed_and_turned_is_put_in_place(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(pieces, "PIECE", piece)
    expected = written(tmp_path / "x.gguf", "gpt2", Kind.Q8_0)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "x.gguf", read="copy")
    agree(model, expected)
    cast = model.load_report.to_dict()["parameters"]["transformer.h.0.attn.c_attn.weight"]
    assert cast["state"] == "cast" and "stored as Q8_0" in str(model.load_report)


def test_two_tensors_in_two_packings_are_compared_by_their_numbers(tmp_path):
    def untied(writer):
        writer.add_tensor("output.weight", gguf.quantize(table, Kind.F16), raw_dtype=Kind.F16)

    table = written(tmp_path / "y.gguf", "llama-tied", Kind.Q8_0)["model.embed_tokens.weight"]
    table = table.astype(np.float16).astype(np.float32)
    for number in (table, table + 1):
        path, table = tmp_path / "x.gguf", number
        written(path, "llama-tied", Kind.F16, more=untied)
        model = AutoModelForCausalLM.from_pretrained(path, tie_word_embeddings=True)
        assert model.config.dtype == "float16" and not model.load_report.names("tied")


def test_what_stays_on_disk_is_unpacked_as_it_runs(tmp_path):
    written(tmp_path / "x.gguf", "llama", Kind.Q8_0)
    whole, away = (
        AutoModelForCausalLM.from_pretrained(tmp_path / "x.gguf", device_map=places)
        for places in ("cpu", {"model.layers.1": "disk", "": "cpu"})
    )
    assert "disk" in away.hf_device_map.values()
    assert torch.equal(away(torch.tensor(TOKENS)).logits, whole(torch.tensor(TOKENS)).logits)


# The frameworks


@pytest.mark.parametrize("backend", ["flax", "tensorflow"])
def test_the_other_frameworks_hold_the_same(tmp_path, backend):
    expected = written(tmp_path / "x.gguf", "llama", Kind.Q8_0)
    agree(AutoModelForCausalLM.from_pretrained(tmp_path / "x.gguf", backend=backend), expected, backend)


# Where it lies


def test_a_file_of_a_folder_goes_before_all_that_lies_beside_it(tmp_path):
    from safetensors.numpy import save_file

    expected = written(tmp_path / "x.gguf", "llama-tied", Kind.F16)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    save_file({"a": np.zeros(2)}, tmp_path / "model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="x.gguf")
    agree(model, expected, dtype=np.float16)
    assert model.config.dtype == "float16" == AutoConfig.from_pretrained(tmp_path / "x.gguf").dtype
    assert AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="x.gguf", dtype="float32"
    ).load_report.names("cast")
    model.save_pretrained(tmp_path / "out")
    agree(AutoModelForCausalLM.from_pretrained(tmp_path / "out"), expected, dtype=np.float16)


def test_it_is_planned_and_inspected_from_its_header(tmp_path):
    written(tmp_path / "x.gguf", "llama", Kind.Q8_0)
    report = loadstone.plan(tmp_path / "x.gguf", task="CausalLM")
    assert "stored as Q8_0" in str(report) and report.names("loaded") and not report.names("missing")
    found = inspect(str(tmp_path / "x.gguf"))
    assert (
        found.problems == ()
        and found.dtypes().keys() == {"Q8_0", "float32"}
        and found.config["hidden_size"] == 32
    )
    assert [(file.name, file.state) for file in found.files] == [("x.gguf", "ok")]
    assert any(group.dtype == "Q8_0" for group in found.groups())


def test_of_a_repository_the_one_file_is_fetched(tmp_path, hub):  # noqa: F811
    expected = written(tmp_path / "x.gguf", "qwen3", Kind.Q8_0)
    (tmp_path / "y.gguf").write_bytes(b"never asked for")
    hub.add_repo("org/packed", folder=tmp_path)
    loadstone.plan("org/packed", gguf_file="x.gguf", task="CausalLM")
    assert not list(hub.home.rglob("x.gguf"))
    agree(AutoModelForCausalLM.from_pretrained("org/packed", gguf_file="x.gguf"), expected)
    assert list(hub.home.rglob("x.gguf")) and not list(hub.home.rglob("y.gguf"))


def test_arguments_that_disagree_and_files_that_are_not_there(tmp_path):
    written(tmp_path / "x.gguf", "llama")
    for arguments in ({"from_tf": True}, {"weights_format": "h5"}, {"use_safetensors": True}):
        with pytest.raises(ArgumentError, match="disagree"):
            AutoModel.from_pretrained(tmp_path, gguf_file="x.gguf", **arguments)
    for arguments in ({"gguf_file": "x.gguf"}, {"subfolder": "deeper"}):
        with pytest.raises(ArgumentError, match="says already"):
            AutoModel.from_pretrained(tmp_path / "x.gguf", **arguments)
    for arguments in (
        {"gguf_file": "y.gguf"},
        {"gguf_file": "x.bin"},
        {"gguf_file": "x.gguf", "variant": "fp16"},
    ):
        with pytest.raises(NoWeightsError):
            AutoModel.from_pretrained(tmp_path, **arguments)
    with pytest.raises(ArgumentError, match="gguf_file= is no text"):
        AutoModel.from_pretrained(tmp_path, gguf_file=Path("x.gguf"))
    with pytest.raises(NoWeightsError, match=r"next: pass gguf_file='x\.gguf'"):
        AutoModel.from_pretrained(tmp_path)
    assert (
        AutoModel.from_pretrained(tmp_path, gguf_file="x.gguf", weights_format="gguf@loadstone") is not None
    )


def test_a_file_that_calls_itself_a_llama_loads_into_mistrals_classes(tmp_path):
    from loadstone import MistralForCausalLM

    expected = written(tmp_path / "x.gguf", "llama")
    model = MistralForCausalLM.from_pretrained(tmp_path / "x.gguf", model_type="mistral")
    agree(model, expected)
    assert model.config.sliding_window is None, "as llama.cpp computes it"


# What a file says of its model


def rope(tmp_path, **said):
    """Return the `rope_scaling` of a Llama that says something of its rope."""

    def more(writer):
        for key, value in said.items():
            if key == "factors":
                writer.add_tensor("rope_freqs.weight", np.array(value, np.float32))
            else:
                getattr(writer, f"add_rope_{key}")(value)

    written(tmp_path / "x.gguf", "llama", more=more)
    return AutoConfig.from_pretrained(tmp_path / "x.gguf").rope_scaling


def test_a_rope_that_is_stretched(tmp_path):
    scaling = gguf.RopeScalingType
    assert rope(tmp_path, scaling_type=scaling.NONE, scaling_factor=1.0) is None
    assert rope(tmp_path, scaling_type=scaling.LINEAR, scaling_factor=4.0) == {
        "rope_type": "linear",
        "factor": 4.0,
    }
    yarn = rope(tmp_path, scaling_type=scaling.YARN, scaling_factor=4.0, scaling_orig_ctx_len=16)
    assert yarn == {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
    with pytest.raises(ConfigError, match="stretched in a way"):
        rope(tmp_path, scaling_type=scaling.LONGROPE, scaling_factor=4.0)


def test_the_factors_of_llama3_become_its_parameters(tmp_path):
    from loadstone.architectures.rope import rope_spec
    from loadstone.config import Config

    class Roped(Config):
        model_type, rope_theta, max_position_embeddings = "roped", 500.0, 64

    wanted = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    wanted["original_max_position_embeddings"] = 32
    plain = 500.0 ** (-np.arange(0, 6, 2) / 6)
    config = AutoConfig.from_pretrained(case("llama"), rope_parameters=wanted | {"rope_theta": 500.0})
    stretched = rope_spec(config, head_dim=6).inverse_frequencies
    assert rope(tmp_path, factors=plain / np.array(stretched)) == wanted
    with pytest.raises(ConfigError, match="stretched in a way"):
        rope(tmp_path, factors=[1.0, 3.0, 2.0])
    model = AutoModelForCausalLM.from_pretrained(case("llama"))
    rope(tmp_path, factors=[1.0, 1.0, 1.0])
    same = AutoModelForCausalLM.from_pretrained(tmp_path / "x.gguf")
    assert torch.equal(model(torch.tensor(TOKENS)).logits, same(torch.tensor(TOKENS)).logits)
    assert any("rope_freqs.weight" in note for note in same.load_report.notes)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("llama.expert_count", 8, "llama.expert_count=8"),
        ("llama.logit_scale", 2, "llama.logit_scale=2"),
        ("llama.rope.dimension_count", 4, "rotated in part"),
        ("split.count", 3, "one part of a model"),
    ],
)
def test_what_is_not_followed_is_an_error(tmp_path, key, value, told):
    def more(writer):
        writer.kv_data[0].pop(key, None)
        writer.add_uint32(key, value)

    written(tmp_path / "x.gguf", "llama", more=more)
    with pytest.raises(ConfigError, match=told):
        AutoModelForCausalLM.from_pretrained(tmp_path / "x.gguf")
    if "logit_scale" in key:  # the caller's word goes before the file's
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "x.gguf", config=case("llama"))
        assert torch.equal(
            model(torch.tensor(TOKENS)).logits,
            AutoModelForCausalLM.from_pretrained(case("llama"))(torch.tensor(TOKENS)).logits,
        )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("blk.0.ffn_up.scale", "more of a module than its weight"),
        ("rope_factors_long.weight", "stretched in a way"),
    ],
)
def test_a_tensor_that_changes_others_is_an_error(tmp_path, name, told):
    def more(writer):
        writer.add_tensor(name, np.ones(1, np.float32))

    written(tmp_path / "x.gguf", "llama", more=more)
    with pytest.raises((ConfigError, CheckpointError), match=told):
        AutoModelForCausalLM.from_pretrained(tmp_path / "x.gguf")


def test_numbers_that_are_said_for_each_layer(tmp_path):
    def more(writer):
        writer.kv_data[0].pop("llama.attention.head_count_kv")
        writer.add_head_count_kv(said)

    for said in ([2, 2], [2, 1]):
        expected = written(tmp_path / "x.gguf", "llama", more=more)
        if said == [2, 2]:
            agree(AutoModelForCausalLM.from_pretrained(tmp_path / "x.gguf"), expected)
    with pytest.raises(ConfigError, match=r"head_count_kv is no number, or not the same for each layer"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "x.gguf")


def test_the_27b_of_gemma2_scales_by_its_hidden_size():
    from loadstone_gguf.configuration import values_of
    from loadstone_gguf.header import Header, Length

    said = {"context_length": 8, "block_count": 46, "embedding_length": 4608, "feed_forward_length": 8}
    said |= {
        "attention.head_count": 32,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "attention.key_length": 128,
    }
    values = {f"gemma2.{key}": value for key, value in said.items()} | {"general.architecture": "gemma2"}
    values["tokenizer.ggml.tokens"] = Length(10)
    found = values_of(Header(values=values, tensors=()), None, where="here")
    assert (found["query_pre_attn_scalar"], found["vocab_size"], found["sliding_window"]) == (144, 10, None)
