"""What the tests with neighbours share: tiny checkpoints, transformers' models of the same weights, a tokenizer.

Each test does with our model what a neighbour's user does, and the same with transformers' model: both come to the same.
"""

import os

# Before huggingface_hub is imported: nothing here asks the Hub.
os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers

import loadstone

torch.set_num_threads(1)

WORDS = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{number}" for number in range(57))]
SIZES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "mistral": {"num_key_value_heads": 2, "sliding_window": 4},
    "gemma2": {"num_key_value_heads": 2, "sliding_window": 4, "head_dim": 8},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
}


def tokenizer() -> Any:
    """Return a tokenizer that knows the words `w0` to `w56`."""
    words = tokenizers.models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>")
    made = tokenizers.Tokenizer(words)
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def save(folder: Path, model_type: str) -> Path:
    """Save a causal language model of a type with every number drawn, and the tokenizer, into a folder."""
    config = transformers.AutoConfig.for_model(
        model_type,
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        **SIZES[model_type],
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model type -> the folder of a tiny checkpoint; nobody writes into them."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {model_type: save(root / model_type, model_type) for model_type in SIZES}


@pytest.fixture
def folder(folders: dict[str, Path]) -> Path:
    """The folder of a Llama whose embedding and output layer are one."""
    return folders["llama"]


@pytest.fixture
def ours(folder: Path) -> Any:
    """Our model of it."""
    return loadstone.AutoModelForCausalLM.from_pretrained(folder, backend="torch")


@pytest.fixture
def theirs(folder: Path) -> Any:
    """Transformers' model of it."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder)


@pytest.fixture
def words() -> Any:
    """The tokenizer."""
    return tokenizer()


def losses(trainer: Any) -> list[float]:
    """Train, and return the loss of each step."""
    trainer.train()
    return [step["loss"] for step in trainer.state.log_history if "loss" in step]
