"""Settings of `generate`: generation_config.json, the caller's arguments, and what follows from both."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loadstone.config import Config, parse_config_json
from loadstone.errors import ArgumentError, nearest

logger = logging.getLogger(__name__)

GENERATION_CONFIG_NAME = "generation_config.json"
DEFAULT_NEW_TOKENS = 20


class GenerationConfig:
    """The content of generation_config.json; every key is kept and saved.

    Example:
        >>> GenerationConfig({"eos_token_id": [2, 7]}).eos_token_id
        [2, 7]
    """

    def __init__(self, values: Mapping[str, Any] | None = None, **more: Any) -> None:
        self.values: dict[str, Any] = {**copy.deepcopy(dict(values or {})), **more}

    @classmethod
    def from_model_config(cls, config: Config) -> GenerationConfig:
        """Return the settings that a model without generation_config.json has: its special tokens."""
        text = config.get_text_config()
        tokens = {key: getattr(text, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        return cls({key: value for key, value in tokens.items() if value is not None})

    @classmethod
    def from_json(cls, text: str, *, where: object) -> GenerationConfig:
        """Parse the text of a generation_config.json."""
        return cls(parse_config_json(text, where=where))

    def to_json_string(self) -> str:
        """Return the text of generation_config.json."""
        return json.dumps(self.values, indent=2, sort_keys=True) + "\n"

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write `generation_config.json` into a folder."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / GENERATION_CONFIG_NAME).write_text(self.to_json_string(), encoding="utf-8")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "values":
            raise AttributeError(name)
        return self.values.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "values":
            object.__setattr__(self, name, value)
        else:
            self.values[name] = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GenerationConfig) and self.values == other.values

    def __repr__(self) -> str:
        return f"GenerationConfig {self.to_json_string().rstrip()}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One call of `generate`, resolved.

    Attributes:
        max_new_tokens: Tokens to add at most.
        eos_token_ids: A sequence ends with any of them; () for none.
        pad_token_id: Fills sequences that ended early.
        padding: The token that stands for padding in prompts; None where nobody named one, or sequences end with it.
        do_sample: Draw tokens by their probability; False takes the likeliest.
        temperature: Divides the logits, in sampling.
        top_k: Draw from this many likeliest tokens only; 0: from all.
        top_p: Draw from the likeliest tokens that make up this probability; 1: from all.
        repetition_penalty: Makes tokens that occurred less likely; 1: not.
        seed: Of the generator that draws; None: the framework's own generator says one.
        stop_strings: A sequence ends when its continuation holds one of them.
        to_text: Turns token ids into text, for `stop_strings`.
    """

    max_new_tokens: int
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
    padding: int | None = None
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop_strings: tuple[str, ...] = ()
    to_text: Callable[[list[int]], str] = str

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken each time, and nothing but tokens ends a sequence."""
        return not (self.do_sample or self.stop_strings or self.repetition_penalty != 1.0)


ARGUMENTS = (
    "max_new_tokens",
    "max_length",
    "eos_token_id",
    "pad_token_id",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "repetition_penalty",
    "seed",
    "stop_strings",
    "tokenizer",
)
NEUTRAL = {
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "encoder_repetition_penalty": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "exponential_decay_length_penalty": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "guidance_scale": None,
    "min_length": 0,
    "min_new_tokens": None,
    "min_p": None,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
    "num_return_sequences": 1,
    "penalty_alpha": None,
    "prompt_lookup_num_tokens": None,
    "return_dict_in_generate": False,
    "sequence_bias": None,
    "suppress_tokens": None,
    "top_h": None,
    "typical_p": 1.0,
}
"""Settings of transformers' that would change what is written and that are not there, by the value that changes nothing."""
ELSEWHERE = {"prng_key": "pass seed=, a number", "generation_config": "set model.generation_config"}
"""Arguments of transformers' that are spelled otherwise -> how."""
# transformers' default where a checkpoint samples and does not say.
DEFAULT_TOP_K = 50


def resolve_generation(
    config: GenerationConfig,
    arguments: Mapping[str, Any],
    *,
    prompt_length: int,
    max_length: int | None = None,
) -> Generation:
    """Resolve a call of `generate`: its arguments go before the checkpoint's settings.

    Args:
        config: The model's generation settings.
        arguments: The caller's keyword arguments, see `Generation`; and `max_length`, which counts the prompt, and
            `tokenizer`, anything with a `decode` method, which `stop_strings` need. Where nobody says a length, it is
            20 new tokens.
        prompt_length: Tokens of the prompt, padding included.
        max_length: Tokens, prompt included, that the model was trained for; bounds a length that nobody said.

    Raises:
        ArgumentError: If an argument is unknown or out of range.
    """
    _check_known(config, arguments)
    settings = {name: value for name, value in config.values.items() if value is not None}
    settings |= {name: value for name, value in arguments.items() if value is not None}
    ends, pad = _token_ids(settings.get("eos_token_id")), settings.get("pad_token_id")
    found = Generation(
        max_new_tokens=_new_tokens(settings, arguments, prompt_length, max_length),
        eos_token_ids=ends,
        pad_token_id=pad if pad is not None else ends[0] if ends else 0,
        padding=None if pad in ends else pad,
        do_sample=bool(settings.get("do_sample")),
        temperature=float(settings.get("temperature", 1.0)),
        top_k=int(settings.get("top_k", DEFAULT_TOP_K)),
        top_p=float(settings.get("top_p", 1.0)),
        repetition_penalty=float(settings.get("repetition_penalty", 1.0)),
        seed=settings.get("seed"),
        stop_strings=_stop_strings(settings),
        to_text=settings["tokenizer"].decode if settings.get("tokenizer") is not None else str,
    )
    _check_ranges(found, arguments)
    return found


def _token_ids(tokens: Any) -> tuple[int, ...]:
    """Return one token id, or several in a list or an array, as a tuple; None as ()."""
    if tokens is None:
        return ()
    found = tokens.tolist() if hasattr(tokens, "tolist") else tokens
    return tuple(int(token) for token in found) if isinstance(found, list | tuple) else (int(found),)


def _check_known(config: GenerationConfig, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that are not there, and say which of the checkpoint's settings are not."""
    for name, value in arguments.items():
        if name not in ARGUMENTS and not _changes_nothing(name, value):
            hint = nearest(name, ARGUMENTS)
            raise ArgumentError(
                f"generate() has no argument {name!r}",
                expected=", ".join(ARGUMENTS),
                hint=ELSEWHERE.get(name, hint),
            )
    unknown = [
        f"{name}={value}"
        for name, value in config.values.items()
        if name in NEUTRAL and not _changes_nothing(name, value)
    ]
    if unknown:
        logger.warning("generate() does not know these settings of the checkpoint: %s", ", ".join(unknown))


def _changes_nothing(name: str, value: Any) -> bool:
    return name in NEUTRAL and (value is None or value == NEUTRAL[name])


def _stop_strings(settings: Mapping[str, Any]) -> tuple[str, ...]:
    stops = settings.get("stop_strings") or ()
    stops = (stops,) if isinstance(stops, str) else tuple(stops)
    if stops and settings.get("tokenizer") is None:
        raise ArgumentError("stop_strings need a tokenizer to turn tokens into text", hint="pass tokenizer=")
    return stops


def _check_ranges(plan: Generation, arguments: Mapping[str, Any]) -> None:
    """Refuse what cannot be; a checkpoint's settings of sampling matter only where tokens are drawn."""
    for name, value, right, expected in (
        (
            "temperature",
            plan.temperature,
            plan.temperature > 0,
            "above 0; do_sample=False takes the likeliest token",
        ),
        ("top_k", plan.top_k, plan.top_k >= 0, "0 or above"),
        ("top_p", plan.top_p, 0 < plan.top_p <= 1, "above 0, at most 1"),
        ("repetition_penalty", plan.repetition_penalty, plan.repetition_penalty > 0, "above 0"),
    ):
        if not right and (plan.do_sample or name in arguments or name == "repetition_penalty"):
            raise ArgumentError(f"{name} is out of range", expected=expected, found=value)
    if plan.seed is not None and not isinstance(plan.seed, int):
        raise ArgumentError("seed is no number", found=type(plan.seed).__name__)


def _new_tokens(
    settings: Mapping[str, Any], arguments: Mapping[str, Any], prompt_length: int, longest: int | None
) -> int:
    # The caller's max_length goes before the file's max_new_tokens; within one source max_new_tokens wins.
    if arguments.get("max_new_tokens") is None and arguments.get("max_length") is not None:
        number = int(arguments["max_length"]) - prompt_length
    elif settings.get("max_new_tokens") is not None:
        number = int(settings["max_new_tokens"])
    elif settings.get("max_length") is not None:
        number = int(settings["max_length"]) - prompt_length
    else:
        number = DEFAULT_NEW_TOKENS if longest is None else min(DEFAULT_NEW_TOKENS, longest - prompt_length)
    if number < 1:
        raise ArgumentError(
            "the prompt leaves no room for a new token",
            found=f"{prompt_length} tokens in the prompt, {number} to add",
            hint="pass max_new_tokens=",
        )
    return number
