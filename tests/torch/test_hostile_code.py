"""What is touched of repositories whose code or configuration reaches for more: seen by an audit hook, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import loadstone
from loadstone.remote import own as own_code_module
from tests.torch.hostile_code import MARK, WEIGHTS
from tests.torch.own_code import FILES, files, write

ROOT = Path(__file__).parents[2]
NATIVE = {"native", "nested", "trusting", "strings", "of-a-tokenizer"}
RUNS = {"own", "in-a-circle", "reads-out"}


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Return the folder of the repositories, and what was touched of each."""
    root = tmp_path_factory.mktemp("hostile")
    environment = os.environ | {"LOADSTONE_CODE_CACHE": str(root / "cache"), "LOADSTONE_BACKEND": "torch"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.torch.hostile_code", str(root)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return root, json.loads(run.stdout)


def below(folder, events, *kinds):
    """Return the names of files below a folder that such events are about."""
    found = (
        Path(about) for kind, about in events if kind in kinds and about.startswith(str(folder) + os.sep)
    )
    return {path.relative_to(folder).as_posix() for path in found}


def test_nothing_is_run_without_trust(watched):
    root, found = watched
    assert not (root / MARK).exists()
    for name, one in found.items():
        if not name.endswith("untrusted"):
            continue
        events, folder = one["events"], root / name.partition(",")[0]
        kinds = {kind for kind, _ in events}
        assert kinds <= {"open", "compile", "import"}, (name, kinds)
        assert not [about for kind, about in events if kind == "import" and "loadstone.remote" in about]
        compiled = [about for kind, about in events if kind == "compile"]
        assert all(about.startswith("<read, not run: ") for about in compiled), (name, compiled)
        assert not below(root / "cache", events, "open"), name
        opened = below(folder, events, "open")
        texts = {file for file in opened if file.endswith(".py")}
        assert opened - texts <= set(WEIGHTS), (name, opened)
        assert texts <= {*FILES, "parts/__init__.py"}, (name, texts)
        assert below(root, events, "open") - {f"{folder.name}/{file}" for file in opened} == set(), name


def test_what_is_of_a_type_of_ours_is_loaded_without_a_look_at_its_code(watched):
    root, found = watched
    for name in NATIVE:
        for trust in ("untrusted", "trusted"):
            one = found[f"{name}, {trust}"]
            assert one["outcome"] == "LlamaForCausalLM", one["outcome"]
            assert below(root / name, one["events"], "open") <= set(WEIGHTS)
            assert {kind for kind, _ in one["events"]} <= {"open", "import"}


def test_the_rest_is_an_error_without_trust(watched):
    _, found = watched
    for name, one in found.items():
        if name.endswith("untrusted") and name.partition(",")[0] not in NATIVE:
            kind = one["outcome"].partition(":")[0]
            assert kind in ("UntrustedCodeError", "ConfigError", "SourceError"), (name, one["outcome"])


def test_with_trust_nothing_is_touched_but_what_was_named(watched):
    root, found = watched
    assert not (root / MARK).exists()
    for name, one in found.items():
        if name.endswith("untrusted"):
            continue
        events, folder = one["events"], root / name.partition(",")[0]
        kinds = {kind for kind, _ in events}
        if folder.name != "elsewhere":  # which names a repository on the Hub
            assert kinds <= {"open", "compile", "import", "exec"}, (name, kinds)
        assert below(folder, events, "open") <= {*WEIGHTS, *FILES, "parts/__init__.py"}, name
        assert below(folder, events, "exec", "compile") == set(), (
            name
        )  # but copies that were held against their digest
        assert not below(root, events, "open") & {"secret.py", "secret.txt"}
        runs = folder.name in RUNS
        assert runs == (one["outcome"] == "TinyForCausalLM") or folder.name in NATIVE, one["outcome"]


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("dots", "names no class in a module"),
        ("no-text", "names no class in a module"),
        ("absolute", "names no class in a module"),
        ("climbing", "names no class in a module"),
        ("system", "os.py"),
        ("imports-absolutely", "stands on gate"),
        ("climbs", "outside of its repository"),
        ("climbs-by-name", "outside of its repository"),
        ("linked", "a link that leads out of the repository"),
        ("long", "too long to be code"),
        ("deep", "fails when it is imported"),
        ("no-python", "fails when it is imported"),
    ],
)
def test_each_is_told(watched, name, fact):
    assert fact in watched[1][f"{name}, trusted"]["outcome"]


def asked_for(hub, name):
    """Return the names of the files of a repository that were asked for."""
    paths = (request.path.partition("?")[0] for request in hub.log())
    return {path.split("/", 5)[-1] for path in paths if path.startswith(f"/org/{name}/resolve/")}


def test_the_same_from_the_hub(watched, hub, monkeypatch):
    root, found = watched
    monkeypatch.setenv("LOADSTONE_CODE_CACHE", str(root / "cache-of-the-hub"))
    monkeypatch.setenv("HOSTILE_MARK", str(root / MARK))
    for name in sorted({one.partition(",")[0] for one in found} - {"linked", "elsewhere"}):
        commit = hub.add_repo(f"org/{name}", folder=root / name)
        outcomes = {}
        for trust in (None, [f"org/{name}@{commit}"]):
            try:
                loaded = loadstone.AutoModelForCausalLM.from_pretrained(
                    f"org/{name}", backend="torch", trust_remote_code=trust
                )
                outcomes[bool(trust)] = type(loaded).__name__
            except loadstone.LoadstoneError as error:
                outcomes[bool(trust)] = type(error).__name__
            code = {*FILES, "parts/__init__.py"} if name not in NATIVE else set()
            weights = WEIGHTS if trust or name in NATIVE else ("config.json",)
            assert {"config.json"} <= asked_for(hub, name) <= {*weights, *code}, name
        kinds = {False: "untrusted", True: "trusted"}
        for trusted, outcome in outcomes.items():
            assert found[f"{name}, {kinds[trusted]}"]["outcome"].partition(":")[0] == outcome, name
    assert not (root / MARK).exists()


def test_a_file_that_changes_between_the_digest_and_the_import(tmp_path, monkeypatch):
    """What is run is what was read: the bytes that the digest is of."""
    monkeypatch.setenv("LOADSTONE_CODE_CACHE", str(tmp_path / "cache"))
    folder = write(tmp_path / "own", files())
    ordinary = own_code_module.check_trusted

    def change(code, *arguments, **named):
        (folder / "sizes.py").write_text("raise SystemExit('it was run')")
        return ordinary(code, *arguments, **named)

    monkeypatch.setattr(own_code_module, "check_trusted", change)
    model = loadstone.AutoModelForCausalLM.from_pretrained(folder, backend="torch", trust_remote_code=True)
    assert model(torch.tensor([[1]])).logits.shape == (1, 1, 11)
