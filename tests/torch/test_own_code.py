"""Code that comes with a checkpoint, on loadstone's bases: trusted, imported, loaded by the engine like any model."""

import json
import logging
import os
import pickle
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

import loadstone
from loadstone import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, cli
from loadstone.errors import (
    ArchitectureError,
    ArgumentError,
    ConfigError,
    MatchError,
    SourceError,
    UntrustedCodeError,
)
from tests.torch.own_code import AUTO_MAP, CONFIGURATION, FILES, MODELING, files, tensors, write

torch.set_num_threads(1)

IDS = torch.tensor([[1, 2, 10]])
NAME = "org/tiny-own"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Keep what tests trust away from this user's cache."""
    folder = tmp_path_factory.mktemp("code")
    monkeypatch.setenv("LOADSTONE_CODE_CACHE", str(folder))
    return folder


@pytest.fixture
def own(tmp_path):
    return write(tmp_path / "own", files())


def load(name, **arguments):
    return AutoModelForCausalLM.from_pretrained(name, backend="torch", trust_remote_code=True, **arguments)


def as_written(weights):
    """What the code of the repository computes, in words of torch alone."""
    x = weights["model.table.weight"][IDS]
    up = torch.relu(x @ weights["model.gate.up.weight"].T + weights["model.gate.up.bias"])
    x = up @ weights["model.gate.down.weight"].T + weights["model.gate.down.bias"]
    return (x + torch.linspace(0, 1, 4)) @ weights["lm_head.weight"].T


# Loading


def test_its_model_is_loaded_by_the_engine(own):
    model = load(own)
    assert type(model).__name__ == "TinyForCausalLM"
    torch.testing.assert_close(model(IDS).logits, as_written(tensors()))
    assert not model.training and model.config.hidden_size == 4
    report = model.load_report
    assert {a.state for a in report.plan.assignments.values()} == {"loaded"}
    assert report.computed == ("model.slopes",) and report.bytes_mapped == report.nbytes
    assert model.model.ages.tolist() == [7, 5, 3]


def test_dtypes_fields_and_the_base_model(own):
    model = load(own, dtype="bfloat16")
    assert model.lm_head.weight.dtype == torch.bfloat16 and model.model.ages.dtype == torch.int64
    base = AutoModel.from_pretrained(own, trust_remote_code=True)
    assert type(base).__name__ == "TinyModel"
    assert torch.equal(base.gate.up.bias, tensors()["model.gate.up.bias"])
    assert type(AutoConfig.from_pretrained(own, trust_remote_code=True)).__name__ == "TinyConfig"
    with pytest.raises(MatchError):
        load(own, vocab_size=12)


def test_what_does_not_fit_is_an_error_as_for_any_model(tmp_path):
    weights = tensors()
    del weights["model.gate.up.bias"]
    with pytest.raises(MatchError, match=r"model.gate.up.bias: missing"):
        load(write(tmp_path / "a", files(), weights))
    with pytest.raises(MatchError, match=r"lm_head.weight: missing"):
        load(write(tmp_path / "b", files(), {k: v for k, v in tensors().items() if k[:7] != "lm_head"}))
    with pytest.raises(MatchError, match="expected shape"):
        load(write(tmp_path / "c", files(), tensors(vocabulary=12)))


def test_a_head_is_new_over_a_checkpoint_of_the_base_model(tmp_path):
    base = {k.removeprefix("model."): v for k, v in tensors().items() if not k.startswith("lm_head")}
    model = load(write(tmp_path / "base", files({"architectures": ["TinyModel"]}), base))
    [new] = model.load_report.plan.in_state("new")
    assert new.name == "lm_head.weight" and model.lm_head.weight.std() > 0


def test_a_plan_and_a_save(own, tmp_path):
    assert loadstone.plan(own, trust_remote_code=True).model_class == "TinyForCausalLM"
    model = load(own)
    model.save_pretrained(tmp_path / "again")
    for name in FILES:
        (tmp_path / "again" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "again" / name).write_text(FILES[name])
    assert torch.equal(load(tmp_path / "again")(IDS).logits, model(IDS).logits)


def test_a_fresh_model_of_a_configuration_that_came_with_code(own):
    config = AutoConfig.from_pretrained(own, trust_remote_code=True, vocab_size=5)
    model = AutoModelForCausalLM.from_config(config, backend="torch", trust_remote_code=True, seed=1)
    assert type(model) is type(load(own)) and model.lm_head.weight.shape == (5, 4)
    assert model.training and model.model.table.weight.std() > 0


def test_its_class_loads_further_checkpoints_without_more_trust(own, tmp_path):
    cls = type(load(own))
    other = write(tmp_path / "other", files(), tensors(seed=2))
    assert torch.equal(cls.from_pretrained(other).lm_head.weight, tensors(seed=2)["lm_head.weight"])


def test_a_class_that_it_does_not_have(own):
    with pytest.raises(ArchitectureError, match="no class for AutoModelForMaskedLM"):
        AutoModelForMaskedLM.from_pretrained(own, trust_remote_code=True)
    for cls in (AutoModel, AutoModelForCausalLM):
        folder = write(
            own.parent / "config-alone", files({"auto_map": {"AutoConfig": AUTO_MAP["AutoConfig"]}})
        )
        assert AutoConfig.from_pretrained(folder, trust_remote_code=True).vocab_size == 11
        with pytest.raises(ArchitectureError, match="auto_map names no model"):
            cls.from_pretrained(folder, trust_remote_code=True)


def test_a_class_with_an_own_way_of_loading(tmp_path):
    more = MODELING + (
        "\n    @classmethod\n    def from_pretrained(cls, *names, tuning=1, **arguments):\n"
        "        model = super().from_pretrained(*names, **arguments)\n        model.tuned = tuning\n        return model\n"
    )
    folder = write(tmp_path / "own", files(code={"modeling_tiny.py": more}))
    model = load(folder)
    assert model.tuned == 1 and model.load_report.computed == ("model.slopes",)
    assert load(folder, tuning=3).tuned == 3
    with pytest.raises(ArgumentError, match="knows no argument 'tunning'"):
        load(folder, tunning=3)


def test_an_own_way_of_loading_gets_the_commit_that_was_found(hub):
    more = MODELING + (
        "\n    @classmethod\n    def from_pretrained(cls, *names, **arguments):\n"
        "        model = super().from_pretrained(*names, **arguments)\n        model.of = arguments['revision']\n"
        "        return model\n"
    )
    commit = add(hub, texts=files(code={"modeling_tiny.py": more}))
    model = load(NAME)
    assert model.of == commit == model.load_report.commit


def test_a_file_beside_the_code_is_there_for_it(tmp_path):
    reads = 'import pathlib\nTOP = int((pathlib.Path(__file__).parent / "top.txt").read_text())\n'
    code = {"configuration_tiny.py": reads + CONFIGURATION, "top.txt": "7", "other.txt": "8"}
    config = AutoConfig.from_pretrained(write(tmp_path / "own", files(code=code)), trust_remote_code=True)
    module = sys.modules[type(config).__module__]
    assert module.TOP == 7
    beside = {path.name for path in os.scandir(os.path.dirname(module.__file__))}
    assert "top.txt" in beside and "other.txt" not in beside and "config.json" not in beside


# Modules


def test_a_changed_file_is_imported_anew_and_the_old_class_stays(own):
    first = load(own)
    (own / "sizes.py").write_text("def twice(size):\n    return size + size\n\nCHANGED = True\n")
    second = load(own)
    assert type(first) is not type(second)
    assert torch.equal(first(IDS).logits, second(IDS).logits)
    assert type(load(own)) is type(second)


def test_nothing_but_named_files_can_be_imported(own):
    (own / "stranger.py").write_text("")
    package = type(load(own)).__module__.rpartition(".")[0]
    assert __import__(f"{package}.parts.gate")
    with pytest.raises(ModuleNotFoundError):
        __import__(f"{package}.stranger")


def test_a_file_that_changes_after_it_was_read_is_not_run(own, cache):
    load(own)
    [path] = cache.rglob("sizes.py")
    path.write_text("raise SystemExit('it was run')")
    again = [name for name in sys.modules if name.endswith(".sizes") and "loadstone.remote" in name]
    for name in again:
        del sys.modules[name]
    with pytest.raises(loadstone.ChangedFileError, match="not what it was when it was trusted"):
        __import__(again[-1])


CHILD = """
import pickle, sys, torch
model = torch.load(sys.argv[1], weights_only=False)
print(type(model).__name__, model.lm_head.weight.sum().item())
"""


def test_another_process_finds_the_classes(own, tmp_path):
    model = load(own)
    assert type(pickle.loads(pickle.dumps(model))) is type(model)
    torch.save(model, tmp_path / "model.pt")
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "model.pt")], capture_output=True, text=True, check=True
    )
    name, total = run.stdout.split()
    assert name == "TinyForCausalLM" and float(total) == model.lm_head.weight.sum().item()


# The Hub


def add(hub, name=NAME, texts=None, weights=None, folder=None):
    """Put a repository on the Hub, and return its commit."""
    folder = write(hub.home.parent / "of-the-hub", files() if texts is None else texts, weights)
    return hub.add_repo(name, folder=folder)


def test_a_pinned_commit_of_the_hub(hub, caplog):
    commit = add(hub)
    model = load(NAME, revision=commit)
    assert f".c{commit}." in type(model).__module__ and not caplog.records
    assert model.load_report.commit == commit
    torch.testing.assert_close(model(IDS).logits, as_written(tensors()))
    entry = f"{NAME}@{commit}"
    assert type(AutoModelForCausalLM.from_pretrained(NAME, trust_remote_code=[entry])) is type(model)
    assert not caplog.records


def test_what_is_saved_elsewhere_takes_the_code_along(hub, tmp_path):
    commit = add(hub)
    model = load(NAME, revision=commit)
    model.save_pretrained(tmp_path / "again")
    before = len(hub.log())
    again = load(tmp_path / "again")
    assert type(again).__name__ == "TinyForCausalLM" and torch.equal(again(IDS).logits, model(IDS).logits)
    assert again.config.auto_map == AUTO_MAP and len(hub.log()) == before


def test_two_revisions_live_side_by_side(hub):
    first = add(hub)
    other = CONFIGURATION.replace("vocab_size: int", "added: int = 3\n    vocab_size: int")
    second = hub.commit(NAME, {"configuration_tiny.py": other.encode()})
    one, two = (load(NAME, revision=commit) for commit in (first, second))
    assert type(one) is not type(two) and two.config.added == 3 and "added" not in one.config
    mixed = load(NAME, revision=first, code_revision=second)
    assert type(mixed) is type(two) and mixed.load_report.commit == first


def test_trust_without_a_commit_warns_and_names_it(hub, caplog, monkeypatch):
    commit = add(hub)
    with caplog.at_level(logging.WARNING):
        load(NAME)
    assert f"runs at commit {commit}, which nobody pinned" in caplog.text
    monkeypatch.setenv("LOADSTONE_REQUIRE_PINNED_CODE", "1")
    with pytest.raises(UntrustedCodeError, match=f"{NAME}@{commit}"):
        load(NAME)
    assert load(NAME, revision=commit)


def test_code_in_another_repository(hub, caplog):
    theirs = add(hub, "org/code")
    mine = {key: f"org/code--{value}" for key, value in AUTO_MAP.items()}
    texts = {"config.json": files({"auto_map": mine})["config.json"]}
    folder = hub.home.parent / "mine"
    (folder).mkdir()
    (folder / "config.json").write_text(texts["config.json"])
    save_file(tensors(), folder / "model.safetensors")
    hub.add_repo("org/mine", folder=folder)
    before = len(hub.log())
    with pytest.raises(UntrustedCodeError, match="code of another repository"):
        AutoModelForCausalLM.from_pretrained("org/mine")
    assert not any("org/code" in request.path for request in hub.log()[before:])
    model = AutoModelForCausalLM.from_pretrained("org/mine", trust_remote_code=[f"org/code@{theirs}"])
    assert f".c{theirs}." in type(model).__module__ and not caplog.records
    torch.testing.assert_close(model(IDS).logits, as_written(tensors()))
    assert type(load("org/mine", code_revision=theirs)) is type(model)


def test_a_commit_that_is_not_there_is_an_error(hub):
    add(hub)
    with pytest.raises(SourceError, match="has no revision"):
        load(NAME, revision="0" * 40)
    with pytest.raises(SourceError, match="has no revision"):
        load(NAME, code_revision="nowhere")


def test_without_trust_nothing_of_its_weights_is_fetched(hub):
    commit = add(hub)
    with pytest.raises(UntrustedCodeError) as caught:
        AutoModelForCausalLM.from_pretrained(NAME)
    message = str(caught.value)
    for fact in (
        f"{NAME}@{commit}",
        "modeling_tiny.py",
        "parts/gate.py",
        "loadstone, loadstone_torch, torch",
    ):
        assert fact in message
    assert not any("safetensors" in request.path for request in hub.log())


# Trust


def test_the_digest_of_a_folder_is_enough(own):
    with pytest.raises(UntrustedCodeError) as caught:
        AutoModelForCausalLM.from_pretrained(own)
    entry = str(caught.value).partition("trust_remote_code=['")[2].partition("'")[0]
    assert entry.startswith("sha256:")
    assert AutoModelForCausalLM.from_pretrained(own, trust_remote_code=[entry])
    (own / "parts" / "gate.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(UntrustedCodeError, match="not among what trust_remote_code= names"):
        AutoModelForCausalLM.from_pretrained(own, trust_remote_code=[entry])


@pytest.mark.parametrize(
    "trust", ["org/name@" + "0" * 40, ["org/name"], ["org/name@main"], ["sha256:0"], [True], 5]
)
def test_what_cannot_be_trusted(own, trust):
    with pytest.raises(ArgumentError, match="names something that cannot be trusted"):
        AutoModelForCausalLM.from_pretrained(own, trust_remote_code=trust)


def test_a_folder_in_strict_mode(own, monkeypatch):
    monkeypatch.setenv("LOADSTONE_REQUIRE_PINNED_CODE", "1")
    with pytest.raises(UntrustedCodeError, match="sha256:"):
        load(own)


def test_an_architecture_of_ours_goes_before_code_unless_the_caller_says_so(folder):
    write_code = {
        "configuration_tiny.py": CONFIGURATION.replace('"tiny-own"', '"llama"'),
        "modeling_tiny.py": MODELING,
    }
    for name, text in {**FILES, **write_code}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    import json

    values = json.loads((folder / "config.json").read_text()) | {
        "auto_map": AUTO_MAP,
        "vocab_size": 11,
        "hidden_size": 4,
    }
    model = load(folder)
    assert type(model).__module__ == "loadstone_torch.models.llama"
    (folder / "config.json").write_text(json.dumps(values | {"architectures": ["TinyForCausalLM"]}))
    save_file(tensors(), folder / "model.safetensors")
    with pytest.raises(UntrustedCodeError):
        AutoModelForCausalLM.from_pretrained(folder, prefer_remote_code=True)
    assert type(load(folder, prefer_remote_code=True)).__name__ == "TinyForCausalLM"


# Faults of the code


@pytest.mark.parametrize(
    ("code", "error", "fact"),
    [
        ({"sizes.py": "raise ValueError('boom')"}, ConfigError, "ValueError: boom"),
        ({"sizes.py": "import no_such_package_at_all"}, loadstone.MissingFrameworkError, "no_such_package_at_all"),
        ({"modeling_tiny.py": MODELING.replace(".parts.gate", ".gone")}, ConfigError, "'gone'"),
        ({"modeling_tiny.py": MODELING.replace("(config)\n        self.table", "(config)\n        1 / 0\n        self.table")},
         ArchitectureError, "ZeroDivisionError"),
        ({"modeling_tiny.py": MODELING.replace("TinyForCausalLM", "Other")}, ConfigError, "no class TinyForCausalLM"),
        ({"modeling_tiny.py": "class TinyForCausalLM: ...\nclass TinyModel: ..."}, ArchitectureError, "no model that the backend"),
        ({"modeling_tiny.py": "from ..elsewhere import x"}, ConfigError, "outside of its repository"),
    ],
)  # fmt: skip
def test_code_that_fails_is_told_as_the_code_s(tmp_path, code, error, fact):
    with pytest.raises(error, match=fact):
        load(write(tmp_path / "own", files(code=code)))


def test_the_command_line_plans_with_what_it_is_told_to_trust(own, capsys):
    def run(*words):
        with pytest.raises(SystemExit) as ended:
            cli.main(["plan", str(own), "--backend", "torch", "--json", *words])
        return ended.value.code, capsys.readouterr()

    code, told = run()
    assert code == 1 and "modeling_tiny.py" in told.err
    digest = re.search(r"sha256:[0-9a-f]{64}", told.err)[0]
    for words in (["--trust", digest], ["--trust-remote-code"]):
        code, told = run(*words)
        assert code == 0 and json.loads(told.out)["model_class"] == "TinyForCausalLM"
    assert run("--trust", f"sha256:{'0' * 64}")[0] == 1
    assert run("--trust", digest, "--trust-remote-code")[0] == 2
