"""Files while they are read: what counts as a change, and where a mapping is not safe."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from loadstone.errors import ChangedFileError, SourceError
from loadstone.read import files as module
from loadstone.read.files import OpenFiles, file_system, identity, is_mappable

MOUNTS = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /proc rw - proc proc rw
40 22 0:40 / /mnt/data rw shared:7 master:2 - nfs4 server:/export rw,vers=4.2
41 40 0:41 / /mnt/data/scratch rw - xfs /dev/vdb rw
42 22 0:42 / /mnt/with\040space rw - fuse.sshfs me@host: rw
43 22 0:43 / /mnt/tab\011and\134backslash rw - cifs //server/share rw
44 22 0:44 / /mnt/twice rw - ext4 /dev/vdc rw
45 44 0:45 / /mnt/twice rw - 9p share rw
46 22 0:46 / /mnt/optional rw shared:1 master:2 propagate_from:3 unbindable - fuseblk /dev/sdb1 rw"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/model.safetensors", "ext4"),
        ("/mnt/data", "nfs4"),
        ("/mnt/data/model.safetensors", "nfs4"),
        ("/mnt/database/model.safetensors", "ext4"),
        ("/mnt/data/scratch/model.safetensors", "xfs"),
        ("/mnt/with space/model.safetensors", "fuse.sshfs"),
        ("/mnt/tab\tand\\backslash/model.safetensors", "cifs"),
        ("/mnt/twice/model.safetensors", "9p"),
        ("/mnt/optional/model.safetensors", "fuseblk"),
    ],
)
def test_the_file_system_of_a_path(path, kind):
    assert file_system(path, MOUNTS) == kind


def test_no_mount_no_file_system():
    assert file_system("/anywhere", "") == ""


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "virtiofs", "fuse.sshfs", "fuseblk", "fuse"])
def test_remote_and_fuse_files_are_not_mapped(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(module, "file_system", lambda path, mounts: kind)
    assert not is_mappable(tmp_path / "model.safetensors")


def test_local_files_are_mapped_and_links_are_followed(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "file_system", lambda path, mounts: asked.append(path) or "xfs")
    (tmp_path / "link").symlink_to(tmp_path / "blob")
    assert is_mappable(tmp_path / "link")
    assert asked == [str(tmp_path.resolve() / "blob")]


def test_this_machine_tells_its_mounts(tmp_path):
    assert file_system(str(tmp_path.resolve()), Path("/proc/self/mountinfo").read_text())
    assert file_system("/proc/self", Path("/proc/self/mountinfo").read_text()) == "proc"


def overwrite(path: Path) -> None:
    """Write other bytes of the same number into the same file."""
    with open(path, "r+b") as stream:
        stream.write(b"other")
    os.utime(path, ns=(0, identity(path)[1] + 1))


def replace(path: Path) -> None:
    """Put a file of the same size, and of the same age, in its place."""
    new = path.with_name("new")
    new.write_bytes(bytes(4096))
    os.utime(new, ns=(0, identity(path)[1]))
    os.replace(new, path)


def truncate(path: Path) -> None:
    os.truncate(path, 100)


def append(path: Path) -> None:
    with open(path, "ab") as stream:
        stream.write(b"more")


CHANGES = pytest.mark.parametrize("change", [overwrite, replace, truncate, append])


@pytest.fixture
def path(tmp_path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(bytes(4096))
    return tmp_path / "model.safetensors"


def opened(path: Path, planned: tuple[int, int, int] | None = None) -> OpenFiles:
    return OpenFiles({path.name: path}, {path.name: planned or identity(path)})


def test_an_unchanged_file_raises_no_alarm(path):
    with opened(path) as files:
        path.read_bytes()
        os.utime(path, ns=(0, identity(path)[1]))
        files.check_unchanged()


@CHANGES
def test_a_change_after_planning_is_seen_when_opening(path, change: Callable[[Path], None]):
    planned = identity(path)
    change(path)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ChangedFileError) as error, opened(path, planned):
        pass
    assert str(path) in str(error.value)
    assert len(os.listdir("/proc/self/fd")) == len(before)


@CHANGES
def test_a_change_while_it_is_open_is_seen(path, change: Callable[[Path], None]):
    with opened(path) as files:
        files.mapped(path.name)
        change(path)
        with pytest.raises(ChangedFileError, match="replace its files, never overwrite"):
            files.check_unchanged()


def test_a_file_that_is_gone_is_an_error(path):
    with opened(path) as files:
        path.unlink()
        with pytest.raises(SourceError, match="is gone"):
            files.check_unchanged()


def test_a_file_is_mapped_once_and_outlives_its_opening(path):
    with opened(path) as files:
        one, other = files.mapped(path.name), files.mapped(path.name)
        assert one is other
    path.unlink()
    assert one.tobytes() == bytes(4096)


def test_a_mapping_reserves_no_memory(path):
    """A file of a terabyte maps on any machine, writable, without a byte of it in memory."""
    os.truncate(path, 1 << 40)
    with opened(path) as files:
        huge = files.mapped(path.name)
    huge[-1] = 7
    assert (huge[-1], huge[1 << 39], len(huge)) == (7, 0, 1 << 40)
    assert identity(path)[0] == 1 << 40 and np.fromfile(path, np.uint8, 1, offset=(1 << 40) - 1)[0] == 0
