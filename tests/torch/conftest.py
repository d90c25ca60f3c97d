"""What the tests of the PyTorch backend share."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

from hub_fixture import hub  # noqa: F401

from loadstone import LlamaForCausalLM
from tests.oracle.files import copied
from tests.torch.tiny import saved


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name -> the folder of a tiny checkpoint; nobody writes into them."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {
        "llama": saved(root / "llama", "LlamaForCausalLM"),
        "tied": saved(root / "tied", "LlamaForCausalLM", tie_word_embeddings=True),
        "classifier": saved(root / "classifier", "LlamaForSequenceClassification", num_labels=3),
        "bert": saved(root / "bert", "BertForMaskedLM"),
        "labels": saved(root / "labels", "BertForSequenceClassification"),
    }


@pytest.fixture
def llama(folders: dict[str, Path]) -> Any:
    """A tiny Llama."""
    return LlamaForCausalLM.from_pretrained(folders["llama"])


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the Llama checkpoint that a test may change."""
    return copied(folders["llama"], tmp_path / "copy")
