"""What has to hold, in each framework, of classes of a user's own that nobody registered, and of a model that shares nothing with ours."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loadstone
from loadstone import AutoConfig, BertConfig, Config, LlamaConfig
from loadstone.backend import get_backend
from loadstone.backend.registered import unregister
from loadstone.errors import ArchitectureError, MatchError, UntrustedCodeError
from loadstone.plugins import class_prefix_of
from tests.oracle.files import SIZES

LLAMA, BERT = LlamaConfig(**SIZES["llama"]), BertConfig(**SIZES["bert"])


class WideConfig(BertConfig):
    """BERT's, with a field more."""

    model_type = "wide-bert"

    answers: int = 3


class ReefConfig(Config):
    """A configuration that derives from none of ours."""

    model_type = "reef"

    size: int = 5


class TalkConfig(Config):
    """Of a causal model that is no architecture of ours."""

    model_type = "talk"

    vocab_size: int = 6


def read(backend: str, model: Any, name: str) -> np.ndarray:
    found: np.ndarray = get_backend(backend).read(model, name).numpy()
    return found


def same(backend: str, one: Any, other: Any) -> bool:
    names = get_backend(backend).parameters(one)
    return all(np.array_equal(read(backend, one, n), read(backend, other, n)) for n in names)


def saved(model: Any, folder: Path) -> dict[str, Any]:
    model.save_pretrained(folder)
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def check_more(backend: str, more: Any, folder: Path) -> None:
    """Parameters more than Llama's: `gain`, 2.5 throughout, and a layer `adapter` with weight and bias."""
    of_llama = getattr(loadstone, f"{class_prefix_of(backend)}LlamaForCausalLM")
    base = of_llama.from_config(LLAMA, seed=1)
    base.save_pretrained(folder / "base")
    model = more.from_pretrained(folder / "base", seed=2)
    report = model.load_report
    assert sorted(report.names("new")) == ["adapter.bias", "adapter.weight", "gain"]
    assert np.all(read(backend, model, "gain") == 2.5) and not np.any(read(backend, model, "adapter.bias"))
    assert 0 < read(backend, model, "adapter.weight").std() < 0.1
    assert np.all(read(backend, more(LLAMA), "gain") == 2.5)
    said = saved(model, folder / "more")
    assert (said["architectures"], said["model_type"]) == (["More"], "llama")
    again = more.from_pretrained(folder / "more")
    assert not again.load_report.names("new") and same(backend, model, again)
    plain = of_llama.from_pretrained(folder / "more")
    assert "More, which nobody registered" in " ".join(plain.load_report.notes)
    assert sorted(plain.load_report.names("unused")) == ["adapter.bias", "adapter.weight", "gain"]
    said["architectures"] = ["More"]
    (folder / "base" / "config.json").write_text(json.dumps(said))
    with pytest.raises(MatchError, match="gain: missing"):
        more.from_pretrained(folder / "base")


def check_named(backend: str, more: Any, folder: Path) -> None:
    """`new` says which of them may be absent, and must name them."""
    named = type("Named", (more,), {"new": ("gain",), "__module__": __name__})
    with pytest.raises(MatchError, match=r"adapter\.bias: missing"):
        named.from_pretrained(folder / "base2")
    whole = type("Whole", (more,), {"new": (("gain", "adapter"),), "__module__": __name__})
    assert len(whole.from_pretrained(folder / "base2").load_report.names("new")) == 3
    wrong = type("Wrong", (more,), {"new": ("gian",), "__module__": __name__})
    with pytest.raises(ArchitectureError, match=r"Wrong\.new names no parameter"):
        wrong.from_pretrained(folder / "base2")


def check_last_word(backend: str, more: Any, folder: Path) -> None:
    """`more` fills its `adapter.weight` with 0.125 in `_init_weights`, and leaves all else as it would be drawn."""
    prefix = class_prefix_of(backend)
    getattr(loadstone, f"{prefix}LlamaForCausalLM").from_config(LLAMA).save_pretrained(folder)
    for model in (more.from_pretrained(folder), more.from_config(LLAMA)):
        assert np.all(read(backend, model, "adapter.weight") == 0.125)
        assert np.all(read(backend, model, "gain") == 2.5)
        assert not read(backend, model, "adapter.bias").any()


def check_kinship(backend: str) -> None:
    """A class for heads counts its architecture's classes and their subclasses, as in transformers, and no others."""
    prefix = class_prefix_of(backend)
    bert, llama, mistral, roberta = (
        getattr(loadstone, f"{prefix}{name}PreTrainedModel")
        for name in ("Bert", "Llama", "Mistral", "Roberta")
    )
    model = getattr(loadstone, f"{prefix}BertModel").from_config(BERT)
    assert isinstance(model, bert) and not isinstance(model, (llama, roberta))
    of_mistral = getattr(loadstone, f"{prefix}MistralForCausalLM")
    assert issubclass(of_mistral, mistral) and not issubclass(of_mistral, llama)
    own = type("Own", (type(model),), {"__module__": __name__, "config_class": WideConfig})
    head = type("Head", (bert,), {"__module__": __name__})
    assert issubclass(own, bert) and issubclass(head, bert)
    assert not isinstance(model, head) and not issubclass(bert.__base__, bert)


def check_head(backend: str, head: Any, ids: Any, folder: Path) -> None:
    """A head of one's own over BERT, with a configuration that has a field more: `bert` and a layer `answer`."""
    prefix = class_prefix_of(backend)
    base = getattr(loadstone, f"{prefix}BertForMaskedLM").from_config(BERT, seed=1)
    base.save_pretrained(folder / "bert")
    model = head.from_pretrained(folder / "bert", answers=4)
    assert sorted(model.load_report.names("new")) == ["answer.bias", "answer.weight"]
    assert (model.base_model_prefix, type(model.config)) == ("bert", WideConfig)
    assert tuple(model(ids).shape) == (1, 3, 4)
    said = saved(model, folder / "head")
    assert (said["architectures"], said["model_type"], said["answers"]) == (["Head"], "wide-bert", 4)
    assert same(backend, model, head.from_pretrained(folder / "head"))
    name = "bert.embeddings.word_embeddings.weight"
    assert np.array_equal(read(backend, model, name), read(backend, base, name))
    script = f"import loadstone; loadstone.AutoModel.from_pretrained({str(folder / 'head')!r}, backend={backend!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "ConfigError: unknown model type 'wide-bert'" in done.stderr
    assert "import the module that calls loadstone.register" in done.stderr


def check_made(backend: str, reef: Any, folder: Path) -> None:
    """A model that has nothing of ours but the base class: a layer `line` and `scale`, 7 throughout."""
    model = reef(ReefConfig(size=6))
    assert np.all(read(backend, model, "scale") == 7)
    said = saved(model, folder / "reef")
    assert (said["architectures"], said["model_type"], said["size"]) == (["ReefModel"], "reef", 6)
    assert same(backend, model, reef.from_pretrained(folder / "reef"))
    AutoConfig.register("reef", ReefConfig)
    try:
        auto = loadstone.AutoModelForCausalLM
        auto.register(ReefConfig, reef)
        for again in (
            auto.from_pretrained(folder / "reef", backend=backend),
            reef.from_pretrained(folder / "reef"),
        ):
            assert type(again) is reef and type(again.config) is ReefConfig and same(backend, model, again)
            assert {a.state for a in again.load_report.plan.assignments.values()} == {"loaded"}
        made = auto.from_config(ReefConfig(), backend=backend, seed=3)
        assert np.all(read(backend, made, "scale") == 7)
        assert saved(made, folder / "made")["architectures"] == ["ReefModel"]
        with pytest.raises(ArchitectureError, match="'reef' has no head for MaskedLM"):
            loadstone.AutoModelForMaskedLM.from_pretrained(folder / "reef", backend=backend)
    finally:
        unregister("reef")


CONFIGURATION = """
from loadstone import Config

from .names import NAME


class ShoalConfig(Config):
    model_type = NAME
    size: int = 5
"""


def written(folder: Path, modeling: str) -> Path:
    """Write a package of a research codebase's own, and return its folder."""
    folder.mkdir()
    texts = {
        "names.py": 'NAME = "shoal"\n',
        "configuration_shoal.py": CONFIGURATION,
        "modeling_shoal.py": modeling,
    }
    for name, text in {**texts, "__init__.py": "", "notes.txt": "not code"}.items():
        (folder / name).write_text(text)
    return folder


def check_shared(backend: str, modeling: str, folder: Path, monkeypatch: Any) -> Any:
    """Share a class with its code: `ShoalModel` with the backend's prefix, in `modeling_shoal.py`; return the model."""
    prefix, package = class_prefix_of(backend), f"shoal_{backend}"
    written(folder / package, modeling)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("LOADSTONE_CODE_CACHE", str(folder / "cache"))
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)  # another test's package of the same name
    module = importlib.import_module(f"{package}.modeling_shoal")
    cls, config_class = getattr(module, f"{prefix}ShoalModel"), module.ShoalConfig
    cls.register_for_auto_class("AutoModelForCausalLM")
    model = cls(config_class(size=6))
    said = saved(model, folder / "shared")
    key = f"{prefix}AutoModelForCausalLM"
    assert said["auto_map"] == {
        "AutoConfig": "configuration_shoal.ShoalConfig",
        key: f"modeling_shoal.{prefix}ShoalModel",
    }
    assert (said["architectures"], said["model_type"]) == (["ShoalModel"], "shoal")
    code = {"configuration_shoal.py", "modeling_shoal.py", "names.py"}
    for name in code:
        assert (folder / "shared" / name).read_bytes() == (folder / package / name).read_bytes()
    assert code == {path.name for path in (folder / "shared").iterdir() if path.suffix in (".py", ".txt")}
    auto = getattr(loadstone, key)
    with pytest.raises(UntrustedCodeError):
        auto.from_pretrained(folder / "shared", backend=backend)
    again = auto.from_pretrained(folder / "shared", backend=backend, trust_remote_code=True)
    assert type(again).__name__ == cls.__name__ and type(again) is not cls and same(backend, model, again)
    assert saved(again, folder / "copied")["auto_map"] == said["auto_map"]
    assert all(
        (folder / "copied" / name).read_bytes() == (folder / "shared" / name).read_bytes() for name in code
    )
    third = auto.from_pretrained(folder / "copied", backend=backend, trust_remote_code=True)
    assert same(backend, model, third)
    return model
