"""GGUF files that are damaged, or made to harm: each ends soon, in an error of ours that names the file."""

import ast
import re
import struct
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import gguf
from gguf_files import by_hand, number, tensor, text, words
from install import run

from loadstone.checkpoint.open import open_checkpoint
from loadstone.cli.inspect import inspect
from loadstone.errors import CheckpointError, ConfigError
from loadstone.load.configuration import load_config
from loadstone.source import resolve

LLAMA = words("general.architecture", "llama")
HUGE = 1 << 62
GOOD = by_hand([LLAMA], [tensor("a.weight", (4, 4), 0)])


def array(key, kind, count, data=b""):
    """Return a key with an array."""
    return text(key) + struct.pack("<IIQ", 9, kind, count) + data


def nested(depth):
    """Return a key with arrays in arrays."""
    return text("k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * depth


HOSTILE = {
    "empty": (b"", "ends before"),
    "cut in its first bytes": (GOOD[:11], "ends before"),
    "cut in its keys": (GOOD[:40], "ends before"),
    "cut in its tensors": (GOOD[:90], "ends before"),
    "cut in its numbers": (GOOD[:-20], "ends before its last tensor does"),
    "other magic": (b"GGML" + GOOD[4:], "is no GGUF file"),
    "version 1": (by_hand([LLAMA], [], version=1), "version 1"),
    "big endian": (by_hand([LLAMA], [], version=3 << 24), "version 3, big endian"),
    "version 9": (by_hand([LLAMA], [], version=9), "version 9"),
    "tensors without end": (by_hand([LLAMA], [], counts=(HUGE, 1)), "more tensors than it can"),
    "keys without end": (by_hand([LLAMA], [], counts=(0, HUGE)), "more keys than it can"),
    "more tensors than there are": (by_hand([LLAMA], [tensor("a", (4,), 0)], counts=(9, 1)), "a.gguf"),
    "a key twice": (by_hand([LLAMA, LLAMA], []), "says one key twice"),
    "a key that is no text": (by_hand([text(b"\xff\xfe") + struct.pack("<II", 4, 1)], []), "no text"),
    "a text without end": (by_hand([struct.pack("<Q", HUGE) + b"abc"], []), "longer text"),
    "a value of no type": (by_hand([text("k") + struct.pack("<I", 77)], []), "unknown type"),
    "arrays in arrays": (by_hand([nested(1000)], []), "array of arrays"),
    "an array of no type": (by_hand([array("k", 13, 1)], []), "unknown type 13"),
    "numbers without end": (by_hand([array("k", 10, HUGE)], []), "ends before"),
    "texts without end": (by_hand([array("k", 8, HUGE)], []), "more texts than it can"),
    "millions of empty texts": (by_hand([array("k", 8, 5_000_000)], [], data=40_000_000), "more texts than it can"),
    "a text in an array without end": (by_hand([array("k", 8, 2, text("a") + struct.pack("<Q", HUGE))], []), "ends before"),
    "alignment of nothing": (by_hand([number("general.alignment", 0)], []), "impossible way"),
    "alignment of three": (by_hand([number("general.alignment", 3)], []), "impossible way"),
    "alignment in words": (by_hand([words("general.alignment", "32")], []), "impossible way"),
    "a tensor twice": (by_hand([], [tensor("a", (4,), 0), tensor("a", (4,), 32)]), "two tensors of one name"),
    "tensors over one another": (by_hand([], [tensor("a", (16,), 0), tensor("b", (4,), 32)]), "over another one"),
    "the same numbers twice": (by_hand([], [tensor("a", (4,), 0), tensor("b", (4,), 0)]), "over another one"),
    "a tensor outside": (by_hand([], [tensor("a", (4,), 1 << 20)]), "ends before its last tensor"),
    "a tensor far outside": (by_hand([], [tensor("a", (4,), (1 << 64) - 32)]), "ends before its last tensor"),
    "a tensor without end": (by_hand([], [tensor("a", (HUGE, HUGE), 0)]), "ends before its last tensor"),
    "a tensor that begins anywhere": (by_hand([], [tensor("a", (4,), 4)]), "no multiple of 32"),
    "axes without end": (by_hand([], [text("a") + struct.pack("<I", 1 << 31)]), "too many axes"),
    "numbers of no type": (by_hand([], [tensor("a", (4,), 0, kind=250)]), "unknown type"),
    "a type that was taken away": (by_hand([], [tensor("a", (32,), 0, kind=4)]), "unknown type"),
    "rows that end in a block": (by_hand([], [tensor("a", (33,), 0, kind=8)]), "no whole blocks"),
    "numbers that nobody unpacks": (by_hand([], [tensor("a", (32,), 0, kind=9)]), "does not unpack"),
    "heads without end": (
        by_hand([LLAMA, number("llama.attention.head_count", 1 << 31)], [tensor("blk.0.attn_q.weight", (4, 4), 0)]),
        "rows are not those of its heads",
    ),
    "no heads": (
        by_hand([LLAMA, number("llama.attention.head_count", 0)], [tensor("blk.0.attn_q.weight", (4, 4), 0)]),
        "rows are not those of its heads",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_damaged_ends_soon(tmp_path, name):
    data, told = HOSTILE[name]
    (tmp_path / "a.gguf").write_bytes(data)
    started = time.process_time()
    with pytest.raises(CheckpointError, match=re.escape(told)) as caught:
        open_checkpoint(resolve(tmp_path), weights_format="gguf", weights_file="a.gguf")
    assert str(tmp_path) in str(caught.value) and "next: " in str(caught.value)
    assert inspect(tmp_path / "a.gguf").problems
    assert time.process_time() - started < 1


def test_every_cut_ends_in_an_error(tmp_path):
    whole = by_hand([LLAMA, array("t", 8, 2, text("a") + text("b"))], [tensor("a.weight", (4, 4), 0)])
    for length in range(len(whole)):
        (tmp_path / "a.gguf").write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            open_checkpoint(resolve(tmp_path), weights_format="gguf", weights_file="a.gguf")


WHOLE = {"context_length": 8, "block_count": 1, "embedding_length": 4, "feed_forward_length": 4}
WHOLE |= {"attention.head_count": 2}


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ([], "of a type that is not read"),
        ([words("general.architecture", "phi3")], "of a type that is not read"),
        ([LLAMA, words("general.type", "adapter")], "'adapter'"),
        ([number("general.architecture", 5)], "of a type that is not read"),
        ([LLAMA], "does not say all that makes up the model"),
        (
            [LLAMA, *(number(f"llama.{k}", v) for k, v in WHOLE.items())],
            "llama.attention.layer_norm_rms_epsilon",
        ),
        (
            [
                LLAMA,
                number("llama.attention.layer_norm_rms_epsilon", 1),
                *(array(f"llama.{k}", 4, 5000, bytes(20_000)) for k in WHOLE),
            ],
            "llama.block_count is no number",
        ),
        (
            [
                LLAMA,
                number("llama.attention.layer_norm_rms_epsilon", 1),
                *(number(f"llama.{k}", v) for k, v in (WHOLE | {"attention.head_count": 0}).items()),
            ],
            "heads of the model cannot be",
        ),
    ],
)
def test_a_file_that_does_not_say_what_it_is(tmp_path, pairs, told):
    (tmp_path / "a.gguf").write_bytes(by_hand(pairs, [tensor("token_embd.weight", (4, 4), 0)]))
    with pytest.raises(ConfigError, match=re.escape(told)):
        load_config(tmp_path / "a.gguf")
    found = inspect(tmp_path / "a.gguf")
    assert found.problems and len(found.tensors) == 1, "what lies in it is told all the same"


# What it is made of

PLUGIN = Path(__file__).parents[2] / "plugins" / "loadstone_gguf"
PUBLIC = {
    "loadstone.architectures",
    "loadstone.checkpoint.formats",
    "loadstone.checkpoint.formats.writer",
    "loadstone.checkpoint.index",
    "loadstone.config",
    "loadstone.dtypes",
    "loadstone.errors",
    "loadstone.hookspecs",
    "loadstone.source",
}
"""What docs/extending.md tells the author of a format to import."""


def test_it_comes_through_public_doors_alone():
    modules = set()
    for path in PLUGIN.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                modules.add(node.module)
            elif isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
    ours = {name for name in modules if name.partition(".")[0] == "loadstone"}
    assert ours <= PUBLIC
    assert {name.partition(".")[0] for name in modules - ours} - sys.stdlib_module_names == {
        "gguf",
        "loadstone_gguf",
        "numpy",
    }
    told = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
    assert all(f"from {name} import" in told for name in PUBLIC)


def test_the_types_and_names_are_those_of_the_library():
    from loadstone_gguf.dialects import DIALECTS
    from loadstone_gguf.kinds import KINDS

    library = {kind.value: (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {kind.number: (kind.name, kind.numbers, kind.nbytes) for kind in KINDS.values()} == library
    for name, dialect in DIALECTS.items():
        architecture = "llama" if name == "mistral" else name
        [number] = [one for one, called in gguf.MODEL_ARCH_NAMES.items() if called == architecture]
        names = gguf.get_tensor_name_map(number, 1)
        for theirs, ours in dialect.modules.items():
            if name.startswith("gemma") and theirs == "output":  # Gemma has none, unless it was untied
                continue
            layered = names.get_name(f"{dialect.layers}.0.{ours}")
            assert f"blk.0.{theirs}" == layered or theirs == names.get_name(ours), (name, theirs)


WITHOUT = """
import sys
sys.modules["gguf"] = None
import loadstone
from loadstone.errors import CheckpointError
try:
    loadstone.AutoModel.from_pretrained(sys.argv[1])
except CheckpointError as error:
    print(error)
"""


def test_without_the_library_the_error_names_the_extra(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes(by_hand([LLAMA], [tensor("blk.0.ffn_up.weight", (32, 1), 0, kind=8)]))
    site = tmp_path / "site"
    site.mkdir()
    said = [LLAMA, *(number(f"llama.{k}", v) for k, v in WHOLE.items())]
    said.append(text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5))
    path.write_bytes(
        by_hand([*said, number("llama.vocab_size", 4)], [tensor("blk.0.ffn_up.weight", (32, 1), 0, kind=8)])
    )
    assert "pip install 'loadstone[gguf]'" in run(WITHOUT, site, path).stdout
