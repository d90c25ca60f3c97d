"""The upload side of the loopback Hub, spoken to by the real client, and read back through a source."""

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError
from loopback_store import GOOD_TOKEN

from loadstone.source import resolve

NAME = "org/pushed"
WEIGHTS = bytes(range(256)) * 1000


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.endpoint, token=GOOD_TOKEN)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "saved"
    (root / "onnx").mkdir(parents=True)
    (root / "config.json").write_text("{}")
    (root / "README.md").write_text("---\nlicense: mit\n---\nA model.")
    (root / "model.safetensors").write_bytes(WEIGHTS)
    (root / "onnx" / "empty.bin").write_bytes(b"")
    return root


def test_a_pushed_folder_comes_back_byte_for_byte(hub, api, folder):
    assert api.create_repo(NAME).repo_id == NAME
    pushed = api.upload_folder(repo_id=NAME, folder_path=folder, commit_message="Push")
    snapshot = resolve(NAME)
    assert snapshot.commit == pushed.oid
    paths = snapshot.fetch(name for name in snapshot.files if name != ".gitattributes")
    sent = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    assert {name: path.read_bytes() for name, path in paths.items()} == sent
    assert [request.token for request in hub.log("PUT", site="cdn")] == [None]
    assert hub.repositories[NAME].messages[pushed.oid] == "Push"


def test_weights_that_the_hub_has_are_not_sent_again(hub, api, folder):
    api.create_repo(NAME)
    first = api.upload_folder(repo_id=NAME, folder_path=folder)
    assert api.upload_folder(repo_id=NAME, folder_path=folder).oid == first.oid
    (folder / "renamed.safetensors").write_bytes(WEIGHTS)
    second = api.upload_folder(repo_id=NAME, folder_path=folder)
    assert second.oid != first.oid
    assert len(hub.log("PUT")) == 1
    assert resolve(NAME).read_range("renamed.safetensors", 256, 2) == b"\x00\x01"


def test_files_are_deleted_and_branches_kept_apart(hub, api, folder):
    api.create_repo(NAME)
    main = api.upload_folder(repo_id=NAME, folder_path=folder)
    api.create_branch(NAME, branch="next")
    operations = [
        CommitOperationDelete("model.safetensors"),
        CommitOperationDelete("onnx/"),
        CommitOperationAdd("config.json", b'{"a": 1}'),
    ]
    following = api.create_commit(NAME, operations, commit_message="Change", revision="next")
    assert resolve(NAME).commit == main.oid
    snapshot = resolve(NAME, revision="next")
    assert snapshot.commit == following.oid
    assert sorted(snapshot.files) == [".gitattributes", "README.md", "config.json"]
    assert snapshot.read_text("config.json") == '{"a": 1}'


def test_a_pull_request_has_a_revision_of_its_own(hub, api, folder):
    api.create_repo(NAME)
    request = api.upload_folder(repo_id=NAME, folder_path=folder, create_pr=True)
    assert request.pr_url == f"{hub.endpoint}/{NAME}/discussions/1"
    assert not resolve(NAME).has("config.json")
    assert resolve(NAME, revision="refs/pr/1").read_text("config.json") == "{}"


def test_a_commit_onto_an_outdated_parent_is_refused(hub, api, folder):
    api.create_repo(NAME)
    old = api.upload_folder(repo_id=NAME, folder_path=folder).oid
    hub.commit(NAME, {"config.json": b"[]"})
    operation = CommitOperationAdd("config.json", b"{}")
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit(NAME, [operation], commit_message="Late", parent_commit=old)


def test_writing_needs_a_token_that_may_write(hub, folder):
    hub.add_repo(NAME, {"config.json": b"{}"})
    stranger = HfApi(endpoint=hub.endpoint, token="hf_stranger")
    with pytest.raises(HfHubHTTPError, match="401"):
        stranger.create_repo("org/other")
    with pytest.raises(HfHubHTTPError, match="401"):
        stranger.upload_folder(repo_id=NAME, folder_path=folder)
    assert resolve(NAME).read_text("config.json") == "{}"


def test_a_repository_is_made_once(hub, api):
    api.create_repo(NAME, private=True)
    assert hub.repositories[NAME].private
    assert api.create_repo(NAME, exist_ok=True).repo_id == NAME
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(NAME)
    assert api.create_repo("mine").repo_id == "loopback-user/mine"
