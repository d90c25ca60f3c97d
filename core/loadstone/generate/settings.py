"""Settings of `generate`: generation_config.json, the caller's arguments, and what follows from both."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loadstone.config import Config, parse_config_json
from loadstone.errors import ArgumentError, logger_of, nearest
from loadstone.generate.arguments import ARGUMENTS
from loadstone.generate.kinds import (
    FOLLOWED,
    HARMLESS,
    IN_REPORTS,
    INT32,
    KNOWN,
    NOT_FOLLOWED,
    OF_A_CALL,
    asks,
    check_names,
    check_values,
    neutral_of,
    plain,
    token_ids,
    unfollowed,
)

logger = logger_of(__name__)

GENERATION_CONFIG_NAME = "generation_config.json"
DEFAULT_NEW_TOKENS = 20


class GenerationConfig:
    """The settings of `generate`, as generation_config.json holds them; every key of a file is kept and saved.

    A setting that nobody set is None; `generate` then does what transformers does.

    Args:
        values: Settings by name.
        **more: Further ones.

    Raises:
        ArgumentError: If a name is unknown, or a value of a wrong type or out of range; all of them are named at once.

    Example:
        >>> config = GenerationConfig({"eos_token_id": [2, 7]})
        >>> config.eos_token_id, config.temperature
        ([2, 7], None)
    """

    values: dict[str, Any]

    def __init__(self, values: Mapping[str, Any] | None = None, **more: Any) -> None:
        given = {**(values or {}), **more}
        check_names(given)
        self._keep(given)
        self.validate()

    def _keep(self, values: Mapping[str, Any]) -> None:
        self.values = {name: plain(copy.deepcopy(value)) for name, value in values.items()}

    @classmethod
    def from_model_config(cls, config: Config) -> GenerationConfig:
        """Return the settings that a model without generation_config.json has: those in its configuration."""
        text = config.get_text_config()
        held = {**text.to_dict(), **config.to_dict()}
        tokens = {key: getattr(text, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        settings = {key: value for key, value in held.items() if key in _OF_MODEL_CONFIGS}
        return cls.from_dict(
            {key: value for key, value in {**settings, **tokens}.items() if value is not None}
        )

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any], **more: Any) -> GenerationConfig:
        """Return the settings of a file: unknown ones are kept, and all are looked at when `generate` reads them."""
        config = cls(**more)
        config._keep({**config_dict, **more})
        return config

    @classmethod
    def from_json(cls, text: str, *, where: object) -> GenerationConfig:
        """Parse the text of a generation_config.json."""
        config = cls()
        config.values = parse_config_json(text, where=where)
        return config

    def validate(self, strict: bool = False) -> None:
        """Check the values.

        Args:
            strict: There are no lesser troubles here that this would make errors; it is there as in transformers.

        Raises:
            ArgumentError: If a value is of a wrong type, or out of range whatever `generate` is called with.
        """
        check_values(self.values, where="GenerationConfig")

    def update(self, **settings: Any) -> dict[str, Any]:
        """Set settings; return those that are none.

        Raises:
            ArgumentError: If a value is of a wrong type or out of range; then nothing is set.
        """
        known = {
            name: plain(value) for name, value in settings.items() if name in KNOWN or name in self.values
        }
        check_values({**self.values, **known}, where="GenerationConfig")
        self.values.update(known)
        return {name: value for name, value in settings.items() if name not in known}

    def to_dict(self) -> dict[str, Any]:
        """Return every setting by name, None where nobody set it."""
        return {**dict.fromkeys(sorted(KNOWN)), **copy.deepcopy(self.values)}

    def to_diff_dict(self) -> dict[str, Any]:
        """Return the settings that somebody set."""
        return {name: value for name, value in copy.deepcopy(self.values).items() if value is not None}

    def to_json_string(self) -> str:
        """Return the text of generation_config.json."""
        return json.dumps(self.values, indent=2, sort_keys=True, default=_as_dict) + "\n"

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write `generation_config.json` into a folder."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / GENERATION_CONFIG_NAME).write_text(self.to_json_string(), encoding="utf-8")

    def __getattr__(self, name: str) -> Any:
        held = self.__dict__.get("values", {})  # a copy that is being made has none yet
        if name in held or name in KNOWN:
            return held.get(name)
        hint = nearest(name, KNOWN) or "see loadstone.generate.kinds for all there are"
        raise AttributeError(f"generate() has no setting {name!r}; {hint}")

    def __setattr__(self, name: str, value: Any) -> None:
        # What begins with an underscore is a note of whoever sets it, and is not saved.
        if name == "values" or (name[0] == "_" and name not in KNOWN):
            object.__setattr__(self, name, value)
            return
        if name not in self.values:
            check_names({name: value})
        check_values({**self.values, name: plain(value)}, where="GenerationConfig", named=name)
        self.values[name] = plain(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GenerationConfig) and self.values == other.values

    def __repr__(self) -> str:
        return f"GenerationConfig {self.to_json_string().rstrip()}"


def _as_dict(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    raise ArgumentError(
        "a setting of generate() cannot be saved as JSON",
        found=f"{type(value).__name__}: {value!r}"[:200],
        hint="set it to None before saving, and pass it to generate()",
    )


# Flags of the model's own outputs stand in its configuration too.
_OF_MODEL_CONFIGS = KNOWN - HARMLESS - {*IN_REPORTS, "return_dict_in_generate"}


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
        min_new_tokens: No sequence ends before it has this many new tokens; 0 where nothing ends one.
        no_repeat_ngram_size: No run of this many tokens occurs twice; 0: any may.
        bad_words: Runs of tokens that do not occur.
        suppress_tokens: Tokens that never follow.
        begin_suppress_tokens: Tokens that do not follow first.
        forced_bos: One of these follows a prompt of one token; () for any.
        forced_eos: One of these is the last token that `max_new_tokens` allows; () for any.
        prompt_length: Tokens of the prompts, padding included.
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
    min_new_tokens: int = 0
    no_repeat_ngram_size: int = 0
    bad_words: tuple[tuple[int, ...], ...] = ()
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()
    forced_bos: tuple[int, ...] = ()
    forced_eos: tuple[int, ...] = ()
    prompt_length: int = 0
    seed: int | None = None
    stop_strings: tuple[str, ...] = ()
    to_text: Callable[[list[int]], str] = str

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken each time, and nothing but tokens ends a sequence."""
        return not (self.do_sample or self.stop_strings or self.changes_scores)

    @property
    def changes_scores(self) -> bool:
        """Whether a setting makes tokens more or less likely than the model does, or rules them out."""
        rules = (self.min_new_tokens, self.no_repeat_ngram_size, self.bad_words, self.suppress_tokens)
        forced = (self.begin_suppress_tokens, self.forced_bos, self.forced_eos)
        return self.repetition_penalty != 1.0 or any(map(bool, (*rules, *forced)))


ELSEWHERE = {"prng_key": "pass seed=, a number"}
"""Arguments of others that are spelled otherwise -> how."""
# transformers' default where a checkpoint samples and does not say.
DEFAULT_TOP_K = 50


def resolve_generation(
    config: Any,
    arguments: Mapping[str, Any],
    *,
    prompt_length: int,
    max_length: int | None = None,
) -> Generation:
    """Resolve a call of `generate`: its arguments go before the checkpoint's settings.

    Args:
        config: The model's generation settings: a `GenerationConfig`, of ours or, as users set it, transformers'.
        arguments: The caller's keywords: `GenerateArguments`, and those of transformers that ask for nothing.
        prompt_length: Tokens of the prompt, padding included.
        max_length: Tokens, prompt included, that the model was trained for; bounds a length that nobody said.

    Raises:
        ArgumentError: If an argument is unknown, a setting of a wrong type or out of range, or one that is not there
            would change what is written.
    """
    called = {name: plain(value) for name, value in arguments.items() if name not in _OBJECTS}
    _check_arguments(called)
    said = {**_settings_of(arguments.get("generation_config")), **called}
    settings = {**_settings_of(config), **said}
    check_values(settings, where="arguments of generate(), or generation_config.json")
    _check_followed(settings)
    found = _resolved(settings, said, arguments.get("tokenizer"), prompt_length, max_length)
    _check_ranges(found, said)
    return found


_OBJECTS = ("generation_config", "tokenizer")


def _resolved(
    settings: Mapping[str, Any],
    said: Mapping[str, Any],
    tokenizer: Any,
    prompt_length: int,
    longest: int | None,
) -> Generation:
    ends, pad = token_ids(settings.get("eos_token_id")), settings.get("pad_token_id")
    new_tokens = _new_tokens(settings, said, prompt_length, longest)
    return Generation(
        max_new_tokens=new_tokens,
        eos_token_ids=ends,
        pad_token_id=pad if pad is not None else ends[0] if ends else 0,
        padding=None if pad in ends else pad,
        do_sample=bool(settings.get("do_sample")),
        temperature=_number(settings.get("temperature"), 1.0),
        top_k=settings.get("top_k", DEFAULT_TOP_K) or 0,
        top_p=_number(settings.get("top_p"), 1.0),
        repetition_penalty=_number(settings.get("repetition_penalty"), 1.0),
        min_new_tokens=_least_tokens(settings, said, prompt_length, new_tokens) if ends else 0,
        no_repeat_ngram_size=settings.get("no_repeat_ngram_size") or 0,
        bad_words=_bad_words(settings.get("bad_words_ids") or (), ends),
        suppress_tokens=token_ids(settings.get("suppress_tokens")),
        begin_suppress_tokens=token_ids(settings.get("begin_suppress_tokens")),
        forced_bos=token_ids(settings.get("forced_bos_token_id")),
        forced_eos=token_ids(settings.get("forced_eos_token_id")),
        prompt_length=prompt_length,
        seed=settings.get("seed"),
        stop_strings=_stop_strings(settings.get("stop_strings"), tokenizer),
        to_text=str if tokenizer is None else tokenizer.decode,
    )


def _number(value: Any, otherwise: float) -> float:
    return otherwise if value is None else float(value)


def _bad_words(words: Sequence[Sequence[int]], ends: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return the words that may not occur; a token that ends sequences may, as in transformers."""
    found = dict.fromkeys(tuple(word) for word in words)
    return tuple(word for word in found if not (len(word) == 1 and word[0] in ends))


def _settings_of(config: Any) -> dict[str, Any]:
    """Return what a GenerationConfig, of ours or transformers', sets."""
    if config is None:
        return {}
    if not hasattr(config, "to_dict"):
        raise ArgumentError(
            "generation_config is no GenerationConfig",
            found=type(config).__name__,
            hint="take a loadstone.GenerationConfig(...), or pass the settings themselves as arguments",
        )
    return {name: plain(value) for name, value in config.to_dict().items() if value is not None}


def _check_arguments(called: Mapping[str, Any]) -> None:
    """Refuse arguments that are not there, or ask for what is not."""
    for name, value in called.items():
        if name in FOLLOWED or name in HARMLESS:
            continue
        if name not in NOT_FOLLOWED and name not in OF_A_CALL:
            raise ArgumentError(
                f"generate() has no argument {name!r}",
                expected=", ".join(ARGUMENTS),
                hint=ELSEWHERE.get(name, nearest(name, ARGUMENTS)),
            )
        if asks(name, value):
            raise ArgumentError(
                f"generate() does not follow {name}", found=repr(value)[:200], hint="leave it out"
            )


def _check_followed(settings: Mapping[str, Any]) -> None:
    """Refuse settings, of a checkpoint or a GenerationConfig, that would change what is written and are not there."""
    names = unfollowed(settings, do_sample=bool(settings.get("do_sample")))
    if names:
        raise ArgumentError(
            "generate() does not follow settings of generation_config.json, which would change what is written",
            found=", ".join(f"{name}={settings[name]!r}" for name in names),
            hint=f"to go without: pass {neutral_of(names)}",
        )


def _stop_strings(stops: Any, tokenizer: Any) -> tuple[str, ...]:
    found = (stops,) if isinstance(stops, str) else tuple(stops or ())
    if tokenizer is not None and not callable(getattr(tokenizer, "decode", None)):
        raise ArgumentError("tokenizer has no decode method", found=type(tokenizer).__name__)
    if found and tokenizer is None:
        raise ArgumentError("stop_strings need a tokenizer to turn tokens into text", hint="pass tokenizer=")
    return found


def _check_ranges(call: Generation, said: Mapping[str, Any]) -> None:
    """Refuse what cannot be; a checkpoint's settings of sampling matter only where tokens are drawn."""
    for name, value, right, expected in (
        (
            "temperature",
            call.temperature,
            call.temperature > 0,
            "above 0; do_sample=False takes the likeliest token",
        ),
        ("top_k", call.top_k, call.top_k >= 0, "0 or above"),
        ("top_p", call.top_p, 0 < call.top_p <= 1, "above 0, at most 1"),
        ("repetition_penalty", call.repetition_penalty, call.repetition_penalty > 0, "above 0"),
    ):
        if not right and (call.do_sample or name in said or name == "repetition_penalty"):
            raise ArgumentError(f"{name} is out of range", expected=expected, found=value)


def _new_tokens(
    settings: Mapping[str, Any], said: Mapping[str, Any], prompt_length: int, longest: int | None
) -> int:
    # The caller's max_length goes before the file's max_new_tokens; within one source max_new_tokens wins.
    if said.get("max_new_tokens") is None and said.get("max_length") is not None:
        number = said["max_length"] - prompt_length
    elif settings.get("max_new_tokens") is not None:
        number = settings["max_new_tokens"]
    elif settings.get("max_length") is not None:
        number = settings["max_length"] - prompt_length
    else:
        number = DEFAULT_NEW_TOKENS if longest is None else min(DEFAULT_NEW_TOKENS, longest - prompt_length)
    if number < 1 or prompt_length + number >= INT32:
        raise ArgumentError(
            "the prompt leaves no room for a new token"
            if number < 1
            else "there is no room for so many tokens",
            found=f"{prompt_length} tokens in the prompt, {number} to add",
            hint="pass max_new_tokens=" if number < 1 else "pass a smaller max_new_tokens=",
        )
    return int(number)


def _least_tokens(settings: Mapping[str, Any], said: Mapping[str, Any], prompt_length: int, most: int) -> int:
    """Return how many new tokens a sequence has at least; the same order of sources as for the most."""
    if said.get("min_new_tokens") is None and said.get("min_length") is not None:
        number = said["min_length"] - prompt_length
    elif settings.get("min_new_tokens") is not None:
        number = settings["min_new_tokens"]
    else:
        number = (settings.get("min_length") or 0) - prompt_length
    if number > most:
        logger.warning(
            "generate() shall add at least %d tokens, and at most %d: no sequence ends itself", number, most
        )
    return max(0, int(number))
