"""A save that is killed before any of its system calls, or that meets a full disk, leaves one whole checkpoint."""

import contextlib
import errno
import functools
import os
import shutil
from pathlib import Path

import pytest
from checkpoint_files import Loaded, arrays, load, names_in, save, write_foreign

from loadstone.checkpoint.settled import settle
from loadstone.errors import SourceError
from loadstone.load.configuration import load_config
from loadstone.save import disk
from loadstone.source import resolve

OLD_CONFIG, NEW_CONFIG, THIRD_CONFIG = '{"is": "old"}', '{"is": "new"}', '{"is": "third"}'
GENERATION = {"generation_config.json": '{"eos_token_id": 2}'}
ONE, MANY, MORE = "1GB", "1200", "600"
OTHERS = {
    "tokenizer.json",
    "README.md",
    "model.fp16.safetensors",
    "model-notes.txt",
    "logs",
    "logs/model.safetensors",
}
EXIT_KILLED = 9


class Interrupted:
    """The `os` module, for one process to use until its n-th call that changes something."""

    CHANGES = frozenset({"open", "write", "fsync", "replace", "unlink", "mkdir", "rmdir", "close"})

    def __init__(self, last, at_last):
        self.last, self.at_last, self.calls = last, at_last, []

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in self.CHANGES:
            return real

        def call(*arguments, **options):
            self.calls.append((name, arguments))
            if len(self.calls) == self.last:
                self.at_last(name, arguments)
            # A kill loses nothing that was not synced, and the many saves here need not wait for a disk.
            return None if name == "fsync" else real(*arguments, **options)

        return call


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(disk, "os", Interrupted(0, None))


def die(name, arguments):
    """End the process at once; of a write, half has reached the file."""
    if name == "write":
        os.write(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
    os._exit(EXIT_KILLED)


def killed_before(call, action):
    """Run `action` in a process of its own that dies before a system call; return whether it died."""
    child = os.fork()
    if child == 0:
        try:
            disk.os = Interrupted(call, die)
            action()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, EXIT_KILLED)
    return status == EXIT_KILLED


def old_folder(folder, kind):
    tensors = arrays(1)
    if kind.startswith("foreign"):
        shards = 3 if kind == "foreign shards" else 1
        write_foreign(folder, tensors, shards=shards, config=OLD_CONFIG, generation_config="{}")
    else:
        save(
            folder,
            tensors,
            config=OLD_CONFIG,
            max_shard_size=kind,
            other_files={"generation_config.json": "{}"},
        )
    (folder / "logs").mkdir()
    for name in OTHERS - {"logs"}:
        (folder / name).write_text("not ours")
    return Loaded.of(tensors, OLD_CONFIG, "{}")


def assert_tidy(folder):
    """Assert that a folder holds what transformers would have written, what was there before, and nothing else."""
    names = names_in(folder)
    assert names >= OTHERS
    assert all((folder / name).read_text() == "not ours" for name in OTHERS - {"logs"})
    weights = {name for name in names - OTHERS if name.startswith("model")}
    if "model.safetensors" in weights:
        assert weights == {"model.safetensors"}
    else:
        count = len(weights) - 1
        shards = {f"model-{part:05d}-of-{count:05d}.safetensors" for part in range(1, count + 1)}
        assert weights == shards | {"model.safetensors.index.json"}
    assert names - OTHERS - weights <= {"config.json", "generation_config.json"}


CASES = [
    pytest.param(ONE, ONE, GENERATION, id="single-single"),
    pytest.param(ONE, MANY, GENERATION, id="single-sharded"),
    pytest.param(MANY, ONE, GENERATION, id="sharded-single"),
    pytest.param(MANY, MANY, GENERATION, id="sharded-sharded-same-names"),
    pytest.param(MANY, MORE, GENERATION, id="sharded-sharded-other-names"),
    pytest.param(MANY, MANY, {}, id="generation-config-goes"),
    pytest.param("foreign single", MANY, GENERATION, id="foreign-single-sharded"),
    pytest.param("foreign shards", MANY, {}, id="foreign-shards-same-names"),
    pytest.param("foreign shards", ONE, GENERATION, id="foreign-shards-single"),
]


@pytest.mark.parametrize(("before", "size", "other_files"), CASES)
def test_a_save_killed_at_any_system_call_leaves_the_old_checkpoint_or_the_new_one(
    tmp_path, before, size, other_files
):
    old = old_folder(tmp_path / "old", before)
    tensors = arrays(2)
    new = Loaded.of(tensors, NEW_CONFIG, other_files.get("generation_config.json"))
    third = Loaded.of(arrays(3), THIRD_CONFIG)
    states, call, died = [], 0, True
    while died:
        call += 1
        folder = tmp_path / f"killed-{call}"
        shutil.copytree(tmp_path / "old", folder)
        died = killed_before(
            call,
            functools.partial(
                save, folder, tensors, config=NEW_CONFIG, max_shard_size=size, other_files=other_files
            ),
        )
        found = load(folder)
        assert found in (old, new), f"killed before call {call}"
        states.append(found == new)
        save(folder, arrays(3), config=THIRD_CONFIG, max_shard_size=MANY if call % 2 else ONE)
        assert load(folder) == third
        assert_tidy(folder)
    assert states == sorted(states), "once new, the folder never is old again"
    assert not states[0] and states[-1]
    assert states.count(False) > 10 and states.count(True) > 5


def test_a_completed_save_leaves_nothing_extra(tmp_path):
    for before in (ONE, MANY, "foreign single", "foreign shards"):
        for size in (ONE, MANY, MORE):
            folder = tmp_path / f"{before}-{size}"
            old_folder(folder, before)
            save(folder, arrays(2), config=NEW_CONFIG, max_shard_size=size)
            assert load(folder) == Loaded.of(arrays(2), NEW_CONFIG)
            assert_tidy(folder)


def test_a_save_killed_while_it_finishes_a_killed_save_leaves_a_whole_checkpoint(tmp_path):
    """The second save first tidies up after the first; that too may be cut off anywhere."""
    old = old_folder(tmp_path / "old", MANY)
    new, third = Loaded.of(arrays(2), NEW_CONFIG), Loaded.of(arrays(3), THIRD_CONFIG)
    half_done = []
    for call in range(1, 200):
        folder = tmp_path / f"first-{call}"
        shutil.copytree(tmp_path / "old", folder)
        if not killed_before(
            call, functools.partial(save, folder, arrays(2), config=NEW_CONFIG, max_shard_size=MANY)
        ):
            break
        if any(name.endswith("switch.json") for name in names_in(folder)):
            half_done.append((folder, load(folder)))
    assert [state for _, state in half_done].count(new) >= 5
    assert old in [state for _, state in half_done]
    for first, state in (half_done[0], half_done[len(half_done) // 2], half_done[-1]):
        for call in range(1, 200):
            folder = tmp_path / f"{first.name}-{call}"
            shutil.copytree(first, folder)
            died = killed_before(
                call, functools.partial(save, folder, arrays(3), config=THIRD_CONFIG, max_shard_size=ONE)
            )
            assert load(folder) in (state, third)
            if not died:
                break
        assert not died


def test_saving_the_same_content_again_may_be_killed_too(tmp_path):
    """Old and new are of one generation then, and a config edited by hand in between is old or new, never mixed."""
    save(tmp_path / "old", arrays(1), config=NEW_CONFIG, other_files=GENERATION, max_shard_size=MANY)
    (tmp_path / "old" / "config.json").write_text(OLD_CONFIG)
    (tmp_path / "old" / "generation_config.json").write_text("{}")
    old = Loaded.of(arrays(1), OLD_CONFIG, "{}")
    new = Loaded.of(arrays(1), NEW_CONFIG, GENERATION["generation_config.json"])
    states, died = [], True
    while died:
        folder = tmp_path / f"killed-{len(states)}"
        shutil.copytree(tmp_path / "old", folder)
        died = killed_before(
            len(states) + 1,
            functools.partial(
                save, folder, arrays(1), config=NEW_CONFIG, other_files=GENERATION, max_shard_size=MANY
            ),
        )
        found = load(folder)
        assert found in (old, new)
        states.append(found == new)
    assert states == sorted(states) and states[-1] and not states[0]


def test_a_save_that_fails_at_the_switch_may_be_killed_while_it_cleans_up(tmp_path, monkeypatch):
    """With the same content again, the journal already counts there; it must be the first to go."""
    save(tmp_path / "old", arrays(1), config=NEW_CONFIG, other_files=GENERATION)
    (tmp_path / "old" / "config.json").write_text(OLD_CONFIG)
    (tmp_path / "old" / "generation_config.json").write_text("{}")
    old = Loaded.of(arrays(1), OLD_CONFIG, "{}")
    new = Loaded.of(arrays(1), NEW_CONFIG, GENERATION["generation_config.json"])

    def attempt(folder, after):
        """Save; the rename that is the switch fails, and the process dies before the n-th call after it."""

        def fail_at_the_switch(name, arguments):
            watched.last, watched.at_last = len(watched.calls) + after, die
            raise OSError(errno.EIO, os.strerror(errno.EIO), "somewhere")

        watched = disk.os = Interrupted(switch, fail_at_the_switch)
        with contextlib.suppress(SourceError):
            save(folder, arrays(1), config=NEW_CONFIG, other_files=GENERATION)

    shutil.copytree(tmp_path / "old", tmp_path / "whole")
    whole = Interrupted(0, None)
    monkeypatch.setattr(disk, "os", whole)
    save(tmp_path / "whole", arrays(1), config=NEW_CONFIG, other_files=GENERATION)
    target = tmp_path / "whole" / "model.safetensors"
    switch = 1 + next(
        i for i, (name, paths) in enumerate(whole.calls) if name == "replace" and paths[1] == target
    )
    for after in range(1, 20):
        folder = tmp_path / f"killed-{after}"
        shutil.copytree(tmp_path / "old", folder)
        died = killed_before(None, functools.partial(attempt, folder, after))
        assert load(folder) in (old, new), f"killed before call {after} of the cleaning"
        if not died:
            break
    assert not died and after > 5
    assert load(folder) == old


def test_a_configuration_is_loaded_from_the_save_of_the_weights(tmp_path):
    """AutoConfig settles the folder too: config.json may still be the old one when the weights are new."""
    old, new = '{"model_type": "llama", "vocab_size": 111}', '{"model_type": "llama", "vocab_size": 222}'
    save(tmp_path / "old", arrays(1), config=old, max_shard_size=MANY)
    differing, call, died = 0, 0, True
    while died:
        call += 1
        folder = tmp_path / f"killed-{call}"
        shutil.copytree(tmp_path / "old", folder)
        died = killed_before(call, functools.partial(save, folder, arrays(2), config=new))
        size = load_config(folder).vocab_size
        assert size == (222 if load(folder).tensors == Loaded.of(arrays(2), "").tensors else 111)
        differing += str(size) not in (folder / "config.json").read_text()
    assert differing >= 3, "states in which the file of that name is not the one that counts"


def test_a_variant_is_switched_without_touching_the_others(tmp_path):
    save(tmp_path / "old", arrays(5), config=OLD_CONFIG)
    save(tmp_path / "old", arrays(1), config=OLD_CONFIG, variant="fp16", max_shard_size=MANY)
    old, new = Loaded.of(arrays(1), OLD_CONFIG), Loaded.of(arrays(2), NEW_CONFIG)
    states, died = [], True
    while died:
        folder = tmp_path / f"killed-{len(states)}"
        shutil.copytree(tmp_path / "old", folder)
        died = killed_before(
            len(states) + 1,
            functools.partial(save, folder, arrays(2), config=NEW_CONFIG, variant="fp16", max_shard_size=ONE),
        )
        found = load(folder, variant="fp16")
        assert found in (old, new)
        states.append(found == new)
        assert load(folder).tensors == Loaded.of(arrays(5), "").tensors
    assert states == sorted(states) and states[-1]
    assert names_in(folder) == {"config.json", "model.safetensors", "model.fp16.safetensors"}


def fail(error):
    def at_last(name, arguments):
        raise OSError(error, os.strerror(error), "somewhere")

    return at_last


def test_a_full_disk_leaves_the_old_checkpoint_and_no_new_file(tmp_path, monkeypatch):
    old = old_folder(tmp_path / "old", MANY)
    before = names_in(tmp_path / "old")
    writes = 0
    for call in range(1, 200):
        folder = tmp_path / f"full-{call}"
        shutil.copytree(tmp_path / "old", folder)
        full = Interrupted(call, fail(errno.ENOSPC))
        with monkeypatch.context() as patch:
            patch.setattr(disk, "os", full)
            try:
                save(folder, arrays(2), config=NEW_CONFIG, max_shard_size=MANY)
            except SourceError as error:
                failure = error
            else:
                failure = None
        if len(full.calls) < call:
            break
        if full.calls[call - 1][0] not in ("write", "fsync", "mkdir", "open"):
            continue
        writes += 1
        if load(folder) == old:
            assert failure.errno == errno.ENOSPC
            assert isinstance(failure.__cause__, OSError)
            assert "could not be saved" in str(failure) and "free space" in str(failure)
            assert names_in(folder) == before, "temporary files are gone"
        else:
            assert load(folder) == Loaded.of(arrays(2), NEW_CONFIG)
    assert writes > 15


def test_an_interrupt_removes_what_was_written_unless_the_switch_is_done(tmp_path, monkeypatch):
    def interrupt(name, arguments):
        raise KeyboardInterrupt

    old = old_folder(tmp_path / "old", ONE)
    before, states = names_in(tmp_path / "old"), set()
    for call in range(1, 200):
        folder = tmp_path / f"interrupted-{call}"
        shutil.copytree(tmp_path / "old", folder)
        with monkeypatch.context() as patch:
            patch.setattr(disk, "os", Interrupted(call, interrupt))
            try:
                save(folder, arrays(2), config=NEW_CONFIG, max_shard_size=MANY)
            except KeyboardInterrupt:
                interrupted = True
            else:
                interrupted = False
        found = load(folder)
        states.add(found == old)
        if found == old:
            assert names_in(folder) == before
        else:
            assert found == Loaded.of(arrays(2), NEW_CONFIG)
        if not interrupted:
            break
    assert states == {True, False} and not interrupted


def test_every_file_has_reached_the_disk_before_the_switch(tmp_path, monkeypatch):
    """So that a power failure is no worse than a kill."""
    old_folder(tmp_path / "a", ONE)
    watched = Interrupted(0, None)
    descriptors, synced, moved, state = {}, set(), [], {}
    real_open, real_fsync, real_replace = os.open, os.fsync, os.replace

    def opened(path, *arguments):
        descriptor = real_open(path, *arguments)
        descriptors[descriptor] = Path(path).name
        return descriptor

    def fsynced(descriptor):
        synced.add(descriptors[descriptor])
        real_fsync(descriptor)

    def replaced(source, target):
        if Path(target).name == "model.safetensors.index.json":
            state["at the switch"] = set(synced)
            synced.clear()
        elif "at the switch" in state and not moved:
            moved.append(set(synced))
        real_replace(source, target)

    watched.open, watched.fsync, watched.replace = opened, fsynced, replaced
    monkeypatch.setattr(disk, "os", watched)
    files = save(tmp_path / "a", arrays(2), config=NEW_CONFIG, max_shard_size=MANY, other_files=GENERATION)
    staging = next(name for name in state["at the switch"] if name.startswith("loadstone-save-"))
    assert state["at the switch"] == {file.name for file in files} | {"switch.json.part", staging, "a"}
    assert moved == [{"a"}], "the switch itself is synced before anything old goes"


def test_foreign_weights_over_a_half_done_switch_win(tmp_path):
    """Another tool that saves into the folder ends the switch: what it wrote is what loads."""
    old_folder(tmp_path / "old", ONE)
    for call in range(1, 200):
        folder = tmp_path / f"killed-{call}"
        shutil.copytree(tmp_path / "old", folder)
        killed_before(call, functools.partial(save, folder, arrays(2), config=NEW_CONFIG, max_shard_size=ONE))
        if load(folder) == Loaded.of(arrays(2), NEW_CONFIG):
            break
    assert any(name.endswith("/switch.json") for name in names_in(folder)), "half-done"
    write_foreign(folder, arrays(4), shards=1, config=THIRD_CONFIG, generation_config=None)
    assert load(folder).tensors == Loaded.of(arrays(4), "").tensors
    assert load(folder).config == THIRD_CONFIG


def test_a_journal_from_a_stranger_deletes_and_moves_nothing_of_others(tmp_path):
    """A staging folder can come with a download; saving into that folder must not make it act on other files."""
    folder = tmp_path / "a"
    save(folder, arrays(1), config=OLD_CONFIG)
    words = (folder / "model.safetensors").read_bytes().split(b'"')
    generation = next(word for word in words if len(word) == 32).decode()
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (folder / "tokenizer.json").write_text("mine")
    staging = folder / "loadstone-save-0123456789abcdef"
    staging.mkdir()
    (staging / "switch.json").write_text(
        f'{{"generation": "{generation}", "entry": "model.safetensors", "variant": null,'
        ' "files": ["../outside", "/etc/passwd", "model.safetensors", "config.json"]}'
    )
    (folder / "loadstone-save-fedcba9876543210").symlink_to(tmp_path)
    assert load(folder) == Loaded.of(arrays(1), OLD_CONFIG)
    save(folder, arrays(2), config=NEW_CONFIG)
    assert load(folder) == Loaded.of(arrays(2), NEW_CONFIG)
    assert outside.read_text() == (folder / "tokenizer.json").read_text() == "mine"


def test_code_in_folders_is_of_the_same_save_wherever_that_is_killed(tmp_path):
    def save_with_code(folder, seed, config):
        code = {"modeling.py": f"NUMBER = {seed}", "parts/deep/gate.py": f"GATE = {seed}"}
        save(folder, arrays(seed), config=config, max_shard_size=ONE, other_files=code)

    save_with_code(tmp_path / "old", 1, OLD_CONFIG)
    states, call, died = [], 0, True
    while died:
        call += 1
        folder = tmp_path / f"killed-{call}"
        shutil.copytree(tmp_path / "old", folder)
        died = killed_before(call, functools.partial(save_with_code, folder, 2, NEW_CONFIG))
        snapshot = settle(resolve(folder))
        seed = 2 if load(folder) == Loaded.of(arrays(2), NEW_CONFIG) else 1
        assert snapshot.read_text("modeling.py") == f"NUMBER = {seed}"
        assert snapshot.read_text("parts/deep/gate.py") == f"GATE = {seed}"
        states.append(seed)
        save_with_code(folder, 3, THIRD_CONFIG)
        assert (folder / "parts" / "deep" / "gate.py").read_text() == "GATE = 3"
        assert not list(folder.glob("loadstone-save-*"))
    assert states == sorted(states) and states.count(1) > 10 and states.count(2) > 5
