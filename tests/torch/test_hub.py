"""Whole loads from the Hub, by id: the real client against a Hub on loopback."""

import json
import logging
import subprocess
import sys

import pytest
import torch
from loopback_store import GOOD_TOKEN

import loadstone
from loadstone import AutoConfig, AutoModel, AutoModelForCausalLM, BertModel, LlamaForCausalLM
from loadstone.errors import (
    ArchitectureError,
    ChangedFileError,
    CheckpointError,
    ConfigError,
    MatchError,
    SourceError,
)
from loadstone.source import hub_range
from tests.oracle.files import tensors
from tests.torch.tiny import model_of, saved

torch.set_num_threads(1)

NAME = "org/llama"
WEIGHTS = "model.safetensors"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Let the second and third attempt of a range follow at once."""
    monkeypatch.setattr(hub_range, "PAUSE", 0.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Name -> the folder of a checkpoint; nobody writes into them."""
    root = tmp_path_factory.mktemp("checkpoints")
    first, second = (model_of("LlamaForCausalLM", seed=seed) for seed in (1, 2))
    first.generation_config.eos_token_id = [7, 9]
    first.save_pretrained(root / "first")
    second.save_pretrained(root / "second")
    first.save_pretrained(root / "sharded", max_shard_size="12KB")
    first.save_pretrained(root / "variant", variant="fp16")
    large = {"vocab_size": 5000, "hidden_size": 256, "num_hidden_layers": 1}
    return {
        "first": root / "first",
        "second": root / "second",
        "sharded": root / "sharded",
        "variant": root / "variant",
        "large": saved(root / "large", "LlamaForCausalLM", **large),
    }


def is_(model, folder):
    """Whether a model holds a folder's tensors."""
    held = {}
    for file in folder.glob("*.safetensors"):
        held |= tensors(folder, file.name)
    state = model.state_dict()
    return held.keys() == state.keys() and all(
        torch.equal(state[n], torch.from_numpy(t)) for n, t in held.items()
    )


def weights_sent(hub):
    """Return how many bytes of files of tensors went over the wire."""
    asked = {r.path.rpartition("/")[2].partition("?")[0] for r in hub.log("GET") if ".safetensors" in r.path}
    return sum(hub.bytes_sent(name) for name in asked if name.endswith(".safetensors"))


def refused(error, *facts, name=NAME, load=AutoModelForCausalLM.from_pretrained, **arguments):
    with pytest.raises(error) as caught:
        load(name, **arguments)
    message = str(caught.value)
    for fact in ("next: ", *facts):
        assert fact in message, message
    assert len(message.splitlines()) <= 15
    return message


# By id


def test_a_model_by_its_id(hub, folders):
    commit = hub.add_repo(NAME, folder=folders["first"])
    model = AutoModelForCausalLM.from_pretrained(NAME)
    assert type(model) is LlamaForCausalLM and is_(model, folders["first"])
    report = model.load_report
    assert (report.location, report.commit) == (NAME, commit)
    assert f"from {NAME} @ {commit[:8]}" in str(report)
    assert model.generation_config.eos_token_id == [7, 9]
    assert report.bytes_mapped == sum(t.nbytes for t in tensors(folders["first"]).values()), (
        "mapped from the cache"
    )
    assert {r.path.rpartition("/")[2] for r in hub.log("GET", "/resolve/", site="hub")} == {
        WEIGHTS, "config.json", "generation_config.json",
    }  # fmt: skip


def test_a_second_load_downloads_nothing(hub, folders):
    hub.add_repo(NAME, folder=folders["first"])
    AutoModelForCausalLM.from_pretrained(NAME)
    before = len(hub.requests)
    assert is_(AutoModelForCausalLM.from_pretrained(NAME), folders["first"])
    assert len(hub.requests) == before + 1, "the revision is asked for"


def test_a_forced_download(hub, folders):
    hub.add_repo(NAME, folder=folders["first"])
    AutoModelForCausalLM.from_pretrained(NAME)
    sent = weights_sent(hub)
    assert is_(AutoModelForCausalLM.from_pretrained(NAME, force_download=True), folders["first"])
    assert weights_sent(hub) > sent


def test_a_cache_of_ones_own(hub, folders, tmp_path):
    hub.add_repo(NAME, folder=folders["first"])
    AutoModel.from_pretrained(NAME, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").rglob(WEIGHTS))
    assert not (hub.home / "hub").exists()


def test_a_configuration_costs_its_own_file(hub, folders):
    hub.add_repo(NAME, folder=folders["first"])
    assert AutoConfig.from_pretrained(NAME).vocab_size == 61
    assert [r.path.rpartition("/")[2] for r in hub.log("GET", "/resolve/")] == ["config.json"]


# Revisions


def test_a_revision_that_moves_and_what_stays(hub, folders):
    first = hub.add_repo(NAME, folder=folders["first"])
    hub.tag(NAME, "v1", first)
    second = hub.commit(NAME, {WEIGHTS: folders["second"] / WEIGHTS})
    third = hub.commit(NAME, {path.name: path for path in folders["first"].iterdir()}, branch="other")
    for revision, commit, folder in (
        (None, second, "second"), ("main", second, "second"), (first, first, "first"), ("v1", first, "first"),
        ("other", third, "first"), (second, second, "second"),
    ):  # fmt: skip
        model = AutoModelForCausalLM.from_pretrained(NAME, revision=revision)
        assert model.load_report.commit == commit
        assert is_(model, folders[folder]), revision
    refused(SourceError, "has no revision 'v2'", revision="v2")


def test_a_load_stays_at_its_commit_while_the_branch_moves(hub, folders, monkeypatch):
    first = hub.add_repo(NAME, folder=folders["sharded"])
    original = loadstone.load.story.fill

    def moved_meanwhile(*arguments):
        shards = {path.name: path for path in folders["sharded"].glob("*.safetensors")}
        hub.commit(NAME, dict.fromkeys(shards, folders["second"] / WEIGHTS))
        return original(*arguments)

    monkeypatch.setattr("loadstone.load.story.fill", moved_meanwhile)
    model = AutoModelForCausalLM.from_pretrained(NAME)
    assert model.load_report.commit == first
    assert is_(model, folders["first"])


# Layouts


def test_shards(hub, folders):
    hub.add_repo(NAME, folder=folders["sharded"])
    assert is_(AutoModelForCausalLM.from_pretrained(NAME), folders["first"])


def test_only_the_shards_that_the_index_names_are_fetched(hub, folders):
    hub.add_repo(
        NAME, {"pytorch_model.bin": b"pickle", "model-00099.safetensors": b"old"}, folder=folders["sharded"]
    )
    AutoModelForCausalLM.from_pretrained(NAME)
    assert not hub.log("GET", "pytorch_model.bin") and not hub.log("GET", "model-00099")


def test_a_subfolder(hub, folders):
    hub.add_repo(NAME, {f"inner/deep/{path.name}": path for path in folders["first"].iterdir()})
    assert is_(AutoModelForCausalLM.from_pretrained(NAME, subfolder="inner/deep"), folders["first"])
    refused(SourceError, "has no folder 'inner/deeper'", "did you mean inner/deep", subfolder="inner/deeper")
    refused(CheckpointError, "no weights here", "subfolder=")


def test_a_variant(hub, folders):
    hub.add_repo(NAME, folder=folders["variant"])
    assert is_(AutoModelForCausalLM.from_pretrained(NAME, variant="fp16"), folders["first"])
    refused(CheckpointError, "only variants of the weights", 'variant="fp16"')


# Access


def test_a_gated_repository(hub, folders):
    hub.add_repo(NAME, folder=folders["first"], gated=True)
    refused(SourceError, f"'{NAME}' is gated", "hf auth login")
    refused(SourceError, f"'{NAME}' is gated", token="hf_wrong")
    assert is_(AutoModelForCausalLM.from_pretrained(NAME, token=GOOD_TOKEN), folders["first"])
    assert all(request.token is None for request in hub.log(site="cdn")), "the token goes to the Hub alone"


def test_a_private_repository(hub, folders, monkeypatch):
    hub.add_repo(NAME, folder=folders["first"], private=True)
    refused(SourceError, "neither a folder here nor a repository on the Hub that you may see")
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    assert is_(AutoModelForCausalLM.from_pretrained(NAME), folders["first"])


def test_what_is_not_there(hub, folders):
    hub.add_repo("org/empty", {"README.md": b"#"})
    hub.add_repo("org/pickle", {"config.json": folders["first"] / "config.json", "pytorch_model.bin": b"x"})
    hub.add_repo("org/adapter", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"})
    hub.add_repo("org/bare", {WEIGHTS: folders["first"] / WEIGHTS})
    refused(SourceError, "'org/nothing' is neither a folder here nor", name="org/nothing")
    refused(CheckpointError, "no weights here", "README.md", name="org/empty")
    refused(
        CheckpointError, "none of the files that torch.save writes", "pytorch_model.bin", name="org/pickle"
    )
    refused(CheckpointError, "PEFT", name="org/adapter")
    refused(ConfigError, "there is no config.json", WEIGHTS, name="org/bare")


# Trouble on the way


def test_a_connection_that_is_cut_is_resumed(hub, folders):
    hub.add_repo(NAME, folder=folders["large"])
    size = (folders["large"] / WEIGHTS).stat().st_size
    hub.cut(NAME, WEIGHTS, after=size // 2)
    assert is_(AutoModelForCausalLM.from_pretrained(NAME), folders["large"])
    assert hub.bytes_sent(WEIGHTS) < 1.6 * size


def test_a_connection_that_is_cut_again_and_again_leaves_no_half_model(hub, folders):
    hub.add_repo(NAME, folder=folders["large"])
    hub.cut(NAME, WEIGHTS, after=400_000, times=None)
    refused(SourceError, NAME)
    hub.heal()
    assert is_(AutoModelForCausalLM.from_pretrained(NAME), folders["large"])


def test_another_file_than_the_one_whose_header_was_read(hub, folders, monkeypatch):
    hub.add_repo(NAME, folder=folders["first"])
    good = (folders["first"] / WEIGHTS).read_bytes()
    renamed = good.replace(b"model.norm.weight", b"model.nurm.weight")
    assert len(renamed) == len(good) and renamed != good
    original = loadstone.load.story.fill

    def changed_meanwhile(*arguments):
        hub.serve_instead(NAME, WEIGHTS, renamed)
        return original(*arguments)

    monkeypatch.setattr("loadstone.load.story.fill", changed_meanwhile)
    refused(ChangedFileError, "not those whose headers were read", "force_download=True")
    hub.heal()
    monkeypatch.setattr("loadstone.load.story.fill", original)
    refused(MatchError, "model.nurm.weight")
    assert is_(AutoModelForCausalLM.from_pretrained(NAME, force_download=True), folders["first"])


def test_the_cache_serves_when_the_hub_is_away(hub, folders, caplog):
    commit = hub.add_repo(NAME, folder=folders["first"])
    AutoModelForCausalLM.from_pretrained(NAME)
    hub.stop()
    with caplog.at_level(logging.WARNING, logger="loadstone"):
        model = AutoModelForCausalLM.from_pretrained(NAME)
    assert is_(model, folders["first"]) and model.load_report.commit == commit
    assert [r.message for r in caplog.records if "from the download cache instead" in r.message]
    refused(SourceError, "could not be reached", name="org/other")


# Plans from far away


def test_a_plan_fetches_headers_alone(hub, folders):
    commit = hub.add_repo(NAME, folder=folders["large"])
    size = (folders["large"] / WEIGHTS).stat().st_size
    report = loadstone.plan(NAME)
    assert (report.commit, report.model_class, report.bytes_read) == (commit, "LlamaForCausalLM", None)
    assert report.plan == loadstone.plan(folders["large"]).plan
    assert size > 10_000_000 and hub.bytes_sent(WEIGHTS) <= 256 * 1024
    assert not list((hub.home / "hub").rglob("*.safetensors"))


def test_a_plan_of_shards_fetches_each_header(hub, folders):
    hub.add_repo(NAME, folder=folders["sharded"])
    report = loadstone.plan(NAME)
    assert len(report.names("loaded")) == len(tensors(folders["first"]))
    assert not list((hub.home / "hub").rglob("*.safetensors"))


def test_what_does_not_fit_is_found_before_weights_are_fetched(hub, folders):
    hub.add_repo(NAME, folder=folders["large"])
    refused(MatchError, "missing", num_hidden_layers=2)
    assert hub.bytes_sent(WEIGHTS) <= 256 * 1024
    refused(ArchitectureError, "BertModel cannot hold", load=BertModel.from_pretrained)
    assert hub.bytes_sent(WEIGHTS) <= 256 * 1024, "the class is looked at first"


# Offline


OFFLINE = """
import json, socket, sys

def forbidden(*arguments, **named):
    raise AssertionError("a socket was opened")

socket.socket.__init__ = socket.create_connection = socket.getaddrinfo = forbidden
from loadstone import AutoConfig, AutoModelForCausalLM
import loadstone
name, arguments, out = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
model = AutoModelForCausalLM.from_pretrained(name, **arguments)
print(loadstone.plan(name, **arguments).model_class, AutoConfig.from_pretrained(name, **arguments).model_type)
model.save_pretrained(out)
print(model.load_report.commit)
"""


def offline(name, out, *, check=True, environment=None, **arguments):
    """Load by name in a process of its own, in which opening a socket fails."""
    import os

    command = [sys.executable, "-c", OFFLINE, str(name), json.dumps(arguments), str(out)]
    return subprocess.run(
        command, env=os.environ | (environment or {}), capture_output=True, text=True, check=check
    )


def test_after_a_load_none_needs_a_socket(hub, folders, tmp_path):
    commit = hub.add_repo(NAME, folder=folders["sharded"])
    AutoModelForCausalLM.from_pretrained(NAME)
    before = len(hub.requests)
    done = offline(NAME, tmp_path / "a", local_files_only=True)
    assert done.stdout.split() == ["LlamaForCausalLM", "llama", commit]
    done = offline(NAME, tmp_path / "b", environment={"HF_HUB_OFFLINE": "1"})
    assert done.stdout.split() == ["LlamaForCausalLM", "llama", commit]
    for out in ("a", "b"):
        assert {n: t.tobytes() for n, t in tensors(tmp_path / out).items()} == {
            n: t.tobytes() for n, t in tensors(folders["first"]).items()
        }
    assert len(hub.requests) == before


def test_a_folder_needs_no_socket(hub, folders, tmp_path):
    done = offline(folders["first"], tmp_path / "out")
    assert done.stdout.split() == ["LlamaForCausalLM", "llama", "None"]
    assert hub.requests == []


def test_what_was_never_fetched_is_named_offline(hub, folders):
    hub.add_repo(NAME, folder=folders["first"])
    refused(
        SourceError,
        "the download cache holds nothing of org/llama",
        "hf download org/llama",
        local_files_only=True,
    )
    AutoConfig.from_pretrained(NAME)
    refused(CheckpointError, "there are no weights here", "config.json", local_files_only=True)
    assert not hub.log("GET", WEIGHTS)
