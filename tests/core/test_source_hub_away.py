"""Who may see a repository on the Hub, and what is left where the Hub is away."""

import logging
import subprocess
import sys
from http.server import BaseHTTPRequestHandler

import pytest
from loopback_store import GOOD_TOKEN
from repository import CONFIG, FILES, NAME, WEIGHTS

from loadstone.errors import ArgumentError, SourceError
from loadstone.source import HubUnreachableError, resolve
from loadstone.source.cache import RepositoryCache
from loadstone.source.hub_errors import Repository, plain_errors

pytestmark = pytest.mark.usefixtures("impatient")


def run(program, *, offline_env=False, check=True):
    """Run a program in a process of its own, in which opening a socket fails."""
    forbid = """
import socket
def forbidden(*args, **kwargs): raise AssertionError("a socket was opened")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = forbidden
from loadstone.source import resolve
from loadstone.errors import LoadstoneError
"""
    code = ("import os; os.environ['HF_HUB_OFFLINE'] = '1'\n" if offline_env else "") + forbid + program
    return subprocess.run([sys.executable, "-c", code], check=check, capture_output=True, text=True)


# Who may see what


@pytest.mark.parametrize("token", [None, "hf_stranger"])
def test_a_missing_repository_is_named(hub, token):
    with pytest.raises(
        SourceError, match="'org/nowhere' is neither a folder here nor a repository"
    ) as caught:
        resolve("org/nowhere", token=token)
    assert caught.value.where == f"{hub.endpoint}/org/nowhere"
    assert "hf auth login" in caught.value.hint


def test_a_private_repository_is_seen_with_its_token_alone(hub):
    hub.add_repo(NAME, FILES, private=True)
    with pytest.raises(SourceError, match="that you may see"):
        resolve(NAME)
    snapshot = resolve(NAME, token=GOOD_TOKEN)
    assert snapshot.read_text("config.json") == CONFIG.decode()
    assert snapshot.read_range("model.safetensors", 0, 1) == b"\x00"


@pytest.mark.parametrize(("token", "found"), [(None, "no valid token"), ("hf_stranger", "has not accepted")])
def test_a_gated_repository_says_how_to_get_access(hub, token, found):
    hub.add_repo(NAME, FILES, gated=True)
    snapshot = resolve(NAME, token=token)
    for access in (
        lambda: snapshot.fetch(["model.safetensors"]),
        lambda: snapshot.read_range("model.safetensors", 0, 8),
    ):
        with pytest.raises(SourceError, match="is gated") as caught:
            access()
        assert found in caught.value.found
        assert f"{hub.endpoint}/{NAME}" in caught.value.hint
        assert "token=" in caught.value.hint
    assert resolve(NAME, token=GOOD_TOKEN).read_text("config.json") == CONFIG.decode()


def test_the_token_goes_to_the_hub_alone(hub):
    hub.add_repo(NAME, FILES, private=True)
    snapshot = resolve(NAME, token=GOOD_TOKEN)
    snapshot.read_range("model.safetensors", 0, 8)
    snapshot.fetch(["model.safetensors"])
    assert {request.token for request in hub.log(path=NAME, site="hub")} == {GOOD_TOKEN}
    assert {request.token for request in hub.log(site="cdn")} == {None}
    assert GOOD_TOKEN not in repr(snapshot)


def test_a_stored_token_that_does_not_exist_is_asked_for(hub):
    hub.add_repo(NAME, FILES)
    with pytest.raises(SourceError, match="none is stored"):
        resolve(NAME, token=True)


def test_a_server_that_is_no_hub_is_found_out(hub):
    hub.add_repo(NAME, FILES)
    hub.repositories[NAME].commits["../../x"] = {}
    hub.repositories[NAME].branches["main"] = "../../x"
    with pytest.raises(SourceError, match="does not answer as the Hub does"):
        resolve(NAME)


@pytest.mark.parametrize("status", [400, 403, 418])
def test_a_refused_request_gives_the_hubs_reason(hub, status):
    hub.add_repo(NAME, FILES)
    hub.answer_with(status)
    with pytest.raises(SourceError, match=f"HTTP {status}: trouble was ordered") as caught:
        resolve(NAME)
    assert not isinstance(caught.value, HubUnreachableError)


# Offline, and the Hub away


def test_what_is_cached_is_used_without_a_socket(hub):
    commit = hub.add_repo(NAME, FILES)
    hub.tag(NAME, "v1", commit)
    resolve(NAME).fetch(["config.json", "model.safetensors"])
    resolve(NAME, revision="v1").fetch(["onnx/model.onnx"])
    before = len(hub.requests)
    checks = f"""
for revision in (None, "main", "v1", {commit!r}):
    snapshot = resolve({NAME!r}, revision=revision, **arguments)
    assert snapshot.commit == {commit!r}
    assert sorted(snapshot.files) == ["config.json", "model.safetensors", "onnx/model.onnx"]
    assert snapshot.read_text("config.json") == {CONFIG.decode()!r}
    assert snapshot.read_range("model.safetensors", 5, 1) == b"\\x05"
    assert snapshot.fetch(["model.safetensors"])["model.safetensors"].stat().st_size == {len(WEIGHTS)}
assert list(resolve({NAME!r}, subfolder="onnx", **arguments).files) == ["model.onnx"]
"""
    run("arguments = {'local_files_only': True}\n" + checks)
    run("arguments = {}\n" + checks, offline_env=True)
    assert len(hub.requests) == before


@pytest.mark.parametrize("offline_env", [False, True])
def test_what_is_not_cached_is_named_without_a_socket(hub, offline_env):
    hub.add_repo(NAME, FILES)
    resolve(NAME).fetch(["config.json"])
    program = f"""
arguments = {{}} if {offline_env} else {{"local_files_only": True}}
for name, revision in (("org/other", None), ({NAME!r}, "v2"), ({NAME!r}, "0" * 40)):
    try:
        resolve(name, revision=revision, **arguments)
    except LoadstoneError as error:
        print(error, end="\\n\\n")
try:
    resolve({NAME!r}, **arguments).fetch(["model.safetensors"])
except LoadstoneError as error:
    print(error)
"""
    other, revision, commit, file = run(program, offline_env=offline_env).stdout.split("\n\n")
    reason = "HF_HUB_OFFLINE is set" if offline_env else "local_files_only=True was passed"
    assert all(reason in message for message in (other, revision, commit, file))
    assert "found: nothing of this repository" in other
    assert "found: the revisions main" in revision and "hf download org/name --revision v2" in revision
    assert "0" * 40 in commit
    assert "holds no 'model.safetensors'" in file and "found: config.json" in file


def test_a_forced_download_contradicts_being_offline(hub, monkeypatch):
    with pytest.raises(ArgumentError, match="local_files_only"):
        resolve(NAME, force_download=True, local_files_only=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ArgumentError, match="HF_HUB_OFFLINE"):
        resolve(NAME, force_download=True)


@pytest.mark.parametrize("trouble", ["gone", "busy"])
def test_the_cache_is_used_with_a_warning_when_the_hub_is_away(hub, caplog, trouble):
    commit = hub.add_repo(NAME, FILES)
    resolve(NAME).fetch(["config.json"])
    if trouble == "gone":
        hub.stop()
    else:
        hub.answer_with(503, times=10)
    with caplog.at_level(logging.WARNING, logger="loadstone"):
        snapshot = resolve(NAME)
    assert snapshot.commit == commit
    assert snapshot.read_text("config.json") == CONFIG.decode()
    assert commit in caplog.text
    with pytest.raises(SourceError, match="could not be reached"):
        snapshot.fetch(["model.safetensors"])
    with pytest.raises(HubUnreachableError):
        resolve(NAME, force_download=True)
    with pytest.raises(HubUnreachableError):
        resolve(NAME, revision="v2")


def test_a_hub_that_is_away_is_named(hub):
    hub.stop()
    with pytest.raises(HubUnreachableError, match="could not be reached") as caught:
        resolve(NAME)
    assert hub.endpoint in str(caught.value)
    assert "HF_ENDPOINT" in caught.value.hint
    assert caught.value.__cause__ is not None


def test_a_hub_that_goes_away_between_listing_and_fetching_is_named(hub, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client waits up to 8 s between its attempts
    hub.add_repo(NAME, FILES)
    snapshot = resolve(NAME)
    hub.stop()
    with pytest.raises(HubUnreachableError):
        snapshot.read_range("model.safetensors", 0, 8)
    with pytest.raises(HubUnreachableError):
        snapshot.fetch(["config.json"])


def test_a_session_that_another_thread_closed_counts_as_a_broken_connection(hub):
    from huggingface_hub import get_session

    repository = Repository(name=NAME, revision="main", cache=RepositoryCache.of(NAME, hub.home))
    session = get_session()
    session.close()
    with pytest.raises(HubUnreachableError, match="has been closed"), plain_errors(repository):
        session.get(hub.endpoint)


def test_an_answer_without_a_commit_is_found_out(hub, monkeypatch):
    hub.add_repo(NAME, FILES)
    snapshot = resolve(NAME)
    monkeypatch.setattr("loopback_http.Exchange.send_header", _without_commit)
    with pytest.raises(SourceError, match="does not answer as the Hub does"):
        snapshot.read_text("config.json")


def _without_commit(exchange, key, value):
    """Send a header, as a proxy does that drops those it does not know."""
    if key != "X-Repo-Commit":
        BaseHTTPRequestHandler.send_header(exchange, key, value)


def test_a_refusal_does_not_fall_back_to_the_cache(hub):
    hub.add_repo(NAME, FILES)
    resolve(NAME).fetch(["config.json"])
    del hub.repositories[NAME]
    with pytest.raises(SourceError, match="neither a folder here nor"):
        resolve(NAME)
