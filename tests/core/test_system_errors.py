"""What the system refuses: rights, disks, names, descriptors, memory. Each is an error of ours, with the system's number."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import arrays, save

from loadstone import AutoConfig
from loadstone.checkpoint.open import open_checkpoint
from loadstone.checkpoint.recipe import whole
from loadstone.checkpoint.settled import settle
from loadstone.cli.inspect import inspect
from loadstone.errors import (
    ArgumentError,
    CheckpointError,
    ConfigError,
    LoadstoneError,
    MatchError,
    NoConfigError,
    NoWeightsError,
    OutOfMemoryError,
    SourceError,
)
from loadstone.planning import match
from loadstone.read import engine
from loadstone.read.engine import Traffic, read_tensors
from loadstone.read.files import MAX_OPEN, OpenFiles, identity
from loadstone.read.memory import aligned_empty, map_file
from loadstone.read.pieces import Request
from loadstone.source import local_file, resolve

CONFIG = '{"model_type": "llama"}'


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "checkpoint", arrays(), config=CONFIG)
    return tmp_path / "checkpoint"


def read_all(folder: Path, *, mapped: bool) -> dict[str, bytes]:
    """Return every tensor, as a load reads it."""
    snapshot = settle(resolve(folder))
    index = open_checkpoint(snapshot)
    paths = snapshot.fetch(index.files)
    wanted = [
        Request(name=info.name, recipe=whole(info, info.dtype), shape=info.shape, mappable=mapped)
        for info in index.tensors.values()
    ]
    with OpenFiles(paths, {name: identity(path) for name, path in paths.items()}) as files:
        found = list(read_tensors(files, wanted, alignment=0, traffic=Traffic()))
    return {tensor.name: bytes(tensor.data) for tensor in found}


# Rights and disks


def test_what_may_not_be_read(folder):
    """Run as nobody, because root may read everything."""
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        place.chmod(0o755)
        for name in ("config", "weights", "link", "all"):
            shutil.copytree(folder, place / name)
        (place / "secret").mkdir()
        (place / "secret" / "more.safetensors").write_text("x")
        (place / "link" / "linked").symlink_to(place / "secret")
        (place / "link" / "file.safetensors").symlink_to(place / "secret" / "more.safetensors")
        for path in (
            place / "config" / "config.json",
            place / "weights" / "model.safetensors",
            place / "all",
            place / "secret",
        ):
            path.chmod(0)
        program = f"""
import os, errno
import numpy, safetensors, huggingface_hub.constants, loadstone.load.story  # all that is imported later, while it may be read
from loadstone import AutoConfig
from loadstone.checkpoint.open import open_checkpoint
from loadstone.errors import SourceError
from loadstone.cli.inspect import inspect
from loadstone.source import resolve
inspect({str(folder)!r})
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
place = {str(place)!r}
for name, call in (
    ("config", lambda path: AutoConfig.from_pretrained(path)),
    ("weights", lambda path: open_checkpoint(resolve(path))),
    ("all", lambda path: resolve(path)),
):
    try:
        call(f"{{place}}/{{name}}")
    except SourceError as error:
        assert error.errno == errno.EACCES and "Permission denied" in str(error) and "next: give yourself" in str(error), error
    else:
        raise AssertionError(name)
assert not inspect(f"{{place}}/link").problems
"""
        done = subprocess.run(
            [sys.executable, "-c", program],
            check=False,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert done.returncode == 0, done.stderr
    finally:
        for name in ("all", "secret"):
            (place / name).chmod(0o755)
        shutil.rmtree(place)


class Failing:
    """A system call that fails."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, *arguments: object) -> int:
        raise OSError(self.number, os.strerror(self.number))


def test_a_disk_that_fails_under_a_header_or_a_tensor(folder, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(engine.os, "preadv", Failing(errno.EIO))
        with pytest.raises(SourceError, match="Input/output error") as caught:
            read_all(folder, mapped=False)
    assert caught.value.errno == errno.EIO
    monkeypatch.setattr(local_file.os, "open", Failing(errno.EIO))
    for call in (AutoConfig.from_pretrained, inspect):
        with pytest.raises(SourceError, match="Input/output error"):
            call(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_vanishes_after_it_was_listed(folder, name):
    snapshot = resolve(folder)
    (folder / name).unlink()
    with pytest.raises(SourceError, match="load again") as caught:
        snapshot.read_text(name) if name == "config.json" else open_checkpoint(snapshot)
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("moment", [0, 1])
def test_a_file_that_vanishes_while_its_folder_is_listed(folder, monkeypatch, moment):
    names = sorted(os.listdir(folder))
    scan = os.scandir

    def vanishing(path):
        found = scan(path)
        (folder / names[moment]).unlink(missing_ok=True)
        return found

    monkeypatch.setattr(os, "scandir", vanishing)
    assert names[moment] not in resolve(folder).files


# Names


def test_names_that_no_file_can_have(folder, tmp_path):
    long = "a" * 300
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(
        f'{{"weight_map": {{"x": "{long}.safetensors", "y": "b/{long}/c.safetensors"}}}}'
    )
    with pytest.raises(CheckpointError, match="is not there"):
        open_checkpoint(resolve(folder))
    for name in (long, f"./{long}", f"{tmp_path}/{long}", "a\0b", "~nobody-of-this-name/x", "", "a/" * 3000):
        with pytest.raises(SourceError):
            resolve(name, local_files_only=True)
    for arguments in ({"subfolder": long}, {"subfolder": "a/" * 3000}):
        with pytest.raises(SourceError):
            resolve(folder, **arguments)
    with pytest.raises(SourceError):
        resolve("org/name", revision=long, local_files_only=True, cache_dir=tmp_path)
    with pytest.raises(CheckpointError):
        open_checkpoint(resolve(folder), variant=long)


@pytest.mark.parametrize("name", [None, 5, b"checkpoint", ["a"], {}])
def test_a_name_that_is_none(name):
    with pytest.raises(ArgumentError, match="a checkpoint has a name") as caught:
        AutoConfig.from_pretrained(name)
    assert "next: " in str(caught.value) and repr(name) in str(caught.value)


# Descriptors and memory


@pytest.fixture
def shards(tmp_path):
    """Two hundred shards."""
    held = {f"layers.{i}.weight": np.full(16, i, np.float32) for i in range(200)}
    save(tmp_path / "shards", held, max_shard_size=64)
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) == 200
    return tmp_path / "shards"


@pytest.mark.parametrize("mapped", [True, False])
def test_many_shards_under_a_limit_of_few_descriptors(shards, mapped):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + MAX_OPEN + 8, limits[1]))
    try:
        found = read_all(shards, mapped=mapped)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(found) == 200
    assert all(
        data == np.full(16, int(name.split(".")[1]), np.float32).tobytes() for name, data in found.items()
    )
    assert len(os.listdir("/proc/self/fd")) == used


def test_no_descriptor_left(folder):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    snapshot = resolve(folder)
    open_checkpoint(snapshot)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(SourceError) as caught:
            snapshot.read_text("config.json")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert caught.value.errno == errno.EMFILE and "ulimit -n" in str(caught.value)


def test_memory_that_is_not_there_is_told_with_what_was_asked(tmp_path):
    with pytest.raises(OutOfMemoryError, match=r"100\.0 TB \(100,000,000,000,000 bytes\)") as caught:
        aligned_empty(10**14)
    assert isinstance(caught.value, MemoryError)
    with open(tmp_path / "huge", "wb") as stream:
        stream.truncate(1 << 43)
    with open(tmp_path / "huge", "rb") as stream, pytest.raises(OutOfMemoryError, match="to map huge"):
        for _ in range(100):  # the addresses of a process end somewhere
            kept = [map_file(stream.fileno(), 1 << 43, name="huge") for _ in range(100)]
            assert kept


def test_a_thread_that_does_not_start_is_told_as_memory(folder, monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", start)
    with pytest.raises(OutOfMemoryError, match="for a thread that reads"):
        read_all(folder, mapped=False)


def test_a_mapping_lives_as_long_as_an_array_of_it_and_no_longer(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * 64)

    def mapped() -> bool:
        return str(path) in Path("/proc/self/maps").read_text()

    with open(path, "rb") as stream:
        whole = map_file(stream.fileno(), 1 << 14, name="data")
    part = whole[300:302]
    del whole
    assert mapped() and part.tolist() == [44, 45]
    part[0] = 9
    assert path.read_bytes()[300] == 44, "a private copy"
    del part
    assert not mapped()


# Arguments and kinds


@pytest.mark.parametrize(
    "key_mapping",
    [
        {"(": ""},
        {"a": "\\1"},
        {"(a)": "\\g<b>"},
        {"a": "\\"},
        {"a": 5},
        {5: "a"},
        {"a": None},
        {"a": len},
        [("a", "b")],
        "a",
    ],
)
def test_a_key_mapping_that_cannot_be_used(key_mapping):
    with pytest.raises(ArgumentError, match="key_mapping") as caught:
        match._rules(key_mapping)
    assert "next: " in str(caught.value)


def test_a_key_mapping_may_have_flags_comments_and_groups():
    rules = match._rules({"(?i)A(b)": r"\1", "(?x) a # c": "b", "x|(y)": r"\1"})
    assert [replacement for _, replacement in rules] == [r"\1", "b", r"\1"]


def test_errors_are_what_callers_of_transformers_catch(folder, tmp_path):
    os.remove(folder / "model.safetensors")
    with pytest.raises(OSError) as caught:
        open_checkpoint(resolve(folder))
    assert isinstance(caught.value, NoWeightsError | ValueError)
    for files in ([], ["model.onnx"], ["adapter_config.json"], ["model.fp16.safetensors"]):
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        place.mkdir()
        for file in files:
            (place / file).touch()
        for call in (AutoConfig.from_pretrained, lambda path: open_checkpoint(resolve(path))):
            with pytest.raises(LoadstoneError) as caught:
                call(place)
            assert isinstance(caught.value, OSError), files
            assert isinstance(caught.value, NoWeightsError | NoConfigError), files
    assert issubclass(MatchError, RuntimeError) and issubclass(MatchError, ValueError)
    assert issubclass(NoConfigError, ConfigError) and issubclass(NoWeightsError, CheckpointError)
