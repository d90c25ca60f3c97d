"""Files of weights, changed at random: each loads, or ends in one of our errors, soon, in little memory, and runs nothing.

`python -m tests.fuzz pickle --minutes 10`, or h5, msgpack, gguf, npz, dcp, safetensors, orbax. What libraries wrote is changed, and so
is what led to an error that no input before it led to. What fails is kept below `--keep`, and ends the process with 1.
"""

from __future__ import annotations

import argparse
import codecs
import dataclasses
import hashlib
import os
import pickle
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Files = dict[str, bytes]

SECONDS, MEMORY, BATCH = 1.0, 100 << 20, 400
"""Processor time and memory that an input may take; inputs that one process gets."""

TOKENS = (
    b"\xff" * 8,
    b"\0" * 8,
    b"\x7f" + b"\xff" * 7,
    b"\x80",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"cos\nsystem\n",
    b"R",
    b"(",
)
TOKENS += (
    b"\x8cbuiltins\x8c\x04eval\x93",
    b"Q",
    b"b",
    b"\xc7",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"../x",
    b"\x1e",
)
TOKENS += (
    b"[" * 300,
    b'"shape":[9223372036854775807]',
    b"-1",
    b"18446744073709551616",
    b"TREE",
    b"SNOD",
    b"HEAP",
    b"NaN",
)
FORBIDDEN = (
    "os.system",
    "subprocess",
    "exec",
    "compile",
    "import",
    "socket",
    "ctypes.dlopen",
    "pickle.find_class",
    "os.exec",
)
FORBIDDEN += (
    "os.spawn",
    "os.fork",
    "os.posix_spawn",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "shutil",
    "code.__new__",
    "marshal",
)


def tensors() -> dict[str, np.ndarray[Any, Any]]:
    """Return what the seeds hold."""
    a = np.arange(64, dtype=np.float32).reshape(2, 32)
    return {"a.weight": a, "b.bias": np.ones(3, np.float16), "c": np.array(2), "d.weight": a.T.copy()}


def seeds(name: str, folder: Path) -> list[Files]:
    """Return folders of files as libraries write them; the first file of each is where a load starts."""
    return [{path: (folder / path).read_bytes() for path in made} for made in SEEDS[name](folder)]


def _pickle(folder: Path) -> list[list[str]]:
    import torch

    held = {key: torch.from_numpy(value) for key, value in tensors().items()}
    held["d.weight"] = held["a.weight"].t()
    state = {
        "state": {**held, "p": torch.nn.Parameter(held["a.weight"].bfloat16())},
        "step": [1, 2.0, None, {"x": ("y",)}],
    }
    made = []
    for number, new in enumerate((True, False)):
        (folder / str(number)).mkdir()
        torch.save(state, folder / f"{number}/pytorch_model.bin", _use_new_zipfile_serialization=new)
        made.append([f"{number}/pytorch_model.bin"])
    return made


def _h5(folder: Path) -> list[list[str]]:
    import h5py

    for number, libver in enumerate(("earliest", "latest")):
        (folder / str(number)).mkdir()
        with h5py.File(folder / f"{number}/tf_model.h5", "w", libver=libver) as file:
            for key, value in tensors().items():
                file[f"layer/model/{key.replace('.', '/')}:0"] = value
            file.attrs["layer_names"] = [b"layer"]
            file["layer"].attrs["weight_names"] = [b"model/a/weight:0"]
    return [["0/tf_model.h5"], ["1/tf_model.h5"]]


def _msgpack(folder: Path) -> list[list[str]]:
    from flax import serialization

    value = {
        "layers": {"0": dict(tensors())},
        "bf": {"kernel": np.ones((2, 2), np.dtype("float16")), "s": np.float32(3)},
    }
    (folder / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize(value))
    return [["flax_model.msgpack"]]


def _gguf(folder: Path) -> list[list[str]]:
    import gguf

    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    for key, number in {
        "block_count": 1,
        "embedding_length": 32,
        "context_length": 64,
        "feed_forward_length": 64,
    }.items():
        writer.add_uint32(f"llama.{key}", number)
    writer.add_uint32("llama.attention.head_count", 2)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_token_list(["a", "b", "c"])
    writer.add_tensor("token_embd.weight", np.ones((3, 32), np.float32))
    packed = gguf.quants.quantize(np.ones((32, 32), np.float32), gguf.GGMLQuantizationType.Q4_1)
    writer.add_tensor("blk.0.attn_q.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
    writer.add_tensor("output_norm.weight", np.ones(32, np.float32))
    for write in ("header_to_file", "kv_data_to_file", "tensors_to_file"):
        getattr(writer, f"write_{write}")()
    writer.close()
    return [["model.gguf"]]


def _npz(folder: Path) -> list[list[str]]:
    np.savez(folder / "model.npz", **tensors(), turned=np.asfortranarray(tensors()["a.weight"]))
    return [["model.npz"]]


def _dcp(folder: Path) -> list[list[str]]:
    import torch
    import torch.distributed.checkpoint as dcp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        held = {key: torch.from_numpy(value) for key, value in tensors().items()}
        dcp.save({"model": held, "step": 3}, checkpoint_id=folder, no_dist=True)
    return [[".metadata", *(path.name for path in folder.glob("*.distcp"))]]


def _safetensors(folder: Path) -> list[list[str]]:
    from safetensors.numpy import save_file

    save_file(tensors(), folder / "model.safetensors", metadata={"format": "pt"})
    return [["model.safetensors"]]


def _orbax(folder: Path) -> list[list[str]]:
    import orbax.checkpoint as ocp

    made = []
    for number, ocdbt in enumerate((True, False)):
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt)) as saver:
            saver.save(folder / str(number), tensors())
        found = (
            path.relative_to(folder).as_posix()
            for path in (folder / str(number)).rglob("*")
            if path.is_file()
        )
        made.append(sorted(found, key=lambda name: not name.endswith("/_METADATA")))
    return made


SEEDS: Mapping[str, Callable[[Path], list[list[str]]]] = {
    "pickle": _pickle,
    "h5": _h5,
    "msgpack": _msgpack,
    "gguf": _gguf,
    "npz": _npz,
    "dcp": _dcp,
    "safetensors": _safetensors,
    "orbax": _orbax,
}


def changed(files: Files, others: list[Files], chance: random.Random) -> Files:
    """Return files of which one is changed in a few places; of an archive mostly what is in it."""
    files = dict(files)
    weights = [len(data) + 1 for data in files.values()]
    name = chance.choice(list(files)) if chance.random() < 0.5 else chance.choices(list(files), weights)[0]
    donor = chance.choice(others)
    inside = _entries(files[name]) if chance.random() < 0.7 else None
    if inside:
        entry = chance.choice(list(inside))
        inside[entry] = _altered(inside[entry], chance.choice(list(inside.values())), chance)
        files[name] = _archive(inside)
    else:
        files[name] = _altered(files[name], chance.choice(list(donor.values())), chance)
    return files


def _altered(data: bytes, donor: bytes, chance: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(1 << chance.randrange(4)):
        at = (
            chance.randrange(min(len(made), 512) if chance.random() < 0.4 and made else len(made) + 1)
            if made
            else 0
        )
        chance.choice(CHANGES)(made, at, donor, chance)
    return bytes(made)


def _bit(made: bytearray, at: int, donor: bytes, chance: random.Random) -> None:
    if at < len(made):
        made[at] ^= 1 << chance.randrange(8)


def _byte(made: bytearray, at: int, donor: bytes, chance: random.Random) -> None:
    made[at : at + 1] = bytes([chance.randrange(256)])


def _number(made: bytearray, at: int, donor: bytes, chance: random.Random) -> None:
    width = chance.choice((1, 2, 4, 8))
    value = chance.choice(
        (0, 1, -1, 1 << (8 * width - 1), (1 << (8 * width - 1)) - 1, chance.randrange(1 << 16), len(made))
    )
    made[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, chance.choice(("little", "big")))


def _token(made: bytearray, at: int, donor: bytes, chance: random.Random) -> None:
    token = chance.choice(TOKENS)
    made[at : at + chance.choice((0, len(token)))] = token


def _cut(made: bytearray, at: int, donor: bytes, chance: random.Random) -> None:
    del made[at : at + chance.choice((1, 4, 16, len(made)))]


def _spliced(made: bytearray, at: int, donor: bytes, chance: random.Random) -> None:
    start = chance.randrange(len(donor) + 1)
    made[at : at + chance.choice((0, 8))] = donor[start : start + chance.choice((1, 8, 64, 400))]


def _repeated(made: bytearray, at: int, donor: bytes, chance: random.Random) -> None:
    size = chance.choice((1, 4, 32))
    made[at:at] = bytes(made[at : at + size]) * chance.choice((1, 10, 1000))


CHANGES = (_bit, _bit, _byte, _number, _number, _token, _cut, _spliced, _repeated)


def _entries(data: bytes) -> dict[str, bytes] | None:
    import io

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {
                info.filename: archive.read(info)
                for info in archive.infolist()[:100]
                if info.file_size < 1 << 20
            }
    except Exception:  # noqa: BLE001  # what was changed need not be an archive any more
        return None


def _archive(entries: Mapping[str, bytes]) -> bytes:
    import io

    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()


def load(folder: Path, name: str) -> None:
    """Plan from the files, and read every tensor that they have.

    Raises:
        LoadstoneError: If something about them is wrong.
    """
    from loadstone.checkpoint.open import find_weights, open_checkpoint
    from loadstone.checkpoint.recipe import whole
    from loadstone.read.engine import Request, Traffic, read_tensors
    from loadstone.read.files import OpenFiles, identity
    from loadstone.source import resolve

    snapshot = resolve(folder)
    said: dict[str, Any] = {"weights_format": name}
    if name == "gguf":
        said["weights_file"] = "model.gguf"
        weights = find_weights(snapshot, **said)
        weights.format.config(snapshot, weights.entry)
    index = open_checkpoint(snapshot, **said)
    paths = snapshot.fetch(index.files)
    requests = [
        Request(name=key, recipe=whole(info, info.dtype), shape=info.shape, mappable=False)
        for key, info in index.tensors.items()
    ]
    with OpenFiles(paths, {key: identity(path) for key, path in paths.items()}) as files:
        for tensor in read_tensors(files, requests, alignment=64, traffic=Traffic()):
            tensor.data.sum()


@dataclasses.dataclass
class Ran:
    """What an audit hook saw while it was told to look."""

    looks: bool = False
    saw: list[str] = dataclasses.field(default_factory=list)

    def hook(self, event: str, arguments: tuple[object, ...]) -> None:
        """Note what no load of weights does."""
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if self.looks and (event.startswith(FORBIDDEN) or writes):
            self.saw.append(f"{event} {arguments!r:.200}")


def one(files: Files, folder: Path, name: str, ran: Ran) -> tuple[str, str]:
    """Try one input: what became of it, and what is wrong with that, "" for nothing."""
    from loadstone.errors import LoadstoneError

    shutil.rmtree(folder, ignore_errors=True)
    for path, data in files.items():
        place = folder / path.split("/", 1)[-1] if path[:2] in ("0/", "1/") else folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    before = _peak(anew=True)
    started, ran.saw, ran.looks, other = time.process_time(), [], True, None
    try:
        load(folder, name)
        end, fault = "loads", ""
    except LoadstoneError as error:
        told = " ".join(line for line in str(error).splitlines() if "where:" not in line)
        end, fault = re.sub(r"[0-9]+|'[^']*'|\\\\x..", "#", told)[:200], ""
    except BaseException as error:  # noqa: BLE001  # whatever else it is, it is a find
        end, fault, other = type(error).__name__, str(error), error
    finally:
        ran.looks = False
    seconds, memory = time.process_time() - started, _peak() - before
    if other is not None:
        fault = "".join(traceback.format_exception(other))
    if ran.saw:
        fault = f"ran {ran.saw}"
    elif seconds > SECONDS or memory > MEMORY:
        fault = fault or f"took {seconds:.1f} s and {memory >> 20} MB"
    return end, fault


def _peak(*, anew: bool = False) -> int:
    """Return the most memory that was resident, in bytes, since it was asked for anew."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    [line] = re.findall(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    return int(line) << 10


def batch(corpus: list[Files], name: str, seed: int, report: Path) -> None:
    """Try inputs in a process of their own; what is under way and what came of them is in a file when it ends."""
    chance, ran, folder = random.Random(seed), Ran(), report.with_suffix(".d")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(120)
    codecs.lookup("raw-unicode-escape")
    for files in corpus[:4]:
        one(files, folder, name, ran)  # what is imported late is imported now
    sys.addaudithook(ran.hook)
    found: list[tuple[str, str, Files]] = []
    for _ in range(BATCH):
        files = changed(chance.choice(corpus), corpus, chance)
        report.write_bytes(pickle.dumps((found, files)))
        end, fault = one(files, folder, name, ran)
        if fault or all(end != other for other, _, _ in found):
            found.append((end, fault, files))
        if len(found) > 60:
            break
    report.write_bytes(pickle.dumps((found, None)))


def _made(name: str, work: Path) -> list[Files]:
    """Return the seeds, made in a process of its own: what wrote them is not there when they are read."""
    child = os.fork()
    if not child:
        try:
            (work / "seeds").mkdir()
            (work / "made").write_bytes(pickle.dumps(seeds(name, work / "seeds")))
        finally:
            sys.stderr.flush()
            os._exit(0)
    os.waitpid(child, 0)
    found: list[Files] = pickle.loads((work / "made").read_bytes())
    return found


def fuzz(name: str, minutes: float, keep: Path, seed: int) -> int:
    """Try inputs for some minutes; return how many failed in different ways."""
    memory = Path("/dev/shm")  # where files cost no disk
    work = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-", dir=memory if os.access(memory, os.W_OK) else None))
    corpus = _made(name, work)
    ends, faults, tried, until = Counter[str](), dict[str, Files](), 0, time.monotonic() + 60 * minutes
    while time.monotonic() < until:
        report, seed = work / "report", seed + 1
        child = os.fork()
        if not child:
            try:
                batch(corpus, name, seed, report)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        found, under_way = pickle.loads(report.read_bytes())
        if under_way is not None:
            found.append(("ended", f"the process ended with {status}", under_way))
        tried += BATCH
        for end, fault, files in found:
            if fault:
                faults.setdefault(re.sub(r"[0-9.]+", "#", fault)[-400:], files)
                print(f"{end}: {fault[-1500:]}", flush=True)
            elif end not in ends:
                corpus.append(files)
            ends[end] += 1
    for fault, files in faults.items():
        place = keep / f"{name}-{hashlib.sha256(repr(files).encode()).hexdigest()[:8]}"
        place.mkdir(parents=True, exist_ok=True)
        (place / "files.pickle").write_bytes(pickle.dumps(files))
        (place / "fault.txt").write_text(fault)
    shutil.rmtree(work)
    print(f"{name}: about {tried:,} inputs, {len(ends)} ends, {len(faults)} faults")
    return len(faults)


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("format", choices=SEEDS)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "fuzz-finds")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    return int(fuzz(given.format, given.minutes, given.keep, given.seed) > 0)


if __name__ == "__main__":
    sys.exit(main())
