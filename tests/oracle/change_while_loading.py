"""Loads checkpoints and changes their files meanwhile: `python change_while_loading.py BACKEND GOOD WORK CASES`.

Run in a process of its own, which a change that goes unnoticed can end. Prints a line of JSON for each case: its name, and the
error that told of the change, or "nothing".
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import loadstone.load.story
import loadstone.load.supply
from loadstone.errors import ChangedFileError, SourceError


def overwrite(file: Path) -> None:
    with open(file, "r+b") as stream:
        data = bytearray(stream.read())
        data[-200:] = bytes(200)
        stream.seek(0)
        stream.write(data)


def zero_header(file: Path) -> None:
    with open(file, "r+b") as stream:
        stream.write(bytes(64))


def truncate(file: Path) -> None:
    os.truncate(file, 64)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def append(file: Path) -> None:
    with open(file, "ab") as stream:
        stream.write(b"more")


def exchange(file: Path) -> None:
    shutil.copyfile(file, file.with_suffix(".other"))
    os.replace(file.with_suffix(".other"), file)


def swap(file: Path) -> None:
    other = next(f for f in sorted(file.parent.glob("*.safetensors")) if f != file)
    os.rename(file, file.with_suffix(".x"))
    os.rename(other, file)
    os.rename(file.with_suffix(".x"), other)


DAMAGE: dict[str, Callable[[Path], object]] = {
    damage.__name__: damage for damage in (overwrite, zero_header, truncate, empty, append, exchange, swap)
}
DAMAGE["remove"] = os.unlink


def hooked(moment: str, damage: Callable[[], object]) -> Any:
    """Return a context in which a load does the damage once: when it has planned, opened, read the first or the last."""
    done: list[object] = []

    def once() -> None:
        if not done:
            done.append(damage())

    prepare, read_tensors = loadstone.load.story.prepare, loadstone.load.supply.read_tensors

    def then_damaged(*arguments: Any, **options: Any) -> Any:
        prepared = prepare(*arguments, **options)
        once()
        return prepared

    def damaged_meanwhile(*arguments: Any, **options: Any) -> Iterator[Any]:
        if moment == "opened":
            once()
        for tensor in read_tensors(*arguments, **options):
            yield tensor
            if moment == "first":
                once()
        if moment == "last":
            once()

    if moment == "planned":
        return mock.patch.object(loadstone.load.story, "prepare", then_damaged)
    return mock.patch.object(loadstone.load.supply, "read_tensors", damaged_meanwhile)


def attempt(backend: str, good: Path, folder: Path, case: list[Any]) -> str:
    """Load a copy of a good checkpoint, damaged meanwhile, and return the error that told of it."""
    moment, kind, read, tied, dtype = case
    shutil.copytree(good / ("both" if tied else "sharded"), folder, copy_function=shutil.copyfile)
    file = max(folder.glob("*.safetensors"))
    try:
        with hooked(moment, lambda: DAMAGE[kind](file)):
            loadstone.load.story.from_pretrained(
                folder, task="CausalLM", backend=backend, read=read, dtype=dtype
            )
    except (ChangedFileError, SourceError) as error:
        assert len(str(error).splitlines()) <= 15 and "next: " in str(error)
        return type(error).__name__
    return "nothing"


def main() -> None:
    backend, good, work, cases = sys.argv[1:]
    for case in json.loads(cases):
        name = "-".join(map(str, case))
        print(json.dumps([name, attempt(backend, Path(good), Path(work) / name, case)]), flush=True)


if __name__ == "__main__":
    main()
