"""What generation does in every backend: a backend's tests subclass `GenerateSuite` and inherit these."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import loadstone
from loadstone.errors import ArgumentError
from tests.oracle import load
from tests.oracle.files import copied

CASE = "llama-causal-lm"
PROMPT = load.run(CASE, "greedy").inputs
"""Two rows of tokens, padded on the left: "input_ids" and "attention_mask"."""
IDS = load.run(CASE, "plain").inputs["input_ids"][:, :5]
"""Two rows of tokens, none of them padding."""


class Recorder:
    """A streamer that keeps what it gets."""

    def __init__(self) -> None:
        self.tokens: list[np.ndarray] = []
        self.ended = False

    def put(self, value: Any) -> None:
        self.tokens.append(np.array(value))

    def end(self) -> None:
        self.ended = True


class GenerateSuite:
    """Every check for one backend; the module's fixture `model` is its Llama of the oracle's `CASE`.

    Attributes:
        backend: Its name.
        tokens: The dtype of what it writes.
    """

    backend: ClassVar[str]
    tokens: ClassVar[str] = "int64"

    def native(self, array: np.ndarray) -> Any:
        """Return an array as the backend's models take it."""
        return array

    def array(self, value: Any) -> np.ndarray:
        """Return a tensor of the backend's as a numpy array."""
        return np.asarray(value)

    def loaded(self, folder: Path) -> Any:
        """Return a model of its own, which a test may change."""
        return loadstone.AutoModelForCausalLM.from_pretrained(folder, backend=self.backend)

    def written(self, model: Any, ids: np.ndarray, **arguments: Any) -> np.ndarray:
        """Return what the model writes after prompts of one length, (B, new); it ends only where the caller says so."""
        found = model.generate(self.native(ids), **{"eos_token_id": -1} | arguments)
        return self.array(found)[:, ids.shape[1] :]

    @pytest.mark.parametrize("run", ["generate", "greedy", "generate_eos"])
    @pytest.mark.parametrize("use_cache", [True, False])
    @pytest.mark.parametrize("streamed", [True, False])
    def test_every_way_writes_what_transformers_writes(
        self, model: Any, run: str, use_cache: bool, streamed: bool
    ) -> None:
        recorded = load.run(CASE, run)
        inputs = dict(recorded.inputs)
        arguments: dict[str, Any] = {"max_new_tokens": 12, "use_cache": use_cache}
        if "eos_token_id" in inputs:
            arguments["eos_token_id"] = inputs.pop("eos_token_id").tolist()
        arguments |= {name: self.native(array) for name, array in inputs.items()}
        streamer = Recorder() if streamed else None
        written = model.generate(**arguments, streamer=streamer)
        np.testing.assert_array_equal(written, recorded.outputs["sequences"])
        assert self.array(written).dtype == self.tokens
        if streamer is not None:
            assert streamer.ended
            prompt, *new = streamer.tokens
            np.testing.assert_array_equal(np.concatenate([prompt, np.stack(new, axis=1)], axis=1), written)

    def test_sampling_is_repeatable_and_knows_no_cache(self, model: Any) -> None:
        arguments = {"max_new_tokens": 10, "do_sample": True, "temperature": 2.0}
        first = self.written(model, IDS, seed=3, **arguments)
        np.testing.assert_array_equal(self.written(model, IDS, seed=3, **arguments), first)
        np.testing.assert_array_equal(self.written(model, IDS, seed=3, use_cache=False, **arguments), first)
        assert (self.written(model, IDS, seed=4, **arguments) != first).any()

    def test_it_writes_what_one_token_after_the_other_gives(self, model: Any) -> None:
        ids = IDS
        for _ in range(4):
            logits = self.array(model(self.native(ids)).logits[:, -1:])
            ids = np.concatenate([ids, logits.argmax(-1)], axis=1)
        np.testing.assert_array_equal(self.written(model, IDS, max_new_tokens=4), ids[:, 5:])

    def test_padding_on_the_left_changes_no_continuation(self, model: Any) -> None:
        prompts = (IDS[:1, :3], IDS[1:])
        alone = [self.written(model, prompt, max_new_tokens=6) for prompt in prompts]
        ids = np.concatenate([np.pad(prompts[0], ((0, 0), (2, 0))), prompts[1]])
        mask = np.array([[0, 0, 1, 1, 1], [1] * 5])
        together = self.written(model, ids, attention_mask=self.native(mask), max_new_tokens=6)
        np.testing.assert_array_equal(together, np.concatenate(alone))

    def test_lengths(self, model: Any) -> None:
        free = self.written(model, IDS, max_new_tokens=4)
        for length, arguments in (
            (3, {"max_length": 8}),
            (4, {"max_length": 8, "max_new_tokens": 4}),
        ):
            np.testing.assert_array_equal(self.written(model, IDS, **arguments), free[:, :length])
        configured = self.loaded(load.folder(CASE))
        configured.generation_config.max_new_tokens = 2
        assert self.written(configured, IDS).shape == (2, 2)
        assert self.written(configured, IDS, max_length=9).shape == (2, 4), "the caller's word counts"
        with pytest.raises(ArgumentError, match="leaves no room"):
            self.written(model, IDS, max_length=5)

    @pytest.mark.parametrize("others", [[], [51, 52]])
    def test_a_sequence_that_ended_is_filled_with_padding(self, model: Any, others: list[int]) -> None:
        free = self.written(model, IDS, max_new_tokens=8)
        assert not np.isin(others, free).any()
        end = next(token for token in free[0].tolist() if token not in free[1])
        ends = [others[0], end, *others[1:]] if others else end
        found = self.written(model, IDS, max_new_tokens=8, eos_token_id=ends, pad_token_id=55)
        stop = free[0].tolist().index(end) + 1
        assert found[0].tolist() == free[0, :stop].tolist() + [55] * (8 - stop)
        np.testing.assert_array_equal(found[1], free[1])
        alone = self.written(model, IDS[:1], max_new_tokens=8, eos_token_id=ends)
        np.testing.assert_array_equal(alone, free[:1, :stop])

    def test_generation_config_is_read_honoured_and_saved(self, model: Any, tmp_path: Path) -> None:
        free = self.written(model, IDS[:1], max_new_tokens=5)[0].tolist()
        settings = {
            "eos_token_id": [60, free[1]],
            "max_new_tokens": 5,
            "pad_token_id": 0,
            "unheard_of": {"kept": True},
        }
        folder = copied(load.folder(CASE), tmp_path / "copy")
        (folder / "generation_config.json").write_text(json.dumps(settings))
        configured = self.loaded(folder)
        assert configured.generation_config.eos_token_id == [60, free[1]]
        found = self.array(configured.generate(self.native(IDS[:1])))[0, 5:].tolist()
        assert found == free[: free.index(free[1]) + 1]
        assert self.written(configured, IDS[:1])[0].tolist() == free
        configured.save_pretrained(tmp_path / "again")
        assert json.loads((tmp_path / "again" / "generation_config.json").read_text()) == settings

    def test_arguments_that_make_no_sense(self, model: Any) -> None:
        ids = self.native(IDS)
        with pytest.raises(ArgumentError, match="input_ids"):
            model.generate()
        with pytest.raises(ArgumentError, match="did you mean max_new_tokens"):
            model.generate(ids, max_new_token=3)
        for auto, case, name in (
            (loadstone.AutoModel, CASE, "LlamaModel"),
            (loadstone.AutoModelForMaskedLM, "bert-masked-lm", "BertForMaskedLM"),
        ):
            without = auto.from_pretrained(load.folder(case), backend=self.backend)
            with pytest.raises(ArgumentError, match=f"{name} cannot generate"):
                without.generate(ids)

    @pytest.mark.parametrize(
        ("prompts", "mask", "says"),
        [
            ([[1, 2, 3], [4, 5]], None, "rows of several lengths"),
            ([1, 2, 3], None, "no table of integers"),
            ([[1.7, 2.2]], None, "no table of integers"),
            ([[]], None, "no table of integers"),
            ([[1, 2, 300]], None, r"no token of the model(.|\n)*found: 300"),
            ([[1, -1]], None, "no token of the model"),
            ([[1, 2, 3]], [[1, 1]], "attention_mask does not fit"),
            ([[1, 2, 3]], [1, 1, 1], "attention_mask is no table"),
        ],
    )
    def test_prompts_that_cannot_be_continued(self, model: Any, prompts: Any, mask: Any, says: str) -> None:
        with pytest.raises(ArgumentError, match=says):
            model.generate(prompts, attention_mask=mask)

    def test_padding_that_nobody_marks_is_known_by_its_token(
        self, model: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        padded = np.pad(IDS, ((0, 0), (2, 0)), constant_values=66)
        alone = self.written(model, IDS, max_new_tokens=6)
        for pad, same in ((66, True), (65, False)):
            found = self.written(model, padded, max_new_tokens=6, pad_token_id=pad)
            assert (found == alone).all() == same
        assert not caplog.records
        behind = np.pad(IDS, ((0, 0), (0, 2)), constant_values=66)
        self.written(model, behind, max_new_tokens=1, pad_token_id=66)
        assert "pad prompts on the left" in caplog.text

    @pytest.mark.parametrize("use_cache", [True, False])
    def test_learned_positions_come_to_an_end(self, use_cache: bool) -> None:
        model = self.loaded(load.folder("gpt2-causal-lm"))
        room = model.config.n_positions - IDS.shape[1] + 1
        written = self.written(model, IDS, max_new_tokens=room, use_cache=use_cache)
        assert written.shape[1] == room and written[:, -3:].any()
        with pytest.raises(ArgumentError, match="no positions for so many tokens"):
            model.generate(self.native(IDS), max_new_tokens=room + 1, use_cache=use_cache)
