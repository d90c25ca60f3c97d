"""Matching stored tensors with parameters: every one of both ends in exactly one state, or it is an error.

All problems of a checkpoint are collected and raised once, before a byte of a tensor is read.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Collection, Mapping

from loadstone.architectures import Architecture, Head, find_head, matches
from loadstone.backend import Parameter
from loadstone.checkpoint.index import TensorIndex, TensorInfo
from loadstone.checkpoint.recipe import Cast, Recipe, whole
from loadstone.config import Config
from loadstone.dtypes import CASTABLE, DTYPES
from loadstone.errors import ArgumentError, MatchError, counted, nearest
from loadstone.planning.arranged import arranged
from loadstone.planning.dtype import DTypePolicy
from loadstone.planning.fold import fold, split_blocks
from loadstone.planning.names import NameMap
from loadstone.planning.problems import Kind, Problems, not_here
from loadstone.planning.records import (
    COUNTS_ANEW,
    MAY_LACK,
    Assignment,
    LoadPlan,
    ParameterState,
    Stored,
    StoredStates,
)
from loadstone.planning.surplus import Surplus
from loadstone.planning.wrappers import wrappers


def match(
    parameters: Mapping[str, Parameter],
    index: TensorIndex,
    *,
    architecture: Architecture,
    head: Head,
    config: Config,
    policy: DTypePolicy,
    where: object,
    supported: Collection[str] | None = None,
    key_mapping: Mapping[str, str] | None = None,
    strict: bool | None = None,
    ignore_mismatched_sizes: bool = False,
    partial: bool = False,
    before_arguments: Collection[str] = (),
) -> LoadPlan:
    """Decide which stored tensor becomes which parameter.

    Args:
        parameters: What the model has, by name.
        index: What the checkpoint has.
        architecture: Prefixes, renamings, rules.
        head: The model class: its ties and what may be new in it.
        config: Says which ties hold and what class the checkpoint was saved from.
        policy: The dtype of each parameter.
        where: What to call the checkpoint in an error.
        supported: Dtypes that the backend can hold; None: all.
        key_mapping: The caller's regular expressions, pattern -> replacement, applied to stored names first.
        strict: True: any surplus tensor is an error; False: none is; None: one that the architecture would know
            under another configuration is.
        ignore_mismatched_sizes: Draw parameters afresh whose stored shape differs.
        partial: The model has values already: a parameter without a tensor keeps its own and gets no assignment.
        before_arguments: Names that the model would have without the caller's own changes to the configuration.

    Raises:
        MatchError: If anything does not fit; `.problems` names everything at once.
        SourceError: If a parameter's tensor lies in a file that is not here, so that nothing can be said of it.
    """
    names = NameMap(architecture, head, _mapped(index, key_mapping), parameters)
    problems = Problems()
    recipes = arranged(architecture, parameters, index, names, problems)
    matcher = _Matcher(
        parameters, index, names, problems, head, config, policy, supported, architecture, recipes
    )
    matcher.refuse_quantised(config)
    found = matcher.find()
    if problems.absent:
        raise not_here(problems.absent, where=where)
    assignments, compare = matcher.assign(found, ignore_mismatched_sizes=ignore_mismatched_sizes)
    surplus = Surplus(names, architecture, head, parameters, strict, before_arguments)
    stored = matcher.account(found, assignments, surplus)
    if partial:
        assignments = {name: a for name, a in assignments.items() if a.state != "new"}
    else:
        matcher.report_missing(found)
    surplus.report(problems, present=(name for name, one in stored.items() if one.state == "used"))
    if problems.lines:
        raise MatchError(
            f"the checkpoint and {head.class_name} do not fit together: {counted(len(problems.lines), 'problem')}",
            where=where,
            problems=problems.lines,
            hint=matcher.of_a_wrapper() or matcher.of_another_model(found) or problems.advice(),
        )
    return LoadPlan(assignments=assignments, stored=stored, compare=compare)


def left_over(
    parameters: Mapping[str, Parameter],
    index: TensorIndex,
    *,
    architecture: Architecture,
    head: Head,
    key_mapping: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the stored tensors that neither a parameter nor a rule of the architecture takes.

    Why they are there, only the names that the model would have without the caller's arguments can tell.

    Args:
        parameters: What the model has, by name.
        index: What the checkpoint has.
        architecture: As for `match`.
        head: As for `match`.
        key_mapping: As for `match`.

    Raises:
        ArgumentError: If `key_mapping` is none.
    """
    names = NameMap(architecture, head, _mapped(index, key_mapping), parameters)
    surplus = Surplus(names, architecture, head, parameters, False, ())
    extra = (name for name in index.names if names.parameter(name) not in parameters)
    return [name for name in extra if surplus.judge(name).state == "unused"]


def _mapped(index: TensorIndex, key_mapping: Mapping[str, str] | None) -> dict[str, str]:
    """Return stored name -> the name after the caller's `key_mapping`, aliases included."""
    stored = [*index.names, *index.aliases]
    if not key_mapping:
        return {name: name for name in stored}
    rules = _rules(key_mapping)
    renamed = {}
    for name in stored:
        new = name
        for pattern, replacement in rules:
            new, count = pattern.subn(replacement, new)
            if count:
                break
        renamed[name] = new
    return renamed


def _rules(key_mapping: object) -> list[tuple[re.Pattern[str], str]]:
    """Return the compiled patterns of a `key_mapping`, each with its replacement.

    Raises:
        ArgumentError: If it maps anything but text to text, a pattern is no regular expression, or a replacement
            names a group that its pattern has not.
    """
    pairs = list(key_mapping.items()) if isinstance(key_mapping, Mapping) else None
    if pairs is None or not all(isinstance(text, str) for pair in pairs for text in pair):
        raise ArgumentError(
            "key_mapping maps regular expressions to replacements, both of them text",
            where="key_mapping",
            expected='e.g. {"^module[.]": ""}',
            found=f"{key_mapping!r:.200}",
            hint="write it so, or leave it out",
        )
    rules = []
    for text, replacement in pairs:
        try:
            pattern = re.compile(text)
            pattern.sub(replacement, "")  # reads the replacement, whether it matches or not
        except (re.error, IndexError, OverflowError, RecursionError) as error:
            raise ArgumentError(
                "key_mapping holds a pattern that is no regular expression, or a replacement that fits none",
                where="key_mapping",
                found=f"{text!r} -> {replacement!r}: {error}",
                hint="correct it; a backslash before a special character takes it as it is",
            ) from error
        rules.append((pattern, replacement))
    return rules


class _Matcher:
    """The state of one matching: what was found, and the problems so far."""

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        index: TensorIndex,
        names: NameMap,
        problems: Problems,
        head: Head,
        config: Config,
        policy: DTypePolicy,
        supported: Collection[str] | None,
        architecture: Architecture,
        arranged: Mapping[str, Recipe],
    ) -> None:
        self.architecture = architecture
        self.parameters, self.index, self.names = parameters, index, names
        self.problems, self.head, self.config, self.policy = problems, head, config, policy
        self.supported, self.counters = supported, architecture.counters
        self.arranged = arranged
        self.missing: list[str] = []
        self.rivals: set[str] = set()

    def refuse_quantised(self, config: Config) -> None:
        """Record a checkpoint that stores something other than its weights."""
        nested = config.get_text_config()
        for key in ("quantization_config", "compression_config"):
            settings = getattr(config, key) or getattr(nested, key)
            if settings:
                method = settings.get("quant_method") or settings.get("format") or "unknown"
                line = f"config.json: {key} says quantised by {method!r}; no plugin reads it yet"
                self.problems.add("quantised", line)

    def find(self) -> dict[str, TensorInfo]:
        """Return parameter -> the stored tensor for it."""
        found: dict[str, TensorInfo] = {}
        for stored in self.names.stored:
            name = self.names.parameter(stored)
            if name not in self.parameters:
                continue
            info = self._info(stored)
            if info is None:
                continue
            if found.setdefault(name, info) is not info:
                self.rivals.add(stored)
                line = f"{name}: two stored tensors are for it, {found[name].name!r} and {stored!r}"
                self.problems.add("rivals", line)
        return found

    def _info(self, stored: str) -> TensorInfo | None:
        """Return the tensor of a stored name or alias; of one whose file is not here, record that it is needed."""
        tensors, absent = self.index.tensors, self.index.absent
        held = stored if stored in tensors or stored in absent else self.index.aliases[stored]
        if held in absent:
            self.problems.need(held, absent[held])
        return tensors.get(held)

    def assign(
        self, found: Mapping[str, TensorInfo], *, ignore_mismatched_sizes: bool
    ) -> tuple[dict[str, Assignment], tuple[tuple[str, str], ...]]:
        """Return every parameter's state, and the tied pairs whose bytes must be compared."""
        ties = self.head.ties_of(self.config)
        ties = {name: to for name, to in ties.items() if name in self.parameters and to in self.parameters}
        stored_under = {to: name for name, to in ties.items() if to not in found and name in found}
        compare = tuple(
            (name, to)
            for name, to in ties.items()
            if name in found and to in found and found[name] is not found[to]
        )
        compared = {name for name, _ in compare}
        may_be_new = self._may_be_new(found)
        assignments: dict[str, Assignment] = {}
        for name, parameter in self.parameters.items():
            if name in ties and name not in compared:
                assignments[name] = Assignment(name=name, state="tied", shape=parameter.shape, to=ties[name])
                continue
            info = found.get(stored_under.get(name, name))
            if name in self.arranged:
                assignments[name] = self._of_several(parameter, self.arranged[name])
                continue
            assignment = self._one(parameter, info, may_be_new, ignore_mismatched_sizes)
            assignments[assignment.name] = assignment
        return assignments, compare

    def _may_be_new(self, found: Mapping[str, TensorInfo]) -> dict[str, str]:
        """Return parameter -> why it may be drawn afresh: its whole group is absent, and nobody promised it."""
        saved = self._saved_classes()
        if self.head.class_name in saved:
            return {}
        groups = [
            group
            for group in self.head.new
            if not any(name in found or name in self.arranged for name in group)
        ]
        # Where nothing says that another class was saved, a denied tie means that its other half was lost.
        lost = set() if saved else {tie.name for tie in self.head.ties if not tie.holds(self.config)}
        return {name: "task head" for group in groups if lost.isdisjoint(group) for name in group}

    def _why_absent(self, name: str) -> str:
        """Return why any checkpoint may lack a parameter: it counts training and starts at zero, or the class says so."""
        base = self.names.base(name)
        if any(matches(pattern, base) for pattern in self.counters):
            return COUNTS_ANEW
        return MAY_LACK if base in self.architecture.may_lack else ""

    def _saved_classes(self) -> list[str]:
        return self.config.architectures or []

    def _one(
        self, parameter: Parameter, info: TensorInfo | None, may_be_new: Mapping[str, str], ignore_sizes: bool
    ) -> Assignment:
        name, shape = parameter.name, parameter.shape
        if info is None:
            why = may_be_new.get(name) or self._why_absent(name)
            if not why:
                self.missing.append(name)
            return self._fresh(parameter, why=why)
        if info.shape != shape:
            if ignore_sizes:
                why = f"ignore_mismatched_sizes: stored as {list(info.shape)}"
                return dataclasses.replace(self._fresh(parameter, why=why), refused=info.shape)
            line = f"{info.file}: {info.name}: expected shape {list(shape)}, found {list(info.shape)}"
            self.problems.add("shape", line)
        target = self.policy.dtype_of(self.names.base(name), info.dtype, parameter.dtype)
        self._check_dtype(info, target, parameter.dtype)
        state: ParameterState = "loaded" if target == info.kind else "cast"
        if info.name == name:
            name = info.name  # the report keeps one string of two equal ones
        return Assignment(name=name, state=state, dtype=target, shape=info.shape, recipe=whole(info, target))

    def _of_several(self, parameter: Parameter, recipe: Recipe) -> Assignment:
        stored, name = recipe.dtype, parameter.name
        target = self.policy.dtype_of(self.names.base(name), stored, parameter.dtype)
        for info in recipe.sources:
            self._check_dtype(info, target, parameter.dtype)
        cast = () if target == stored else (Cast(target),)
        recipe = Recipe(sources=recipe.sources, steps=recipe.steps + cast)
        packed = any(info.packing is not None for info in recipe.sources)
        state: ParameterState = "cast" if cast or packed else "loaded"
        return Assignment(name=name, state=state, dtype=target, shape=parameter.shape, recipe=recipe)

    def _fresh(self, parameter: Parameter, *, why: str) -> Assignment:
        dtype = self.policy.dtype_of(self.names.base(parameter.name), self.policy.build, parameter.dtype)
        return Assignment(name=parameter.name, state="new", dtype=dtype, shape=parameter.shape, why=why)

    def _check_dtype(self, info: TensorInfo, target: str, declared: str) -> None:
        place, stored = f"{info.file}: {info.name}", DTYPES[info.dtype]
        narrow = stored.bits < 16 and DTYPES[declared].kind == "float"
        scale = self._scales.get(info.name.rpartition(".")[0]) if narrow else None
        if scale not in (None, info.name):
            line = f"{info.dtype} with a scale beside it ({scale}) is quantised; no plugin reads it yet"
            self.problems.add("quantised", f"{place}: {line}")
        elif stored.kind != DTYPES[declared].kind:
            kind: Kind = "quantised" if DTYPES[declared].kind == "float" else "dtype"
            quantised = "; quantised? no plugin reads it yet" if kind == "quantised" else ""
            self.problems.add(kind, f"{place}: expected {declared}, found {info.dtype}{quantised}")
        elif target != info.dtype and not {target, info.dtype} <= CASTABLE:
            line = f"expected {target}, found {info.dtype}, which is not cast; dtype='stored' keeps it"
            self.problems.add("dtype", f"{place}: {line}")
        elif self.supported is not None and target not in self.supported:
            self.problems.add("dtype", f"{place}: {target} cannot be held by this backend")

    @functools.cached_property
    def _scales(self) -> dict[str, str]:
        """Module -> a stored tensor of it that looks like the scale of a quantised one."""
        parts = {name: name.rpartition(".") for name in self.index.names}
        return {module: name for name, (module, _, leaf) in parts.items() if "scale" in leaf or leaf == "SCB"}

    def report_missing(self, found: Mapping[str, TensorInfo]) -> None:
        """Record the parameters that must have a tensor and have none."""
        if not self.missing:
            return
        unused = [
            stored for stored in self.names.stored if self.names.parameter(stored) not in self.parameters
        ]
        gone, single = split_blocks(self.missing, self.parameters.keys() - set(self.missing))
        for label, blocks in fold(gone).items():
            number = counted(sum(gone[block] for block in blocks), "parameter")
            self.problems.add("missing", f"{label}: missing, with {number}")
        for label, members in fold(single).items():
            shapes = list(self.parameters[members[0]].shape)
            near = nearest(members[0], unused, limit=1, cutoff=0.8) if len(unused) < 500 else None
            hint = f"; {near}" if near else self._tie_note(members[0], found)
            self.problems.add("missing", f"{label}: missing, expected shape {shapes}{hint}")

    def _tie_note(self, name: str, found: Mapping[str, TensorInfo]) -> str:
        halves = [{tie.name, tie.to} for tie in self.head.ties if not tie.holds(self.config)]
        denied = any(name in pair and found.keys() & pair for pair in halves)
        return "; config.json says tie_word_embeddings=false" if denied else ""

    def account(
        self, found: Mapping[str, TensorInfo], assignments: Mapping[str, Assignment], surplus: Surplus
    ) -> StoredStates:
        """Return every stored tensor's state."""
        # Most of 100,000 tensors are used under their own names, and need not be listed for that.
        elsewhere = {
            info.name
            for a in assignments.values()
            if a.recipe is not None and not _takes_its_own(a)
            for info in a.recipe.sources
        }

        def is_used(name: str) -> bool:
            return name in elsewhere or (name in assignments and _takes_its_own(assignments[name]))

        redrawn = {info.name for info in found.values() if not is_used(info.name)}
        others: dict[str, Stored] = {}
        for name in self.index.names:
            if name in redrawn:
                others[name] = Stored(name=name, state="ignored", why="of another shape, drawn afresh")
            elif not is_used(name) and name not in self.rivals:
                others[name] = surplus.judge(name)
        for alias, name in self.index.aliases.items():
            others[alias] = Stored(name=alias, state="alias", why=name)
        return StoredStates(self.index.tensors, others)

    def of_a_wrapper(self) -> str | None:
        """Return the `key_mapping=` that cures names which a wrapper of the model left in front of its own."""
        for pattern, wrapper in wrappers(self.index.names):
            unwrapped = {name: re.sub(pattern, "", name) for name in self.names.stored}
            names = NameMap(self.architecture, self.head, unwrapped, self.parameters)
            there = {names.parameter(name) for name in unwrapped}
            if self.missing and there.issuperset(self.missing):
                return f"{wrapper} wrapped the model that was saved: pass key_mapping={{{pattern!r}: ''}}"
        return None

    def of_another_model(self, found: Mapping[str, TensorInfo]) -> str | None:
        """Return the next step for a checkpoint that has next to nothing of the model."""
        if len(found) + len(self.arranged) >= len(self.parameters) / 4:
            return None
        saved = [name for name in self._saved_classes() if name != self.head.class_name]
        known = [name for name in saved if find_head(name) is not None]
        if known:
            return f"config.json says that this is {' or '.join(known)}: load that class, or rename with key_mapping="
        if saved:
            return (
                f"config.json says that this is {' or '.join(saved)}, a class that loadstone has not: load it with"
                " transformers, or rename with key_mapping="
            )
        return (
            "the tensors have another model's names: check what was saved here, or rename with key_mapping="
        )


def _takes_its_own(assignment: Assignment) -> bool:
    """Return whether a parameter is made from the stored tensor of its own name, and from no other."""
    sources = assignment.recipe.sources if assignment.recipe is not None else ()
    return len(sources) == 1 and sources[0].name == assignment.name
