"""A page of broken inputs with their exact messages, read as a user would read them: `errors.txt`.

`LOADSTONE_WRITE_ERRORS=1 python -m pytest tests/core/test_errors_page.py` writes the page anew; then read it from top to
bottom: each message says what is wrong, where, what was expected and found, and what to do next.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from loopback_store import GOOD_TOKEN
from safetensors.numpy import save_file

pytest.importorskip("torch")

import loadstone
from loadstone.errors import MAX_LINES, LoadstoneError
from tests.foreign import H5, MSGPACK, ext, mapped, packed
from tests.foreign import text as texted
from tests.pickled import Entry, archive, entries_of, named, pickled, reduced, table, tensor, text

PAGE = Path(__file__).parent / "errors.txt"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 32,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
BERT = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "vocab_size": 32,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
    "id2label": {"0": "no", "1": "yes"},
}


def tensors(layers: int = 2) -> dict[str, np.ndarray]:
    """Return the tensors of a tiny Llama."""
    found = {"model.embed_tokens.weight": (32, 8), "model.norm.weight": (8,), "lm_head.weight": (32, 8)}
    sizes = {
        "self_attn.q_proj": (8, 8),
        "self_attn.k_proj": (4, 8),
        "self_attn.v_proj": (4, 8),
        "self_attn.o_proj": (8, 8),
    }
    sizes |= {"mlp.gate_proj": (12, 8), "mlp.up_proj": (12, 8), "mlp.down_proj": (8, 12)}
    sizes |= {"input_layernorm": (8,), "post_attention_layernorm": (8,)}
    for layer in range(layers):
        found |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in sizes.items()}
    return {name: np.zeros(shape, np.float32) for name, shape in found.items()}


class Place:
    """The folder in which a case breaks something, and the Hub."""

    def __init__(self, root: Path, hub: Any) -> None:
        self.root, self.hub = root, hub

    def config(self, name: str = "llama", /, **fields: Any) -> None:
        """Write config.json; None leaves a key out."""
        values = (BERT if name == "bert" else CONFIG) | fields
        self.file(name, "config.json", json.dumps({key: v for key, v in values.items() if v is not None}))

    def llama(self, held: dict[str, np.ndarray] | None = None, /, **fields: Any) -> None:
        """Write a checkpoint."""
        self.config("llama", **fields)
        save_file(
            tensors() if held is None else held, self.root / "llama" / WEIGHTS, metadata={"format": "pt"}
        )

    def bert(self) -> None:
        """Write a BERT with a classifier."""
        self.config("bert")
        model = loadstone.AutoModelForSequenceClassification.from_config(
            loadstone.AutoConfig.from_pretrained(self.root / "bert"), backend="torch"
        )
        model.save_pretrained(self.root / "bert")

    def shards(self) -> None:
        """Write a checkpoint of two shards, as transformers does."""
        self.config()
        held, places = tensors(), {}
        for number, part in enumerate((list(held)[:10], list(held)[10:]), 1):
            file = f"model-{number:05d}-of-00002.safetensors"
            save_file({name: held[name] for name in part}, self.root / "llama" / file)
            places |= dict.fromkeys(part, file)
        self.file("llama", INDEX, json.dumps({"metadata": {}, "weight_map": places}))

    def file(self, folder: str, name: str, content: str | bytes = "") -> None:
        """Write one file."""
        path = self.root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def raw(self, header: str, data: bytes = b"") -> None:
        """Write a checkpoint whose file of weights is made by hand."""
        self.config()
        self.file("llama", WEIGHTS, len(header).to_bytes(8, "little") + header.encode() + data)

    def index(self, change: Callable[[dict[str, str]], object]) -> None:
        """Change the index of shards."""
        path = self.root / "llama" / INDEX
        parsed = json.loads(path.read_text())
        change(parsed["weight_map"])
        path.write_text(json.dumps(parsed))


@dataclass(frozen=True)
class Case:
    """A broken input: what is wrong, what breaks it, and the user's line of code."""

    title: str
    make: Callable[[Place], object]
    call: str = 'AutoModelForCausalLM.from_pretrained("llama")'


def dropped(*names: str) -> dict[str, np.ndarray]:
    return {name: value for name, value in tensors().items() if name not in names}


def as_fp8(place: Place) -> None:
    """numpy has no such dtype: the header of a file of bytes is changed to it."""
    name = "model.layers.0.mlp.up_proj.weight"
    place.llama(tensors() | {name: np.zeros((12, 8), np.int8), f"{name}_scale_inv": np.ones(1, np.float32)})
    data = (place.root / "llama" / WEIGHTS).read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header[name]["dtype"] = "F8_E4M3"
    place.raw(json.dumps(header), data[end:])


def exchanged(place: Place) -> None:
    place.shards()
    one, other = (place.root / "llama" / f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def twice(place: Place) -> None:
    place.shards()
    held = tensors()
    part = {name: held[name] for name in [*list(held)[10:], "model.norm.weight"]}
    save_file(part, place.root / "llama" / "model-00002-of-00002.safetensors")


def cut(place: Place) -> None:
    place.llama()
    path = place.root / "llama" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def gone(place: Place) -> None:
    place.shards()
    (place.root / "llama" / "model-00002-of-00002.safetensors").unlink()


def strayed(place: Place) -> None:
    place.shards()
    place.index(lambda places: places.update({"lm_head.weight": "../../secrets.safetensors"}))


def pickled_model(place: Place, entries: list[Entry], *, stop: int | None = None) -> None:
    """Write a checkpoint as torch.save does, of an archive's entries, up to some byte."""
    place.config()
    place.file("llama", "pytorch_model.bin", archive(entries)[:stop])


def linked_model(place: Place) -> None:
    """Write a checkpoint as transformers' TensorFlow classes do, one of whose layers lies in another file."""
    place.config()
    with h5py.File(place.root / "llama" / H5, "w") as file:
        file["model"] = h5py.ExternalLink("/etc/passwd", "/")


def on_the_hub(**options: Any) -> Callable[[Place], object]:
    return lambda place: place.hub.add_repo(
        "org/llama", {"config.json": json.dumps(CONFIG).encode()}, **options
    )


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
ENTRY = '"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'

CASES = [
    # Names and places
    Case("A folder with a letter too few", Place.llama, 'AutoModel.from_pretrained("./lama")'),
    Case(
        "A file in place of its folder", Place.llama, 'AutoModel.from_pretrained("llama/model.safetensors")'
    ),
    Case(
        "A name that neither a folder nor a repository can have",
        Place.llama,
        'AutoModel.from_pretrained("my llama")',
    ),
    Case("A repository that is not on the Hub", Place.llama, 'AutoModel.from_pretrained("org/lama")'),
    Case("A gated repository", on_the_hub(gated=True), 'AutoModel.from_pretrained("org/llama")'),
    Case(
        "A gated repository, and an account that has no access",
        on_the_hub(gated=True),
        'AutoModel.from_pretrained("org/llama", token="hf_other")',
    ),
    Case(
        "A revision that is not there", on_the_hub(), 'AutoModel.from_pretrained("org/llama", revision="v2")'
    ),
    Case(
        "Nothing in the cache, and no network wanted",
        on_the_hub(),
        'AutoModel.from_pretrained("org/llama", local_files_only=True)',
    ),
    Case(
        "A Hub that does not answer", lambda place: place.hub.stop(), 'AutoModel.from_pretrained("org/llama")'
    ),
    Case(
        "A subfolder with a letter too many",
        lambda p: p.file("llama/unet", "config.json"),
        'AutoModel.from_pretrained("llama", subfolder="unett")',
    ),
    Case("An empty folder", lambda place: (place.root / "llama").mkdir()),
    Case(
        "A pickle that would run a program",
        lambda p: pickled_model(p, entries_of(pickled(reduced(named("os", "system"), text("id"))))),
    ),
    Case(
        "A pickle that was packed again",
        lambda p: pickled_model(p, [*entries_of()[:2], dataclasses.replace(entries_of()[2], method=8)]),
    ),
    Case("A pickle that was cut short", lambda p: pickled_model(p, entries_of(), stop=-30)),
    Case(
        "A pickle of a machine of the other byte order", lambda p: pickled_model(p, entries_of(order=b"big"))
    ),
    Case(
        "A pickle with a view that is larger than its storage",
        lambda p: pickled_model(p, entries_of(pickled(table({"norm.weight": tensor((4, 4))})))),
    ),
    Case("A folder with a model that was exported", lambda p: (p.config(), p.file("llama", "model.onnx"))),
    Case("An h5 that links to another file", linked_model),
    Case(
        "A msgpack with a value that is no array",
        lambda p: (p.config(), p.file("llama", MSGPACK, mapped([(texted("norm"), ext(42, b"id"))]))),
    ),
    Case(
        "A msgpack that was cut short",
        lambda p: (p.config(), p.file("llama", MSGPACK, packed({"norm": np.ones(4, "float32")})[:-3])),
    ),
    Case(
        "An adapter in place of a model",
        lambda p: (p.file("llama", "adapter_config.json"), p.file("llama", "adapter_model.safetensors")),
    ),
    Case(
        "An adapter beside the weights of a model",
        lambda p: (
            p.llama(),
            p.file("llama", "adapter_config.json"),
            p.file("llama", "adapter_model.safetensors"),
        ),
    ),
    Case("A folder of ONNX", lambda p: (p.config(), p.file("llama/onnx", "model.onnx"))),
    Case("A folder of NumPy's arrays", lambda p: (p.config(), p.file("llama", "ViT-B_16.npz"))),
    Case(
        "A checkpoint of TensorFlow 1",
        lambda p: (
            p.config("bert"),
            p.file("bert", "bert_model.ckpt.index"),
            p.file("bert", "bert_model.ckpt.data-00000-of-00001"),
        ),
        'AutoModel.from_pretrained("bert")',
    ),
    Case("Only a variant of the weights", lambda p: (p.config(), p.file("llama", "model.fp16.safetensors"))),
    Case("A variant that is not there", Place.llama, 'AutoModel.from_pretrained("llama", variant="fp16")'),
    # config.json
    Case("No config.json", lambda p: p.file("llama", WEIGHTS)),
    Case(
        "A config.json that broke off",
        lambda p: (p.llama(), p.file("llama", "config.json", '{"model_type": "llama",')),
    ),
    Case(
        "A config.json of very many values",
        lambda p: (p.llama(), p.file("llama", "config.json", '{"a": [' + "0," * 500_000 + "0]}")),
    ),
    Case(
        "A config.json that is nested very deeply",
        lambda p: (p.llama(), p.file("llama", "config.json", '{"a": ' * 900 + "0" + "}" * 900)),
    ),
    Case(
        "A config.json of very many layers and tokens",
        lambda p: p.llama(num_hidden_layers=10**5, vocab_size=10**7),
    ),
    Case("A config.json of very many labels", lambda p: p.llama(num_labels=10**9)),
    Case(
        "A config.json that is a link to a device",
        lambda p: (p.file("llama", WEIGHTS), (p.root / "llama" / "config.json").symlink_to("/dev/zero")),
    ),
    Case(
        "A config.json without a model type", lambda p: p.llama(model_type=None, architectures=["MineModel"])
    ),
    Case("A model type with a letter too many", lambda p: p.llama(model_type="llamma")),
    Case("A model type that is not known", lambda p: p.llama(model_type="rwkv7")),
    Case("A model type that differs from ours by a letter", lambda p: p.llama(model_type="mixtral")),
    Case(
        "Code of its own that describes another model than its type",
        lambda p: p.llama(
            dropped("model.norm.weight"), auto_map={"AutoModelForCausalLM": "modeling_mine.Mine"}
        ),
    ),
    Case(
        "A checkpoint with code of its own",
        lambda p: p.llama(model_type="mine", auto_map={"AutoModel": "mine.Mine"}),
    ),
    Case(
        "Fields of a wrong type",
        lambda p: p.llama(hidden_size="8", tie_word_embeddings="no", eos_token_id=[2, None]),
    ),
    Case("A dtype with two digits exchanged", lambda p: p.llama(dtype="bfloat61")),
    Case("Sizes that no model has", lambda p: p.llama(num_hidden_layers=0, vocab_size=-1)),
    Case("Heads that do not divide the hidden size", lambda p: p.llama(num_attention_heads=3, head_dim=None)),
    Case(
        "A rope type with a letter too few",
        lambda p: p.llama(rope_scaling={"rope_type": "lama3", "factor": 8.0}),
    ),
    Case("A rope type without its factor", lambda p: p.llama(rope_scaling={"type": "linear"})),
    Case(
        "A rope whose factor is text",
        lambda p: p.llama(rope_parameters={"rope_type": "linear", "factor": "2"}),
    ),
    Case("A key that is not followed", lambda p: p.llama(attention_chunk_size=64)),
    Case("A configuration that names others", lambda p: p.llama(configuration_files=["config.4.0.0.json"])),
    Case("An activation that is not known", lambda p: p.llama(hidden_act="silou")),
    Case(
        "A quantised checkpoint", lambda p: p.llama(quantization_config={"quant_method": "gptq", "bits": 4})
    ),
    # Files
    Case("A Git LFS pointer in place of weights", lambda p: (p.llama(), p.file("llama", WEIGHTS, POINTER))),
    Case("A download that was cut short", cut),
    Case("An empty file of weights", lambda p: (p.llama(), p.file("llama", WEIGHTS))),
    Case(
        "A web page in place of weights",
        lambda p: (p.llama(), p.file("llama", WEIGHTS, "<!DOCTYPE html><html>")),
    ),
    Case("A header that is far too long", lambda p: (p.llama(), p.file("llama", WEIGHTS, b"\x7f" * 64))),
    Case(
        "A hole between two tensors",
        lambda p: p.raw(f'{{{ENTRY},"b":{{"dtype":"F32","shape":[2],"data_offsets":[16,24]}}}}', bytes(24)),
    ),
    Case("One name twice in a header", lambda p: p.raw(f"{{{ENTRY},{ENTRY}}}", bytes(8))),
    Case(
        "A shape that does not fill its bytes",
        lambda p: p.raw('{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}', bytes(8)),
    ),
    Case(
        "A dtype that no one knows",
        lambda p: p.raw('{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
    ),
    Case("A shard that is absent", gone),
    Case("Two shards exchanged", exchanged),
    Case("One tensor in two shards", twice),
    Case("An index that leads out of the folder", strayed),
    # Tensors and parameters
    Case("A tensor that is missing", lambda p: p.llama(dropped("model.norm.weight"))),
    Case(
        "A tensor whose name lost a letter",
        lambda p: p.llama(dropped("model.norm.weight") | {"model.nrm.weight": np.zeros(8, np.float32)}),
    ),
    Case("A layer more in config.json than in the file", lambda p: p.llama(num_hidden_layers=3)),
    Case("A layer fewer in config.json than in the file", lambda p: p.llama(num_hidden_layers=1)),
    Case("Another vocabulary in config.json", lambda p: p.llama(vocab_size=33)),
    Case(
        "Many things wrong at once",
        lambda p: p.llama(dropped("lm_head.weight"), hidden_size=16, num_hidden_layers=4),
    ),
    Case(
        "Another number of labels",
        Place.bert,
        'AutoModelForSequenceClassification.from_pretrained("bert", num_labels=5)',
    ),
    Case(
        "A tie that config.json denies",
        lambda p: p.llama(dropped("lm_head.weight"), tie_word_embeddings=False),
    ),
    Case(
        "Weights of whole numbers",
        lambda p: p.llama(tensors() | {"lm_head.weight": np.zeros((32, 8), np.int8)}),
    ),
    Case("Weights of eight bits with their scale", as_fp8),
    Case(
        "Another model's weights",
        lambda p: p.llama(
            {f"transformer.h.{i}.ln.weight": np.zeros(8, np.float32) for i in range(4)},
            architectures=["GPT2LMHeadModel"],
        ),
    ),
    Case(
        "Weights of a class that is not there",
        lambda p: p.llama({"mine.weight": np.zeros(8, np.float32)}, architectures=["MineForCausalLM"]),
    ),
    Case(
        "Names that a wrapper left",
        lambda p: p.llama({f"module.{name}": value for name, value in tensors().items()}),
    ),
    Case(
        "A stranger where none is allowed",
        lambda p: p.llama(tensors() | {"extra": np.zeros(2, np.float32)}),
        'AutoModelForCausalLM.from_pretrained("llama", strict=True)',
    ),
    # Arguments and classes
    Case(
        "An argument with a letter too few", Place.llama, 'AutoModel.from_pretrained("llama", dtyp="float16")'
    ),
    Case(
        "A dtype with a digit too many", Place.llama, 'AutoModel.from_pretrained("llama", dtype="float166")'
    ),
    Case(
        "Two dtypes",
        Place.llama,
        'AutoModel.from_pretrained("llama", dtype="float16", torch_dtype="bfloat16")',
    ),
    Case("A model of integers", Place.llama, 'AutoModel.from_pretrained("llama", dtype="int8")'),
    Case(
        "A device that is not there", Place.llama, 'AutoModel.from_pretrained("llama", device_map="cuda:7")'
    ),
    Case(
        "A device with a letter too many",
        Place.llama,
        'AutoModel.from_pretrained("llama", device_map="cpuu")',
    ),
    Case(
        "A model on disk in part that is to be cast",
        Place.llama,
        'AutoModel.from_pretrained("llama", device_map={"layers": "cpu", "": "disk"}).half()',
    ),
    Case(
        "A device map that leaves parameters out",
        Place.llama,
        'AutoModel.from_pretrained("llama", device_map={"layers": "cpu", "lm_head": "cpu"})',
    ),
    Case(
        "An argument that is not there yet",
        Place.llama,
        'AutoModel.from_pretrained("llama", gguf_file="model.gguf")',
    ),
    Case(
        "A device map that takes a block apart",
        Place.llama,
        'AutoModel.from_pretrained("llama", device_map={"": "cpu", "layers.0.mlp": "disk"})',
    ),
    Case(
        "Budgets smaller than a block",
        Place.llama,
        'AutoModel.from_pretrained("llama", max_memory={0: "1kB", "cpu": "100B"})',
    ),
    Case(
        "Budgets that need the disk, and may not have it",
        Place.llama,
        'AutoModel.from_pretrained("llama", max_memory={"cpu": "3kB", "disk": 0})',
    ),
    Case(
        "A budget for a device of another machine",
        Place.llama,
        'AutoModel.from_pretrained("llama", max_memory={7: "1GB"})',
    ),
    Case(
        "A budget that is no size",
        Place.llama,
        'AutoModel.from_pretrained("llama", max_memory={0: "10Gb"})',
    ),
    Case("Quantising asked for", Place.llama, 'AutoModel.from_pretrained("llama", load_in_4bit=True)'),
    Case(
        "A token under its old name",
        Place.llama,
        'AutoModel.from_pretrained("llama", use_auth_token="hf_other")',
    ),
    Case("A pickle asked for", Place.llama, 'AutoModel.from_pretrained("llama", use_safetensors=False)'),
    Case("TensorFlow's weights asked for", Place.llama, 'AutoModel.from_pretrained("llama", from_tf=True)'),
    Case(
        "The weights of two frameworks asked for",
        Place.llama,
        'AutoModel.from_pretrained("llama", from_tf=True, from_flax=True)',
    ),
    Case(
        "A format that nobody brings",
        Place.llama,
        'AutoModel.from_pretrained("llama", weights_format="safetensor")',
    ),
    Case(
        "An attention that is not there",
        Place.llama,
        'AutoModel.from_pretrained("llama", attn_implementation="flash_attention_2")',
    ),
    Case(
        "A task that the architecture does not have",
        Place.llama,
        'AutoModelForMaskedLM.from_pretrained("llama")',
    ),
    Case("A class of another architecture", Place.llama, 'loadstone.BertModel.from_pretrained("llama")'),
    Case(
        "A backend with a letter too many",
        Place.llama,
        'AutoModel.from_pretrained("llama", backend="torchh")',
    ),
    Case(
        "A class of one framework asked to be of another",
        Place.llama,
        'loadstone.LlamaModel.from_pretrained("llama", backend="flax")',
    ),
    Case(
        "Two tensors for one parameter",
        Place.llama,
        'AutoModelForCausalLM.from_pretrained("llama", key_mapping={"model.norm": "lm_head"})',
    ),
    Case("A pattern that is none", Place.llama, 'AutoModel.from_pretrained("llama", key_mapping={"(": ""})'),
    Case(
        "A replacement that fits no pattern",
        Place.llama,
        r"""AutoModel.from_pretrained("llama", key_mapping={"^module": r"\1"})""",
    ),
    Case("No name", Place.llama, "AutoModel.from_pretrained(None)"),
    # Afterwards
    Case(
        "An argument of generate that is not there",
        Place.llama,
        'AutoModelForCausalLM.from_pretrained("llama").generate([[1]], max_tokens=5)',
    ),
    Case(
        "A prompt that leaves no room",
        Place.llama,
        'AutoModelForCausalLM.from_pretrained("llama").generate([[1, 2, 3]], max_length=3)',
    ),
    Case(
        "A setting of generation that is not followed",
        lambda p: (p.llama(), p.file("llama", "generation_config.json", '{"num_beams": 4, "top_k": 5}')),
        'AutoModelForCausalLM.from_pretrained("llama").generate([[1]])',
    ),
    Case(
        "Settings of generation that cannot be",
        lambda p: (p.llama(), p.file("llama", "generation_config.json", '{"eos_token_id": "</s>"}')),
        'AutoModelForCausalLM.from_pretrained("llama").generate([[1]], max_new_tokens=-1)',
    ),
    Case(
        "A setting of generation with a letter too few",
        Place.llama,
        "loadstone.GenerationConfig(max_new_token=5)",
    ),
    Case("A model that cannot generate", Place.llama, 'AutoModel.from_pretrained("llama").generate([[1]])'),
    Case(
        "A file in the way of a save",
        Place.llama,
        'AutoModel.from_pretrained("llama").save_pretrained("llama/config.json")',
    ),
    Case(
        "A shard size that is none",
        Place.llama,
        'AutoModel.from_pretrained("llama").save_pretrained("out", max_shard_size="5 apples")',
    ),
    Case(
        "A model loaded into another",
        lambda p: (p.llama(), p.bert()),
        'loadstone.modeling_utils.load_sharded_checkpoint(AutoModel.from_pretrained("bert"), "llama")',
    ),
    # Configurations that are not followed, or that nothing can follow
    Case(
        "One setting in two spellings",
        lambda p: p.file(
            "gpt2", "config.json", '{"model_type": "gpt2", "n_head": 12, "num_attention_heads": 16}'
        ),
        'AutoModel.from_pretrained("gpt2")',
    ),
    Case(
        "Weights in a file of another name",
        lambda p: p.llama(transformers_weights="adapter_model.safetensors"),
    ),
    Case(
        "Layers with settings of their own",
        lambda p: p.llama(per_layer_config={"1": {"num_attention_heads": 4}}),
    ),
    Case("A probability above one", lambda p: p.llama(attention_dropout=1.5)),
    Case("A padding token outside the vocabulary", lambda p: p.llama(pad_token_id=32)),
    Case("A decoder that may or may not be causal", lambda p: p.llama(is_causal="no")),
    Case(
        "A causal encoder",
        lambda p: (p.bert(), p.config("bert", is_causal=True)),
        'AutoModel.from_pretrained("bert")',
    ),
    Case(
        "Factors of a rope in text",
        lambda p: p.llama(
            rope_parameters={"rope_type": "longrope", "short_factor": ["1", "1"], "long_factor": [1, 2]}
        ),
    ),
    Case(
        "A head of an odd number of channels",
        lambda p: p.llama(head_dim=3),
    ),
    Case(
        "Windowed layers without a window",
        lambda p: p.llama(model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=0),
    ),
    Case("A seed that is no number", Place.llama, 'AutoModel.from_pretrained("llama", seed="first")'),
    Case("A seed and a source", Place.llama, 'AutoModel.from_pretrained("llama", seed=1, rngs=1)'),
    Case("A source of another framework", Place.llama, 'AutoModel.from_pretrained("llama", rngs=1)'),
    Case("A device without values", Place.llama, 'AutoModel.from_pretrained("llama", device_map="meta")'),
    Case(
        "A model without values",
        Place.llama,
        'AutoModel.from_pretrained("llama").to("meta").save_pretrained("out")',
    ),
]


def names() -> dict[str, Any]:
    """Return what a user has imported."""
    import loadstone.modeling_utils

    wanted = (
        "AutoModel",
        "AutoModelForCausalLM",
        "AutoModelForMaskedLM",
        "AutoModelForSequenceClassification",
    )
    return {"loadstone": loadstone} | {name: getattr(loadstone, name) for name in wanted}


@pytest.fixture
def place(tmp_path, hub, monkeypatch):
    """Return an empty folder, which is the working directory, and a Hub on which nothing lies."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("LOADSTONE_BACKEND", raising=False)
    monkeypatch.setattr("loadstone.source.hub_range.PAUSE", 0.0)
    return Place(folder, hub)


def message_of(case: Case, place: Place) -> str:
    """Return what a user sees, whatever is of this machine replaced."""
    case.make(place)
    with pytest.raises(LoadstoneError) as caught:
        eval(case.call, names())
    text = f"{type(caught.value).__name__}: {caught.value}"
    for found, name in (
        (str(place.root), "FOLDER"),
        (str(place.hub.home), "CACHE"),
        (place.hub.endpoint, "https://huggingface.co"),
    ):
        text = text.replace(found, name)
    text = re.sub(r"\b[0-9a-f]{40}\b", "COMMIT", text)
    return re.sub(r"one of: cuda:.*, cpu", "one of: cpu", text)  # a machine with GPUs has more


def entry(number: int, case: Case, message: str) -> str:
    return f"{number}. {case.title}\n>>> {case.call}\n{message}\n"


def on_the_page() -> dict[str, str]:
    """Return title -> entry, as the page has it."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    entries = re.split(r"(?m)^(?=\d+\. )", text)[1:]
    return {part.partition("\n")[0].partition(". ")[2]: part.rstrip("\n") + "\n" for part in entries}


HEADING = """What a user sees of broken inputs. `LOADSTONE_WRITE_ERRORS=1 python -m pytest tests/core/test_errors_page.py` writes this page.

"""


@pytest.mark.parametrize("number", range(1, len(CASES) + 1), ids=[case.title for case in CASES])
def test_the_message_is_the_one_on_the_page(number, place):
    case = CASES[number - 1]
    message = message_of(case, place)
    assert len(message.splitlines()) <= MAX_LINES
    assert "\n  next: " in message, message
    if os.environ.get("LOADSTONE_WRITE_ERRORS"):
        entries = on_the_page() | {case.title: entry(number, case, message)}
        PAGE.write_text(
            HEADING + "\n".join(entries[c.title] for c in CASES if c.title in entries), encoding="utf-8"
        )
    assert on_the_page().get(case.title) == entry(number, case, message)


def test_the_page_has_nothing_else():
    assert list(on_the_page()) == [case.title for case in CASES]
    assert len(CASES) >= 40
    assert PAGE.read_text(encoding="utf-8").startswith(HEADING)


def test_no_message_names_this_machine():
    text = PAGE.read_text(encoding="utf-8")
    assert not re.findall(r"/(?:tmp|home|root|work)/|127\.0\.0\.1|localhost", text)
    assert GOOD_TOKEN not in text and "hf_other" not in text.replace('token="hf_other"', "")
