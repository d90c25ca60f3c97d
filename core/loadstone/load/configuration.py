"""Finding config.json and making the configuration that its `model_type` asks for."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

from loadstone.architectures import (
    Architecture,
    architecture_for,
    architecture_of,
    architectures,
    model_types,
)
from loadstone.checkpoint.formats import adapter_alone
from loadstone.checkpoint.open import find_weights
from loadstone.checkpoint.settled import settle
from loadstone.config import CONFIG_NAME, Config, parse_config_json
from loadstone.errors import ConfigError, NoConfigError, logger_of, memory_told
from loadstone.keywords import ConfigArguments
from loadstone.load.arguments import LoadArguments, parse_arguments, split_rest
from loadstone.load.custom_code import (
    NO_HEAD,
    naming_code,
    note_of_code,
    own_code,
    own_code_of,
    own_config,
    permission_of,
)
from loadstone.load.file_named import with_file_named
from loadstone.load.watch import steadily, watch
from loadstone.plugins import answerable
from loadstone.remote.foreign import ForeignConfig
from loadstone.remote.modules import is_own
from loadstone.remote.own import NO_PERMISSION, OwnCode, Permission
from loadstone.source import Name, Snapshot, resolve
from loadstone.source.snapshot import summary

logger = logger_of(__name__)

NOTED = frozenset({"_from_auto", "_commit_hash", "name_or_path"})
"""What transformers' Auto classes pass to a configuration class beside the caller's arguments: what they did themselves."""
ABOUT_CONFIGS = {*(field.name for field in dataclasses.fields(ConfigArguments)), "torch_dtype", *NOTED}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What decides the model type beside config.json.

    Attributes:
        model_type: The caller's word, which goes before the file's.
        of_class: The model type of the class that is loaded, for a file that says none.
        config_class: The configuration class of the class that is loaded, where that is of code that has run already.
        permission: What the caller says of code that comes with the checkpoint.
        weights: Which weights are read, as `LoadArguments.weights` says it; they say what the model is where the caller
            named their file.
    """

    model_type: str | None = None
    of_class: str | None = None
    config_class: type[Config] | None = None
    permission: Permission = NO_PERMISSION
    weights: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def file(self) -> str:
        """The file that says what the model is."""
        return self.weights.get("weights_file") or CONFIG_NAME

    @classmethod
    def by(
        cls, given: LoadArguments, of_class: str | None, config_class: type[Config] | None = None
    ) -> Asked:
        """Return what the arguments of a load say."""
        return cls(
            model_type=given.model_type,
            of_class=of_class,
            config_class=config_class,
            permission=permission_of(given),
            weights=given.weights(),
        )


@memory_told("to read the configuration")
def load_config(
    pretrained_model_name_or_path: Name,
    *,
    of_class: str | None = None,
    config_class: type[Config] | None = None,
    return_unused_kwargs: bool = False,
    **arguments: Any,
) -> Any:
    """Load a configuration; `AutoConfig.from_pretrained` tells the arguments and errors.

    Args:
        pretrained_model_name_or_path: As there.
        of_class: The model type of the class that loads it, for a file that says none.
        config_class: That class; one that no architecture has is of a user's own, and reads the file as it is.
        return_unused_kwargs: Return the configuration, and those arguments that are neither about where it is nor fields of it.
        **arguments: As there.
    """
    others = {
        name: arguments.pop(name)
        for name in [*arguments]
        if return_unused_kwargs and name not in ABOUT_CONFIGS
    }
    given, rest = parse_arguments({name: value for name, value in arguments.items() if name not in NOTED})
    name, given = with_file_named(pretrained_model_name_or_path, given)
    own = config_class if config_class is not None and not _is_known(config_class) else None

    def read() -> tuple[Config, tuple[str, ...]]:
        watched = watch(resolve(name, **given.source()))
        with watched.unchanged(given.variant):
            return read_config(watched.snapshot, Asked.by(given, of_class, own))

    config, notes = steadily(read)
    for note in notes:
        logger.warning("%s: %s", config.name_or_path, note)
    head = NO_HEAD if own_code_of(config) or own is not None else architecture_of(config).heads[0]
    rest |= {name: others.pop(name) for name in [*others] if name in config}
    fields, _ = split_rest(rest, config=config, head=head)
    config.update(fields)
    if given.dtype not in (None, "auto"):
        config.update({"dtype": given.dtype})
    config._attn_implementation = given.attn_implementation
    found = config.made() if isinstance(config, ForeignConfig) else config
    return (found, others) if return_unused_kwargs else found


def _is_known(config_class: type[Config]) -> bool:
    """Return whether a class is that of an architecture, or the base of them all."""
    with contextlib.suppress(ConfigError):
        return architecture_for(config_class.model_type).config is config_class
    return not config_class.model_type


def config_values(name_or_path: Name, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a parsed config.json, and the arguments that do not say where it is; `Config.get_config_dict` tells them."""
    given, _ = parse_arguments(arguments)
    name_or_path, given = with_file_named(name_or_path, given)
    where = given.source()
    rest = {name: value for name, value in arguments.items() if name not in (*where, "gguf_file")}
    return read_values(settle(resolve(name_or_path, **where)), given.weights()), rest


def read_config(snapshot: Snapshot, asked: Asked) -> tuple[Config, tuple[str, ...]]:
    """Return the typed configuration of a snapshot, and what is to be told of it.

    Raises:
        ConfigError: If config.json is absent, not JSON, of no known model type, or of wrong types.
        CheckpointError: If the file that the caller named is damaged.
    """
    where = f"{snapshot.location}/{asked.file}"
    values = read_values(snapshot, asked.weights)
    _check_no_other_file(values, where=where)
    if asked.config_class is not None and _is_for(asked.config_class, values, asked):
        return _of_class(asked.config_class, values, snapshot, where=where)
    if (own := _own_code(values, snapshot, asked)) is not None:
        return own_config(own, values), ()
    model_type, why = _model_type(values, asked, where=where)
    architecture = _architecture(model_type, values, asked, where=where)
    with naming_code(values.get("auto_map")):
        config = architecture.config.from_dict(values, where=where)
    config.name_or_path = snapshot.location
    code = note_of_code(values.get("auto_map"), model_type, trusted=bool(asked.permission.trust))
    return config, tuple(note for note in (why, code) if note)


def _is_for(config_class: type[Config], values: Mapping[str, Any], asked: Asked) -> bool:
    """Return whether a config.json is of a class: of its model type, of one that it derives from, or of none."""
    kin = {getattr(one, "model_type", "") for one in config_class.__mro__}
    said = (asked.model_type or values.get("model_type") or "") if not is_own(config_class) else ""
    return said in {*kin, ""}


def _of_class(
    config_class: type[Config], values: Mapping[str, Any], snapshot: Snapshot, *, where: object
) -> tuple[Config, tuple[str, ...]]:
    config = config_class.from_dict(values, where=where)
    config.name_or_path = snapshot.location
    said, own = values.get("model_type"), config_class.model_type
    note = (
        f"config.json says {said!r}, and {own!r} derives from that"
        if own and said not in (None, "", own)
        else None
    )
    return config, (note,) if note else ()


def _own_code(values: Mapping[str, Any], snapshot: Snapshot, asked: Asked) -> OwnCode | None:
    """Return the code of the checkpoint's own that is to describe it: where it is preferred, or we lack the model type."""
    if not own_code(values.get("auto_map")) or asked.model_type is not None:
        return None
    if not asked.permission.prefer and _is_ours(values, asked):
        return None
    return OwnCode.of(values, snapshot, asked.permission)


def _is_ours(values: Mapping[str, Any], asked: Asked) -> bool:
    """Return whether a config.json is of a model type that is known here, by what it says."""
    said = values.get("model_type")
    if said in (None, ""):
        return asked.of_class is not None or any(map(_type_of_class, _classes(values)))
    return said in model_types()


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
        + (f"; its auto_map names no code for that ({code})" if code else ""),
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


def read_values(snapshot: Snapshot, weights: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the parsed config.json of a snapshot, or what stands for it in the file of weights that the caller named.

    Raises:
        ConfigError: If it is absent or not JSON.
        CheckpointError: If the file that the caller named is not there, or damaged.
    """
    if weights and weights.get("weights_file"):
        found = find_weights(snapshot, **weights)
        with answerable(found.claim, f"fails to say what model {found.entry} holds"):
            said = found.format.config(snapshot, found.entry)
        if said is not None:
            return dict(said)
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
        located = ConfigError(
            error.what,
            where=where,
            expected=error.expected,
            hint=error.hint,
        )
        raise located from error
