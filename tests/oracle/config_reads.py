"""Records which keys of config.json transformers reads for a case: while it loads, computes, trains and generates.

A key is read as an attribute of the configuration, as an entry of the parsed file, or out of what `__post_init__` is
given beside the class's own fields. Reads that cannot matter are told apart by the place that reads (`BOOKKEEPING`),
and by what is read: methods, and what begins with an underscore, which transformers never writes.
"""

import ast
import contextlib
import inspect
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import transformers
from transformers.configuration_utils import PreTrainedConfig

from loadstone.testing import inputs
from loadstone.testing.case import PROOF, Case
from loadstone.testing.cases import CASES
from loadstone.testing.oracle.forward import tensors

ROOT = str(Path(transformers.__file__).parent)

BOOKKEEPING = {
    "configuration_utils.py:validate_token_ids": "looks at every key there is, and at most warns",
    "configuration_utils.py:_get_generation_parameters": "asks for settings of generate, which no config.json may hold",
    "configuration_utils.py:from_dict": "asks which keyword arguments of the caller are keys",
    "configuration_utils.py:__iter__": "lists the keys",
    "configuration_utils.py:to_dict": "copies every key",
    "distributed/mixin.py:init_parallel_plans": "of models on several devices",
    "quantizers/auto.py:supports_quant_method": "reads the section of a quantised model",
}
"""Places of transformers whose reads decide nothing that a model computes -> why."""

Reads = dict[str, set[str]]
"""Key -> the places that read it, as FILE:FUNCTION."""


def reads_of(case: Case, folder: Path) -> Reads:
    """Load the case's checkpoint, compute, train a step and generate; return what was read meanwhile."""
    found: Reads = defaultdict(set)
    with _recorded(found):
        transformers.AutoConfig.from_pretrained(folder)
        model = getattr(transformers, case.class_name).from_pretrained(folder, **case.model_arguments)
        with torch.no_grad():
            model.eval()(**tensors(inputs.draw(case, "plain")), output_hidden_states=True)
        if case.task != "base":
            model.train()(**tensors(inputs.draw(case, PROOF))).loss.backward()
        if "generate" in case.feeds:
            model.generate(**tensors(inputs.draw(case, "generate")), max_new_tokens=2, do_sample=False)
    for key in _popped(type(model.config)):
        found[key].add("__post_init__")
    return {key: places for key, places in found.items() if places - BOOKKEEPING.keys()}


def one_case_a_class() -> list[Case]:
    """Return the first case of each class, which together read what the classes can be asked for."""
    firsts: dict[str, Case] = {}
    for case in CASES.values():
        firsts.setdefault(case.class_name, case)
    return list(firsts.values())


@contextlib.contextmanager
def _recorded(found: Reads) -> Iterator[None]:
    """Write down every read of a configuration or of a parsed config.json."""
    asked, parsed = PreTrainedConfig.__getattribute__, PreTrainedConfig._dict_from_json_file

    def spying(config: PreTrainedConfig, key: str) -> Any:
        if not key.startswith("_") and not callable(getattr(type(config), key, None)):
            found[key].add(_place(sys._getframe(1)))
        return asked(config, key)

    def parsing(path: Any) -> dict[str, Any]:
        return _Spied(parsed(path), found)

    PreTrainedConfig.__getattribute__ = spying
    PreTrainedConfig._dict_from_json_file = staticmethod(parsing)
    try:
        yield
    finally:
        PreTrainedConfig.__getattribute__ = asked
        PreTrainedConfig._dict_from_json_file = parsed


class _Spied(dict[str, Any]):
    """A parsed config.json that writes down which of its keys are asked for by name."""

    def __init__(self, values: dict[str, Any], found: Reads) -> None:
        super().__init__(values)
        self.found = found

    def __contains__(self, key: object) -> bool:
        self.found[str(key)].add(_place(sys._getframe(1)))
        return super().__contains__(key)

    def __getitem__(self, key: str) -> Any:
        self.found[key].add(_place(sys._getframe(1)))
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.found[key].add(_place(sys._getframe(1)))
        return super().get(key, default)


def _place(frame: FrameType) -> str:
    while frame.f_code.co_name in ("__getattribute__", "spying", "<listcomp>", "<dictcomp>", "<genexpr>"):
        if frame.f_back is None:
            break
        frame = frame.f_back
    file = frame.f_code.co_filename.removeprefix(f"{ROOT}/").rpartition("site-packages/")[2]
    return f"{file}:{frame.f_code.co_name}"


def _popped(config: type[PreTrainedConfig]) -> set[str]:
    """Return the keys that `__post_init__` and what it calls take by name out of their `kwargs`."""
    methods = [vars(base).get("__post_init__") for base in config.__mro__]
    methods.append(config.convert_rope_params_to_dict)
    return {key for method in methods if method is not None for key in _named_in_kwargs(method)}


def _named_in_kwargs(method: Any) -> Iterator[str]:
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(method))))):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name("kwargs"), attr="pop" | "get"), args=[first, *_]):
                yield from _text(first)
            case ast.Subscript(value=ast.Name("kwargs"), slice=key):
                yield from _text(key)
            case ast.Compare(left=key, ops=[ast.In()], comparators=[ast.Name("kwargs")]):
                yield from _text(key)


def _text(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
