"""The records that describe an architecture: names, ties, heads and prefixes as data.

Names are those of checkpoints. In a pattern `{}` stands for one segment between dots
(`layers.{}.self_attn.q_proj.bias`) and a final `{...}` for all that follow. Patterns of the base model are written
without its prefix.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from loadstone.config import Config

if TYPE_CHECKING:
    from loadstone.architectures.arrangements import Arrangement
    from loadstone.checkpoint.recipe import Step


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tie:
    """Parameter `name` is the same parameter as `to`, where the config field `when` is true ("" is always)."""

    name: str
    to: str
    when: str = "tie_word_embeddings"

    def holds(self, config: Config) -> bool:
        """Return what a configuration says of it; where it does not say, its nested `text_config` may."""
        said = config if self.when in set(config) else config.get_text_config()
        return not self.when or bool(getattr(said, self.when))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """One model class of an architecture: the base model, or the base model with a task head.

    Attributes:
        task: What follows `AutoModelFor`, e.g. "CausalLM"; "" for the base model.
        class_name: The class in every backend, there with the backend's prefix.
        prefix: Where the base model sits in this model, e.g. "model"; "" for the base model itself.
        new: Groups of parameters that may be absent from a checkpoint, and are then drawn afresh. A group is
            new as a whole or not at all.
        ties: Parameters that are one.
        output: Module that scores every token of the vocabulary, e.g. "lm_head"; "" for none.
        options: Keyword arguments that the class takes beside the configuration (`add_pooling_layer`).
    """

    task: str
    class_name: str
    prefix: str
    new: tuple[tuple[str, ...], ...] = ()
    ties: tuple[Tie, ...] = ()
    output: str = ""
    options: tuple[str, ...] = ()

    def ties_of(self, config: Config) -> dict[str, str]:
        """Return parameter -> the parameter that it is, as a configuration has it."""
        return {tie.name: tie.to for tie in self.ties if tie.holds(config)}

    def base_name(self, parameter: str) -> str:
        """Return a parameter's name without the prefix of the base model."""
        return parameter.removeprefix(f"{self.prefix}.") if self.prefix else parameter


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Accent:
    """What the classes of one framework, of one architecture, call and turn otherwise than by the rule for all (`dialects.py`).

    Attributes:
        steps: Base-model pattern -> what happens to a stored tensor on its way to a checkpoint's.
        leaves: Base-model pattern -> the last segment of its name.
        level: What joins a list and a number; "" as the rule has it.
        roots: How names begin -> what stands in the place of their first segment.
        holders: First segments, as they are then, of the layers that hold the base model's `embeddings` too.
        even_heads: Whether its classes divide the hidden size among the heads, whatever `head_dim` says.
    """

    steps: Mapping[str, tuple[Step, ...]] = dataclasses.field(default_factory=dict)
    leaves: Mapping[str, str] = dataclasses.field(default_factory=dict)
    level: str = ""
    roots: Mapping[str, str] = dataclasses.field(default_factory=dict)
    holders: tuple[str, ...] = ()
    even_heads: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """All that the engine must know of one model type.

    Attributes:
        model_type: The value in config.json.
        family: Name of the module in each backend's `models` package that holds the classes.
        config: The configuration class.
        spec: Resolves a configuration into the frozen spec that the backends' modules read. Called through the record it
            first checks that nothing in the configuration is left unfollowed (`Config.neutral`).
        heads: The model classes; the base model first.
        embedding: Module of the base model that looks tokens up, e.g. "embed_tokens".
        optional: Base-model names that exist only under some configurations (biases): found in a checkpoint
            whose config has no room for them, they are an error and not a stranger.
        ignored: Stored names that no model needs (`rotary_emb.inv_freq`).
        renamed: (old, new) endings of names from before a renaming (`LayerNorm.gamma`, `LayerNorm.weight`).
        no_split: Base-model patterns of the blocks that a device map must keep whole.
        keep_float32: Base-model names that stay float32 whatever dtype is asked for.
        keep_float32_of_float16: The same, where float16 is asked for.
        drawn: Names -> how a fresh parameter is drawn ("ones", "zeros", "fan_out"), where it is not the rule: zeros for a
            `bias`, ones for any other vector, else a normal distribution of width `initializer_range`.
        counters: Base-model names of numbers that count training, and start at zero where they are not stored.
        may_lack: Base-model names that any checkpoint may lack, and that are then drawn afresh.
        arranged: Parameters that checkpoints hold in another arrangement (a stack of experts).
        spoken: Dialect ("tensorflow", "flax") -> what transformers' classes of that framework do otherwise than by the rule for
            all. Of a dialect that is not there transformers had no classes, and nothing is written in it.
        modules: Backend name -> module that holds the classes, where it is not the backend's own.
        layers: Configuration keys that count layers, each of which has a parameter or more of its own; a list counts
            those of each stage.
        sizes: Configuration keys that are, or divide, an axis of a parameter of the base model.
    """

    model_type: str
    family: str
    config: type[Config]
    spec: Callable[[Config], Any]
    heads: tuple[Head, ...]
    embedding: str
    optional: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    no_split: tuple[str, ...] = ()
    keep_float32: tuple[str, ...] = ()
    keep_float32_of_float16: tuple[str, ...] = ()
    drawn: Mapping[str, str] = dataclasses.field(default_factory=dict)
    counters: tuple[str, ...] = ()
    may_lack: tuple[str, ...] = ()
    arranged: tuple[Arrangement, ...] = ()
    spoken: Mapping[str, Accent] = dataclasses.field(default_factory=dict)
    modules: Mapping[str, str] = dataclasses.field(default_factory=dict)
    layers: tuple[str, ...] = ("num_hidden_layers",)
    sizes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if getattr(self.spec, "func", None) is not _checked_spec:  # it is, where one is made from another
            object.__setattr__(self, "spec", functools.partial(_checked_spec, self.spec))

    @property
    def base_prefixes(self) -> tuple[str, ...]:
        """Every prefix under which a checkpoint of this architecture may hold the base model; "" included."""
        return tuple(dict.fromkeys(head.prefix for head in self.heads))

    def wide_for(self, dtype: str) -> tuple[str, ...]:
        """Return the base-model names that stay float32 where another dtype is asked for."""
        return self.keep_float32 + (self.keep_float32_of_float16 if dtype == "float16" else ())


def _checked_spec(spec: Callable[[Config], Any], config: Config) -> Any:
    """Resolve a configuration, once neither it nor the one nested in it asks for what is not followed."""
    config.check_neutral()
    config.get_text_config().check_neutral()
    return spec(config)


def matches(pattern: str, name: str) -> bool:
    """Return whether a name fits a pattern. No regular expression is involved.

    Example:
        >>> matches("layers.{}.mlp.{...}", "layers.10.mlp.up_proj.weight")
        True
        >>> matches("layers.{}.bias", "layers.1.mlp.bias")
        False
    """
    start = pattern.removesuffix(".{...}")
    wanted, found = start.split("."), name.split(".")
    if start != pattern and len(found) > len(wanted):
        found = found[: len(wanted)]
    elif start != pattern:
        return False
    return len(wanted) == len(found) and all(w in ("{}", f) for w, f in zip(wanted, found, strict=True))


def generalise(name: str) -> str:
    """Return the pattern of a name: each numeric segment becomes `{}`.

    Example:
        >>> generalise("layers.10.mlp.up_proj.weight")
        'layers.{}.mlp.up_proj.weight'
    """
    return ".".join("{}" if _is_number(segment) else segment for segment in name.split("."))


def _is_number(segment: str) -> bool:
    # A file may hold digits that `int` does not take, or too many of them.
    return segment.isdigit() and segment.isascii() and len(segment) <= 9
