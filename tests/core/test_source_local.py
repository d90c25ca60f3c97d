"""Checkpoints in a folder of this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadstone.errors import ArgumentError, SourceError
from loadstone.source import resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "checkpoint"
    (root / "onnx").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / "config.json").write_text('{"model_type": "llama"}')
    (root / "model.safetensors").write_bytes(bytes(range(100)))
    (root / "onnx" / "model.onnx").write_bytes(b"onnx")
    (root / ".git" / "HEAD").write_text("ref")
    (root / ".hidden").write_text("x")
    return root


def test_a_folder_lists_its_files_with_their_sizes(folder):
    snapshot = resolve(folder)
    sizes = {name: file.size for name, file in snapshot.files.items()}
    assert sizes == {".hidden": 1, "config.json": 23, "model.safetensors": 100, "onnx/model.onnx": 4}
    assert snapshot.commit is None
    assert snapshot.location == str(folder)
    assert snapshot.files["onnx/model.onnx"].path == folder / "onnx" / "model.onnx"
    assert snapshot.has("config.json")
    assert not snapshot.has("config.jsn")


def test_a_folder_has_an_address_too(folder):
    spaced = folder.rename(folder.with_name("a b"))
    snapshot = resolve(f"{spaced.parent.as_uri()}/a%20b", subfolder="onnx")
    assert (snapshot.location, list(snapshot.files)) == (str(spaced), ["model.onnx"])
    with pytest.raises(ArgumentError, match="another machine"):
        resolve("file://host/checkpoint")
    with pytest.raises(SourceError, match="'/nowhere' does not exist"):
        resolve("file:///nowhere")


def test_a_snapshot_is_taken_as_it_is(folder):
    snapshot = resolve(folder)
    assert resolve(snapshot) is snapshot
    for said in (
        {"revision": "main"},
        {"subfolder": "onnx"},
        {"force_download": True},
        {"local_files_only": True},
    ):
        with pytest.raises(ArgumentError, match=f"takes no {next(iter(said))}="):
            resolve(snapshot, **said)


def test_files_are_given_in_the_order_asked_for(folder):
    paths = resolve(str(folder)).fetch(["onnx/model.onnx", "config.json", "onnx/model.onnx"])
    assert list(paths.items()) == [
        ("onnx/model.onnx", folder / "onnx" / "model.onnx"),
        ("config.json", folder / "config.json"),
    ]


def test_ranges_and_text_are_read(folder):
    snapshot = resolve(folder)
    assert snapshot.read_range("model.safetensors", 10, 5) == bytes(range(10, 15))
    assert snapshot.read_range("model.safetensors", 99, 1) == b"\x63"
    assert snapshot.read_range("model.safetensors", 100, 0) == b""
    assert snapshot.read_text("config.json") == '{"model_type": "llama"}'


def test_a_range_beyond_the_end_says_how_long_the_file_is(folder):
    with pytest.raises(SourceError, match="at least 101 bytes") as caught:
        resolve(folder).read_range("model.safetensors", 96, 5)
    assert caught.value.found == "100 bytes"


def test_a_file_that_shrank_after_it_was_listed_is_an_error(folder):
    snapshot = resolve(folder)
    os.truncate(folder / "model.safetensors", 50)
    with pytest.raises(SourceError, match="shorter after it was listed"):
        snapshot.read_range("model.safetensors", 40, 20)


def test_text_must_be_text_and_short(folder):
    (folder / "config.json").write_bytes(b'{"a": "\xff"}')
    with (folder / "huge.json").open("wb") as stream:
        stream.truncate(100_000_001)
    snapshot = resolve(folder)
    with pytest.raises(SourceError, match="at offset 7"):
        snapshot.read_text("config.json")
    with pytest.raises(SourceError, match="too long"):
        snapshot.read_text("huge.json")


def test_names_are_relative_to_the_subfolder(folder):
    snapshot = resolve(folder, subfolder="onnx/")
    assert list(snapshot.files) == ["model.onnx"]
    assert snapshot.root == folder / "onnx"
    with pytest.raises(SourceError, match="climbs"):
        snapshot.fetch(["../config.json"])


@pytest.mark.parametrize("subfolder", ["../checkpoint", "/etc", "onnx/../../checkpoint"])
def test_a_subfolder_cannot_leave_the_folder(folder, subfolder):
    with pytest.raises(SourceError, match="refused"):
        resolve(folder, subfolder=subfolder)


def test_a_missing_subfolder_suggests_the_nearest(folder):
    with pytest.raises(SourceError, match="did you mean onnx"):
        resolve(folder, subfolder="onxn")


def test_a_missing_file_suggests_the_nearest(folder):
    with pytest.raises(SourceError, match=r"did you mean model\.safetensors") as caught:
        resolve(folder).fetch(["config.json", "model.safetensor"])
    assert caught.value.where == folder


def test_a_link_whose_target_is_gone_says_so(folder, tmp_path):
    (folder / "gone.bin").symlink_to(tmp_path / "elsewhere.bin")
    snapshot = resolve(folder)
    assert not snapshot.has("gone.bin")
    with pytest.raises(SourceError, match=r"elsewhere\.bin"):
        snapshot.fetch(["gone.bin"])


def test_the_links_of_an_ordinary_folder_are_the_users_own(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "weights.bin").write_bytes(b"weights")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(tmp_path / "elsewhere" / "weights.bin")
    snapshot = resolve(folder)
    assert snapshot.read_range("model.safetensors", 0, 7) == b"weights"
    assert snapshot.read_range("linked/weights.bin", 0, 7) == b"weights"


def test_links_that_form_a_circle_are_walked_once(folder):
    (folder / "onnx" / "again").symlink_to(folder)
    assert [name for name in resolve(folder).files if name.endswith("config.json")] == ["config.json"]


@pytest.fixture
def cached(tmp_path):
    """A snapshot folder of a download cache, with a file that is a link into `blobs`."""
    repository = tmp_path / "hub" / "models--org--name"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "etag").write_bytes(b"content")
    (snapshot / "config.json").symlink_to("../../blobs/etag")
    return snapshot


def test_links_of_a_download_cache_may_lead_to_its_blobs(cached):
    assert resolve(cached).read_text("config.json") == "content"


def test_links_of_a_download_cache_may_lead_to_the_shared_store(cached):
    store = cached.parents[2] / "blobs" / "ab"
    store.mkdir(parents=True)
    (store / "abcd").write_bytes(b"shared")
    blob = cached.parents[1] / "blobs" / "other"
    blob.symlink_to("../../blobs/ab/abcd")
    (cached / "model.safetensors").symlink_to("../../blobs/other")
    assert resolve(cached).read_range("model.safetensors", 0, 6) == b"shared"


def test_the_blobs_of_a_download_cache_may_lie_on_another_disk(cached, tmp_path):
    blobs = cached.parents[1] / "blobs"
    blobs.rename(tmp_path / "large-disk")
    blobs.symlink_to(tmp_path / "large-disk")
    assert resolve(cached).read_text("config.json") == "content"


@pytest.mark.parametrize("subfolder", ["", "onnx"])
def test_a_link_that_leaves_the_download_cache_is_refused(cached, tmp_path, subfolder):
    (tmp_path / "secret").write_text("secret")
    (cached / subfolder).mkdir(exist_ok=True)
    (cached / subfolder / "model.safetensors").symlink_to(tmp_path / "secret")
    with pytest.raises(SourceError, match="leads out of it"):
        resolve(cached, subfolder=subfolder)


@pytest.mark.parametrize("name", ["models--org--other", "models--org--name-too"])
def test_a_link_to_another_repository_of_the_cache_is_refused(cached, name):
    other = cached.parents[2] / name / "blobs"
    other.mkdir(parents=True)
    (other / "etag").write_text("private")
    (cached / "model.safetensors").symlink_to(other / "etag")
    with pytest.raises(SourceError, match="leads out of it"):
        resolve(cached)


def test_a_file_is_not_a_checkpoint_yet(folder):
    with pytest.raises(SourceError, match="is a file") as caught:
        resolve(folder / "model.safetensors")
    assert str(folder) in caught.value.hint


@pytest.mark.parametrize("name", ["./nowhere", "../nowhere", "/nowhere/at/all", "~/nowhere-at-all", "a/b/c"])
def test_what_looks_like_a_path_and_does_not_exist_is_a_missing_folder(name):
    with pytest.raises(SourceError, match="does not exist"):
        resolve(name)


def test_a_missing_folder_suggests_its_neighbour(folder, tmp_path):
    with pytest.raises(SourceError, match="did you mean checkpoint"):
        resolve(tmp_path / "chekpoint")


def test_a_path_object_is_never_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="the folder 'org/name' does not exist"):
        resolve(Path("org/name"))


@pytest.mark.parametrize(
    "name", ["", "org/na me", "-name", "org--name", "org/..", "na\0me", "org/name@main", "a:b"]
)
def test_what_is_neither_a_folder_nor_an_id_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="neither an existing folder nor"):
        resolve(name)


def test_the_home_folder_is_understood(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert resolve("~/checkpoint").root == folder


def test_a_folder_needs_neither_the_client_nor_a_socket(folder):
    program = f"""
import socket, sys
def forbidden(*args, **kwargs): raise AssertionError("a socket was opened")
socket.socket = socket.create_connection = forbidden
from loadstone.source import resolve
snapshot = resolve({str(folder)!r}, revision="v1", token="hf_x")
assert snapshot.read_text("config.json") and snapshot.fetch(["model.safetensors"])
assert snapshot.read_range("model.safetensors", 0, 8)
assert not {{"huggingface_hub", "numpy"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
