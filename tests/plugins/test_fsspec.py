"""Checkpoints in stores and behind servers, read where they lie: whole, bit-equal, and with what can go wrong there."""

import json
import os
import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fsspec
from far import guarded, served
from install import run
from safetensors.numpy import load_file

import loadstone
from loadstone import AutoModelForCausalLM
from loadstone.checkpoint.digest import verify
from loadstone.checkpoint.open import open_checkpoint
from loadstone.errors import ArgumentError, ChangedFileError, CheckpointError, PlacementError, SourceError
from loadstone.source import resolve
from loadstone_fsspec import open_address

BACKENDS = ("torch", "flax", "tensorflow")
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sharded checkpoint in a folder."""
    folder = tmp_path_factory.mktemp("made") / "llama"
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    config = loadstone.AutoConfig.for_model(**CONFIG)
    AutoModelForCausalLM.from_config(config, backend="torch").save_pretrained(folder, max_shard_size="30KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy of it that a test may change."""
    copy = tmp_path / "llama"
    copy.mkdir()
    for path in made.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


@pytest.fixture
def server(folder):
    with served(folder) as server:
        yield server


@pytest.fixture(scope="module")
def s3():
    """moto's S3 on loopback, and what its clients are made with."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {"endpoint_url": f"http://{host}:{port}", "key": "testing", "secret": "testing"}
    server.stop()


@pytest.fixture
def bucket(s3, made):
    """The options of a client, and a bucket with the checkpoint."""
    store = fsspec.filesystem("s3", skip_instance_cache=True, **s3)
    if not store.exists("shelf"):
        store.mkdir("shelf")
    for path in made.iterdir():
        store.pipe_file(f"shelf/deep/llama/{path.name}", path.read_bytes())
    return s3, store


@pytest.fixture
def memory(made):
    store = fsspec.filesystem("memory")
    for path in made.iterdir():
        store.pipe_file(f"/shelf/llama/{path.name}", path.read_bytes())
    yield store
    store.rm("/shelf", recursive=True)


def stored(folder):
    """Return the tensors of a folder of safetensors."""
    return {name: array for path in folder.glob("*.safetensors") for name, array in load_file(path).items()}


def same(one, other):
    """Return whether two sets of tensors are equal bit for bit."""
    return {name: (a.dtype, a.shape, a.tobytes()) for name, a in one.items()} == {
        name: (a.dtype, a.shape, a.tobytes()) for name, a in other.items()
    }


def loads_equal(name, folder, backend, out):
    """Load, hold the model against a local folder, and return its report."""
    model = AutoModelForCausalLM.from_pretrained(name, backend=backend)
    model.save_pretrained(out)
    assert same(stored(out), stored(folder))
    return model.load_report


# Loads


def test_a_sharded_checkpoint_in_memory(memory, made, tmp_path):
    report = loads_equal("memory://shelf/llama", made, "torch", tmp_path / "out")
    assert report.location == "memory://shelf/llama" and report.bytes_mapped == 0
    assert report.bytes_read == sum(array.nbytes for array in stored(made).values())


def test_a_folder_by_its_address_stays_loadstones_own(made, tmp_path):
    report = loads_equal(f"file://{made}", made, "torch", tmp_path / "out")
    assert report.bytes_mapped > 0


def test_a_sharded_checkpoint_behind_a_server(server, made, tmp_path):
    report = loads_equal(server.url, made, "torch", tmp_path / "out")
    assert report.bytes_read == sum(array.nbytes for array in stored(made).values())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sharded_checkpoint_on_s3(bucket, made, tmp_path, backend):
    loads_equal(open_address("s3://shelf/deep/llama", **bucket[0]), made, backend, tmp_path / "out")


def test_s3_by_its_address_with_what_the_environment_says(bucket, made, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket[0]["endpoint_url"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    model = AutoModelForCausalLM.from_pretrained("s3://shelf/deep", subfolder="llama", backend="torch")
    model.save_pretrained(tmp_path / "out")
    assert same(stored(tmp_path / "out"), stored(made))


def test_a_server_that_lists_nothing_is_asked_by_name(server, made, tmp_path):
    server.faults.add("no listing")
    loads_equal(server.url, made, "torch", tmp_path / "out")


def test_what_would_change_the_load_is_found_by_its_name_too(server, folder):
    server.faults.add("no listing")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="a PEFT adapter lies beside the weights"):
        AutoModelForCausalLM.from_pretrained(server.url, backend="torch")


def test_names_that_an_address_would_read_as_something_else(folder, tmp_path):
    odd = tmp_path / "odd"
    odd.mkdir()
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    for path in folder.iterdir():
        (odd / path.name.replace("model-", "a #?%41 model-")).write_bytes(path.read_bytes())
    index["weight_map"] = {
        name: file.replace("model-", "a #?%41 model-") for name, file in index["weight_map"].items()
    }
    (odd / "model.safetensors.index.json").write_text(json.dumps(index))
    with served(odd) as server:
        loads_equal(server.url, folder, "torch", tmp_path / "out")


def test_a_repository_of_the_hub_at_the_commit_that_it_was_opened_at(hub, made, tmp_path):
    first = hub.add_repo("org/llama", folder=made)
    snapshot = resolve("hf://org/llama", revision="main")
    assert snapshot.commit == first
    hub.commit("org/llama", {"config.json": b"{}"})
    loads_equal(snapshot, made, "torch", tmp_path / "out")
    assert not list(hub.home.rglob("*.safetensors")), "nothing is written"
    assert hub.bytes_sent("model-00001-of-00003.safetensors") < 2 * 29504, "nor read twice"
    assert resolve("hf://org/llama").commit != first
    with pytest.raises(ArgumentError, match="names a revision, and so does revision="):
        resolve("hf://org/llama@main", revision="main")


def test_the_bytes_that_are_needed_are_read_and_no_others(server, made, monkeypatch):
    from loadstone.checkpoint.formats import safetensors

    monkeypatch.setattr(safetensors, "FIRST_READ", 8)
    snapshot = resolve(server.url)
    loadstone.plan(snapshot, task="CausalLM", backend="torch")
    headers = {
        path.name: 8 + int.from_bytes(path.read_bytes()[:8], "little") for path in made.glob("*.safetensors")
    }
    asked = {name: sum(size for one, size in server.sent if one == name) for name in headers}
    assert asked == headers, "a plan reads headers alone"
    server.sent.clear()
    AutoModelForCausalLM.from_pretrained(snapshot, backend="torch")
    asked = {name: sum(size for one, size in server.sent if one == name) for name in headers}
    assert asked == {name: (made / name).stat().st_size for name in headers}


WRITES = []
"""Paths that were opened to be written, while a test looks."""
LOOKING = threading.Event()


def _hook(event, arguments):
    if LOOKING.is_set() and event == "open":
        path, _mode, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR) and not re.search(r"\.pyc|__pycache__|/dev/", str(path)):
            WRITES.append(path)


sys.addaudithook(_hook)


def test_nothing_is_written(server, folder):
    LOOKING.set()
    try:
        (folder / "extra").write_bytes(b"")
        assert len(WRITES) == 1, "the hook sees"
        AutoModelForCausalLM.from_pretrained(server.url, backend="torch")
        assert len(WRITES) == 1
    finally:
        LOOKING.clear()
        WRITES.clear()


def test_a_cast_and_a_part_come_the_same_way(memory, made):
    model = AutoModelForCausalLM.from_pretrained("memory://shelf/llama", backend="torch", dtype="bfloat16")
    local = AutoModelForCausalLM.from_pretrained(made, backend="torch", dtype="bfloat16")
    for name, value in local.state_dict().items():
        assert value.equal(model.state_dict()[name])


INSPECT = (
    "import sys; from loadstone.cli import main; sys.argv[1:] = ['inspect', sys.argv[1], '--json']; main()"
)


def test_it_is_inspected_from_headers(server, tmp_path, made):
    found = json.loads(run(INSPECT, tmp_path, server.url).stdout)
    assert found["problems"] == [] and len(found["files"]) == len(list(made.glob("*.safetensors")))


def test_sums_are_taken_where_the_files_lie(memory):
    snapshot = resolve("memory://shelf/llama")
    index = open_checkpoint(snapshot)
    assert len(verify(snapshot, index).intact) == len(index.files)
    name = f"/shelf/llama/{index.files[0]}"
    data = bytearray(memory.cat_file(name))
    data[-1] ^= 1
    memory.pipe_file(name, bytes(data))
    assert len(verify(resolve("memory://shelf/llama"), index).problems) == 1


# What goes wrong


@pytest.mark.parametrize("fault", ["short", "slow", "cut"])
def test_what_goes_wrong_for_a_while_is_borne(server, made, tmp_path, fault, monkeypatch):
    monkeypatch.setattr("loadstone_fsspec.faults.PAUSE", 0.001)
    server.faults.add(fault)
    loads_equal(server.url, made, "torch", tmp_path / "out")


def test_a_connection_that_is_always_cut_ends_in_an_error(server, monkeypatch):
    monkeypatch.setattr("loadstone_fsspec.faults.PAUSE", 0.001)
    snapshot = resolve(server.url)
    server.faults.add("always cut")
    with pytest.raises(SourceError, match="cannot be read, after 3 attempts"):
        AutoModelForCausalLM.from_pretrained(snapshot, backend="torch")


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr("loadstone_fsspec.faults.PAUSE", 0.001)
    with pytest.raises(SourceError, match="cannot be read, after 3 attempts"):
        resolve("http://127.0.0.1:9/llama")


def test_a_server_without_ranges_is_told(server):
    server.faults.add("no ranges")
    with pytest.raises(SourceError, match="does not give out parts of files"):
        AutoModelForCausalLM.from_pretrained(server.url, backend="torch")


def test_wrong_credentials_are_told(server, bucket):
    server.faults.add("denied")
    with pytest.raises(SourceError, match="credentials are wrong"):
        resolve(server.url)
    options, _ = bucket
    with guarded(options, "s3:GetObject", "s3:ListBucket") as right:
        for wrong in ({"key": "nobody"}, {"secret": "guessed"}):
            with pytest.raises(SourceError, match="credentials are wrong"):
                open_address("s3://shelf/deep/llama", **right | wrong)


def test_who_may_read_and_not_list_loads_by_name(bucket, made, tmp_path):
    options, _ = bucket
    with guarded(options, "s3:GetObject") as allowed:
        loads_equal(open_address("s3://shelf/deep/llama", **allowed), made, "torch", tmp_path / "out")


def replace_when_read(server, folder):
    """Have the last shard replaced by one of the same size when its tensors are read."""
    name = max(folder.glob("*.safetensors")).name
    data = (folder / name).read_bytes()

    def replace(asked):
        if asked == name:
            (folder / name).write_bytes(data[:-4] + b"\0\0\0\1")

    server.before = replace


def test_a_file_that_is_replaced_meanwhile_is_told(server, folder):
    snapshot = resolve(server.url)
    loadstone.plan(snapshot, task="CausalLM", backend="torch")
    replace_when_read(server, folder)
    with pytest.raises(ChangedFileError, match="changed while it was being loaded"):
        AutoModelForCausalLM.from_pretrained(snapshot, backend="torch")


def test_a_configuration_that_is_replaced_meanwhile_is_told(memory, made):
    snapshot = resolve("memory://shelf/llama")
    memory.pipe_file("/shelf/llama/config.json", (made / "config.json").read_bytes())
    with pytest.raises(ChangedFileError, match=r"config\.json"):
        AutoModelForCausalLM.from_pretrained(snapshot, backend="torch")


def test_an_object_that_is_replaced_meanwhile_is_told(bucket, made):
    options, store = bucket
    snapshot = open_address("s3://shelf/deep/llama", **options)
    name = min(made.glob("*.safetensors")).name
    data = (made / name).read_bytes()
    store.pipe_file(f"shelf/deep/llama/{name}", data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ChangedFileError, match="ETag"):
        AutoModelForCausalLM.from_pretrained(snapshot, backend="torch")


def test_what_becomes_shorter_or_goes_is_told(memory):
    snapshot = resolve("memory://shelf/llama")
    name = next(name for name in snapshot.files if name.endswith(".safetensors"))
    memory.pipe_file(f"/shelf/llama/{name}", b"x" * 8)
    with pytest.raises(ChangedFileError):
        snapshot.read_range(name, 100, 8)
    memory.rm(f"/shelf/llama/{name}")
    with pytest.raises(SourceError, match="no such file"):
        snapshot.read_range(name, 100, 8)


def test_what_is_not_there_and_what_is_no_folder(memory, server):
    with pytest.raises(SourceError, match="there is no such file or folder"):
        resolve("memory://shelf/other")
    assert "llama/config.json" in resolve("memory://shelf").files
    with pytest.raises(SourceError, match="this is a file"):
        resolve("memory://shelf/llama/config.json")
    with pytest.raises(ArgumentError, match="does not take revision="):
        resolve("memory://shelf/llama", revision="main")
    with pytest.raises(SourceError, match="no file 'absent'"):
        resolve(server.url).file("absent")


def test_what_only_files_of_this_machine_allow_is_refused(memory):
    for arguments in ({"device_map": "disk"}, {"device_map": {"": "cpu", "lm_head": "disk"}}):
        with pytest.raises(PlacementError, match="parameters would stay on disk"):
            loadstone.plan("memory://shelf/llama", task="CausalLM", backend="torch", **arguments)
    with pytest.raises(ArgumentError, match="cannot be mapped"):
        AutoModelForCausalLM.from_pretrained("memory://shelf/llama", backend="torch", read="map")


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("https://huggingface.co/org/name", "pass 'org/name'"),
        ("https://huggingface.co/org/name/tree/main", "pass 'org/name'"),
        ("https://127.0.0.1:9/llama?signature=1", "is none of a folder"),
    ],
)
def test_a_page_is_no_folder(address, what):
    with pytest.raises(ArgumentError, match=what):
        resolve(address)


def test_a_page_of_links_without_end_is_not_followed(server, folder):
    links = "".join(f'<a href="file{number}">' for number in range(3000))
    (folder / "index.html").write_text(links)
    with pytest.raises(SourceError, match="more links than a checkpoint has files"):
        resolve(server.url)


def test_buffers_are_filled_one_after_the_other(memory, made):
    snapshot = resolve("memory://shelf/llama")
    buffers = [np.empty(size, np.uint8) for size in (3, 0, 5)]
    snapshot.read_into("config.json", 2, [memoryview(buffer) for buffer in buffers])
    assert b"".join(buffer.tobytes() for buffer in buffers) == (made / "config.json").read_bytes()[2:10]
    with pytest.raises(SourceError, match="shorter than"):
        snapshot.read_into("config.json", 1 << 20, [memoryview(bytearray(1))])
