"""Specs: a configuration with every quirk resolved. The backends' modules read these and nothing else."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from loadstone.architectures.names import Names
from loadstone.architectures.parts import (
    EmbeddingSpec,
    GrowthSpec,
    LayerSpec,
    NormSpec,
    PoolerSpec,
    ScoreSpec,
)
from loadstone.architectures.rope import RopeSpec
from loadstone.config import Config
from loadstone.errors import ArgumentError, ConfigError, nearest

if TYPE_CHECKING:
    from loadstone.architectures.records import Architecture

MAX_LAYERS = 100_000
"""The most layers that are believed; the deepest models have some hundreds."""

MAX_SIZE = 10_000_000
"""The largest size that is believed; the largest vocabularies have a few hundred thousand words."""

# Keys that any of transformers' models reads and none of ours follows; see `Config.neutral`.
NEUTRAL: dict[str, tuple[object, ...]] = {
    "is_encoder_decoder": (False,),
    "decoder": (),
    "generator": (),
    "text_encoder": (),
}
# Whether the last of the hidden states is the normalised one: what transformers' class does where the key is absent.
TIED_STATES: dict[str, tuple[object, ...]] = {"tie_last_hidden_states": (True,)}
UNTIED_STATES: dict[str, tuple[object, ...]] = {"tie_last_hidden_states": (False,)}
# Keys by which transformers lays out a decoder's cache, which then forgets what the model still attends to.
NEUTRAL_CACHE: dict[str, tuple[object, ...]] = {"attention_chunk_size": (), "kv_sharing_modes": ()}
NEUTRAL_WINDOWS: dict[str, tuple[object, ...]] = {"sliding_window": (), "layer_types": ("full_attention",)}

# Name in config.json -> the function's one name here.
ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "mish": "mish",
    "relu": "relu",
    "relu2": "relu2",
    "tanh": "tanh",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierSpec:
    """What a classification head needs.

    Attributes:
        num_labels: Size of its last axis.
        problem_type: "regression", "single_label_classification", "multi_label_classification", or None: decided
            by the labels, as transformers does.
        dropout: Probability before the head, in training.
        token_dropout: The same for the head that classifies tokens.
        choice_dropout: The same for the head that chooses.
        answer_dropout: The same for the head that answers questions.
        pad_token_id: Sequences end before it, for heads that read the last token.
        activation: Of the layer before it, for heads that have one.
    """

    num_labels: int
    problem_type: str | None
    dropout: float
    token_dropout: float
    choice_dropout: float
    answer_dropout: float
    pad_token_id: int | None
    activation: str = "tanh"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StackSpec:
    """What every stack of layers has.

    Attributes:
        decodes: Whether its layers may have windows, ropes and queries that grow.
        hidden_size: Channels between the layers.
        layers: Each layer's own; alike layers are one object.
        norm: The norm after the last layer, or None.
        names: Where checkpoints have the parts.
        classifier: What the heads need that classify.
    """

    hidden_size: int
    layers: tuple[LayerSpec, ...]
    decodes: ClassVar[bool] = False
    norm: NormSpec | None
    names: Names
    classifier: ClassifierSpec

    def __post_init__(self) -> None:
        """Check that each part that must have a name has one, and the reverse.

        Raises:
            ArgumentError: If one does not.
        """
        distinct = {id(layer): layer for layer in self.layers}.values()
        attention, names = [layer.attention for layer in distinct], self.names
        agree = {
            "the norms of queries and keys": {
                (one.qk_norm is not None) == bool(names.attention.query_norm) for one in attention
            },
            "attention to an encoder": {
                (one.cross_attention is None) == (names.cross_attention is None) for one in distinct
            },
            "the norm after the last layer": {(self.norm is not None) == bool(names.norm)},
            **self._embeddings_agree(),
        }
        if problems := [part for part, agrees in agree.items() if not all(agrees)]:
            raise ArgumentError(
                "a part has a spec and no name, or a name and no spec",
                where=type(self).__name__,
                problems=problems,
                hint="give both, or neither",
            )
        if unread := [part for part, said in self._unread().items() if said]:
            raise ArgumentError(
                f"{'a decoder' if self.decodes else 'an encoder'} does not follow all of its spec yet",
                where=type(self).__name__,
                problems=unread,
                hint="leave it out, or describe a decoder with causal=False where an encoder lacks it",
            )

    def _embeddings_agree(self) -> dict[str, set[bool]]:
        """Return the parts of the embeddings -> whether each has a spec and a name, or neither."""
        return {}

    def _unread(self) -> dict[str, bool]:
        """Return what no backend's stack of this kind reads -> whether the spec says it."""
        if self.decodes:
            return {}
        attention = [layer.attention for layer in self.layers]
        return {
            "windows": any(one.window for one in attention),
            "ropes": any(one.rope for one in attention),
            "queries that grow": any(one.growth for one in attention),
            "a factor on what its parts add": any(layer.residual != 1.0 for layer in self.layers),
            "parts side by side": any(layer.parallel for layer in self.layers),
        }

    @property
    def num_layers(self) -> int:
        """How many layers there are."""
        return len(self.layers)

    @property
    def windows(self) -> tuple[int | None, ...]:
        """Per layer, how many tokens back it attends, or None for all."""
        return tuple(layer.attention.window for layer in self.layers)

    @property
    def ropes(self) -> tuple[RopeSpec, ...]:
        """The ropes of the layers, each once, in the order of the layers that use it first."""
        distinct = {id(layer.attention.rope): layer.attention.rope for layer in self.layers}
        return tuple(dict.fromkeys(rope for rope in distinct.values() if rope is not None))

    @property
    def kinds(self) -> tuple[tuple[int | None, int | None, GrowthSpec | None], ...]:
        """Per layer, its window, which of `ropes` it has, and how its queries grow; each may be None.

        Layers of a kind share a mask, a rotation and a factor.
        """
        ropes = self.ropes
        return tuple(
            (one.window, None if one.rope is None else ropes.index(one.rope), one.growth)
            for one in (layer.attention for layer in self.layers)
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TokenSpec(StackSpec):
    """A stack of layers that reads tokens.

    Attributes:
        embeddings: How tokens become vectors.
    """

    embeddings: EmbeddingSpec

    def _embeddings_agree(self) -> dict[str, set[bool]]:
        spec, names = self.embeddings, self.names.embeddings
        return {
            "the table of positions": {
                bool(spec.positions) == bool(names.positions),
                bool(spec.positions) or not (spec.positions_offset or spec.positions_skip_padding),
            },
            "the table of types": {bool(spec.types) == (names.types not in ("", names.words))},
            "the norm of the embeddings": {(spec.norm is not None) == bool(names.norm)},
            "the projection after the embeddings": {bool(names.projection) or not spec.size},
            "the scale of given embeddings": {spec.scale != 1.0 or not spec.scale_given},
        }

    def _unread(self) -> dict[str, bool]:
        skips, scales = self.embeddings.positions_skip_padding, self.embeddings.scale != 1.0
        own = (
            {"positions that skip padding": skips} if self.decodes else {"a scale of the embeddings": scales}
        )
        return StackSpec._unread(self) | own

    @property
    def vocab_size(self) -> int:
        """Tokens of the vocabulary."""
        return self.embeddings.vocab_size

    @property
    def max_positions(self) -> int | None:
        """The longest sequence that there are positions for; None: they have no end."""
        return self.embeddings.positions - self.embeddings.positions_offset or None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSpec(TokenSpec):
    """A decoder: tokens to hidden states, each from the tokens before it.

    Attributes:
        causal: Whether a token sees none after it. Else it sees all of the prompt, within a window on both sides.
        logit_scale: Factor on the logits of the language model.
        logit_softcap: Bounds them smoothly.
    """

    decodes: ClassVar[bool] = True
    causal: bool = True
    logit_scale: float = 1.0
    logit_softcap: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec(TokenSpec):
    """An encoder: tokens to hidden states, each from all tokens.

    Attributes:
        pooler: What makes one vector of a sequence, or None.
        scores: How a masked-token head scores.
    """

    scores: ScoreSpec
    pooler: PoolerSpec | None = None


def classifier_spec(config: Config, *, dropout: float, **differences: Any) -> ClassifierSpec:
    """Resolve the part of a configuration that classification heads read.

    Args:
        config: The configuration.
        dropout: Probability before a head, in training.
        **differences: The fields that a family has otherwise.

    Raises:
        ConfigError: If sequences are to be of one class each, and there is only one.
    """
    if config.problem_type == "single_label_classification" and config.num_labels == 1:
        raise ConfigError(
            "one label is no choice",
            where="problem_type, num_labels",
            expected='two labels or more, or "regression"',
            found="single_label_classification with num_labels=1",
            hint="correct config.json, or pass num_labels= or problem_type=",
        )
    fields: dict[str, Any] = {
        "num_labels": config.num_labels,
        "problem_type": config.problem_type,
        "dropout": dropout,
        "token_dropout": dropout,
        "choice_dropout": dropout,
        "answer_dropout": 0.0,
        "pad_token_id": config.pad_token_id,
    }
    return ClassifierSpec(**fields | differences)


def activation(name: str) -> str:
    """Return the one name of an activation function.

    Raises:
        ConfigError: If it is unknown.
    """
    if name not in ACTIVATIONS:
        raise ConfigError(
            f"unknown activation function {name!r}",
            where="hidden_act",
            expected=f"one of: {', '.join(ACTIVATIONS)}",
            hint=nearest(name, ACTIVATIONS),
        )
    return ACTIVATIONS[name]


def is_causal(config: Config) -> bool:
    """Return whether a decoder's tokens see none after them.

    Raises:
        ConfigError: If `is_causal` is something else; of null transformers makes one thing or the other by its implementation
            of attention and by whether anything is padding.
    """
    said = config.is_causal if "is_causal" in set(config) else True  # of most there is no word, and no hint
    if isinstance(said, bool):
        return said
    raise ConfigError(
        "is_causal must be true or false",
        where="is_causal",
        expected="true: a token sees none after it; false: it sees all",
        found=json.dumps(said, default=repr),
        hint="say which in config.json; without the key, a decoder is causal",
    )


def refuse_causal(config: Config) -> None:
    """Refuse an encoder that is told to be causal.

    Raises:
        ConfigError: If it is; transformers then masks, or does not, by its implementation of attention and the padding.
    """
    said = config.is_causal if "is_causal" in set(config) else None
    if said not in (None, False):
        raise ConfigError(
            f"{type(config).__name__.removesuffix('Config')} with is_causal={said!r} is not supported",
            where="is_causal",
            expected="false, or no such key",
            found=json.dumps(said, default=repr),
            hint="take the key out of config.json: every token of an encoder sees all others",
        )


def check_rates(config: Config, *names: str) -> None:
    """Check that fields hold probabilities, or nothing.

    Raises:
        ConfigError: If one does not; all are named at once.
    """
    _check_range(config, names, lambda value: 0 <= value <= 1, "a probability from 0 to 1")


def check_between(config: Config, *names: str, above: float | None = None) -> None:
    """Check that fields hold finite numbers of at least 0, or above `above`, or nothing.

    Raises:
        ConfigError: If one does not; all are named at once.
    """
    if above is None:
        _check_range(config, names, lambda value: 0 <= value < math.inf, "a number of at least 0")
    else:
        _check_range(config, names, lambda value: above < value < math.inf, f"a number above {above:g}")


def _check_range(config: Config, names: Iterable[str], fits: Callable[[float], bool], expected: str) -> None:
    found = {name: getattr(config, name) for name in names}
    wrong = [name for name, value in found.items() if value is not None and not fits(value)]
    if wrong:
        raise ConfigError(
            "the configuration holds numbers that cannot be",
            where=type(config).__name__,
            problems=[f"{name}: expected {expected}, found {found[name]!r}" for name in wrong],
            hint="correct config.json, or pass the right number as a keyword argument",
        )


def check_pad_token(config: Config) -> None:
    """Check that the embedding has a row for the padding token; one below zero counts from its end, as in PyTorch.

    Raises:
        ConfigError: If it has none.
    """
    pad, rows = config.pad_token_id, config.vocab_size
    if pad is not None and not -rows <= pad < rows:
        raise ConfigError(
            "the padding token is not in the vocabulary",
            where="pad_token_id",
            expected=f"null, or an id below vocab_size={rows}",
            found=pad,
            hint="correct config.json, or pass pad_token_id=",
        )


def check_sizes(config: Config, *names: str) -> None:
    """Check that fields hold sizes that a model can have.

    Raises:
        ConfigError: If one does not; all are named at once.
    """
    found = {name: getattr(config, name) for name in names}
    wrong = [name for name, size in found.items() if not 0 < size <= MAX_SIZE]
    if wrong:
        raise ConfigError(
            "the configuration describes an impossible model",
            where=type(config).__name__,
            problems=[f"{name}: expected 1 to {MAX_SIZE:,}, found {found[name]!r}" for name in wrong],
            hint="correct config.json, or pass the right size as a keyword argument",
        )


def said_numbers(config: Config, keys: Iterable[str]) -> Iterator[tuple[str, object, list[int]]]:
    """Yield each key that a configuration knows, as it spells it, its value, and the positive numbers in that."""
    for key in filter(type(config).knows, keys):
        declared = config.spellings.get(key, key)
        spelled = (name for name in config if config.spellings.get(name, name) == declared)
        value = getattr(config, key)
        listed = value if isinstance(value, list | tuple) else [value]
        numbers = [number for number in listed if isinstance(number, int) and number > 0]
        yield next(spelled, declared), value, numbers


def resolve_spec(architecture: Architecture, config: Config) -> Any:
    """Resolve a configuration into its architecture's spec, which holds something for each layer.

    Raises:
        ConfigError: If it says something impossible.
    """
    counts = said_numbers(config.get_text_config(), architecture.layers)
    problems = [
        f"{key}: expected at most {MAX_LAYERS:,} layers, found {value}"
        for key, value, numbers in counts
        if sum(numbers) > MAX_LAYERS
    ]
    if problems:
        raise ConfigError(
            "the configuration describes an impossible model",
            where=type(config).__name__,
            problems=problems,
            hint="correct config.json, or pass the right number as a keyword argument",
        )
    return architecture.spec(config)


def divides(config: Config, whole: str, parts: str) -> int:
    """Return `config.whole // config.parts`.

    Raises:
        ConfigError: If the division leaves a rest, or there are no parts.
    """
    total, number = getattr(config, whole), getattr(config, parts)
    if number < 1 or total % number:
        raise ConfigError(
            f"{whole} must be a multiple of {parts}",
            where=type(config).__name__,
            found=f"{whole}={total}, {parts}={number}",
            hint="correct config.json, or pass the right number as a keyword argument",
        )
    return int(total // number)
