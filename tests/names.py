"""The table of public names, and the types of the top package that follow from it: both are written from the code.

$ python -m tests.names           # write them
$ python -m tests.names --check   # fail where they say something else
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import loadstone.architectures
from loadstone.architectures import Architecture

CORE = Path(__file__).parents[1] / "core" / "loadstone"
TABLE = CORE / "_names.py"


def families() -> Iterator[tuple[str, Architecture]]:
    """Yield each architecture that core describes, with the name of its module; a family's file is found by being there."""
    package = loadstone.architectures
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        # The modules that describe no family (records, specs, ...) hold no such list.
        for architecture in getattr(importlib.import_module(module.name), "ARCHITECTURES", ()):
            yield module.name.rpartition(".")[2], architecture


def _listed(name: str, rows: Mapping[str, object], about: str, kind: str) -> str:
    lines = "".join(f"    {key!r}: {value!r},\n" for key, value in rows.items())
    return f'\n{name}: dict[str, {kind}] = {{\n{lines}}}\n"""{about}"""\n'.replace("'", '"')


def table() -> str:
    """Return the source of `loadstone._names`."""
    found = list(families())
    heads = {head.class_name: (one.model_type, head.task) for _, one in found for head in one.heads}
    return "".join(
        [
            '"""Which family each public name belongs to, so that naming one imports no other. Written by `make names`."""\n',
            _listed(
                "FAMILIES",
                {one.model_type: module for module, one in found},
                "Model type -> the module of `loadstone.architectures` that describes it.",
                "str",
            ),
            _listed(
                "CONFIGS",
                {one.config.__name__: one.model_type for _, one in found},
                "Configuration class -> its model type.",
                "str",
            ),
            _listed(
                "HEADS",
                heads,
                "Model class, without a prefix -> its model type, and its task as `Head.task` has it.",
                "tuple[str, str]",
            ),
            "\nTASKS = tuple(sorted({task for _, task in HEADS.values()}))\n",
            '"""What may follow `AutoModelFor`; "" is the base model."""\n',
        ]
    )


def written() -> dict[Path, str]:
    """Return file -> what it is to hold."""
    return {TABLE: table()}


def main() -> None:
    """Write the files, or with --check exit with a message if one of them says something else."""
    for path, text in written().items():
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
        elif path.read_text() != text:
            sys.exit(f"{path} does not say what the code says: run make names")


if __name__ == "__main__":
    main()
