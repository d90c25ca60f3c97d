"""Finding config.json and making the configuration that its `model_type` asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from loadstone.architectures import Architecture, architecture_for, architecture_of, architectures
from loadstone.checkpoint.formats import adapter_alone
from loadstone.checkpoint.settled import settle
from loadstone.config import CONFIG_NAME, Config, parse_config_json
from loadstone.errors import ConfigError, NoConfigError, logger_of, memory_told
from loadstone.load.arguments import LoadArguments, parse_arguments, split_rest
from loadstone.load.custom_code import naming_code, note_of_code, own_code, with_hint
from loadstone.load.watch import steadily, watch
from loadstone.source import Name, Snapshot, resolve
from loadstone.source.snapshot import summary

logger = logger_of(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What decides the model type beside config.json.

    Attributes:
        model_type: The caller's word, which goes before the file's.
        of_class: The model type of the class that is loaded, for a file that says none.
        trusted: Whether the caller said `trust_remote_code=True`.
    """

    model_type: str | None = None
    of_class: str | None = None
    trusted: bool = False

    @classmethod
    def by(cls, given: LoadArguments, of_class: str | None) -> Asked:
        """Return what the arguments of a load say."""
        return cls(model_type=given.model_type, of_class=of_class, trusted=bool(given.trust_remote_code))


@memory_told("to read the configuration")
def load_config(
    pretrained_model_name_or_path: Name, *, of_class: str | None = None, **arguments: Any
) -> Config:
    """Load a configuration; `AutoConfig.from_pretrained` tells the arguments and errors.

    Args:
        pretrained_model_name_or_path: As there.
        of_class: The model type of the class that loads it, for a file that says none.
        **arguments: As there.
    """
    given, rest = parse_arguments(arguments)

    def read() -> tuple[Config, tuple[str, ...]]:
        watched = watch(resolve(pretrained_model_name_or_path, **given.source()))
        with watched.unchanged(given.variant):
            return read_config(watched.snapshot, Asked.by(given, of_class))

    config, notes = steadily(read)
    for note in notes:
        logger.warning("%s: %s", config.name_or_path, note)
    fields, _ = split_rest(rest, config=config, head=architecture_of(config).heads[0])
    config.update(fields)
    if given.dtype not in (None, "auto"):
        config.update({"dtype": given.dtype})
    config._attn_implementation = given.attn_implementation
    return config


def config_values(name_or_path: Name, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a parsed config.json, and the arguments that do not say where it is; `Config.get_config_dict` tells them."""
    given, _ = parse_arguments(arguments)
    where = given.source()
    rest = {name: value for name, value in arguments.items() if name not in where}
    return read_values(settle(resolve(name_or_path, **where))), rest


def read_config(snapshot: Snapshot, asked: Asked) -> tuple[Config, tuple[str, ...]]:
    """Return the typed configuration of a snapshot, and what is to be told of it.

    Raises:
        ConfigError: If config.json is absent, not JSON, of no known model type, or of wrong types.
    """
    where = f"{snapshot.location}/{CONFIG_NAME}"
    values = read_values(snapshot)
    _check_no_other_file(values, where=where)
    model_type, why = _model_type(values, asked, where=where)
    architecture = _architecture(model_type, values, asked, where=where)
    with naming_code(values.get("auto_map")):
        config = architecture.config.from_dict(values, where=where)
    config.name_or_path = snapshot.location
    code = note_of_code(values.get("auto_map"), model_type, trusted=asked.trusted)
    return config, tuple(note for note in (why, code) if note)


def _model_type(values: Mapping[str, Any], asked: Asked, *, where: object) -> tuple[str, str | None]:
    """Return the model type, and a sentence about it where config.json does not say it."""
    said = values.get("model_type")
    if asked.model_type is not None:
        contradicted = said not in (None, "", asked.model_type)
        note = f"the caller's model_type={asked.model_type!r} goes before config.json's {said!r}"
        return asked.model_type, note if contradicted else None
    if isinstance(said, str) and said:
        return said, None
    if said in (None, ""):
        for name in _classes(values):
            if (found := _type_of_class(name)) is not None:
                return found, f"config.json names no model_type: it is {found!r} by its architectures, {name}"
        if asked.of_class is not None:
            of_class = asked.of_class
            return (
                of_class,
                f"config.json names no model_type: it is {of_class!r} by the class that is loaded",
            )
    code = own_code(values.get("auto_map"))
    raise ConfigError(
        "config.json does not say what kind of model this is",
        where=where,
        expected='"model_type", e.g. "llama"',
        found=repr(said) if said not in (None, "") else f"keys {', '.join(sorted(values)[:6])}",
        hint='pass model_type="bert", say, or config=, load with a class such as BertModel, or add it to config.json'
        + (f"; its auto_map names the author's own code ({code}), which is never run here" if code else ""),
    )


def _classes(values: Mapping[str, Any]) -> list[str]:
    named = values.get("architectures")
    return [name for name in named if isinstance(name, str)] if isinstance(named, list) else []


def _type_of_class(name: str) -> str | None:
    """Return the model type of a class, by its name or, for a head that we lack, by the family's part of it."""
    for architecture in architectures():
        classes = [head.class_name for head in architecture.heads]
        if name in classes or name.startswith(f"{classes[0].removesuffix('Model')}For"):
            return architecture.model_type
    return None


def _check_no_other_file(values: Mapping[str, Any], *, where: object) -> None:
    """Refuse a config.json that names others, of which transformers would read the one that suits its version."""
    others = values.get("configuration_files")
    if others:
        raise ConfigError(
            "config.json names other files to read in its place",
            where=f"{where}: configuration_files",
            expected="no such key",
            found=others,
            hint="pass the configuration to use as config=, or take the key out of config.json",
        )


def read_values(snapshot: Snapshot) -> dict[str, Any]:
    """Return the parsed config.json of a snapshot.

    Raises:
        ConfigError: If it is absent or not JSON.
    """
    if not snapshot.has(CONFIG_NAME):
        raise adapter_alone(snapshot.files, [CONFIG_NAME], where=snapshot.location) or NoConfigError(
            "there is no config.json",
            where=snapshot.location,
            found=summary(snapshot.files),
            hint="name the folder or repository that holds config.json, or pass subfolder= or config=",
        )
    return parse_config_json(snapshot.read_text(CONFIG_NAME), where=f"{snapshot.location}/{CONFIG_NAME}")


def _architecture(model_type: str, values: Mapping[str, Any], asked: Asked, *, where: object) -> Architecture:
    try:
        return architecture_for(model_type)
    except ConfigError as error:
        code = own_code(values.get("auto_map"))
        located = ConfigError(
            error.what,
            where=where,
            expected=error.expected,
            found=f"auto_map with code of the checkpoint's author ({code})" if code else None,
            hint=error.hint,
        )
        if code is None:
            raise located from error
        asked_for = ", whatever trust_remote_code says" if asked.trusted else ""
        typo = f"{error.hint} Else: " if error.hint and error.hint.startswith("did you mean") else ""
        raise with_hint(
            located,
            f"{typo}the checkpoint brings code of its own, which is never run here{asked_for}: load it with transformers"
            " and trust_remote_code=True, or install a plugin that adds the model type; if its weights are those of a"
            ' type above, pass model_type="llama", say',
        ) from error
