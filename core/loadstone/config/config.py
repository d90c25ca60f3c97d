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
from typing import Any, ClassVar, Literal, Self

from loadstone.config.json_text import parse_json
from loadstone.config.loading import ConfigLoading
from loadstone.dtypes import DTYPES, canonical
from loadstone.errors import ArgumentError, ConfigError, counted, nearest

CONFIG_NAME = "config.json"

ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]

MAX_VALUES = 400_000
"""Values that a file of settings may hold."""

MAX_LABELS = MAX_VALUES // 2
"""Labels that a classifier may have: two entries of the file for each."""

_WHOLE = 2**63
"""Above every whole number that a setting may be."""


@dataclasses.dataclass(frozen=True, slots=True)
class Derived:
    """The default of a field that follows from other fields, e.g. `head_dim`."""

    of: Callable[[Any], object]


def derived(of: Callable[[Any], object]) -> Any:
    """Declare a field whose value, when absent or null, is `of(config)`."""
    return Derived(of)


class Config(ConfigLoading):
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

    # Alternative spelling -> declared key. Whichever the file uses is the one that is saved.
    spellings: ClassVar[Mapping[str, str]] = {"torch_dtype": "dtype"}
    # Keys that would change what the model computes and that it does not follow -> the values that change nothing.
    # So is null, and a list of such values; any other is an error where the configuration becomes a spec.
    neutral: ClassVar[Mapping[str, tuple[object, ...]]] = {}
    _fields: ClassVar[dict[str, tuple[Any, object]]] = {}

    architectures: list[str] | None = None
    dtype: str | None = None
    id2label: dict[int, str] = derived(lambda config: _numbered(config._values.get("num_labels") or 2))
    label2id: dict[str, int] = derived(lambda config: _inverse(config.id2label))
    problem_type: ProblemType | None = None
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

    # What a configuration knows beside its values: where it is from, how attention is computed, whether a model was built.
    _location: str = ""
    _attention: str | None = None
    _built: bool = False

    def __init__(self, **values: Any) -> None:
        complete = {name: default for name, (_, default) in self._fields.items()}
        for name, value in complete.items():
            if value is None or isinstance(value, Derived):
                continue
            values.setdefault(self._key_in(values, name), copy.deepcopy(value))
        attention = values.pop("attn_implementation", None)
        self._hold(values, where=type(self).__name__)
        self._attn_implementation = attention
        number = self._values.pop("num_labels", None)  # `id2label` says it; only a file's own key is kept
        if number is not None:
            self.num_labels = number

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
    def from_json_file(cls, json_file: str | Path) -> Self:
        """Return the configuration of a file, whatever its name.

        Raises:
            ConfigError: If it cannot be read, or is not what this class takes.
        """
        try:
            text = Path(json_file).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ConfigError("the configuration cannot be read", where=json_file, found=error) from error
        return cls.from_dict(parse_config_json(text, where=json_file), where=json_file)

    def _hold(self, values: dict[str, Any], *, where: object) -> None:
        values.pop("model_type", None)
        object.__setattr__(self, "_values", {})
        problems = []
        for key, value in values.items():
            try:
                self._values[key] = self._checked(key, value)
            except ConfigError as error:
                problems.append(error.what)
        problems += self._contradictions()
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

    def _contradictions(self) -> Iterator[str]:
        """Yield the settings that are said in two spellings with different values."""
        for spelling, key in self.spellings.items():
            one, other = self._values.get(key), self._values.get(spelling)
            if key != "dtype" and None not in (one, other) and one != other:
                yield f"{key} and {spelling} are one setting: expected equal values, found {one!r} and {other!r}"

    def update(self, values: Mapping[str, Any]) -> None:
        """Set several keys; each is checked as an attribute assignment would be.

        A key that only the nested `text_config` holds is set there.
        """
        for name in sorted(values, key=lambda name: name != "num_labels"):  # names of labels may follow it
            value, nested = values[name], self._values.get("text_config")
            if nested is not None and name in nested and name not in self._values:
                nested[name] = self._checked(name, value)
            else:
                setattr(self, name, value)

    def _key_in(self, values: Mapping[str, Any], name: str) -> str:
        """Return the spelling under which `values` holds the declared key `name`; one of null only where all are."""
        held = [s for s in (name, *self.spellings) if s in values and self.spellings.get(s, s) == name]
        return next((s for s in held if values[s] is not None), held[0] if held else name)

    def _checked(self, name: str, value: Any) -> Any:
        key = self.spellings.get(name, name)
        if value is None and key == "return_dict":  # which transformers' classes answer in two ways
            raise ConfigError("return_dict: expected true or false, found null")
        if value is None:
            return None
        if key == "num_labels" and (not _fits(value, int) or not 0 < value <= MAX_LABELS):
            most = f" up to {MAX_LABELS:,}" if _fits(value, int) and value > 0 else ""
            raise ConfigError(f"num_labels: expected a positive int{most}, found {value!r}")
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
        outvoted = key in ("id2label", "label2id") and self.contradicting_labels() is not None
        if value is not None and not outvoted:
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
        if key == "id2label" and checked is not None and self._values.get("num_labels") is not None:
            self._values["num_labels"] = len(checked)

    @property
    def num_labels(self) -> int:
        """Number of labels of a classification head; setting it renames them unless the number stays."""
        return self._values.get("num_labels") or len(self.id2label)

    @num_labels.setter
    def num_labels(self, number: int) -> None:
        self._checked("num_labels", number)
        if "num_labels" in self._values:
            self._values["num_labels"] = number
        if self._values.get("id2label") is not None and len(self._values["id2label"]) == number:
            return
        self._values["id2label"] = _numbered(number)
        self._values["label2id"] = _inverse(self._values["id2label"])

    def contradicting_labels(self) -> int | None:
        """Return how many labels the file names where its `num_labels` says another number; None where both agree.

        The number then holds, as in transformers, and the labels are called by their numbers.
        """
        number, names = self._values.get("num_labels"), self._values.get("id2label")
        return None if number is None or names is None or len(names) == number else len(names)

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

    def check_neutral(self) -> None:
        """Check that no key asks for what the model does not compute; see `neutral`.

        Raises:
            ConfigError: If one does; of several all are named.
        """
        wrong = {
            key: self._values[key]
            for key, nothing in self.neutral.items()
            if not _is_neutral(self._values.get(key), nothing)
        }
        if not wrong:
            return
        first, found = next(iter(wrong.items()))
        expected = " or ".join([*map(repr, self.neutral[first]), "no such key"])
        raise ConfigError(
            f"{type(self).__name__} with {first}={found!r} is not supported: it changes what the model computes",
            where=first,
            expected=expected,
            found=repr(found),
            problems=[f"{key}={value!r} neither" for key, value in wrong.items() if key != first],
            hint="load it with transformers; where the key is there by mistake, take it out of config.json",
        )

    @property
    def name_or_path(self) -> str:
        """Where the configuration was loaded from; "" for one that was made in code. It is not saved."""
        return self._location or str(self._values.get("name_or_path") or "")

    @name_or_path.setter
    def name_or_path(self, name: str | Path) -> None:
        object.__setattr__(self, "_location", str(name))

    _name_or_path = name_or_path  # so TRL asks for it, to load a reference from there

    @property
    def _attn_implementation(self) -> str | None:
        """How models of this configuration compute attention; None: each as it does by default. It is not saved."""
        return self._attention

    @_attn_implementation.setter
    def _attn_implementation(self, name: str | None) -> None:
        if self._built and name != self._attention:
            raise ArgumentError(
                "a model has been built of this configuration, and no longer reads its attn_implementation",
                hint=f"call model.set_attn_implementation({name!r})",
            )
        object.__setattr__(self, "_attention", name)

    def built_with(self, attention: str) -> None:
        """Note how the model that was built of this configuration computes attention."""
        vars(self).update(_attention=attention, _built=True)

    def held(self, name: str) -> Any:
        """Return what the file or the caller says under a declared key; None, and no default, where neither does."""
        return self._values.get(self._key_in(self._values, name))

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Config:
        """Return the configuration of the text model: the nested `text_config`, where there is one.

        Args:
            decoder: Whether the decoder's is asked for; no model here has another one for its encoder.
            encoder: Whether the encoder's is; with this alone the nested one is none.
        """
        if encoder and not decoder:
            return self
        nested = self.text_config
        if nested is None:
            return self
        return type(self).from_dict(nested, where="text_config")

    @property
    def per_layer_config(self) -> list[Config]:
        """For each layer the configuration that it has, as transformers' caches ask for it: all have this one."""
        return [self] * self.num_hidden_layers

    def to_dict(self) -> dict[str, Any]:
        """Return what config.json holds: every key that was read or set, and `model_type`."""
        values = copy.deepcopy(self._values)
        return {"model_type": self.model_type, **values} if self.model_type else values

    def to_diff_dict(self) -> dict[str, Any]:
        """Return what `to_dict` does, without what every configuration of every model type has by default."""
        shared, own = Config().to_dict(), type(self)().to_dict()
        return {
            key: value
            for key, value in self.to_dict().items()
            if key not in shared or value != shared[key] or value != own.get(key, value)
        }

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
        copied = type(self).from_dict(self._values)
        vars(copied).update(self._notes())
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self._values), self._notes()

    def _notes(self) -> dict[str, Any]:
        """Return what the configuration knows beside its values."""
        return {name: value for name, value in vars(self).items() if name != "_values"}

    def __setstate__(self, notes: dict[str, Any]) -> None:
        vars(self).update(notes)

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


def _is_neutral(value: object, nothing: tuple[object, ...]) -> bool:
    if isinstance(value, list) and nothing:
        return all(entry in nothing for entry in value)
    return value is None or value in nothing


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
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin is dict:
        return isinstance(value, dict)
    if hint is float:
        return isinstance(value, float) or _fits(value, int)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and -_WHOLE < value < _WHOLE
    return isinstance(value, hint)


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " | ".join(map(_type_name, typing.get_args(hint)))
    if typing.get_origin(hint) is Literal:
        return " | ".join(map(repr, typing.get_args(hint)))
    if hint is type(None):
        return "None"
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
        ConfigError: If it is not JSON, not an object, holds more than `MAX_VALUES` values, or is nested too deeply.
    """
    try:
        values = parse_json(text, most=MAX_VALUES)
    except ValueError as error:
        raise ConfigError(
            "a configuration is not valid JSON"
            if isinstance(error, json.JSONDecodeError)
            else "a configuration is none that a model can have",
            where=where,
            found=str(error) if text else "an empty file",
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
