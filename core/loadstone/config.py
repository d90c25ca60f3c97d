"""config.json <-> typed configuration. Known keys are checked and typed; every other key is kept as it came.

A configuration is faithful: it holds what the file or the caller said, under the spelling used there, and
writes it back so. What the architecture makes of it (every quirk resolved) is its spec; see
`loadstone.architectures`.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from loadstone.dtypes import DTYPES, canonical
from loadstone.errors import ArgumentError, ConfigError, counted, nearest

CONFIG_NAME = "config.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Derived:
    """The default of a field that follows from other fields, e.g. `head_dim`."""

    of: Callable[[Any], object]


def derived(of: Callable[[Any], object]) -> Any:
    """Declare a field whose value, when absent or null, is `of(config)`."""
    return Derived(of)


class Config:
    """A typed configuration; subclass it and declare the known keys as annotated class attributes.

    Reading an attribute gives the value from the file or the caller, else the declared default. Setting one
    checks its type. Keys that the class does not declare are kept, can be read, are saved, and change nothing.

    Args:
        **values: Known keys by name or by an alternative spelling (`torch_dtype`), and any others.

    Raises:
        ConfigError: If known keys hold values of a wrong type; all of them are named at once.

    Example:
        >>> config = Config(num_labels=3)
        >>> config.num_labels, config.id2label[2]
        (3, 'LABEL_2')
    """

    model_type: ClassVar[str] = ""
    # Alternative spelling -> declared key. Whichever the file uses is the one that is saved.
    spellings: ClassVar[Mapping[str, str]] = {"torch_dtype": "dtype"}
    # Declared keys that hold a nested configuration of a model inside this one.
    nested: ClassVar[tuple[str, ...]] = ("text_config",)
    _fields: ClassVar[dict[str, tuple[Any, object]]] = {}

    architectures: list[str] | None = None
    dtype: str | None = None
    id2label: dict[int, str] = derived(lambda config: _numbered(2))
    label2id: dict[str, int] = derived(lambda config: _inverse(config.id2label))
    problem_type: str | None = None
    tie_word_embeddings: bool = True
    is_encoder_decoder: bool = False
    output_hidden_states: bool = False
    output_attentions: bool = False
    return_dict: bool = True
    use_cache: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    initializer_range: float = 0.02
    quantization_config: dict[str, Any] | None = None
    compression_config: dict[str, Any] | None = None
    text_config: dict[str, Any] | None = None

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls._fields = _declared(cls)
        _check_spellings(cls)
        for name in cls._fields:
            # Values live in the instance; a class attribute would hide them.
            if name in vars(cls):
                delattr(cls, name)

    def __init__(self, **values: Any) -> None:
        complete = {name: default for name, (_, default) in self._fields.items()}
        for name, value in complete.items():
            if value is None or isinstance(value, Derived):
                continue
            values.setdefault(self._key_in(values, name), copy.deepcopy(value))
        self._hold(values, where=type(self).__name__)
        self._values.pop("num_labels", None)  # `id2label` says it; only a file's own key is kept

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: object = "config", **overrides: Any) -> Self:
        """Return the configuration that a parsed config.json describes.

        Args:
            values: The parsed file; it is not changed.
            where: What to call it in an error.
            **overrides: Keys that replace the file's.

        Raises:
            ConfigError: If known keys hold values of a wrong type.
        """
        config = cls.__new__(cls)
        config._hold(copy.deepcopy(dict(values)), where=where)
        config.update(overrides)
        return config

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **arguments: Any) -> Self:
        """Load a configuration of this class; `AutoConfig.from_pretrained` tells the arguments and errors.

        Raises:
            ConfigError: If the checkpoint's configuration is of another class.
        """
        from loadstone.config_file import load_config

        config = load_config(pretrained_model_name_or_path, **arguments)
        if not isinstance(config, cls):
            raise ConfigError(
                "the configuration is of another model type",
                where=pretrained_model_name_or_path,
                expected=cls.__name__,
                found=type(config).__name__,
                hint="load it with AutoConfig.from_pretrained",
            )
        return config

    def _hold(self, values: dict[str, Any], *, where: object) -> None:
        values.pop("model_type", None)
        object.__setattr__(self, "_values", {})
        problems = []
        for key, value in values.items():
            try:
                self._values[key] = self._checked(key, value)
            except ConfigError as error:
                problems.append(error.what)
        if problems:
            raise ConfigError(
                f"the configuration has wrong values in {counted(len(problems), 'field')}",
                where=where,
                problems=problems,
                hint="correct the file, or pass a configuration of your own as config=",
            )
        number = self._values.get("num_labels")
        if number is not None and self._values.get("id2label") is None:
            self.num_labels = number

    def update(self, values: Mapping[str, Any]) -> None:
        """Set several keys; each is checked as an attribute assignment would be.

        A key that only the nested `text_config` holds is set there.
        """
        for name, value in values.items():
            nested = self._values.get("text_config")
            if nested is not None and name in nested and name not in self._values:
                nested[name] = self._checked(name, value)
            else:
                setattr(self, name, value)

    def _key_in(self, values: Mapping[str, Any], name: str) -> str:
        """Return the spelling under which `values` holds the declared key `name`; else the declared one."""
        if name in values:
            return name
        return next((s for s, key in self.spellings.items() if key == name and s in values), name)

    def _checked(self, name: str, value: Any) -> Any:
        key = self.spellings.get(name, name)
        if value is None:
            return None
        if key == "num_labels" and (not _fits(value, int) or value < 1):
            raise ConfigError(f"num_labels: expected a positive int, found {value!r}")
        if key not in self._fields:
            return value
        if key == "dtype":
            return _dtype_name(name, value)
        if not _fits(value, self._fields[key][0]):
            raise ConfigError(f"{name}: expected {_type_name(self._fields[key][0])}, found {value!r}")
        return _with_int_keys(value) if key == "id2label" else value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_values":
            raise AttributeError(name)
        key = self.spellings.get(name, name)
        held = self._key_in(self._values, key)
        value = self._values.get(held)
        if value is not None:
            return value
        hint, default = self._fields.get(key, (Any, None))
        if isinstance(default, Derived):
            return default.of(self)
        if held in self._values and _fits(None, hint):  # null is a value where the field may be null
            return None
        if key in self._fields:
            return copy.copy(default)
        known = self.known_names()
        raise AttributeError(
            f"{type(self).__name__} has no field {name!r}; {nearest(name, known) or ''}".rstrip("; ")
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, value)
            return
        checked = self._checked(name, value)
        key = self.spellings.get(name, name)
        held = [k for k in self._values if self.spellings.get(k, k) == key]
        for spelling in held or [key]:
            self._values[spelling] = checked

    @property
    def num_labels(self) -> int:
        """Number of labels of a classification head; setting it renames them unless the number stays."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, number: int) -> None:
        self._checked("num_labels", number)
        if "num_labels" in self._values:
            self._values["num_labels"] = number
        if self._values.get("id2label") is not None and len(self._values["id2label"]) == number:
            return
        self._values["id2label"] = _numbered(number)
        self._values["label2id"] = _inverse(self._values["id2label"])

    @classmethod
    def knows(cls, name: str) -> bool:
        """Return whether `name` is a key that this class declares, in any spelling."""
        return name in cls.known_names()

    @classmethod
    def known_names(cls) -> tuple[str, ...]:
        """Return every key that this class declares, in all spellings."""
        return (*cls._fields, *cls.spellings, "num_labels")

    def __contains__(self, name: str) -> bool:
        return self.knows(name) or name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def get_text_config(self) -> Config:
        """Return the configuration of the text model: the nested `text_config`, where there is one."""
        nested = self.text_config
        if nested is None:
            return self
        return type(self).from_dict(nested, where="text_config")

    def to_dict(self) -> dict[str, Any]:
        """Return what config.json holds: every key that was read or set, and `model_type`."""
        values = copy.deepcopy(self._values)
        return {"model_type": self.model_type, **values} if self.model_type else values

    def to_json_string(self) -> str:
        """Return the text of config.json, keys sorted, as transformers writes it."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, default=str) + "\n"

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write `config.json` into a folder, which is made where absent. No key is lost."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_NAME).write_text(self.to_json_string(), encoding="utf-8")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._values == other._values

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self).from_dict(self._values)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string().rstrip()}"


def _restore(cls: type[Config], values: dict[str, Any]) -> Config:
    return cls.from_dict(values)


def _declared(cls: type[Config]) -> dict[str, tuple[Any, object]]:
    """Return key -> (type, default) for the annotated class attributes of a class and its bases."""
    fields: dict[str, tuple[Any, object]] = {}
    for base in reversed(cls.__mro__[1:]):
        known = vars(base).get("_fields", {})
        fields |= {name: known[name] for name in vars(base).get("__annotations__", {}) if name in known}
    # Of the bases they are known: evaluating all hints of all classes takes longer than the rest of an import.
    for name, hint in _own_hints(cls).items():
        if not name.startswith("_") and typing.get_origin(hint) is not ClassVar and name in vars(cls):
            fields[name] = (hint, vars(cls)[name])
    return fields


def _check_spellings(cls: type[Config]) -> None:
    """Raise a ConfigError where an alternative spelling is a key of its own, or stands for none."""
    problems = [
        f"{spelling!r} stands for {key!r}, and is a declared key itself"
        if spelling in cls._fields
        else f"{spelling!r} stands for {key!r}, which is not declared"
        for spelling, key in cls.spellings.items()
        if spelling in cls._fields or key not in cls._fields
    ]
    if problems:
        raise ConfigError(
            f"{cls.__name__}.spellings contradict its keys",
            where=f"{cls.__module__}.{cls.__qualname__}",
            problems=problems,
            hint="leave out one of the two, the spelling or the key",
        )


def _own_hints(cls: type[Config]) -> dict[str, Any]:
    """Return the evaluated annotations that stand in the body of a class."""
    own = vars(cls).get("__annotations__", {})
    return typing.get_type_hints(type("Own", (), {"__annotations__": own, "__module__": cls.__module__}))


def _numbered(number: int) -> dict[int, str]:
    return {i: f"LABEL_{i}" for i in range(number)}


def _inverse(labels: dict[int, str]) -> dict[str, int]:
    return {label: i for i, label in labels.items()}


def _dtype_name(field: str, value: object) -> str:
    try:
        return canonical(value)
    except ArgumentError as error:
        near = nearest(str(value), DTYPES)
        raise ConfigError(
            f"{field}: expected the name of a dtype, found {value!r}" + (f"; {near}" if near else "")
        ) from error


def _with_int_keys(labels: dict[Any, str]) -> dict[Any, str]:
    """Return `id2label` as it is used: JSON has no numbers for keys. One that has others too stays as it came."""
    try:
        return {int(key): label for key, label in labels.items()}
    except ValueError:
        return labels


def _fits(value: object, hint: Any) -> bool:
    """Return whether a JSON value fits a declared type; an int fits float, a bool never fits a number."""
    if hint is Any:
        return True
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if hint is None or hint is type(None):
        return value is None
    if origin in (list, tuple):
        inner = typing.get_args(hint)[0]
        return isinstance(value, list | tuple) and all(_fits(item, inner) for item in value)
    if origin is dict:
        return isinstance(value, dict)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _type_name(hint: Any) -> str:
    return (
        hint.__name__
        if isinstance(hint, type) and not typing.get_args(hint)
        else str(hint).replace("typing.", "")
    )


# The base class declares keys too; `__init_subclass__` only runs for its subclasses.
Config._fields = _declared(Config)
for _name in Config._fields:
    delattr(Config, _name)


def parse_config_json(text: str, *, where: object) -> dict[str, Any]:
    """Parse the text of a config.json.

    Raises:
        ConfigError: If it is not JSON, or not an object.
    """
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(
            "a configuration is not valid JSON",
            where=where,
            found=f"{error}" if str(error) else "nesting too deep",
            hint="fetch the file again, or correct it",
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(
            "a configuration is not a JSON object",
            where=where,
            expected='an object, e.g. {"model_type": "llama"}',
            found=type(values).__name__,
            hint="fetch the file again, or correct it",
        )
    return values
