"""config.json <-> typed configuration. Known keys are checked and typed; every other key is kept as it came.

A configuration is faithful: it holds what the file or the caller said, under the spelling used there, and
writes it back so. What the architecture makes of it (every quirk resolved) is its spec; see
`loadstone.architectures`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Self

from loadstone.config.fields import Derived, check_spellings, declared, derived, dtype_name, fits, type_name
from loadstone.config.file import MAX_VALUES, InFile
from loadstone.config.loading import ConfigLoading
from loadstone.config.nested import Nested
from loadstone.errors import ArgumentError, ConfigError, counted, nearest

ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]

MAX_LABELS = MAX_VALUES // 2
"""Labels that a classifier may have: two entries of the file for each."""


class Config(ConfigLoading, InFile, Nested):
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
    # transformers' Auto classes ask for it; nested configurations are read from the keys of a file here.
    sub_configs: ClassVar[Mapping[str, type]] = {}

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
        cls._fields = declared(cls)
        check_spellings(cls)
        for name in cls._fields:
            # Values live in the instance; a class attribute would hide them.
            if name in vars(cls):
                delattr(cls, name)

    # What a configuration knows beside its values: how attention is computed, whether a model was built.
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
        if key == "num_labels" and (not fits(value, int) or not 0 < value <= MAX_LABELS):
            most = f" up to {MAX_LABELS:,}" if fits(value, int) and value > 0 else ""
            raise ConfigError(f"num_labels: expected a positive int{most}, found {value!r}")
        if key not in self._fields:
            return value
        if key == "dtype":
            return dtype_name(name, value)
        if not fits(value, self._fields[key][0]):
            raise ConfigError(f"{name}: expected {type_name(self._fields[key][0])}, found {value!r}")
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
        if held in self._values and fits(None, hint):  # null is a value where the field may be null
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


def _numbered(number: int) -> dict[int, str]:
    return {i: f"LABEL_{i}" for i in range(number)}


def _inverse(labels: dict[int, str]) -> dict[str, int]:
    return {label: i for i, label in labels.items()}


def _is_neutral(value: object, nothing: tuple[object, ...]) -> bool:
    if isinstance(value, list) and nothing:
        return all(entry in nothing for entry in value)
    return value is None or value in nothing


def _with_int_keys(labels: dict[Any, str]) -> dict[Any, str]:
    """Return `id2label` as it is used: JSON has no numbers for keys. One that has others too stays as it came."""
    try:
        return {int(key): label for key, label in labels.items()}
    except ValueError:
        return labels


# The base class declares keys too; `__init_subclass__` only runs for its subclasses.
Config._fields = declared(Config)
for _name in Config._fields:
    delattr(Config, _name)
