"""Classes that come with a checkpoint, on this backend's base class or on transformers', as the engine loads them.

A model of one is built with everything but its parameters: those are without memory, whatever layers the class is made of, and
buffers that no checkpoint holds have the values that the class gives them. Nothing is imported from transformers unless a class
stands on it.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from loadstone.backend.adoption import (
    Adoption,
    Declared,
    below,
    built,
    declared_by,
    described_by,
    not_loadable,
    provisional,
    vars_of,
)
from loadstone.backend.own import last_word, tell_not_asked
from loadstone.config import Config
from loadstone.read.tensor import HostTensor
from loadstone.remote.foreign import ForeignConfig
from loadstone_torch.layers import without_memory

Registered = Callable[[nn.Parameter], nn.Parameter]

_registering: ContextVar[Registered | None] = ContextVar("registering", default=None)


@contextlib.contextmanager
def _each_parameter(becomes: Registered, dtype: torch.dtype) -> Iterator[None]:
    """Let each parameter that a module takes on here become another, in models of this dtype."""

    def hook(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        chosen = _registering.get()  # the hook is every thread's, the choice only this one's
        return None if chosen is None or parameter is None else chosen(parameter)

    handle, before = register_module_parameter_registration_hook(hook), torch.get_default_dtype()
    token = _registering.set(becomes)
    torch.set_default_dtype(dtype)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_default_dtype(before)
        _registering.reset(token)
        handle.remove()


def _without_memory(parameter: nn.Parameter) -> nn.Parameter:
    if parameter.is_meta:
        return parameter
    return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)


def build(model_class: type, config: Config, dtype: torch.dtype, options: Mapping[str, Any]) -> Any:
    """Build a model of a class that came with a checkpoint; its parameters have no memory."""
    with _each_parameter(_without_memory, dtype), without_memory(dtype):
        return model_class(_own_config(config, dtype), **options)


def _own_config(config: Config, dtype: torch.dtype) -> Any:
    """Return the configuration that the class takes: of its own kind."""
    if not isinstance(config, ForeignConfig):
        return config
    made = config.made()
    made.dtype = dtype
    for name in getattr(made, "sub_configs", ()):
        if getattr(made, name, None) is not None:
            getattr(made, name).dtype = dtype
    if config._attn_implementation is not None:
        made._attn_implementation = config._attn_implementation
    return made


def adopt(
    backend: Any, model_class: type, config: Config, task: str, stored: Collection[str] | None
) -> Adoption:
    """Adopt a class that stands on transformers' base class; `Backend.adopt` tells the arguments and errors."""
    transformers = sys.modules.get("transformers")
    if transformers is None or not issubclass(model_class, transformers.PreTrainedModel):
        raise not_loadable(backend, model_class)
    from loadstone_torch.adopted import put_between

    put_between(model_class)
    provisional(model_class, config, task)
    if stored is None:
        architecture, head = model_class.architecture_and_head()  # type: ignore[attr-defined]
        return Adoption(model_class=model_class, architecture=architecture, head=head)
    model = built(backend, model_class, config)
    declared = _declared(model_class, config, model, backend.parameters(model))
    architecture, head = described_by(model_class, config, task, declared, stored)
    fresh = functools.partial(_fresh, backend, model_class)
    return Adoption(model_class=model_class, architecture=architecture, head=head, fresh=fresh)


def _declared(model_class: type, config: Config, model: nn.Module, parameters: Mapping[str, Any]) -> Declared:
    """Return what a class says, as a model of it has it: submodels add to that in transformers."""
    said = declared_by(model_class, config, parameters)
    blocks = {*(vars_of(model_class, "_no_split_modules") or ()), *_collected(model, "_no_split_modules")}
    paths = {id(module): path for path, module in model.named_modules()}

    def path_of(method: str) -> str:
        try:
            return paths.get(id(getattr(model, method)()), "")
        except (NotImplementedError, AttributeError):
            return ""

    return dataclasses.replace(
        said,
        ties={
            name: to for name, to in getattr(model, "all_tied_weights_keys", {}).items() if to in parameters
        },
        may_lack=tuple(_collected(model, "_keys_to_ignore_on_load_missing")),
        not_needed=tuple(_collected(model, "_keys_to_ignore_on_load_unexpected")),
        no_split=[path for path, module in model.named_modules() if type(module).__name__ in blocks],
        keep_float32=below(_collected(model, "_keep_in_fp32_modules_strict"), parameters),
        keep_float32_of_float16=below(_collected(model, "_keep_in_fp32_modules"), parameters),
        embedding=path_of("get_input_embeddings"),
        output=path_of("get_output_embeddings"),
    )


def _collected(model: nn.Module, name: str) -> Collection[str]:
    found: Collection[str] = getattr(model, name, None) or ()
    return sorted(found)


def _fresh(
    backend: Any, model_class: type, config: Config, dtypes: Mapping[str, str], seed: int
) -> dict[str, HostTensor]:
    """Draw parameters as a class on transformers' base draws them."""
    values = _second(model_class, config, dtypes, seed)[1]
    return _on_host(backend, values, dtypes)


def drawn_by_its_class(
    backend: Any, model_class: type, config: Config, dtypes: Mapping[str, str], seed: int
) -> dict[str, HostTensor]:
    """Draw parameters as a class on this backend's base gives them values; those of PyTorch's layers are core's to draw.

    A class's `_init_weights` has the last word on the modules of these parameters.
    """
    with without_memory(torch.float32):
        model, values = _second(model_class, config, dtypes, seed)
    before = {
        name: value.detach().clone() for name, value in values.items() if name in dtypes and not value.is_meta
    }
    tell_not_asked(model_class, [name for name in dtypes if name in values and name not in before])
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        last_word(model, before)
    kept = {
        name: values[name]
        for name, old in before.items()
        if not _is_standard(model.get_submodule(name.rpartition(".")[0]))
        or not torch.equal(values[name], old)
    }
    return _on_host(backend, kept, dtypes)


def _is_standard(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.")


def _on_host(
    backend: Any, values: Mapping[str, torch.Tensor], dtypes: Mapping[str, str]
) -> dict[str, HostTensor]:
    from loadstone_torch.backend import TORCH_DTYPES

    return {
        name: backend.to_host(name, values[name].detach().to(TORCH_DTYPES[dtype]).clone())
        for name, dtype in dtypes.items()
        if name in values
        and not values[name].is_meta  # one that only an option of the class brings is core's to draw
    }


def _second(
    model_class: type, config: Config, wanted_names: Collection[str], seed: int
) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Return a model that has memory for these parameters alone, and all that it holds by name."""
    numbers: dict[int, int] = {}
    order: list[nn.Parameter] = []

    def count(parameter: nn.Parameter) -> nn.Parameter:
        kept = _without_memory(parameter)
        if id(kept) not in numbers:
            numbers[id(kept)] = len(order)
            order.append(kept)  # so that no other gets its number
        return kept

    with _each_parameter(count, torch.float32), without_memory(torch.float32):
        model = model_class(_own_config(copy.deepcopy(config), torch.float32))
        held = {
            name: numbers.get(id(value)) for name, value in model.named_parameters(remove_duplicate=False)
        }
    wanted, seen = {held[name] for name in wanted_names if held.get(name) is not None}, [0]

    def keep(parameter: nn.Parameter) -> nn.Parameter:
        if id(parameter) in kept:
            return parameter
        number, seen[0] = seen[0], seen[0] + 1
        chosen = parameter if number in wanted else _without_memory(parameter)
        kept[id(chosen)] = chosen
        return chosen

    kept: dict[int, nn.Parameter] = {}
    with _each_parameter(keep, torch.float32):
        torch.manual_seed(seed % 2**63)
        model = model_class(_own_config(copy.deepcopy(config), torch.float32))
        values = {**dict(model.named_buffers()), **dict(model.named_parameters(remove_duplicate=False))}
    return model, values


def compute(model: nn.Module, device_of: Callable[[str], torch.device]) -> tuple[str, ...]:
    """Put the buffers that no checkpoint holds where their modules are, and return their names."""
    names = []
    for path, module in model.named_modules():
        for leaf in module._non_persistent_buffers_set:
            value = module._buffers.get(leaf)
            if value is not None and not value.is_meta:
                names.append(f"{path}.{leaf}" if path else leaf)
                module._buffers[leaf] = value.to(device_of(names[-1]))
    return tuple(names)
