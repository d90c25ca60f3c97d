"""Pickles that ask for more than tensors: nothing is imported, run or opened, and each is our error within a second of work."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loadstone.checkpoint.open import open_checkpoint
from loadstone.errors import CheckpointError
from loadstone.source import resolve
from tests.pickled import (
    GOOD,
    ONES,
    ORDERED,
    Entry,
    archive,
    entries_of,
    named,
    number,
    numbers,
    older,
    pair,
    persistent,
    pickled,
    reduced,
    table,
    tensor,
    text,
)

SYSTEM = named("posix", "system")
BOMB = b"0".join(b"(" + b"h\x00" * 10 + b"tq\x00" for _ in range(40))
V2 = named("torch._utils", "_rebuild_tensor_v2")
SETSTATE = text("__setstate__") + named("os", "system")


def holding(body: bytes) -> bytes:
    """Return a state dict with one tensor and something else."""
    return pickled(table({"weight": tensor(), "other": body}))


def with_entry(**changes) -> bytes:
    """Return an archive one of whose entries, its storage, is another."""
    entries = entries_of()
    for name, value in changes.items():
        setattr(entries[2], name, value)
    return archive(entries)


DESCRIPTIONS = {
    "reduce to os.system": holding(reduced(named("os", "system"), text("id"))),
    "reduce to posix.system": holding(reduced(SYSTEM, text("id"))),
    "reduce to nt.system": holding(reduced(named("nt", "system"), text("id"))),
    "reduce to subprocess": holding(reduced(named("subprocess", "Popen"), text("id"))),
    "eval": holding(reduced(named("builtins", "eval"), text("1"))),
    "exec of Python 2": holding(reduced(named("__builtin__", "exec"), text("1"))),
    "compile": holding(reduced(named("builtins", "compile"), text("1"), text("f"), text("exec"))),
    "open": holding(reduced(named("builtins", "open"), text("/etc/passwd"))),
    "import": holding(reduced(named("builtins", "__import__"), text("os"))),
    "getattr": holding(reduced(named("builtins", "getattr"), named("torch", "Tensor"), text("x"))),
    "a getattr chain": holding(
        reduced(reduced(named("builtins", "getattr"), named("builtins", "dict"), text("get")), text("x"))
    ),
    "apply": holding(reduced(named("operator", "attrgetter"), text("system"))),
    "methodcaller": holding(reduced(named("operator", "methodcaller"), text("f"))),
    "partial": holding(reduced(named("functools", "partial"), SYSTEM)),
    "map": holding(reduced(named("builtins", "map"), SYSTEM, pair(text("id")))),
    "runpy": holding(reduced(named("runpy", "_run_code"), text("1"))),
    "pydoc.locate": holding(reduced(named("pydoc", "locate"), text("os.system"))),
    "webbrowser": holding(reduced(named("webbrowser", "open"), text("http://127.0.0.1"))),
    "socket": holding(reduced(named("socket", "create_connection"), text("127.0.0.1"))),
    "torch.load": holding(reduced(named("torch", "load"), text("other.bin"))),
    "torch.hub": holding(reduced(named("torch.hub", "load"), text("x"))),
    "a nested load": holding(reduced(named("torch.storage", "_load_from_bytes"), b"C\x03abc")),
    "a pickle in a pickle": holding(reduced(named("pickle", "loads"), b"C\x03abc")),
    "numpy's load": holding(reduced(named("numpy", "load"), text("x"))),
    "numpy's runstring": holding(reduced(named("numpy.testing._private.utils", "runstring"), text("1"))),
    "a dotted name": holding(named("torch", "Tensor.__class__") + b")R"),
    "a module as a name": holding(named("torch.os", "system") + b")R"),
    "stack global": holding(text("os") + text("system") + b"\x93" + pair(text("id")) + b"R"),
    "stack global of numbers": holding(number(1) + number(2) + b"\x93"),
    "stack global of a known name joined otherwise": holding(text("torch.") + text("Tensor") + b"\x93"),
    "inst": holding(b"(" + text("id") + b"ios\nsystem\n"),
    "obj": holding(b"(" + SYSTEM + text("id") + b"o"),
    "obj of nothing": holding(b"(o"),
    "newobj": holding(SYSTEM + pair(text("id")) + b"\x81"),
    "newobj_ex": holding(named("collections", "OrderedDict") + b")" + table({"a": b"N"}) + b"\x92"),
    "an extension": holding(b"\x82\x01"),
    "an extension of four bytes": holding(b"\x84\x01\x00\x00\x00"),
    "a buffer outside": pickled(table({"w": tensor(), "o": b"\x97"}), protocol=5),
    "a read-only buffer": pickled(table({"w": tensor(), "o": b"N\x98"}), protocol=5),
    "a persistent id by line": holding(b"P0\n"),
    "a call of a class": holding(named("torch", "Tensor") + pair(number(3)) + b"R"),
    "a call of a dtype": holding(named("torch", "float32") + b")R"),
    "a call of a tensor": holding(tensor() + b")R"),
    "a call of a dictionary": holding(b"}" + b")R"),
    "a call without arguments": holding(V2 + b"}R"),
    "__setstate__ of a class": holding(named("torch", "Tensor") + b"}" + SETSTATE + b"sb"),
    "state of a tensor": holding(tensor() + b"}" + SETSTATE + b"sb"),
    "state of a list": holding(b"]}b"),
    "state of a number": holding(number(1) + b"}b"),
    "an item of a tensor": holding(tensor() + text("a") + b"Ns"),
    "an item of a class": holding(named("torch", "Tensor") + text("__call__") + b"Ns"),
    "an append to a tuple": holding(b")Na"),
    "an append to a tensor": holding(tensor() + b"(Ne"),
    "add to a dictionary": holding(b"}(N\x90"),
    "a key without a value": holding(b"}(Nu"),
    "a persistent id of text": holding(text("0") + b"Q"),
    "a persistent id of a module": holding(pair(text("module"), text("os"), text("x")) + b"Q"),
    "a persistent id of another class": holding(
        pair(text("storage"), named("torch", "Tensor"), text("0"), text("cpu"), number(12)) + b"Q"
    ),
    "a key that is a number": pickled(table({"w": tensor(storage=persistent(key=number(0)))})),
    "a key that leads out": pickled(table({"w": tensor(storage=persistent(key=text("../data.pkl")))})),
    "a key that is not there": pickled(table({"w": tensor(storage=persistent(key=text("7")))})),
    "a count below nothing": pickled(table({"w": tensor(storage=persistent(count=-1))})),
    "a count beyond everything": pickled(table({"w": tensor(storage=persistent(count=2**70))})),
    "one storage twice": pickled(table({"w": tensor(), "v": tensor(storage=persistent(count=6))})),
    "a storage smaller than the view": pickled(table({"w": tensor((4, 4))})),
    "an offset behind the end": pickled(table({"w": tensor(first=1)})),
    "a negative offset": pickled(table({"w": tensor(first=-1)})),
    "negative strides": pickled(table({"w": tensor((3, 4), (-4, 1))})),
    "negative sizes": pickled(table({"w": tensor((-3, -4))})),
    "a huge shape": pickled(table({"w": tensor((2**40, 2**40))})),
    "a huge shape of one number": pickled(table({"w": tensor((2**40, 2**20), (0, 0))})),
    "a shape of many axes": pickled(table({"w": tensor([1] * 100, [1] * 100)})),
    "more sizes than strides": pickled(table({"w": tensor((3, 4), (1,))})),
    "a shape of texts": pickled(
        table({"w": reduced(V2, persistent(), number(0), pair(text("a")), pair(text("b")))})
    ),
    "a shape of truths": pickled(
        table({"w": reduced(V2, persistent(), number(0), pair(b"\x88"), pair(b"\x88"))})
    ),
    "no storage": pickled(table({"w": reduced(V2, text("0"), number(0), numbers((1,)), numbers((1,)))})),
    "no arguments": pickled(table({"w": reduced(V2)})),
    "a tensor of a class of its own": pickled(
        table(
            {"w": reduced(named("torch._tensor", "_rebuild_from_type_v2"), SYSTEM, text("x"), pair(), b"}")}
        )
    ),
    "a tensor described by itself": pickled(
        table(
            {
                "w": reduced(
                    named("torch._tensor", "_rebuild_from_type_v2"),
                    named("torch._tensor", "_rebuild_from_type_v2"),
                    named("torch", "Tensor"),
                    pair(),
                    b"}",
                )
            }
        )
    ),
    "a sparse tensor": pickled(
        table({"w": reduced(named("torch._utils", "_rebuild_sparse_tensor"), pair())})
    ),
    "a quantised tensor": pickled(table({"w": reduced(named("torch._utils", "_rebuild_qtensor"), pair())})),
    "a negative view": pickled(
        table(
            {
                "w": reduced(
                    V2,
                    persistent(),
                    number(0),
                    numbers((1,)),
                    numbers((1,)),
                    b"\x89",
                    ORDERED,
                    table({"neg": b"\x88"}),
                )
            }
        )
    ),
    "a dtype without a name": pickled(
        table({"w": tensor((6,), (1,), storage=persistent(kind="ComplexDoubleStorage", count=3))})
    ),
    "not a dictionary": pickled(tensor()),
    "a number": pickled(number(1)),
    "nothing": pickled(b"N"),
    "an empty dictionary": pickled(b"}"),
    "no tensor": pickled(table({"a": number(1)})),
    "one name twice": pickled(b"}(" + text("a") + tensor() + text("a") + tensor((12,), (1,)) + b"u"),
    "a name that is a tensor": pickled(b"}" + tensor() + tensor() + b"s"),
    "a name that is half a letter": pickled(table({"\ud800": tensor()})),
    "a name too long": pickled(table({"x" * 2000: tensor()})),
    "a dictionary in itself": pickled(b"}q\x00" + text("w") + tensor() + b"s" + text("self") + b"h\x00s"),
    "dictionaries deep in one another": pickled(
        text("w")
        + tensor()
        + b"q\x00"
        + b"00"
        + b"}"
        + (text("a") + b"}") * 5000
        + text("w")
        + b"h\x00s"
        + b"s" * 5000
    ),
    "a tuple bomb": pickled(table({"w": tensor(), "bomb": b")q\x00" + b"0" + BOMB})),
    "a dictionary bomb": pickled(
        b"}q\x00"
        + text("w")
        + tensor()
        + b"s"
        + b"".join(
            b"}(" + b"".join(text(str(key)) + b"h\x00" for key in range(30)) + b"uq\x00" for _ in range(7)
        )
    ),
    "a list copied again and again": pickled(
        b"]("
        + b"N" * 200_000
        + b"eq\x00"
        + named("torch", "Size")
        + b"q\x01"
        + b"h\x01(h\x00tR0" * 1000
        + table({"w": tensor()})
    ),
    "many instructions": pickled(b"N0" * 300_000 + table({"w": tensor()})),
    "many marks": pickled(b"(" * 600_000 + table({"w": tensor()})),
    "many dictionaries": pickled(b"}" * 600_000 + table({"w": tensor()})),
    "nested tuples as a name": pickled(b"}" + b")" + b"\x85" * 400_000 + tensor() + b"s"),
    "a number of a million digits": holding(
        b"\x8b" + (1_000_000).to_bytes(4, "little") + b"\x01" * 1_000_000
    ),
    "a number of many decimal digits": holding(b"L" + b"9" * 100_000 + b"L\n"),
    "a number that is none": holding(b"Ix\n"),
    "a negative length": holding(b"\x8b\xff\xff\xff\xff"),
    "a text of negative length": holding(b"T\xff\xff\xff\xff"),
    "a text longer than the file": holding(b"X\xff\xff\xff\x7fabc"),
    "bytes longer than memory": holding(b"\x96" + (2**62).to_bytes(8, "little")),
    "a text that is none": holding(b"X\x02\x00\x00\x00\xff\xff"),
    "a text with a path through an escape": holding(b"S'\\x41'\n"),
    "a memo that was not put": holding(b"h\x63"),
    "a memo below nothing": holding(b"g-1\n"),
    "a stack that is empty": pickled(b""),
    "a mark that was not set": holding(b"u"),
    "an instruction that there is not": holding(b"\xff"),
    "no end": GOOD[:-1],
    "an opcode cut off": b"\x80\x02}X\x05",
    "a name without an end": b"\x80\x02c" + b"a" * 3_000_000,
    "a name too long for a module": holding(named("a" * 5000, "b")),
    "texts in place of weights": b"hello, world, this is none of it",
}

LARGE = len(archive(entries_of()))
ZIP64 = b"\x01\x00\x18\x00" + (2**60).to_bytes(8, "little") * 3
ARCHIVES = {
    "an encrypted entry": with_entry(flags=0x809),
    "an entry encrypted in its own header": with_entry(own_flags=0x1),
    "a compressed entry": with_entry(method=8),
    "an entry compressed in its own header": with_entry(own_method=8),
    "a zip bomb": archive([*entries_of(), Entry(name="archive/bomb", data=b"x" * 10, method=8, size=2**31)]),
    "a stored zip bomb": archive([*entries_of(), Entry(name="archive/bomb", data=b"x" * 10, size=2**31)]),
    "a description that is a bomb": archive([Entry(name="archive/data.pkl", data=b"x", size=2**31 - 1)]),
    "sizes that differ": with_entry(packed=12),
    "a storage too short": with_entry(data=ONES.tobytes()[:-4]),
    "a storage too long": with_entry(data=ONES.tobytes() + b"abcd"),
    "a storage that runs into the next entry": with_entry(size=2_000),
    "overlapping entries": archive(
        [*entries_of()[:3], Entry(name="archive/data/1", data=b"", header=0, size=9)]
    ),
    "entries at one place": archive(
        [*entries_of()[:3], Entry(name="archive/version", data=b"3\n", header=0)]
    ),
    "an entry behind the end": with_entry(header=LARGE + 100),
    "an entry in the middle of another": with_entry(header=200),
    "an entry of 2^60 bytes": with_entry(size=0xFFFFFFFF, header=0xFFFFFFFF, extra=ZIP64),
    "a large entry without its size": with_entry(size=0xFFFFFFFF),
    "an absolute name": with_entry(name="/archive/data/0"),
    "a name that leads out": with_entry(name="archive/../../data/0"),
    "a name with a backslash": with_entry(name="archive\\data\\0"),
    "a drive": with_entry(name="C:/archive/data/0"),
    "a name with a zero": with_entry(name="archive/data/0\0x"),
    "a name that is no text": with_entry(name="archive/\udcff"),
    "another name in its own header": with_entry(own_name="archive/data/1"),
    "a longer name in its own header": with_entry(own_name="archive/data/000000000000"),
    "an entry on another disk": with_entry(disk=1),
    "the same entry twice": archive([*entries_of(), entries_of()[2]]),
    "two descriptions": archive([*entries_of(), Entry(name="other/data.pkl", data=GOOD)]),
    "no description": archive(entries_of()[1:]),
    "no storage": archive(entries_of(storages={})),
    "a program": archive([*entries_of(), Entry(name="archive/constants.pkl", data=b"")]),
    "the other byte order": archive(entries_of(order=b"big")),
    "a byte order that there is not": archive(entries_of(order=b"middle")),
    "more entries than there are": archive(entries_of(), count=40_000),
    "fewer entries than there are": archive(entries_of(), count=2),
    "a directory elsewhere": archive(entries_of(), shift=10),
    "a comment": archive(entries_of(), comment=b"PK\x05\x06"),
    "something behind it": archive(entries_of()) + b"0",
    "nothing but an end": archive([]),
    "no entry": b"PK\x03\x04" + archive([]),
    "cut short": archive(entries_of())[:-30],
    "cut in half": archive(entries_of())[: LARGE // 2],
    "an empty file": b"",
    "a pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "a page": b"<!DOCTYPE html>",
    "safetensors": (16).to_bytes(8, "little") + b'{"a": 1}        ',
    "a tar file": b"sys_info\0" + b"\0" * 503,
}

OLDER = {
    "another magic number": older(magic=7),
    "another protocol": older(protocol=7),
    "the other byte order": older(little=b"\x89"),
    "no byte order": older(little=b"N"),
    "another size": older(count=11),
    "a size beyond everything": older(count=2**63),
    "no storage": older(keys=()),
    "one storage too many": older(keys=("0", "1")),
    "a storage twice": older(keys=("0", "0")),
    "cut short": older()[:-1],
    "cut before its storages": older()[: -8 - ONES.nbytes],
    "something behind it": older() + b"0",
    "a plain pickle": pickle.dumps({"weight": [1.0, 2.0]}),
    "a plain pickle of an array": pickle.dumps(np.ones(3)),
    "a view that is larger": older(
        pickled(table({"w": tensor(storage=persistent(more=pair(text("0"), number(6), number(9))))}))
    ),
    "a view of texts": older(
        pickled(table({"w": tensor(storage=persistent(more=pair(text("0"), text("6"), text("9"))))}))
    ),
    "a front that calls": pickled(reduced(SYSTEM, text("id"))) + older(),
}

CORPUS = {
    **{f"zip: {name}": archive(entries_of(one)) for name, one in DESCRIPTIONS.items()},
    **{f"older: {name}": older(one) for name, one in DESCRIPTIONS.items()},
    **{f"archive: {name}": one for name, one in ARCHIVES.items()},
    **{f"older form: {name}": one for name, one in OLDER.items()},
}

PROGRAM = """
import json, sys, time
from loadstone.checkpoint.open import open_checkpoint
from loadstone.errors import CheckpointError
from loadstone.source import resolve

folders = json.load(sys.stdin)
seen, found = [], {}
for warm in folders["good"]:
    open_checkpoint(resolve(warm))
for warm in folders["warm"]:
    try:
        open_checkpoint(resolve(warm))
    except CheckpointError:
        pass

def hook(event, arguments):
    if watched is None:
        return
    if event == "open" and (type(arguments[0]) is int or str(arguments[0]).startswith(watched)):
        return  # the file itself, or a descriptor of what was opened under its name
    if event not in ("os.scandir", "os.listdir", "builtins.id"):
        seen.append((watched, event, repr(arguments)[:200]))

watched = None
sys.addaudithook(hook)
for folder in folders["hostile"]:
    snapshot = resolve(folder)
    started, watched, error = time.process_time(), folder, ""
    try:
        open_checkpoint(snapshot)
    except CheckpointError as caught:
        error = str(caught)
    watched = None
    found[folder] = (time.process_time() - started, error)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([found, seen, int(peak.split()[1]) * 1024]))
"""


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Return what became of each hostile file, and what was done meanwhile."""
    root = tmp_path_factory.mktemp("hostile")

    def write(name: str, data: bytes) -> str:
        folder = root / name
        folder.mkdir()
        (folder / "pytorch_model.bin").write_bytes(data)
        return str(folder)

    good = [write("good", archive(entries_of())), write("old", older())]
    warm = [write("warm", archive(entries_of(DESCRIPTIONS["getattr"]))), write("none", ARCHIVES["cut short"])]
    hostile = {write(str(place), data): name for place, (name, data) in enumerate(CORPUS.items())}
    asked = json.dumps({"good": good, "warm": warm, "hostile": list(hostile)})
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=asked, capture_output=True, text=True, check=True
    ).stdout
    found, seen, peak = json.loads(told)
    done = [(hostile[folder], *rest) for folder, *rest in seen]
    return {hostile[folder]: result for folder, result in found.items()}, done, peak


def test_there_are_enough():
    assert len(CORPUS) > 200 and len(set(CORPUS.values())) == len(CORPUS)


def test_each_ends_in_our_error_within_a_second(read):
    found, _, _ = read
    assert set(found) == set(CORPUS)
    assert [name for name, (_, error) in found.items() if not error] == []
    assert [(name, seconds) for name, (seconds, _) in found.items() if seconds > 1] == []
    for name, (_, error) in found.items():
        lines = error.splitlines()
        assert "pytorch_model.bin" in lines[0] and "  next: " in lines[-1], (name, error)
        assert len(error) < 2_500 and error.isascii(), (name, error)


def test_nothing_is_imported_or_run_or_opened(read):
    _, seen, _ = read
    assert seen == []


def test_none_takes_much_memory(read):
    assert read[2] < 250_000_000, "the interpreter's own included"


def test_neither_torch_nor_numpy_is_needed_to_plan(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(archive(entries_of()))
    program = (
        "import sys; sys.modules |= {'torch': None, 'numpy': None, 'pickle': None}\n"
        "from loadstone.checkpoint.open import open_checkpoint\n"
        "from loadstone.source import resolve\n"
        "print(*open_checkpoint(resolve(sys.argv[1])).tensors)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "weight\n"


def test_what_names_code_is_told_that_nothing_was_run(read):
    found, _, _ = read
    for name in ("reduce to os.system", "eval", "a getattr chain", "stack global", "inst", "obj", "newobj"):
        for form in ("zip", "older"):
            assert "names code that weights have no use for" in found[f"{form}: {name}"][1]
            assert "nothing of it was run" in found[f"{form}: {name}"][1]


def damaged(good: bytes, rng: np.random.Generator) -> bytes:
    """Return a file with a few bytes changed, cut out or put in."""
    data = bytearray(good)
    for _ in range(rng.integers(1, 5)):
        if not data:
            break
        at = int(rng.integers(0, len(data)))
        kind = rng.integers(0, 8)
        if kind < 5:
            data[at] = int(rng.integers(0, 256))
        elif kind == 5:
            data[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 6:
            del data[at : at + int(rng.integers(1, 9))]
        else:
            data[at:at] = bytes(rng.integers(0, 256, int(rng.integers(1, 9)), np.uint8))
    return bytes(data)


MIXED = pickled(
    table(
        {
            "w": tensor(),
            "t": tensor((4, 3), (1, 4)),
            "p": reduced(
                named("torch._utils", "_rebuild_parameter"), tensor((2, 3), (3, 1), first=6), b"\x88", ORDERED
            ),
            "n": table({"a": number(3), "b": b"](K\x01K\x02e"}),
        }
    )
)


@pytest.mark.parametrize("form", ["zip", "older"])
@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_our_errors_or_tensors_within_the_file(tmp_path, form, seed):
    good = archive(entries_of(MIXED)) if form == "zip" else older(MIXED)
    front = len(good) if form == "zip" else len(good) - ONES.nbytes
    rng, file = np.random.default_rng(seed), tmp_path / "pytorch_model.bin"
    refused = 0
    for _ in range(250):
        file.write_bytes(data := damaged(good[:front], rng) + good[front:])
        try:
            index = open_checkpoint(resolve(tmp_path))
        except CheckpointError:
            refused += 1
            continue
        assert all(0 <= info.offset <= info.end <= len(data) for info in index.tensors.values())
    assert refused > 100


def test_each_cut_of_a_file_is_our_error(tmp_path):
    file = tmp_path / "pytorch_model.bin"
    for good in (archive(entries_of()), older()):
        for length in range(0, len(good), 3):
            file.write_bytes(good[:length])
            with pytest.raises(CheckpointError):
                open_checkpoint(resolve(Path(tmp_path)))
