"""The table of public names, and the types of the top package that follow from it: both are written from the code.

$ python -m tests.names           # write them
$ python -m tests.names --check   # fail where they say something else
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import loadstone.architectures
from loadstone import plugins
from loadstone.architectures import Architecture
from loadstone.auto import AutoConfig, AutoModel
from loadstone.config.loading import ConfigLoading
from loadstone.generate.arguments import GenerateArguments
from loadstone.generate.kinds import FOLLOWED, HARMLESS, NOT_FOLLOWED, OF_A_CALL
from loadstone.load.report import LoadReport
from loadstone.model.loading import Loading

CORE = Path(__file__).parents[1] / "core" / "loadstone"
TABLE, TOP, LOADING = CORE / "_names.py", CORE / "__init__.pyi", CORE / "model" / "loading.pyi"
CONFIG, NEUTRAL = CORE / "config" / "loading.pyi", CORE / "generate" / "_keywords.py"


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
                "MODELS",
                {one.model_type: one.family for _, one in found},
                "Model type -> the module in the `models` of each backend that has its classes.",
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


# Types

BACKENDS = {plugins.class_prefix_of(name): name for name in ("torch", "flax", "tensorflow")}
"""Prefix of the classes -> the backend."""
WRITTEN = "# Written by `make names` from the table of names and the records of arguments.\n"
INFO: str = inspect.signature(LoadReport.loading_info).return_annotation
"""What a caller of `from_pretrained` gets beside the model that says `output_loading_info=True`."""


def signature(function: Callable[..., Any], returns: str | None = None, *, method: bool, **types: str) -> str:
    """Return the declaration of a function, one parameter a line.

    Args:
        function: Its signature shows every keyword.
        returns: What it returns; None: what it says itself.
        method: Whether it is a class method.
        types: Parameter -> its type, with its default where there is one, in place of its own.
    """
    lines = ["cls"] if method else []
    shown = inspect.signature(function)
    for name, parameter in shown.parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in lines:
            lines.append("*")
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        typed = types.get(name, f"{parameter.annotation}{default}").replace("'", '"')
        lines.append(f"{'**' * (parameter.kind is parameter.VAR_KEYWORD)}{name}: {typed}")
    body = "".join(f"    {line},\n" for line in lines)
    return f"def {function.__name__}(\n{body}) -> {returns or shown.return_annotation}: ...\n"


def _indented(declarations: Iterable[str], decorator: str) -> str:
    found = (f"{decorator}\n{one}" for one in declarations)
    return "".join(f"    {line}\n" for one in found for line in one.splitlines())


def overloads(of: type, models: Mapping[str | None, str]) -> str:
    """Return the class methods that give models.

    Args:
        of: The class that has them at run time.
        models: The type of `backend=` -> what comes back; None: there is no such keyword, or it is of any type.
    """
    loads = []
    for backend, model in models.items():
        chosen = {} if backend is None else {"backend": backend}
        for told, found in (("Literal[False] = False", model), ("Literal[True]", f"tuple[{model}, {INFO}]")):
            loads.append(
                signature(of.from_pretrained, found, method=True, output_loading_info=told, **chosen)
            )
    loads.append(signature(of.from_pretrained, "Any", method=True))
    makes = [
        signature(of.from_config, model, method=True, **({} if backend is None else {"backend": backend}))
        for backend, model in models.items()
    ]
    if len(makes) > 1:
        makes.append(signature(of.from_config, "Any", method=True))
    several = "@overload\n@classmethod"
    return _indented(loads, several) + _indented(makes, several if len(makes) > 1 else "@classmethod")


def loading() -> str:
    """Return the types of `loadstone.model.loading`."""
    return (
        f"{WRITTEN}\nimport os\nfrom collections.abc import Collection, Mapping\nfrom typing import Any, Literal, Self, overload\n\n"
        "from loadstone.config import Config\nfrom loadstone.source import Name\n\n"
        f"class Loading:\n{overloads(Loading, {None: 'Self'})}"
    )


def config_loading() -> str:
    """Return the types of `loadstone.config.loading`."""
    methods = (ConfigLoading.from_pretrained, ConfigLoading.get_config_dict)
    return (
        f"{WRITTEN}\nimport os\nfrom typing import Any, ClassVar, Self\n\n"
        "class ConfigLoading:\n    model_type: ClassVar[str]\n"
        f"{_indented((signature(one, method=True) for one in methods), '@classmethod')}"
    )


def keywords() -> str:
    """Return the source of `loadstone.generate._keywords`."""
    asks_nothing = {
        **{name: _neutral(values) for name, values in (NOT_FOLLOWED | OF_A_CALL).items()},
        **dict.fromkeys([*FOLLOWED, *HARMLESS], "Any"),
    }
    told = {*GenerateArguments.__annotations__, *OWN_INPUTS}
    rows = sorted((name, of) for name, of in asks_nothing.items() if name not in told and name[0] != "_")
    return (
        '"""The keywords of `generate` as type checkers are to see them. Written by `make names`."""\n\n'
        "from collections.abc import Sequence\nfrom typing import Any, Literal\n\n"
        "from loadstone.generate.arguments import GenerateArguments\n\n\n"
        "class Keywords(GenerateArguments, total=False):\n"
        '    """What `generate` follows; and what else transformers has, with the values that ask for nothing."""\n\n'
        + "".join(f"    {name}: {of}\n" for name, of in rows)
    )


OWN_INPUTS = {"use_cache", "streamer"}
"""Arguments of `generate` that each backend names itself."""


def _neutral(values: tuple[object, ...]) -> str:
    """Return the type of an argument of which some values, and None, ask for nothing."""
    exact = [value for value in values if isinstance(value, bool | int)]
    kinds = [f"Literal[{', '.join(map(repr, exact))}]"] if exact else []
    for kind, word in ((float, "float"), (str, "str"), (list, "Sequence[Any]")):
        kinds += [word] if any(isinstance(value, kind) for value in values) else []
    return " | ".join([*kinds, "None"])


def top() -> str:
    """Return the types of `loadstone`."""
    models = {backend: f"{backend.title()}Model" for backend in BACKENDS.values()}
    homes = {**loadstone._HOMES, **{one.config.__name__: one.config.__module__ for _, one in families()}}
    del homes["plan"], homes["AutoConfig"]  # their keywords are written out
    imports = [f"from {home} import {name} as {name}\n" for name, home in homes.items()]
    imports.append("from loadstone.source import Name\n")
    for backend, model in models.items():
        package = plugins.backend_record(backend).models.partition(".")[0]
        imports.append(f"from {package}.modeling import PreTrainedModel as {model}\n")
    return "".join(
        [
            WRITTEN,
            "\nimport os\nfrom collections.abc import Collection, Mapping\nfrom typing import Any, ClassVar, Literal, overload\n\n",
            *sorted(imports, key=lambda line: (line.split()[1], line)),
            "\n__version__: str\n",
            "__all__ = [\n",
            *(f'    "{name}",\n' for name in loadstone.__all__),
            "]\n\n",
            signature(loadstone.plan, "LoadReport", method=False),
            "\nclass AutoConfig:\n",
            _indented(
                (signature(one, method=False) for one in (AutoConfig.from_pretrained, AutoConfig.for_model)),
                "@staticmethod",
            ),
            *(text for prefix in BACKENDS for text in classes(prefix, models)),
        ]
    )


def classes(prefix: str, models: Mapping[str, str]) -> Iterator[str]:
    """Yield the Auto classes and the model classes with one prefix.

    Args:
        prefix: "Flax", ...
        models: Backend -> what its model classes derive from.
    """
    own = BACKENDS[prefix]
    # The class without a prefix takes any backend; where none is said, it is most often PyTorch's.
    taken = {f'Literal["{own}"] | None = None': models[own]}
    if not prefix:
        taken |= {f'Literal["{other}"]': model for other, model in models.items() if other != own}
    yield f"\nclass {prefix}AutoModel:\n    task: ClassVar[str]\n    backend: ClassVar[str | None]\n"
    yield overloads(AutoModel, taken)
    registers = signature(AutoModel.register, "None", method=True)
    yield "".join(f"    {line}\n" for line in f"@classmethod\n{registers}".splitlines()) + "\n"
    found = [(head, one.config.__name__) for _, one in families() for head in one.heads]
    for task in sorted({head.task for head, _ in found} - {""}):
        yield f"class {prefix}AutoModelFor{task}({prefix}AutoModel): ...\n"
    for head, config in found:
        yield f"\nclass {prefix}{head.class_name}({models[own]}):\n    config: {config}\n"


def written() -> dict[Path, str]:
    """Return file -> what it is to hold."""
    return {
        TABLE: table(),
        TOP: top(),
        LOADING: loading(),
        CONFIG: config_loading(),
        NEUTRAL: keywords(),
    }


def main() -> None:
    """Write the files, or with --check exit with a message if one of them says something else."""
    for path, text in written().items():
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
        elif path.read_text() != text:
            sys.exit(f"{path} does not say what the code says: run make names")


if __name__ == "__main__":
    main()
