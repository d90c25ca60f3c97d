"""transformers' pipelines, its Trainer and its caches, with our models."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import loadstone
from loadstone.errors import ArgumentError
from loadstone_torch.generation import Cache
from tests.neighbours.conftest import losses

IDS = torch.tensor([[5, 17, 42, 8, 3, 29], [11, 20, 60, 33, 7, 54]])
TEXT = "w5 w17 w42"


class TestPipelines:
    def test_text_generation(self, ours: Any, theirs: Any, words: Any) -> None:
        found, expected = (
            transformers.pipeline("text-generation", model=model, tokenizer=words, device="cpu")(
                [TEXT, "w7"], max_new_tokens=5, do_sample=False, batch_size=1
            )
            for model in (ours, theirs)
        )
        assert found == expected
        assert found[0][0]["generated_text"].startswith(TEXT)
        assert len(found[0][0]["generated_text"].split()) > 3

    def test_feature_extraction(self, folder: Path, words: Any) -> None:
        models = (
            loadstone.AutoModel.from_pretrained(folder, backend="torch"),
            transformers.AutoModel.from_pretrained(folder),
        )
        found, expected = (
            np.array(transformers.pipeline("feature-extraction", model=model, tokenizer=words)(TEXT))
            for model in models
        )
        assert found.shape == (1, 3, 32)
        np.testing.assert_allclose(found, expected, atol=1e-5)


class TestTrainer:
    @staticmethod
    def trainer(model: Any, folder: Path, *, steps: int = 4) -> transformers.Trainer:
        """Return a trainer that saves and evaluates every other step; the first evaluation is the best."""
        arguments = transformers.TrainingArguments(
            str(folder),
            max_steps=steps,
            per_device_train_batch_size=2,
            learning_rate=1e-2,
            lr_scheduler_type="constant",
            logging_steps=1,
            save_steps=2,
            eval_steps=2,
            eval_strategy="steps",
            load_best_model_at_end=True,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        rows = [{"input_ids": row, "labels": row} for row in (*IDS, *IDS.flip(1), *IDS.flip(0), *IDS)]
        # What is learned is forgotten of the sequences backwards, so that the last checkpoint is not the best.
        others = [{"input_ids": row, "labels": (row * 7 + 11) % 61} for row in IDS]
        return transformers.Trainer(model, arguments, train_dataset=rows, eval_dataset=others)

    def test_a_tied_model_is_saved_resumed_and_the_best_is_loaded(
        self, ours: Any, theirs: Any, folder: Path, tmp_path: Path
    ) -> None:
        trainer = self.trainer(ours, tmp_path / "ours")
        found = losses(trainer)
        assert found == pytest.approx(losses(self.trainer(theirs, tmp_path / "theirs")), rel=1e-4)
        best = tmp_path / "ours" / "checkpoint-2"
        assert trainer.state.best_model_checkpoint == str(best)
        last = loadstone.AutoModelForCausalLM.from_pretrained(
            tmp_path / "ours" / "checkpoint-4", backend="torch"
        )
        for path in (best, tmp_path / "ours" / "checkpoint-4"):
            assert (path / "config.json").exists()
        loaded = loadstone.AutoModelForCausalLM.from_pretrained(best, backend="torch")
        assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
        assert torch.equal(loaded(IDS).logits, ours.eval()(IDS).logits), "the best is in place"
        assert not torch.equal(loaded(IDS).logits, last(IDS).logits)
        other = transformers.AutoModelForCausalLM.from_pretrained(best)
        torch.testing.assert_close(other(IDS).logits, loaded(IDS).logits)

        fresh = loadstone.AutoModelForCausalLM.from_pretrained(folder, backend="torch")
        resumed = self.trainer(fresh, tmp_path / "ours")
        resumed.train(resume_from_checkpoint=str(best))
        assert [step["loss"] for step in resumed.state.log_history if "loss" in step] == found
        again = loadstone.AutoModelForCausalLM.from_pretrained(
            tmp_path / "ours" / "checkpoint-4", backend="torch"
        )
        assert torch.equal(again(IDS).logits, last(IDS).logits), "as if it had not been interrupted"


class TestCaches:
    @pytest.mark.parametrize("model_type", ["llama", "gpt2", "mistral", "gemma2", "qwen3"])
    @pytest.mark.parametrize("padded", [False, True])
    def test_a_dynamic_cache_gives_what_ours_gives(
        self, folders: dict[str, Path], model_type: str, padded: bool
    ) -> None:
        model = loadstone.AutoModelForCausalLM.from_pretrained(folders[model_type], backend="torch")
        caches = [Cache(), transformers.DynamicCache(), transformers.DynamicCache(config=model.config)]
        assert len(caches[-1].layers) == model.config.num_hidden_layers
        mask = torch.ones(2, 12, dtype=torch.long)
        mask[0, :2] = 0 if padded else 1
        ids = torch.cat((IDS, IDS.flip(1)), dim=1)
        for seen, until in ((0, 6), (6, 9), (9, 10), (10, 11), (11, 12)):  # windows of 4 tokens are left
            whole = model(ids[:, :until], attention_mask=mask[:, :until]).logits[:, seen:until]
            given = mask[:, :until] if padded else None
            for cache in caches:
                found = model(ids[:, seen:until], attention_mask=given, past_key_values=cache)
                assert found.past_key_values is cache
                assert cache.get_seq_length() == until
                torch.testing.assert_close(found.logits, whole)
        windowed = model_type in ("mistral", "gemma2")
        assert windowed == any(layer.keys.shape[2] < 12 for layer in caches[-1].layers)

    def test_a_cache_of_a_fixed_size_is_refused(self, ours: Any) -> None:
        cache = transformers.StaticCache(config=ours.config, max_cache_len=16)
        with pytest.raises(ArgumentError, match="StaticCache"):
            ours(IDS, past_key_values=cache)
