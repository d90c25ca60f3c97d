"""A checkpoint's tensors in the names and axes of transformers' TensorFlow or Flax classes: the way back of `spoken`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from loadstone.architectures import DIALECTS, Accent, Architecture, Dialect, matches
from loadstone.checkpoint.recipe import Recipe, Stack, Step, Transpose, Unstack
from loadstone.config import Config
from loadstone.errors import ArgumentError, counted
from loadstone.planning.names import current_name
from loadstone.planning.spoken import said_of

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What another framework's classes call and how they turn the tensors of a checkpoint.

    Attributes:
        names: Name there -> the checkpoint's name, and the steps that turn its tensor.
        aliases: Layer and name -> the name, of what a layer holds beside the one that it is of.
        notes: What is to be told: tensors that no model of that framework has, nor needs, and heads that its classes cannot have.
    """

    names: Mapping[str, tuple[str, tuple[Step, ...]]]
    aliases: Mapping[str, str]
    notes: tuple[str, ...]


def spoken_names(
    shapes: Mapping[str, Shape], architecture: Architecture, config: Config, language: str
) -> Spoken:
    """Return what another framework's classes call and how they turn the tensors of a checkpoint.

    Args:
        shapes: Name in the checkpoint -> sizes of its axes.
        architecture: What is said otherwise in it than by the rule for all.
        config: Of the checkpoint.
        language: "tensorflow" or "flax".

    Raises:
        ArgumentError: If transformers had no such classes, or a name is none that they have; all problems are named at once.
    """
    if language not in architecture.spoken:
        raise ArgumentError(
            f"transformers has no {DIALECTS[language].title} classes of {architecture.model_type}, whose names the tensors would have",
            expected=f"one of: {', '.join(_speakers(language))}",
            hint="safetensors and bin hold every model",
        )
    speaker = _Speaker(shapes, architecture, config, language)
    found: dict[str, tuple[str, tuple[Step, ...]]] = {}
    problems, unneeded = [], []
    for name in shapes:
        if speaker.is_unneeded(name):
            unneeded.append(name)
            continue
        path, steps = speaker.say(name)
        problems += speaker.problems(name)
        if path in found:
            problems.append(f"{name}: {found[path][0]} is {path} too")
        found[path] = (name, steps)
    if problems:
        raise ArgumentError(
            f"the {DIALECTS[language].title} classes of {architecture.model_type} cannot hold these tensors",
            found=counted(len(problems), "problem"),
            problems=problems,
            hint="safetensors and bin hold every tensor",
        )
    told = f"left out, as no {DIALECTS[language].title} model needs it: {', '.join(unneeded[:4])}"
    notes: tuple[str, ...] = (told + (", ..." if len(unneeded) > 4 else ""),) if unneeded else ()
    notes += _uneven_heads(architecture.spoken[language], config, DIALECTS[language].title)
    return Spoken(names=found, aliases=speaker.held_too(found), notes=notes)


def _uneven_heads(accent: Accent, config: Config, title: str) -> tuple[str, ...]:
    """Return a note of heads that are of another size than transformers' classes of the framework make them."""
    if not accent.even_heads or config.hidden_size == config.head_dim * config.num_attention_heads:
        return ()
    sizes = f"hidden_size={config.hidden_size} among num_attention_heads={config.num_attention_heads}"
    told = f"they divide {sizes}, whatever head_dim={config.head_dim} says; loadstone can"
    return (f"transformers' {title} classes cannot load it: {told}",)


def _speakers(language: str) -> list[str]:
    from loadstone.architectures import architectures

    return sorted(one.model_type for one in architectures() if language in one.spoken)


def prefix_of(architecture: Architecture) -> str:
    """Return the prefix that a model with a head gives the base model."""
    return next((one for one in architecture.base_prefixes if one), "")


def is_of_head(name: str, architecture: Architecture) -> bool:
    """Return whether a tensor is of a head, not of the base model."""
    heads = [head for head in architecture.heads if head.prefix]
    own = [pattern for head in heads for group in head.new for pattern in group]
    own += [tie.name for head in heads for tie in head.ties]
    return any(matches(one, name) for one in own if not one.startswith(f"{prefix_of(architecture)}."))


def is_unneeded(name: str, architecture: Architecture) -> bool:
    """Return whether no model needs a tensor of this name, or it counts training, which other frameworks do not."""
    patterns = dict.fromkeys((*architecture.ignored, *architecture.counters), True)
    return bool(said_of(patterns, architecture, name))


class _Speaker:
    """One checkpoint, and how one framework calls what it holds."""

    def __init__(
        self, shapes: Mapping[str, Shape], architecture: Architecture, config: Config, language: str
    ) -> None:
        self._architecture = architecture
        self._dialect: Dialect = DIALECTS[language]
        self._accent: Accent = architecture.spoken[language]
        self._shapes = {current_name(name, architecture): shape for name, shape in shapes.items()}
        self._prefix = prefix_of(architecture)
        self._ties = {tie: to for head in architecture.heads for tie, to in head.ties_of(config).items()}
        self._looked_up = _tables(architecture, config)
        self._first = _class_of(config)
        endings = tuple(f".{own}" for own in ("running_mean", "running_var"))
        self._has_roots = bool(self._dialect.statistics) and any(n.endswith(endings) for n in self._shapes)
        self._moved = self._takes_prefix()

    def say(self, stored: str) -> tuple[str, tuple[Step, ...]]:
        """Return the name in the other framework's file, and the steps that turn the tensor."""
        name = self._full(stored)
        shape = self._shapes[current_name(stored, self._architecture)]
        leaf = self._leaf(name, shape)
        *around, _ = name.split(".")
        for start, root in self._accent.roots.items():
            if name.startswith(f"{start}."):
                around[0] = root
        path = _joined([*around, leaf], self._accent.level or self._dialect.level) + self._dialect.ending
        if self._has_roots:
            path = f"{self._dialect.roots[leaf in self._dialect.statistics]}/{path}"
        if self._dialect.scoped:
            path = f"{self._first}/{path}"
        return path, self._turned(name, leaf, shape)

    def is_unneeded(self, stored: str) -> bool:
        """Return whether no model needs a tensor, or it counts training, which the other framework does not."""
        return is_unneeded(self._full(stored), self._architecture)

    def held_too(self, paths: Iterable[str]) -> dict[str, str]:
        """Return the aliases of layers that hold the embeddings too, where they are there."""
        paths = list(paths)
        layers = {path.split("/")[1] for path in paths} if self._dialect.scoped else set()
        start = f"{self._first}/{self._prefix}/embeddings/"
        held = [path for path in paths if path.startswith(start)]
        return {f"{layer}/{path}": path for layer in self._accent.holders if layer in layers for path in held}

    def problems(self, stored: str) -> list[str]:
        """Return what is wrong with a tensor."""
        name = self._full(stored)
        to = self._ties.get(name)
        if to is not None and to in map(self._full, self._shapes):
            return [f"{name}: is {to} by the configuration, and stored beside it"]
        return []

    def _takes_prefix(self) -> bool:
        """Return whether names of the base model get its prefix, which they have in every model with a head."""
        if not self._prefix or any(name.startswith(f"{self._prefix}.") for name in self._shapes):
            return False
        return self._dialect.scoped or any(is_of_head(name, self._architecture) for name in self._shapes)

    def _full(self, stored: str) -> str:
        name = current_name(stored, self._architecture)
        of_base = self._moved and not is_of_head(name, self._architecture)
        return f"{self._prefix}.{name}" if of_base else name

    def _leaf(self, name: str, shape: Shape) -> str:
        said = said_of(self._accent.leaves, self._architecture, name)
        if said is not None:
            return said
        module, _, last = name.rpartition(".")
        weight = self._shapes.get(f"{self._stored_module(module)}.weight")
        embedding = module.removeprefix(f"{self._prefix}.") in self._looked_up
        norm = weight is not None and len(weight) == 1
        return self._dialect.leaf(last, len(shape), embedding=embedding, norm=norm)

    def _stored_module(self, module: str) -> str:
        return module.removeprefix(f"{self._prefix}.") if self._moved else module

    def _turned(self, name: str, leaf: str, shape: Shape) -> tuple[Step, ...]:
        """Return what undoes the steps that a load takes."""
        steps = said_of(self._accent.steps, self._architecture, name)
        if steps is None:
            steps = self._dialect.steps(leaf, len(shape))
        return tuple(_inverse(step) for step in reversed(steps))


def _tables(architecture: Architecture, config: Config) -> set[str]:
    """Return the modules of the base model that are looked up."""
    names = getattr(architecture.spec(config), "names", None)
    found = (
        () if names is None else (names.embeddings.words, names.embeddings.positions, names.embeddings.types)
    )
    return {architecture.embedding, *found} - {""}


def _inverse(step: Step) -> Step:
    if isinstance(step, Transpose):
        return step.inverse
    assert isinstance(step, Unstack) and step.index == 0, step
    return Stack(step.axis)


def _joined(segments: list[str], level: str) -> str:
    """Return a path, in which a number stands by the list that it is of."""
    text = segments[0]
    for segment in segments[1:]:
        text += (level if segment.isdigit() else "/") + segment
    return text


def _class_of(config: Config) -> str:
    """Return what Keras calls a model of transformers' class: "tf_bert_model"."""
    named = config.architectures
    name = f"TF{named[0]}" if named else "TFModel"
    parted = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", parted).lower()


def spoken(
    recipes: Mapping[str, Recipe], architecture: Architecture, config: Config, language: str
) -> tuple[dict[str, Recipe], Spoken]:
    """Return recipes under the names, and with the turns, of another framework; raises as `spoken_names` does.

    Example:
        `Recipe((weight,))` under "classifier.weight" becomes, in Flax, `Recipe((weight,), (Transpose((1, 0)),))` under
        "classifier/kernel".
    """
    said = spoken_names({n: r.shape for n, r in recipes.items()}, architecture, config, language)
    made = {
        path: Recipe(sources=recipes[name].sources, steps=(*recipes[name].steps, *steps))
        for path, (name, steps) in said.names.items()
    }
    return made, said
