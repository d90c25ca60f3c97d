"""Saving, told in order: what the model holds, its configuration, then one switch from the old files to the new."""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from loadstone.architectures.arrangements import Group
from loadstone.backend import Backend, Parameter, get_backend
from loadstone.backend.model import called
from loadstone.checkpoint.formats.names import DEFAULT
from loadstone.checkpoint.formats.target import Target, target_named
from loadstone.checkpoint.formats.writer import StoredTensor
from loadstone.checkpoint.recipe import Step, Value, result
from loadstone.config import Config
from loadstone.dtypes import DTYPES, canonical, nbytes
from loadstone.errors import ArgumentError, SourceError, logger_of
from loadstone.generate.settings import GENERATION_CONFIG_NAME
from loadstone.load.likeness import class_parameters, unloadable
from loadstone.load.report import await_all, refuse_in_part
from loadstone.planning.speak import spoken_names
from loadstone.read.progress import byte_bar
from loadstone.save.code import code_of_model
from loadstone.save.told import told, under_full_names
from loadstone.save.write import save_checkpoint

if TYPE_CHECKING:
    from loadstone.backend import Model
    from loadstone.read.tensor import HostTensor

logger = logger_of(__name__)


def save_pretrained(
    model: Model,
    save_directory: str | os.PathLike[str],
    *,
    max_shard_size: int | str = "5GB",
    variant: str | None = None,
    state_dict: Mapping[str, Any] | None = None,
    format: str = DEFAULT,
) -> list[Path]:
    """Save a model in the Hugging Face layout, from any backend the same files byte for byte.

    Names are the checkpoint's own, tied parameters are stored once, and each tensor streams once from where it
    lives. The code of a class that `register_for_auto_class` shares, or that came with code, is saved too. Killed at any point, the folder loads as the old checkpoint or as the new one; files that belong to no
    checkpoint (a tokenizer) stay. Saving into the folder that the model is mapped from is safe.

    Args:
        model: A model of any backend.
        save_directory: Where; made where absent.
        max_shard_size: Bytes of tensors in a file, as a number or a text such as "5GB" or "500MB".
        variant: Part of the weights' names, e.g. "fp16".
        state_dict: Values to save in place of the model's own, as its framework's arrays under its parameters' names; of
            tied parameters one suffices.
        format: `safetensors`, "bin" (`pytorch_model.bin`), "h5" (`tf_model.h5`), "msgpack" (`flax_model.msgpack`), or what a
            plugin writes; h5 and msgpack have the names that transformers' TensorFlow and Flax classes have.

    Returns:
        The files written.

    Raises:
        ArgumentError: If the size, the variant or the state dict cannot be used, the format cannot hold the model, the model
            holds what no checkpoint of its class can (layers of an adapter, parameters tied by hand, tensors that do not lie
            in memory as numbers), or the class is to be shared and its code lies in no file.
        SourceError: If the folder cannot be written, or the disk is full.
    """
    target = target_named(format)
    model.check_saves(state_dict)
    await_all(model)
    refuse_in_part(model, "is no checkpoint, and cannot be saved")
    folder = Path(save_directory)
    if folder.exists() and not folder.is_dir():
        raise SourceError(
            "a model is saved into a folder, and this is a file", where=folder, hint="name a folder"
        )
    backend = get_backend(model.backend_name)
    held = backend.parameters(model)
    problem = unloadable(model, backend, held)
    if problem is not None:
        if state_dict is None:
            raise problem
        held = class_parameters(model, backend, held)
    parameters = _stored(model, held)
    read: Callable[[str], HostTensor] = functools.partial(backend.read, model)
    if state_dict is not None:
        values = _values(model, backend, held, parameters, state_dict)
        parameters = [dataclasses.replace(p, dtype=canonical(values[p.name].dtype)) for p in parameters]
        read = _reader_of(backend, values)
    code, config = code_of_model(model), saved_config(model, parameters)
    if code.auto_map is not None:
        config.auto_map = dict(code.auto_map)
    texts: dict[str, str | bytes] = dict(code.files)
    if model.architecture_and_head()[1].task == "CausalLM":
        texts[GENERATION_CONFIG_NAME] = model.generation_config.to_json_string()
    tensors = list(_tensors(model, parameters, read))
    aliases: Mapping[str, str] = {}
    if target.writer.dialect:
        tensors, aliases = spoken_tensors(model, tensors, target.writer.dialect)
    if target.writer.whole:
        tensors, target = _told(model, tensors, target)
    total = sum(tensor.nbytes for tensor in tensors)
    with byte_bar(total=total, what="Saving") as advance:
        return save_checkpoint(
            folder,
            tensors,
            config_json=config.to_json_string(),
            other_files=texts,
            metadata=model.load_report.metadata if model.load_report is not None else {},
            max_shard_size=max_shard_size,
            variant=variant,
            progress=advance,
            target=target,
            aliases=aliases,
        )


def _told(model: Model, tensors: list[StoredTensor], target: Target) -> tuple[list[StoredTensor], Target]:
    """Return tensors as a format has them whose files say themselves what the model is, and who writes them."""
    architecture, _ = model.architecture_and_head()
    named, left_out = under_full_names({tensor.name: tensor for tensor in tensors}, architecture)
    full = [dataclasses.replace(tensor, name=name) for name, tensor in named.items()]
    tensors, target, notes = told(full, target, saved_config(model, []))
    for note in (*left_out, *notes):
        logger.warning("%s", note)
    return tensors, target


def spoken_tensors(
    model: Model, tensors: list[StoredTensor], language: str
) -> tuple[list[StoredTensor], Mapping[str, str]]:
    """Return tensors as another framework's classes call and turn them, and their aliases."""
    known = {tensor.name: tensor for tensor in tensors}
    shapes = {name: tensor.shape for name, tensor in known.items()}
    architecture, _ = model.architecture_and_head()
    said = spoken_names(shapes, architecture, saved_config(model, []), language)
    for note in said.notes:
        logger.warning("%s", note)
    return [_turned(path, known[name], steps) for path, (name, steps) in said.names.items()], said.aliases


def _turned(path: str, tensor: StoredTensor, steps: tuple[Step, ...]) -> StoredTensor:
    if not steps:
        return dataclasses.replace(tensor, name=path)
    value = result([tensor.shape], steps)
    read = functools.partial(_made_of_one, path, tensor, value)
    return StoredTensor(name=path, dtype=tensor.dtype, shape=value[0], read=read)


def _made_of_one(name: str, tensor: StoredTensor, value: Value) -> HostTensor:
    from loadstone.read.steps import put_together

    return put_together(name, tensor.dtype, value, lambda number: cast("HostTensor", tensor.read()))


def stored_parameters(model: Model, backend: Backend) -> list[Parameter]:
    """Return the parameters that a checkpoint stores: each once, a tied one under the name it is tied to."""
    return _stored(model, backend.parameters(model))


def _stored(model: Model, parameters: Mapping[str, Parameter]) -> list[Parameter]:
    ties = {tie.name for tie in model.architecture_and_head()[1].ties}
    owners: dict[object, str] = {}
    for name, parameter in parameters.items():
        key = _key(parameter)
        if key not in owners or owners[key] in ties:
            owners[key] = name
    kept = set(owners.values())
    return [parameter for name, parameter in parameters.items() if name in kept]


def saved_config(model: Model, parameters: list[Parameter]) -> Config:
    """Return the configuration to save: the class without a prefix, and the dtype in which most numbers lie."""
    config = copy.deepcopy(model.config)
    config.architectures = [called(type(model))]
    sizes: dict[str, int] = {}
    for parameter in parameters:
        if DTYPES[parameter.dtype].kind == "float":
            sizes[parameter.dtype] = sizes.get(parameter.dtype, 0) + nbytes(parameter.dtype, parameter.shape)
    if sizes:
        config.dtype = max(sizes, key=lambda dtype: sizes[dtype])
    return config


def _values(
    model: Model,
    backend: Backend,
    known: Mapping[str, Parameter],
    stored: list[Parameter],
    state_dict: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the values of a state dict under the names that are stored.

    Raises:
        ArgumentError: If its names or shapes are not those of the model's parameters, or two that are tied differ.
    """
    problems = [f"{name}: the model has no such parameter" for name in state_dict if name not in known]
    for name, parameter in known.items():
        if name not in state_dict:
            continue
        shape, dtype = tuple(state_dict[name].shape), canonical(state_dict[name].dtype)
        if shape != parameter.shape:
            problems.append(f"{name}: expected the shape {parameter.shape}, found {shape}")
        elif DTYPES[dtype].kind != DTYPES[parameter.dtype].kind:
            problems.append(f"{name}: expected {parameter.dtype}, found {dtype}")
    given: dict[object, Any] = {}
    for name, value in state_dict.items():
        if name in known:
            other = given.setdefault(_key(known[name]), value)
            if other is not value and not _equal(backend, name, value, other):
                problems.append(f"{name}: differs from the parameter that it is tied to")
    problems += [f"{parameter.name}: missing" for parameter in stored if _key(parameter) not in given]
    if problems:
        raise ArgumentError(f"state_dict= does not fit {type(model).__name__}", problems=problems)
    return {parameter.name: given[_key(parameter)] for parameter in stored}


def _equal(backend: Backend, name: str, value: Any, other: Any) -> bool:
    one, two = backend.to_host(name, value), backend.to_host(name, other)
    if (one.dtype, one.shape) != (two.dtype, two.shape):
        return False
    return one.address == two.address or bool((one.data == two.data).all())


def _reader_of(backend: Backend, values: Mapping[str, Any]) -> Callable[[str], HostTensor]:
    return lambda name: backend.to_host(name, values[name])


def _key(parameter: Parameter) -> object:
    """Return what two names of one tied parameter have in common."""
    return parameter.name if parameter.identity is None else parameter.identity


def _tensors(
    model: Model, parameters: list[Parameter], read: Callable[[str], HostTensor]
) -> Iterator[StoredTensor]:
    """Yield what a checkpoint stores: most parameters as they are, others in the arrangement that they came in."""
    architecture, head = model.architecture_and_head()
    groups: dict[Group, str] = {}
    for parameter in parameters:
        base = head.base_name(parameter.name)
        group = next((g for a in architecture.arranged if (g := a.group(base)) is not None), None)
        if group is not None:
            groups[group] = parameter.name.removesuffix(base)
            continue
        yield StoredTensor(
            name=parameter.name,
            dtype=parameter.dtype,
            shape=parameter.shape,
            read=functools.partial(read, parameter.name),
        )
    known = {parameter.name: parameter for parameter in parameters}
    for group, base_prefix in groups.items():
        yield from _taken_apart(group, base_prefix, known, read)


def _taken_apart(
    group: Group, base_prefix: str, known: Mapping[str, Parameter], read: Callable[[str], HostTensor]
) -> Iterator[StoredTensor]:
    """Yield the stored tensors of parameters that stand in another arrangement in the model."""
    if absent := [base_prefix + name for name in group.parameter_names if base_prefix + name not in known]:
        raise ArgumentError(
            "parameters that are stored as one tensor are not all the model's own: some are tied to others",
            problems=absent,
            hint="untie them before saving",
        )
    sources = [known[base_prefix + name] for name in group.parameter_names]
    shapes = {name: known[base_prefix + name].shape for name in group.parameter_names}
    dtype = sources[0].dtype
    if {source.dtype for source in sources} != {dtype}:
        raise ArgumentError(
            "parameters that are stored as one tensor have several dtypes",
            found=", ".join(f"{source.name}: {source.dtype}" for source in sources),
            hint="cast the model to one dtype first",
        )
    for name, steps in group.saving(group.number(shapes), shapes):
        value = result([source.shape for source in sources], steps)
        make = functools.partial(_made, base_prefix + name, dtype, value, sources, read)
        yield StoredTensor(name=base_prefix + name, dtype=dtype, shape=value[0], read=make)


def _made(
    name: str, dtype: str, value: Value, sources: list[Parameter], read: Callable[[str], HostTensor]
) -> HostTensor:
    from loadstone.read.steps import put_together

    return put_together(name, dtype, value, lambda number: read(sources[number].name))
