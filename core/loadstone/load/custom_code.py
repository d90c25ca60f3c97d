"""Code that comes with a checkpoint, which config.json's `auto_map` names: run where the caller trusts it, and always told."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from loadstone import plugins
from loadstone.architectures import Head
from loadstone.backend import get_backend
from loadstone.backend.own import said_config_class
from loadstone.backend.registered import is_registered
from loadstone.config import CONFIG_NAME, Config
from loadstone.errors import ArchitectureError, ConfigError, LoadstoneError, MatchError, nearest, shown
from loadstone.load.arguments import LoadArguments
from loadstone.load.target import Target
from loadstone.remote.foreign import ForeignConfig, foreign_class
from loadstone.remote.modules import is_own
from loadstone.remote.own import ImportedCode, OwnCode, Permission
from loadstone.remote.trust import trust_of

NO_HEAD = Head(task="", class_name="", prefix="")
"""What is known of a class that comes with a checkpoint before it is imported."""


def permission_of(given: LoadArguments) -> Permission:
    """Return what the arguments of a load say of code.

    Raises:
        ArgumentError: If `trust_remote_code=` names what cannot be trusted.
    """
    source = given.source()
    return Permission(
        trust=trust_of(given.trust_remote_code),
        prefer=given.prefer_remote_code,
        revision=source.pop("revision"),
        code_revision=given.code_revision,
        subfolder=source.pop("subfolder"),
        source=source,
    )


def own_code_of(config: Config) -> OwnCode | None:
    """Return the code that a configuration came with, and that its model is of; None for one of ours."""
    found: OwnCode | None = vars(config).get("_own_code")
    return found


def own_config_class(model_class: object) -> type[Config] | None:
    """Return the configuration class of a class that came with a checkpoint, or is a user's own; None for one of ours."""
    if not isinstance(model_class, type):
        return None
    said = None if is_own(model_class) else said_config_class(model_class)
    architecture = model_class.architecture_and_head()[0]  # type: ignore[attr-defined]
    if said is not None or is_own(model_class) or is_registered(architecture):
        found: type[Config] = said or architecture.config
        return found
    return None


def own_config(own: OwnCode, values: Mapping[str, Any]) -> Config:
    """Return the configuration of a checkpoint whose own code describes it.

    Raises:
        UntrustedCodeError: If the caller does not trust the code.
        ConfigError: If the code has no class of configurations, or that refuses the values.
    """
    wanted = _wanted(own, values)
    own.check(wanted=wanted)
    if "AutoConfig" in own.named:
        config_class = own.load("AutoConfig", wanted=wanted)
    else:
        model_class = own.load(next(iter(own.named)), wanted=wanted)
        config_class = getattr(model_class, "config_class", None) or Config
    where = f"{own.location}/{CONFIG_NAME}"
    taken = config_class if issubclass(config_class, Config) else foreign_class(config_class)
    config = taken.from_dict(_with_home(own, values), where=where)
    config.name_or_path = own.snapshot.location
    vars(config)["_own_code"] = own
    return config


def _with_home(own: OwnCode, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a parsed config.json whose `auto_map` says which repository its code is in: what is saved elsewhere finds it."""
    if own.snapshot.commit is None:
        return values
    home = {
        key: said if "--" in said else f"{own.location}--{said}"
        for key, said in values["auto_map"].items()
        if isinstance(said, str)
    }
    return {**values, "auto_map": {**values["auto_map"], **home}}


def imported_code_of(config: Config) -> OwnCode | None:
    """Return the code that made a configuration, which has run already; None for a configuration of ours."""
    made_by = config.theirs if isinstance(config, ForeignConfig) else type(config)
    if not is_own(made_by):
        return None
    return ImportedCode(made_by, config.held("auto_map"), config.name_or_path)


def _wanted(own: OwnCode, values: Mapping[str, Any]) -> str:
    model_type = values.get("model_type")
    what = f"the model type {shown(model_type)}" if model_type else "this checkpoint"
    return f"{what} (auto_map: {own_code(values.get('auto_map'))})"


def own_target(
    own: OwnCode, config: Config, task: str | None, model_class: object, backend: str | None
) -> Target:
    """Return the checkpoint's own class to load it into.

    Args:
        own: The code.
        config: The configuration that it made.
        task: What follows `AutoModelFor`; None: the class that config.json names under `architectures`, else any.
        model_class: The name of a class, in place of the task.
        backend: As in `from_pretrained`.

    Raises:
        ArchitectureError: If the `auto_map` names no class for that, or one that the backend cannot load.
    """
    chosen = get_backend(backend)
    key = _key(own, config, task, model_class, plugins.class_prefix_of(chosen.asked))
    found = own.load(key, wanted=f"{key} of {own.location}")
    task = key[key.index("AutoModel") :].removeprefix("AutoModel").removeprefix("For")
    adopted = chosen.adopt(found, config, task=task, stored=None)
    return Target(
        backend=chosen,
        architecture=adopted.architecture,
        head=adopted.head,
        model_class=adopted.model_class,
        own=True,
    )


def _key(own: OwnCode, config: Config, task: str | None, model_class: object, prefix: str) -> str:
    """Return the key of the `auto_map` that is asked for."""
    models = [key for key in own.named if key.startswith(f"{prefix}AutoModel")]
    if task is None:
        classes = [model_class] if isinstance(model_class, str) else config.architectures or []
        named = [
            key
            for key in models
            if {own.named[key].name, own.named[key].name.removeprefix(prefix)} & {*classes}
        ]
        return (named or models or [_none_for(own, f"{prefix}AutoModel")])[0]
    wanted = f"{prefix}AutoModelFor{task}" if task else f"{prefix}AutoModel"
    return wanted if wanted in models else _none_for(own, wanted)


def _none_for(own: OwnCode, wanted: str) -> str:
    models = [key for key in own.named if "AutoModel" in key]
    raise ArchitectureError(
        f"the checkpoint's own code has no class for {wanted}",
        where=f"{own.location}/{CONFIG_NAME}: auto_map",
        expected=wanted,
        found=", ".join(own.named),
        hint=nearest(wanted, models)
        or (f"load it with {models[0]}" if models else "its auto_map names no model"),
    )


class LoadsItself(Exception):
    """Ends the decision about a load: the checkpoint's own class has a `from_pretrained`, with keywords of its own, that makes it.

    Attributes:
        model_class: The class.
        pinned: The commit that was found, for the loads that it makes in turn.
    """

    def __init__(self, model_class: type, pinned: Mapping[str, str]) -> None:
        super().__init__(model_class.__name__)
        self.model_class, self.pinned = model_class, pinned


def hand_over(model_class: type, commit: str | None) -> None:
    """Raise `LoadsItself` if a checkpoint's own class has a `from_pretrained` of its own, which then calls ours."""
    defined = next((one for one in model_class.__mro__ if "from_pretrained" in vars(one)), None)
    if defined is None or not is_own(defined):
        return
    taken = inspect.signature(model_class.from_pretrained).parameters  # type: ignore[attr-defined]
    takes = "revision" in taken or any(one.kind is one.VAR_KEYWORD for one in taken.values())
    raise LoadsItself(model_class, {"revision": commit} if commit is not None and takes else {})


def own_code(auto_map: object) -> str | None:
    """Return the classes of its own that a checkpoint names for the model; None for none, or for a tokenizer's alone.

    Example:
        >>> own_code({"AutoModel": "modeling.Mine", "AutoTokenizer": ["tokens.Mine", None]})
        "AutoModel: 'modeling.Mine'"
    """
    if not isinstance(auto_map, Mapping):
        return None
    named = {key: value for key, value in auto_map.items() if key.startswith(("AutoModel", "AutoConfig"))}
    return ", ".join(f"{key}: {shown(value)}" for key, value in named.items()) or None


def note_of_code(auto_map: object, model_type: str, *, trusted: bool) -> str | None:
    """Return what a report says of a checkpoint with code of its own whose model type is known."""
    code = own_code(auto_map)
    if code is None:
        return None
    asked = (
        "trust_remote_code=True runs nothing here without prefer_remote_code=True"
        if trusted
        else "it is not run"
    )
    return (
        f"config.json's auto_map names code of the checkpoint's author ({code}): {asked}; that code may compute"
        f" something of its own, loadstone computes what {model_type!r} is"
    )


@contextlib.contextmanager
def naming_code(auto_map: object) -> Iterator[None]:
    """Let errors about a custom checkpoint say that it is one: its code may describe another model than its type.

    Raises:
        ConfigError, ArchitectureError, MatchError: What the body raised, with the `auto_map` named.
    """
    try:
        yield
    except (ConfigError, ArchitectureError, MatchError) as error:
        code = own_code(auto_map)
        if code is None or "auto_map" in str(error):
            raise
        reason = (
            f"config.json's auto_map names code of the checkpoint's author ({code}), which was not run"
            " and may describe another model"
        )
        raise with_hint(error, f"{error.hint}; {reason}" if error.hint else reason) from error


def with_hint(error: LoadstoneError, hint: str) -> LoadstoneError:
    """Return the same error with another next step."""
    facts = {name: getattr(error, name) for name in ("where", "expected", "found", "problems")}
    return type(error)(error.what, **facts, hint=hint)
