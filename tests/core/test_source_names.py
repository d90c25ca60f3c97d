"""Names of files: what is refused, and how the rest is spelled."""

import pytest

from loadstone.errors import SourceError
from loadstone.source import safe_name

REFUSED = {
    "": "names no file",
    ".": "names no file",
    "..": "climbs",
    "../model.safetensors": "climbs",
    "a/../../model.safetensors": "climbs",
    "a/..": "climbs",
    "/etc/passwd": "absolute",
    "//host/share": "absolute",
    "C:/model.safetensors": "absolute",
    "C:model.safetensors": "absolute",
    "\\\\host\\share": "absolute",
    "..\\model.safetensors": "backslash",
    "a\\b": "backslash",
    "model\0.safetensors": "control character",
    "model\n.safetensors": "control character",
    "model\ud800.safetensors": "surrogate",
}


@pytest.mark.parametrize(("name", "reason"), REFUSED.items())
def test_a_name_that_could_leave_the_checkpoint_is_refused(name, reason):
    with pytest.raises(SourceError, match=reason) as caught:
        safe_name(name, where="model.safetensors.index.json")
    assert caught.value.where == "model.safetensors.index.json"
    assert caught.value.hint


@pytest.mark.parametrize("name", [None, 3, b"model.safetensors", ["model.safetensors"]])
def test_a_name_that_is_no_text_is_refused(name):
    with pytest.raises(SourceError, match=type(name).__name__):
        safe_name(name, where="index")


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("model.safetensors", "model.safetensors"),
        ("./model.safetensors", "model.safetensors"),
        ("onnx//model.onnx", "onnx/model.onnx"),
        ("a/./b", "a/b"),
        ("..model", "..model"),
        ("a..b/c...", "a..b/c..."),
        ("höhe/模型.safetensors", "höhe/模型.safetensors"),
        ("with space.bin", "with space.bin"),
    ],
)
def test_a_safe_name_has_one_spelling(name, spelled):
    assert safe_name(name, where="index") == spelled


def test_a_long_name_does_not_flood_the_message():
    with pytest.raises(SourceError) as caught:
        safe_name("../" * 100_000, where="index")
    assert len(str(caught.value)) < 1000
