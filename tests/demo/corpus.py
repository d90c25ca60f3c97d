"""The text that the demo checkpoint was trained on: little stories of a harbour, told by the grammar in `grammar.txt`.

The grammar is ours, every word of it, and so is the text. A story takes one line of each stage of its kind, fills in
its cast, and ends; the same seed tells the same stories on every machine.

What is held out is held out by cast, not by chance: some heroes and boats never meet in the training text. They meet
in every held-out story and in every prompt of the demo, so that neither can be found in what the model has read.

Example:
    $ python tests/demo/corpus.py        # three stories to read
"""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

GRAMMAR = Path(__file__).with_name("grammar.txt")
TRAINING_STORIES = 8000
HELD_OUT_STORIES = 240
END_OF_STORY = b"\x00"
"""The byte between stories. The model reads it as both bos and eos."""

PROMPTS = (
    "The Swallow was late. Silas stood",
    "Hazel had the smallest kitchen in Saltby, but when the Hopeful",
    "There was a blue glass float in the bottom of the Juniper, and Emil",
)
"""What the demo asks the model to go on from. Each names a hero and a boat that never meet in the training text."""

_INNERMOST_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_FRESH_WORD = re.compile(r"<(\w+)>")
_CAST_WORD = re.compile(r"\{([\w ]+)\}")
_PRONOUNS = ("they", "them", "their")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """The words and the kinds of stories of `grammar.txt`.

    Attributes:
        words: list name -> its entries; an entry holds the word and, for some, longer forms or pronouns.
        kinds: kind of story -> its stages, in order; each stage is the lines to choose from.
    """

    words: dict[str, list[tuple[str, ...]]]
    kinds: dict[str, list[list[str]]]

    @classmethod
    def read(cls, path: Path = GRAMMAR) -> Grammar:
        """Parses the grammar's text."""
        sections: dict[str, list[list[str]]] = {}
        for block in path.read_text(encoding="utf-8").split("\n\n"):
            lines = [line for line in block.splitlines() if line and not line.startswith(";")]
            if lines and lines[0].startswith("# "):
                stages = sections.setdefault(lines.pop(0).removeprefix("# "), [])
            if lines:
                stages.append(lines)
        words: dict[str, list[tuple[str, ...]]] = {}
        for line in itertools.chain.from_iterable(sections.pop("words")):
            name, entries = line.split(": ")
            words.setdefault(name, []).extend(tuple(entry.split(" / ")) for entry in entries.split(", "))
        return cls(words=words, kinds=sections)

    def meet_only_when_held_out(self, person: str, boat: str) -> bool:
        """Whether this person and this boat are kept apart in the training text (one pair in sixteen is)."""
        people = [entry[0] for entry in self.words["hero"]]
        boats = [entry[0] for entry in self.words["boat"]]
        return (5 * people.index(person) + boats.index(boat)) % 16 == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One telling: chooses, and remembers its cast so that a bottle stays the same bottle."""

    grammar: Grammar
    chance: random.Random
    cast: dict[str, str] = field(default_factory=dict)

    def tell(self, kind: str, *, held_out: bool) -> str:
        """Returns the text of a story of this kind, about a pair that is, or is not, `held_out`."""
        self._choose_cast(held_out)
        lines = [self._line(self._pick(stage)) for stage in self.grammar.kinds[kind]]
        return "\n".join(lines).replace("\\n", "\n") + "\n"

    def _choose_cast(self, held_out: bool) -> None:
        """Draws hero, boat and friend; only the hero of a held-out story may meet the boat for the first time."""
        apart = self.grammar.meet_only_when_held_out
        (boat,) = self._pick(self.grammar.words["boat"])
        people = self.grammar.words["hero"]
        hero, *pronouns = self._pick([entry for entry in people if apart(entry[0], boat) is held_out])
        friend, *_ = self._pick([e for e in people if e[0] != hero and not apart(e[0], boat)])
        self.cast.update(hero=hero, friend=friend, boat=boat)
        self.cast.update(zip(_PRONOUNS, pronouns, strict=True))

    def _line(self, line: str) -> str:
        while _INNERMOST_CHOICE.search(line):
            line = _INNERMOST_CHOICE.sub(lambda found: self._pick(found[1].split("|")), line)
        line = _FRESH_WORD.sub(lambda found: self._pick(self.grammar.words[found[1]])[0], line)
        line = _CAST_WORD.sub(lambda found: self._member(found[1]), line)
        return re.sub(" +", " ", line).replace(" ,", ",").replace(" .", ".")

    def _member(self, name: str) -> str:
        """The cast's `name`, with a capital if it is asked for with one, drawn now if it has not appeared before."""
        key = name[0].lower() + name[1:]
        if key not in self.cast:
            noun = key.removeprefix("a ")
            short, *long = self._pick(self.grammar.words[noun])
            self.cast.update({noun: short, f"a {noun}": "".join(long)})
        word = self.cast[key]
        return word if name == key else word[0].upper() + word[1:]

    def _pick(self, choices: Sequence[T]) -> T:
        # random() is the one method whose sequence Python promises to keep from version to version.
        return choices[int(self.chance.random() * len(choices))]


def stories(count: int, *, seed: int, held_out: bool) -> Iterator[str]:
    """Yields `count` different stories, each kind in turn.

    Args:
        count: how many.
        seed: the same seed gives the same stories, on every machine and Python.
        held_out: whether they are about pairs that never meet in the training text.
    """
    grammar = Grammar.read()
    chance = random.Random(seed)
    kinds = itertools.cycle(grammar.kinds)
    told: set[str] = set()
    while len(told) < count:
        story = Story(grammar=grammar, chance=chance).tell(next(kinds), held_out=held_out)
        if story not in told:
            told.add(story)
            yield story


def training_text() -> bytes:
    """All that the demo checkpoint was trained on."""
    return _text(stories(TRAINING_STORIES, seed=1, held_out=False))


def held_out_text() -> bytes:
    """What it is measured on, none of which it was trained on."""
    return _text(stories(HELD_OUT_STORIES, seed=2, held_out=True))


def sha256(text: bytes) -> str:
    """The hexadecimal SHA-256 of `text`."""
    return hashlib.sha256(text).hexdigest()


def _text(told: Iterator[str]) -> bytes:
    return b"".join(END_OF_STORY + story.encode("ascii") for story in told) + END_OF_STORY


if __name__ == "__main__":
    print("\n".join(stories(11, seed=3, held_out=True)))
