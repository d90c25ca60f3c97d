"""What the demo checkpoint has learned, measured through our own PyTorch model."""

import sys
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

import loadstone
from loadstone import AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).parents[1] / "demo"))

import corpus
from train import bits_per_byte, go_on

CHECKPOINT = Path(loadstone.__file__).parent / "demo_checkpoint"


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(CHECKPOINT, backend="torch", dtype="float32")


@pytest.fixture(scope="module")
def known_pairs() -> set[tuple[str, str]]:
    """Every two words that stand side by side somewhere in the training text."""
    stories = corpus.training_text().split(corpus.END_OF_STORY)
    return {pair for story in stories for pair in pairwise(story.decode().split())}


def test_it_reads_stories_it_has_never_seen(model):
    stories = corpus.held_out_text().split(corpus.END_OF_STORY)
    six_of_each_kind = corpus.END_OF_STORY.join(islice(stories, 1, 67))

    assert bits_per_byte(model, six_of_each_kind) < 0.5


def test_it_is_surprised_by_nonsense(model):
    (story,) = corpus.stories(1, seed=2, held_out=True)
    words = story.split()

    assert bits_per_byte(model, " ".join(words[::-1]).encode()) > 2 * bits_per_byte(model, story.encode())


@pytest.mark.parametrize("prompt", corpus.PROMPTS)
def test_it_goes_on_from_a_prompt_with_a_story(model, prompt, known_pairs):
    story = go_on(model, prompt, max_new_tokens=500)
    lines, pairs = story.splitlines(), list(pairwise(story.split()))

    assert len(set(lines)) >= 4, f"it repeats itself: {story}"
    assert sum(pair in known_pairs for pair in pairs) / len(pairs) > 0.95, (
        f"it does not write English: {story}"
    )
