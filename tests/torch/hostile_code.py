"""Repositories whose code or configuration reaches for what it was not given, and a process that watches what is touched.

Run as a program, it loads each with and without trust under an audit hook, and prints what was touched as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.torch.own_code import AUTO_MAP, FILES, MODELING, files, write

MARK = "was_run"
"""A file beside the repositories that hostile code would make."""

EVIL = "open(__import__('os').environ['HOSTILE_MARK'], 'w').close()\nclass Evil: ...\n"
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 11,
    "hidden_size": 4,
    "intermediate_size": 6,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
WEIGHTS = ("config.json", "model.safetensors", "generation_config.json", "model.safetensors.index.json")


def corpus(root: Path) -> dict[str, Path]:
    """Write the repositories, and return them by name."""
    secret = root / "secret.py"
    secret.write_text(EVIL)
    maps: dict[str, Any] = {
        "dots": {"AutoConfig": "../secret.Evil", "AutoModelForCausalLM": "../secret.Evil"},
        "dotted": {"AutoConfig": "..secret.Evil", "AutoModelForCausalLM": "..secret.Evil"},
        "system": {"AutoConfig": "os.system", "AutoModelForCausalLM": "subprocess.Popen"},
        "dunder": {"AutoConfig": "__init__.__builtins__", "AutoModelForCausalLM": "__main__.Evil"},
        "no-text": {"AutoConfig": ["evil.Evil"], "AutoModelForCausalLM": {"evil": "Evil"}},
        "nul": {"AutoConfig": "evil\0.Evil"},
        "absolute": {"AutoConfig": "/etc/passwd.Evil"},
        "elsewhere": {key: f"org/evil--{value}" for key, value in AUTO_MAP.items()},
        "climbing": {"AutoConfig": "../org/evil--evil.Evil"},
    }
    found = {}
    for name, auto_map in maps.items():
        found[name] = write(
            root / name, {**files({"auto_map": auto_map}), "evil.py": EVIL, "sub/evil.py": EVIL}
        )
    codes = {
        "own": {},
        "imports-absolutely": {"sizes.py": "import gate\n" + FILES["sizes.py"]},
        "in-a-circle": {
            "sizes.py": FILES["sizes.py"] + "from .parts import gate\n",
            "parts/__init__.py": "from . import gate\n",
        },
        "climbs": {"sizes.py": "from ..... import evil\n" + FILES["sizes.py"]},
        "climbs-by-name": {"modeling_tiny.py": "from ...secret import Evil\n" + MODELING},
        "deep": {"sizes.py": "(" * 5000 + ")" * 5000},
        "no-python": {"sizes.py": "\0\0\0"},
        "long": {"sizes.py": "#" * 3_000_000},
        "reads-out": {"sizes.py": 'NAME = "../secret.txt"\nTOP = "/etc/passwd"\n' + FILES["sizes.py"]},
    }
    for name, code in codes.items():
        found[name] = write(root / name, {**files(code=code), "stranger.py": EVIL, "stranger.txt": "x"})
    found["linked"] = write(root / "linked", files())
    (found["linked"] / "sizes.py").unlink()
    (found["linked"] / "sizes.py").symlink_to(secret)
    for name, values in _configured().items():
        found[name] = write(
            root / name, {**FILES, "evil.py": EVIL, "config.json": json.dumps(values)}, _llama()
        )
    for folder in found.values():
        evil = {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, "tokenizer_class": "Evil"}
        (folder / "tokenizer_config.json").write_text(json.dumps(evil))
    return found


def _configured() -> dict[str, dict[str, Any]]:
    """Name -> a configuration of an architecture of ours that would like more to happen."""
    own = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    return {
        "native": LLAMA | {"auto_map": own},
        "nested": {
            "model_type": "llama",
            "text_config": LLAMA | {"auto_map": own, "model_type": "evil", "trust_remote_code": True},
        },
        "trusting": LLAMA | {"auto_map": own, "trust_remote_code": True, "prefer_remote_code": True},
        "strings": LLAMA
        | {
            "_attn_implementation": "__import__('os').system('true')",
            "_attn_implementation_internal": "org/evil",
            "custom_pipelines": {"evil": {"impl": "evil.Evil"}},
            "_commit_hash": "{0.__class__}",
        },
        "of-a-tokenizer": LLAMA
        | {"auto_map": {"AutoTokenizer": ["evil.Evil", None], "AutoProcessor": "evil.Evil"}},
    }


def _llama() -> Mapping[str, Any]:
    import torch

    layer = "model.layers.0."
    shapes = {
        "model.embed_tokens.weight": (11, 4),
        "model.norm.weight": (4,),
        "lm_head.weight": (11, 4),
        f"{layer}input_layernorm.weight": (4,),
        f"{layer}post_attention_layernorm.weight": (4,),
        **{f"{layer}self_attn.{name}_proj.weight": (4, 4) for name in "qkvo"},
        **{f"{layer}mlp.{name}_proj.weight": (6, 4) for name in ("gate", "up")},
        f"{layer}mlp.down_proj.weight": (4, 6),
    }
    return {name: torch.ones(shape) for name, shape in shapes.items()}


def main(root: Path) -> None:
    """Load each repository without trust and with it, and print what was touched."""
    import loadstone

    repositories = corpus(root)
    for warm in ("own", "native"):  # whatever is imported for the first time is imported now
        loadstone.AutoModelForCausalLM.from_pretrained(repositories[warm], trust_remote_code=True)
    events: list[tuple[str, str]] = []
    sys.addaudithook(lambda event, arguments: _note(events, event, arguments))
    found: dict[str, Any] = {}
    for name, folder in repositories.items():
        for trust in (None, True):
            events.clear()
            outcome = _outcome(loadstone, folder, trust)
            found[f"{name}, {'trusted' if trust else 'untrusted'}"] = {
                "outcome": outcome,
                "events": list(events),
            }
    print(json.dumps(found))


def _outcome(loadstone: Any, folder: Path, trust: bool | None) -> str:
    try:
        model = loadstone.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trust)
    except loadstone.LoadstoneError as error:
        return f"{type(error).__name__}: {error}"
    loadstone.AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    return str(type(model).__name__)


WATCHED = (
    "import",
    "compile",
    "exec",
    "open",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
)


def _note(events: list[tuple[str, str]], event: str, arguments: tuple[Any, ...]) -> None:
    if event.startswith("socket."):
        events.append(("socket", event))
    elif event in WATCHED:
        about = arguments[1] if event == "compile" else arguments[0] if arguments else ""
        events.append((event, str(getattr(about, "co_filename", about))))


if __name__ == "__main__":
    os.environ["HOSTILE_MARK"] = str(Path(sys.argv[1]) / MARK)
    main(Path(sys.argv[1]))
