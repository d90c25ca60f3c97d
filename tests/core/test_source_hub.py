"""Repositories on the Hub: the real client against a Hub on loopback."""

import errno
import hashlib
import logging
import subprocess
import sys

import pytest
from repository import CONFIG, FILES, NAME, WEIGHTS

from loadstone.errors import ArgumentError, SourceError
from loadstone.source import HubUnreachableError, resolve
from loadstone.source.cache import RepositoryCache
from loadstone.source.hub_errors import Repository, plain_errors

pytestmark = pytest.mark.usefixtures("impatient")


# Listing


def test_one_request_gives_commit_names_sizes_and_digests(hub):
    commit = hub.add_repo(NAME, FILES)
    snapshot = resolve(NAME)
    assert snapshot.commit == commit
    assert snapshot.location == NAME
    assert {name: file.size for name, file in snapshot.files.items()} == {
        name: len(data) for name, data in FILES.items()
    }
    assert snapshot.files["model.safetensors"].sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert snapshot.files["config.json"].sha256 is None
    assert all(file.path is None for file in snapshot.files.values())
    assert len(hub.log(path=NAME)) == 1
    assert not (hub.home / "hub").exists()


def test_the_hub_has_a_scheme_too(hub):
    commit = hub.add_repo(NAME, FILES)
    snapshot = resolve(f"hub://{NAME}", revision=commit)
    assert (snapshot.location, snapshot.commit) == (NAME, commit)
    with pytest.raises(ArgumentError, match="'a b' is not the id of a repository"):
        resolve("hub://a b")


def test_a_very_large_listing_is_read_page_by_page(hub, monkeypatch):
    hub.add_repo(NAME, FILES)
    hub.page = 2
    monkeypatch.setattr("loadstone.source.hub.WHOLE_LISTING", 4)
    snapshot = resolve(NAME)
    assert {name: file.size for name, file in snapshot.files.items()} == {
        name: len(data) for name, data in FILES.items()
    }
    assert snapshot.files["model.safetensors"].sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert len(hub.log(path="/tree/")) == 3


def test_a_listed_name_that_climbs_is_left_out(hub, caplog):
    hub.add_repo(NAME, {"config.json": CONFIG, "../../evil.json": b"{}"})
    with caplog.at_level(logging.WARNING):
        snapshot = resolve(NAME)
    assert list(snapshot.files) == ["config.json"]
    assert "evil.json" in caplog.text
    with pytest.raises(SourceError, match="climbs"):
        snapshot.fetch(["../../evil.json"])


def test_a_local_folder_wins_over_a_repository_of_the_same_name(hub, tmp_path, monkeypatch):
    hub.add_repo(NAME, FILES)
    (tmp_path / NAME).mkdir(parents=True)
    (tmp_path / NAME / "config.json").write_text("local")
    monkeypatch.chdir(tmp_path)
    assert resolve(NAME).read_text("config.json") == "local"
    assert not hub.requests


def test_names_are_relative_to_the_subfolder(hub):
    hub.add_repo(NAME, FILES)
    snapshot = resolve(NAME, subfolder="onnx")
    assert list(snapshot.files) == ["a/b.txt", "model.onnx"]
    assert snapshot.fetch(["model.onnx"])["model.onnx"].read_bytes() == b"onnx"
    assert snapshot.read_range("a/b.txt", 0, 1) == b"b"
    assert resolve(NAME, subfolder="onnx").files["model.onnx"].path == snapshot.root / "model.onnx"
    with pytest.raises(SourceError, match=r"has no file 'config\.json'"):
        snapshot.fetch(["config.json"])


def test_a_missing_subfolder_suggests_the_nearest(hub):
    hub.add_repo(NAME, FILES)
    with pytest.raises(SourceError, match=r"did you mean onnx"):
        resolve(NAME, subfolder="onxn")


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("subfolder", ["../other", "/etc", "onnx/../.."])
def test_a_subfolder_cannot_leave_the_repository(hub, subfolder, offline):
    hub.add_repo(NAME, FILES)
    resolve(NAME).fetch(["onnx/model.onnx"])
    with pytest.raises(SourceError, match="is refused") as caught:
        resolve(NAME, subfolder=subfolder, local_files_only=offline)
    assert caught.value.where == "subfolder"
    assert list(resolve(NAME, subfolder="./onnx/a/", local_files_only=False).files) == ["b.txt"]


# Revisions


def test_a_snapshot_stays_at_its_commit_while_the_branch_moves(hub):
    first = hub.add_repo(NAME, FILES)
    before = resolve(NAME)
    second = hub.commit(NAME, {"config.json": b"{}", "new.txt": b"new"}, delete=["model.safetensors"])
    after = resolve(NAME)
    assert (before.commit, after.commit) == (first, second)
    assert before.read_text("config.json") == CONFIG.decode()
    assert after.read_text("config.json") == "{}"
    assert before.read_range("model.safetensors", 256, 3) == b"\x00\x01\x02"
    assert before.has("model.safetensors") and not after.has("model.safetensors")


def test_branches_tags_and_commits_are_revisions(hub):
    first = hub.add_repo(NAME, FILES)
    hub.tag(NAME, "v1.0", first)
    second = hub.commit(NAME, {"config.json": b"{}"})
    other = hub.commit(NAME, {"config.json": b"[]"}, branch="dev/next")
    found = {
        revision: resolve(NAME, revision=revision).commit
        for revision in ("v1.0", "dev/next", first, first[:8])
    }
    assert found == {"v1.0": first, "dev/next": other, first: first, first[:8]: first}
    assert resolve(NAME).commit == second
    assert resolve(NAME, revision="dev/next").read_text("config.json") == "[]"


def test_a_missing_revision_is_named(hub):
    hub.add_repo(NAME, FILES)
    with pytest.raises(SourceError, match="has no revision 'v9'") as caught:
        resolve(NAME, revision="v9")
    assert caught.value.__cause__ is not None
    assert hub.endpoint in caught.value.where


# Fetching


def test_only_what_is_asked_for_is_downloaded_and_only_once(hub):
    commit = hub.add_repo(NAME, FILES)
    snapshot = resolve(NAME)
    paths = snapshot.fetch(["model.safetensors", "config.json"])
    assert list(paths) == ["model.safetensors", "config.json"]
    assert paths["model.safetensors"].read_bytes() == WEIGHTS
    assert paths["config.json"] == hub.home / "hub/models--org--name/snapshots" / commit / "config.json"
    assert hub.bytes_sent("onnx/model.onnx") == 0
    before = len(hub.requests)
    assert snapshot.fetch(["config.json", "model.safetensors"])["model.safetensors"].exists()
    assert snapshot.read_range("model.safetensors", 5, 1) == b"\x05"
    assert len(hub.requests) == before
    assert resolve(NAME).files["config.json"].path == paths["config.json"]


def test_the_cache_folder_can_be_chosen(hub, tmp_path):
    commit = hub.add_repo(NAME, FILES)
    path = resolve(NAME, cache_dir=tmp_path / "mine").fetch(["config.json"])["config.json"]
    assert path == tmp_path / "mine/models--org--name/snapshots" / commit / "config.json"
    assert resolve(NAME, cache_dir=tmp_path / "mine", local_files_only=True).commit == commit


def test_a_missing_file_suggests_the_nearest_and_costs_no_request(hub):
    hub.add_repo(NAME, FILES)
    snapshot = resolve(NAME)
    before = len(hub.requests)
    with pytest.raises(SourceError, match=r"did you mean model\.safetensors") as caught:
        snapshot.fetch(["config.json", "model.safetensor"])
    assert caught.value.where == f"{hub.endpoint}/{NAME}/tree/{snapshot.commit}"
    assert len(hub.requests) == before


def test_a_file_that_the_hub_lists_but_does_not_give_out_is_an_error(hub):
    commit = hub.add_repo(NAME, FILES)
    snapshot = resolve(NAME)
    del hub.repositories[NAME].commits[commit]["config.json"]
    with pytest.raises(SourceError, match="does not give it out"):
        snapshot.read_text("config.json")


def test_a_cut_connection_is_resumed_where_it_broke(hub):
    weights = bytes(range(250)) * 50_000
    hub.add_repo(NAME, {"model.safetensors": weights})
    hub.cut(NAME, "model.safetensors", after=12_000_000)
    assert resolve(NAME).fetch(["model.safetensors"])["model.safetensors"].read_bytes() == weights
    first, second = hub.log("GET", "model.safetensors", site="cdn")
    assert (first.sent, first.range) == (12_000_000, None)
    resumed = int(second.range.removeprefix("bytes=").removesuffix("-"))
    assert 0 < resumed <= 12_000_000, "the client keeps what has arrived, in pieces of 10 MiB"
    assert second.sent == len(weights) - resumed


def test_a_file_that_arrives_short_is_an_error(hub):
    hub.add_repo(NAME, FILES)
    hub.serve_instead(NAME, "model.safetensors", WEIGHTS[:-10])
    with pytest.raises(SourceError, match="did not arrive whole") as caught:
        resolve(NAME).fetch(["config.json", "model.safetensors"])
    assert isinstance(caught.value.__cause__, OSError)
    hub.heal()
    assert resolve(NAME).fetch(["model.safetensors"])["model.safetensors"].read_bytes() == WEIGHTS


def test_wrong_bytes_of_the_right_length_are_left_to_the_digest(hub):
    hub.add_repo(NAME, FILES)
    hub.serve_instead(NAME, "model.safetensors", WEIGHTS[::-1])
    snapshot = resolve(NAME)
    data = snapshot.fetch(["model.safetensors"])["model.safetensors"].read_bytes()
    assert hashlib.sha256(data).hexdigest() != snapshot.files["model.safetensors"].sha256


def test_a_truncated_file_in_the_cache_is_found_and_healed(hub):
    hub.add_repo(NAME, FILES)
    path = resolve(NAME).fetch(["model.safetensors"])["model.safetensors"]
    with path.open("rb+") as stream:
        stream.truncate(1000)
    for access in (
        lambda snapshot: snapshot.fetch(["model.safetensors"]),
        lambda snapshot: snapshot.read_range("model.safetensors", 0, 8),
    ):
        with pytest.raises(SourceError, match=r"model\.safetensors.*not whole") as caught:
            access(resolve(NAME))
        assert "force_download=True" in caught.value.hint
        assert caught.value.found == "1,000 bytes"
    healed = resolve(NAME, force_download=True).fetch(["model.safetensors"])["model.safetensors"]
    assert healed.read_bytes() == WEIGHTS


def test_a_forced_download_happens_once_per_snapshot(hub):
    hub.add_repo(NAME, FILES)
    resolve(NAME).fetch(["config.json"])
    snapshot = resolve(NAME, force_download=True)
    assert snapshot.files["config.json"].path is None
    for _ in range(3):
        assert snapshot.read_text("config.json") == CONFIG.decode()
    assert hub.bytes_sent("config.json") == 2 * len(CONFIG)


def test_a_link_that_leaves_the_cache_is_refused(hub, tmp_path):
    hub.add_repo(NAME, FILES)
    path = resolve(NAME).fetch(["config.json"])["config.json"]
    (tmp_path / "secret").write_bytes(CONFIG)
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    for snapshot in (resolve(NAME), lambda: resolve(NAME, local_files_only=True)):
        with pytest.raises(SourceError, match="leads out of it"):
            (snapshot() if callable(snapshot) else snapshot).read_text("config.json")


def test_two_processes_that_download_at_once_both_succeed(hub):
    hub.add_repo(NAME, FILES)
    hub.slow(NAME, "model.safetensors", seconds=1.5)
    program = f"""
from loadstone.source import resolve
paths = resolve({NAME!r}).fetch(["model.safetensors", "config.json"])
import hashlib
print(hashlib.sha256(paths["model.safetensors"].read_bytes()).hexdigest())
"""
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    answers = [process.communicate(timeout=60)[0].strip() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert answers == [hashlib.sha256(WEIGHTS).hexdigest()] * 2
    assert len(hub.log("HEAD", "model.safetensors")) == 2, "the processes did not overlap"
    assert hub.bytes_sent("model.safetensors") == len(WEIGHTS)


# Ranges


def test_a_range_sends_exactly_its_bytes(hub):
    hub.add_repo(NAME, FILES)
    snapshot = resolve(NAME)
    assert snapshot.read_range("model.safetensors", 1000, 24) == WEIGHTS[1000:1024]
    assert snapshot.read_range("model.safetensors", len(WEIGHTS) - 1, 1) == WEIGHTS[-1:]
    assert snapshot.read_range("config.json", 0, 1) == b"{"
    assert snapshot.read_range("config.json", len(CONFIG), 0) == b""
    assert hub.bytes_sent("model.safetensors") == 25
    assert hub.bytes_sent("config.json") == 1
    # Compressed, the file would have other offsets.
    assert {request.encoding for request in hub.log("GET", "/resolve/")} == {"identity"}
    assert not (hub.home / "hub").exists()


def test_a_range_beyond_the_end_costs_no_request(hub):
    hub.add_repo(NAME, FILES)
    snapshot = resolve(NAME)
    with pytest.raises(SourceError, match=f"at least {len(CONFIG) + 1} bytes"):
        snapshot.read_range("config.json", 1, len(CONFIG))
    assert hub.bytes_sent("config.json") == 0


def test_a_range_is_tried_three_times(hub):
    hub.add_repo(NAME, FILES)
    snapshot = resolve(NAME)
    hub.cut(NAME, "model.safetensors", after=5, times=2)
    assert snapshot.read_range("model.safetensors", 0, 100) == WEIGHTS[:100]
    hub.cut(NAME, "model.safetensors", after=5, times=3)
    with pytest.raises(HubUnreachableError):
        snapshot.read_range("model.safetensors", 0, 100)
    assert len(hub.log("GET", "model.safetensors", site="cdn")) == 6


def test_a_server_that_ignores_ranges_is_refused_before_the_file_is_read(hub):
    data = bytes(50_000_000)
    hub.add_repo(NAME, {"model.safetensors": data})
    hub.ignore_ranges(NAME, "model.safetensors")
    with pytest.raises(SourceError, match="HTTP 200, no range"):
        resolve(NAME).read_range("model.safetensors", 0, 8)
    assert hub.bytes_sent("model.safetensors") < len(data)


def test_a_range_of_a_file_of_another_size_is_refused(hub):
    hub.add_repo(NAME, FILES)
    hub.serve_instead(NAME, "model.safetensors", WEIGHTS + b"more")
    with pytest.raises(SourceError, match=f"/{len(WEIGHTS) + 4}"):
        resolve(NAME).read_range("model.safetensors", 0, 8)


# The disk


def test_a_full_disk_keeps_its_errno(tmp_path):
    repository = Repository(name=NAME, revision="main", cache=RepositoryCache.of(NAME, tmp_path))
    with pytest.raises(SourceError, match="is full") as caught, plain_errors(repository, "model.safetensors"):
        raise OSError(errno.ENOSPC, "No space left on device", "/cache/blob")
    assert caught.value.errno == errno.ENOSPC
    assert "/cache/blob" in caught.value.expected


def test_a_missing_permission_keeps_its_errno(tmp_path):
    repository = Repository(name=NAME, revision="main", cache=RepositoryCache.of(NAME, tmp_path))
    with pytest.raises(SourceError, match="Permission denied") as caught, plain_errors(repository, "a file"):
        raise PermissionError(errno.EACCES, "Permission denied", "/cache/blob")
    assert (caught.value.errno, caught.value.where) == (errno.EACCES, "/cache/blob")


def test_a_cache_that_cannot_be_written_does_not_spoil_a_load(tmp_path):
    (tmp_path / "models--org--name").mkdir()
    (tmp_path / "models--org--name" / "refs").write_text("a file where a folder should be")
    cache = RepositoryCache.of(NAME, tmp_path)
    cache.remember("main", "0" * 40)
    assert cache.commit_of("main") is None
