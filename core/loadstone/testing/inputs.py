"""What each run feeds to a model, drawn from a generator of its own per case and run. numpy only.

B batch, T tokens, C choices, V vocabulary, H hidden size.
"""

import hashlib
from collections.abc import Callable

import numpy as np

from loadstone.testing.case import (
    BATCH,
    CHOICES,
    ENCODER_SEQUENCE,
    GREEDY,
    PROOF,
    SEQUENCE,
    SHORT_SEQUENCE,
    Case,
)

Arrays = dict[str, np.ndarray]

CACHE_CHUNKS = (11, 8, 1)
"""How the cache run feeds its tokens: a prefill, several at once, then one."""
PADDING = (2, 5)
"""Padded tokens of each row; of the rows of the choices, in turn."""
GAP = 3
"""Positions that are passed over in the middle of a sequence."""
SAME_QUESTION = {"bf16": "plain", "cache": PROOF}
"""Runs that are fed what another is: the difference of their answers is rounding."""
FIRST_WORD = 6
"""Token ids below are special in one family or another; the inputs hold them only as padding."""
IGNORED_LABEL = -100


def seed(case: Case, *what: object) -> int:
    """A number that depends on the case, on what is drawn, and on nothing else."""
    text = "/".join(map(str, (case.name, *what)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])


def draw(case: Case, run: str, attempt: int = 0) -> Arrays:
    """The inputs of one run, by the names of the model's arguments.

    Args:
        case: The row of the table.
        run: One of `case.feeds`.
        attempt: Another number gives another draw; generation asks for one until its choices are clear.

    Raises:
        KeyError: If the case cannot be fed that.
    """
    rng = np.random.default_rng(seed(case, SAME_QUESTION.get(run, run), attempt))
    if run not in case.feeds:
        raise KeyError(f"{case.name} cannot be fed {run!r}; it takes {', '.join(case.feeds)}")
    return (_IMAGE_RUNS if case.modality == "image" else _TEXT_RUNS)[run](case, rng)


def padding_mask(case: Case, side: str, length: int) -> np.ndarray:
    """[B, T] (of choices: [B, C, T]) int64: 1 for tokens, 0 for padding on the given side."""
    positions = np.arange(length)
    padding = np.resize(PADDING, _rows(case))[:, None]
    mask = positions >= padding if side == "left" else positions < length - padding
    return mask.astype(np.int64).reshape((*_leading_shape(case), length))


def _leading_shape(case: Case) -> tuple[int, ...]:
    return (BATCH, CHOICES) if case.modality == "choices" else (BATCH,)


def _rows(case: Case) -> int:
    return int(np.prod(_leading_shape(case)))


def _length(case: Case) -> int:
    return SEQUENCE if case.modality == "decoder" else ENCODER_SEQUENCE


def _hidden_size(case: Case) -> int:
    keys = ("embedding_size", "hidden_size", "n_embd", "dim")  # words may be narrower
    return int(next(case.config[key] for key in keys if key in case.config))


def _token_ids(case: Case, rng: np.random.Generator, length: int) -> np.ndarray:
    return rng.integers(FIRST_WORD, case.config["vocab_size"], (*_leading_shape(case), length))


def _plain(case: Case, rng: np.random.Generator) -> Arrays:
    return {"input_ids": _token_ids(case, rng, _length(case))}


def _short(case: Case, rng: np.random.Generator) -> Arrays:
    return {"input_ids": _token_ids(case, rng, SHORT_SEQUENCE)}


def _padded(side: str) -> Callable[[Case, np.random.Generator], Arrays]:
    def padded(case: Case, rng: np.random.Generator) -> Arrays:
        input_ids = _token_ids(case, rng, _length(case))
        mask = padding_mask(case, side, _length(case))
        return {
            "input_ids": np.where(mask == 1, input_ids, case.config["pad_token_id"]),
            "attention_mask": mask,
        }

    return padded


def _positions(case: Case, rng: np.random.Generator) -> Arrays:
    """Decoders: left padding with the positions that generation gives. Encoders: positions that do not start at 0."""
    if case.modality == "decoder":
        arrays = _padded("left")(case, rng)
        return arrays | {"position_ids": _places(case, rng, arrays["attention_mask"])}
    arrays = _plain(case, rng)
    shifts = rng.integers(2, 12, (*_leading_shape(case), 1))
    return arrays | {"position_ids": shifts + np.arange(_length(case))}


def _embeds(case: Case, rng: np.random.Generator) -> Arrays:
    shape = (*_leading_shape(case), _length(case), _hidden_size(case))
    return {"inputs_embeds": rng.normal(0.0, 0.5, shape).astype(np.float32)}


def _types(case: Case, rng: np.random.Generator) -> Arrays:
    return _padded("right")(case, rng) | {"token_type_ids": _kinds(case, rng)}


def _kinds(case: Case, rng: np.random.Generator) -> np.ndarray:
    # GPT-2 embeds types as if they were tokens.
    kinds = case.config.get("type_vocab_size", case.config["vocab_size"])
    return rng.integers(0, kinds, (*_leading_shape(case), _length(case)))


def _proof(case: Case, rng: np.random.Generator) -> Arrays:
    """All at once: padding on the left, with the positions, types and labels that the case takes.

    A decoder's answers to questions are scored over every token, and what padding on the left answers means nothing: there
    it is on the right.
    """
    spans = case.modality == "decoder" and case.task == "question-answering"
    arrays = _padded("right" if spans else "left")(case, rng)
    if "position_ids" in case.fed:
        arrays |= {"position_ids": _places(case, rng, arrays["attention_mask"])}
    if "token_type_ids" in case.fed:
        arrays |= {"token_type_ids": _kinds(case, rng)}
    return arrays | (_LABELS[case.task](case, rng, arrays) if case.task in _LABELS else {})


def _places(case: Case, rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Those that generation gives, with a gap: where only distances count, it takes one to tell positions from none."""
    places: np.ndarray = np.maximum(mask.cumsum(-1) - 1, 0)
    places = places + GAP * (places >= mask.shape[-1] // 2)
    return places if case.modality == "decoder" else places + rng.integers(2, 10, (*mask.shape[:-1], 1))


def _keep(case: Case, rng: np.random.Generator) -> Arrays:
    return _plain(case, rng) | {"logits_to_keep": np.asarray(2)}


def _cache(case: Case, rng: np.random.Generator) -> Arrays:
    return _positions(case, rng) | {"chunks": np.asarray(CACHE_CHUNKS)}


def _prompt(case: Case, rng: np.random.Generator) -> Arrays:
    return {"input_ids": _token_ids(case, rng, SHORT_SEQUENCE + 3)}


def _padded_prompt(case: Case, rng: np.random.Generator) -> Arrays:
    arrays = _prompt(case, rng)
    mask = padding_mask(case, "left", arrays["input_ids"].shape[-1])
    arrays["input_ids"] = np.where(mask == 1, arrays["input_ids"], case.config["pad_token_id"])
    return arrays | {"attention_mask": mask}


def _image(height: int, width: int) -> Callable[[Case, np.random.Generator], Arrays]:
    def image(case: Case, rng: np.random.Generator) -> Arrays:
        return {"pixel_values": rng.normal(0.0, 1.0, (BATCH, 3, height, width)).astype(np.float32)}

    return image


def _sized_image(case: Case, rng: np.random.Generator) -> Arrays:
    size = case.config.get("image_size", [37, 45])
    return _image(*(size if isinstance(size, list) else [size, size]))(case, rng)


def _labelled_image(case: Case, rng: np.random.Generator) -> Arrays:
    arrays = _sized_image(case, rng)
    return arrays | (_class_labels(case, rng, {}) if case.task in _LABELS else {})


def _other_size(case: Case, rng: np.random.Generator) -> Arrays:
    return _image(20, 28)(case, rng) | {"interpolate_pos_encoding": np.asarray(True)}


def _class_labels(case: Case, rng: np.random.Generator, arrays: Arrays) -> Arrays:
    classes = case.config["num_labels"]
    problem = case.config.get("problem_type", "single_label_classification")
    if problem == "single_label_classification":
        return {"labels": rng.permutation(classes)[:BATCH]}
    if problem == "multi_label_classification":
        return {"labels": rng.permuted([[0.0, 1.0, 1.0]] * BATCH, axis=1).astype(np.float32)}
    return {"labels": rng.normal(0.0, 1.0, BATCH).astype(np.float32)}


def _choice(classes: int, name: str) -> Callable[[Case, np.random.Generator, Arrays], Arrays]:
    def choice(case: Case, rng: np.random.Generator, arrays: Arrays) -> Arrays:
        return {name: rng.permutation(classes)[:BATCH]}

    return choice


def _token_labels(case: Case, rng: np.random.Generator, arrays: Arrays) -> Arrays:
    """A label for most tokens: none for padding, for what only padding could foretell, and for a quarter of the rest."""
    classes = case.config["num_labels" if case.task == "token-classification" else "vocab_size"]
    mask = arrays["attention_mask"]
    counted = (mask == 1) & (rng.random(mask.shape) < 0.75)
    if case.task == "causal-lm":
        counted &= mask.cumsum(-1) > 1
    return {"labels": np.where(counted, rng.integers(0, classes, mask.shape), IGNORED_LABEL)}


def _pre_training_labels(case: Case, rng: np.random.Generator, arrays: Arrays) -> Arrays:
    return _token_labels(case, rng, arrays) | _choice(2, "next_sentence_label")(case, rng, arrays)


def _replaced(case: Case, rng: np.random.Generator, arrays: Arrays) -> Arrays:
    """Whether each token was replaced, padding too: the mask says that it does not count."""
    return {"labels": rng.integers(0, 2, arrays["input_ids"].shape)}


def _span(case: Case, rng: np.random.Generator, arrays: Arrays) -> Arrays:
    first = arrays["attention_mask"].argmax(-1)
    return {
        "start_positions": first + rng.integers(0, 3, BATCH),
        "end_positions": first + rng.integers(4, 8, BATCH),
    }


_LABELS: dict[str, Callable[[Case, np.random.Generator, Arrays], Arrays]] = {
    "causal-lm": _token_labels,
    "masked-lm": _token_labels,
    "token-classification": _token_labels,
    "pre-training": _pre_training_labels,
    "replaced-tokens": _replaced,
    "sequence-classification": _class_labels,
    "question-answering": _span,
    "multiple-choice": _choice(CHOICES, "labels"),
    "next-sentence-prediction": _choice(2, "labels"),
    "image-classification": _class_labels,
}

_TEXT_RUNS: dict[str, Callable[[Case, np.random.Generator], Arrays]] = {
    "plain": _plain,
    "bf16": _plain,
    "short": _short,
    "left": _padded("left"),
    "right": _padded("right"),
    "positions": _positions,
    "embeds": _embeds,
    "types": _types,
    PROOF: _proof,
    "keep": _keep,
    "cache": _cache,
    "generate": _prompt,
    GREEDY: _padded_prompt,
    "generate_eos": _padded_prompt,
}

_IMAGE_RUNS: dict[str, Callable[[Case, np.random.Generator], Arrays]] = {
    "plain": _sized_image,
    "bf16": _sized_image,
    "interpolate": _other_size,
    PROOF: _labelled_image,
}
