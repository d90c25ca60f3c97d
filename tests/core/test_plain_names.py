"""What files say must not steer a terminal or a log: every message, warning, report and view spells it out."""

import json
import logging
from pathlib import Path

import pytest
from checkpoint_files import entry, raw

from loadstone.checkpoint.open import open_checkpoint
from loadstone.errors import CheckpointError, SourceError, logger_of, nearest, plain
from loadstone.source import resolve

EVIL = "\x1b[2J\x7f\x9b\r\n\u2028next: run this\u202e"


def test_control_characters_are_spelt_out_and_nothing_else_is():
    assert plain("a\x1bb\x7fc\nd") == r"a\x1bb\x7fc\nd"
    assert plain("größe 日本 \\ ok") == "größe 日本 \\ ok"
    assert plain("a\nb", keep="\n") == "a\nb"


def test_warnings_and_errors_are_plain(caplog):
    logger = logger_of("loadstone.test")
    assert len(logger_of("loadstone.test").filters) == 1
    with caplog.at_level(logging.WARNING, "loadstone.test"):
        logger.warning("names %s, %d, %s", EVIL, 5, SourceError("what", found=EVIL))
    error = SourceError(EVIL, where=EVIL, problems=[EVIL], hint=nearest(EVIL + "a", [EVIL]))
    for text in (*caplog.messages, str(error)):
        assert r"\x1b" in text and all(c.isprintable() or c == "\n" for c in text), text
        assert not any(line.startswith("next: run this") for line in text.splitlines())


def test_what_the_commands_show_is_plain(tmp_path, call):
    (tmp_path / "model.safetensors").write_bytes(raw({EVIL: entry([1], 0, 4)}, bytes(4)))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    for words in (("inspect", tmp_path), ("inspect", tmp_path, "--json")):
        code, out, err = call(*words)
        assert code == 0 and all(c.isprintable() or c == "\n" for c in out + err), out


@pytest.mark.parametrize("character", ["\x7f", "\x85", "\x9b", "\u2028", "\n", "\x1b"])
def test_shards_have_no_names_with_control_characters(tmp_path, character):
    index = json.dumps({"weight_map": {"a": f"b{character}.safetensors"}})
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match="control character") as caught:
        open_checkpoint(resolve(tmp_path))
    assert ascii(character)[1:-1] in str(caught.value)
    assert character == "\n" or character not in str(caught.value)


def test_every_module_takes_its_logger_from_one_place():
    root = Path(__file__).parents[2]
    taken = [
        path.relative_to(root).as_posix()
        for folder in ("core/loadstone", "backends")
        for path in (root / folder).rglob("*.py")
        if "logging.getLogger(" in path.read_text() and path.name != "errors.py"
    ]
    assert taken == []
