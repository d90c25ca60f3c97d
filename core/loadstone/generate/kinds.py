"""The settings of `generate` that transformers knows: what values each takes, and which change what is written here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from loadstone.errors import ArgumentError, nearest

INT32 = 2**31


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """What the values of a setting are, in words and as a test."""

    words: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any, least: int = -INT32) -> bool:
    return _is_number(value) and isinstance(value, int) and least <= value < INT32


def _is_list(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, list | tuple) and all(fits(item) for item in value)


def _is_word(value: Any) -> bool:
    return bool(value) and _is_list(value, lambda token: _is_integer(token, 0))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


ANYTHING = Kind("anything", lambda value: True)
NUMBER = Kind("a number", _is_number)
INTEGER = Kind("a whole number", _is_integer)
COUNT = Kind("a whole number, 0 or above", lambda value: _is_integer(value, 0))
POSITIVE = Kind("a whole number above 0", lambda value: _is_integer(value, 1))
SEED = Kind("a whole number", lambda value: _is_number(value) and isinstance(value, int))
FLAG = Kind("True or False", lambda value: isinstance(value, bool | int) and value in (0, 1))
TOKENS = Kind(
    "a token id, or a list of them", lambda value: _is_integer(value) or _is_list(value, _is_integer)
)
TOKEN_LIST = Kind("a list of token ids", lambda value: _is_list(value, _is_integer))
WORDS = Kind("a list of lists of token ids", lambda value: _is_list(value, _is_word))
TEXTS = Kind("a text, or a list of texts", lambda value: _is_text(value) or _is_list(value, _is_text))
STOPPING = Kind('True, False or "never"', lambda value: value in (True, False, "never"))

FOLLOWED = {
    "bad_words_ids": WORDS,
    "begin_suppress_tokens": TOKEN_LIST,
    "bos_token_id": TOKENS,
    "do_sample": FLAG,
    "eos_token_id": TOKENS,
    "forced_bos_token_id": TOKENS,
    "forced_eos_token_id": TOKENS,
    "max_length": COUNT,
    "max_new_tokens": POSITIVE,
    "min_length": COUNT,
    "min_new_tokens": COUNT,
    "no_repeat_ngram_size": COUNT,
    "pad_token_id": INTEGER,
    "repetition_penalty": NUMBER,
    "seed": SEED,
    "stop_strings": TEXTS,
    "suppress_tokens": TOKEN_LIST,
    "temperature": NUMBER,
    "top_k": INTEGER,
    "top_p": NUMBER,
}
"""Setting that is followed -> its values. None is none of them, and means that nobody set it."""

IN_SAMPLING: dict[str, tuple[Any, ...]] = {
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "min_p": (0.0,),
    "top_h": (),
    "typical_p": (1.0,),
}
IN_BEAMS: dict[str, tuple[Any, ...]] = {
    "diversity_penalty": (0.0,),
    "early_stopping": (False,),
    "length_penalty": (1.0,),
    "num_beam_groups": (1,),
}
IN_REPORTS: dict[str, tuple[Any, ...]] = {
    "output_attentions": (False,),
    "output_hidden_states": (False,),
    "output_logits": (False,),
    "output_scores": (False,),
}
CACHES = (
    "dynamic",
    "hybrid",
    "hybrid_chunked",
    "offloaded",
    "offloaded_hybrid",
    "offloaded_hybrid_chunked",
    "offloaded_static",
    "paged",
    "sliding_window",
    "static",
)
"""Ways to lay a cache out that change no token, whatever is made of them."""
NOT_FOLLOWED: dict[str, tuple[Any, ...]] = {
    **IN_SAMPLING,
    **IN_BEAMS,
    **IN_REPORTS,
    "assistant_early_exit": (),
    "assistant_ensemble_weight": (),
    "cache_implementation": CACHES,
    "constraints": (),
    "dola_layers": (),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1.0,),
    "exponential_decay_length_penalty": (),
    "force_words_ids": (),
    "guidance_scale": (1.0,),
    "max_time": (),
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "penalty_alpha": (0.0,),
    "prompt_lookup_num_tokens": (),
    "remove_invalid_values": (False,),
    "return_dict_in_generate": (False,),
    "sequence_bias": (),
    "speculation_type": (),
    "token_healing": (False,),
    "use_mtp": (False,),
    "watermarking_config": (),
}
"""Setting that would change what is written or returned, and is not followed -> its values that change nothing, beside
None."""

HARMLESS = frozenset(
    {
        "_from_model_config",
        "assistant_confidence_threshold",
        "assistant_lookbehind",
        "cache_config",
        "compile_config",
        "continuous_batching_config",
        "decoder_start_token_id",
        "disable_compile",
        "is_assistant",
        "low_memory",
        "max_cache_len",
        "max_matching_ngram_size",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "prefill_chunk_size",
        "renormalize_logits",
        "target_lookbehind",
        "transformers_version",
        "use_cache",
    }
)
"""Settings of how fast and in what memory something is done, or of what is not there without another setting."""

OF_A_CALL: dict[str, tuple[Any, ...]] = {
    "assistant_model": (),
    "assistant_tokenizer": (),
    "custom_generate": (),
    "decoder_input_ids": (),
    "encoder_outputs": (),
    "generation_config": (),
    "inputs_embeds": (),
    "logits_processor": ([], ()),
    "negative_prompt_attention_mask": (),
    "negative_prompt_ids": (),
    "past_key_values": (),
    "position_ids": (),
    "prefix_allowed_tokens_fn": (),
    "stopping_criteria": ([], ()),
    "streamer": (),
    "synced_gpus": (False,),
    "tokenizer": (),
    "trust_remote_code": (False,),
}
"""Argument of transformers' `generate` that is no setting -> its values that ask for nothing, beside None."""

KNOWN = frozenset({*FOLLOWED, *NOT_FOLLOWED, *HARMLESS})
KINDS = {**FOLLOWED, "early_stopping": STOPPING}


def plain(value: Any) -> Any:
    """Return arrays and tensors, also those in lists, as Python's own numbers and lists; other values as they are."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "numpy"):  # TensorFlow's
        return plain(value.numpy())
    return [plain(item) for item in value] if type(value) in (list, tuple) else value


def _misfits(settings: Mapping[str, Any]) -> list[str]:
    """Return a line for each value that its setting cannot have; None is nobody's value."""
    found = []
    for name, value in settings.items():
        kind = KINDS.get(name, ANYTHING)
        if value is not None and not kind.fits(value):
            found.append(f"{name}: expected {kind.words}, found {value!r}")
    return found


def token_ids(tokens: Any) -> tuple[int, ...]:
    """Return one token id, or several in a list, as a tuple; None as ()."""
    if tokens is None:
        return ()
    return tuple(tokens) if isinstance(tokens, list | tuple) else (tokens,)


def check_names(settings: Mapping[str, Any]) -> None:
    """Refuse names that no setting has."""
    for name in settings:
        if name not in KNOWN:
            hint = "pass it to generate()" if name in OF_A_CALL else nearest(name, KNOWN)
            raise ArgumentError(f"generate() has no setting {name!r}", where="GenerationConfig", hint=hint)


def check_values(settings: Mapping[str, Any], *, where: object, named: str | None = None) -> None:
    """Refuse values of a wrong type or range; where one is `named`, only that, and what it must agree with."""
    bound = {"forced_bos_token_id", "forced_eos_token_id", "suppress_tokens"}
    names = set(settings) if named is None else bound if named in bound else {named}
    if problems := _misfits({name: value for name, value in settings.items() if name in names}):
        raise ArgumentError(
            "settings of generate() have values that they cannot have",
            where=where,
            problems=problems,
            hint="correct them, or say None to go without",
        )
    if names.isdisjoint(bound):
        return
    suppressed = set(settings.get("suppress_tokens") or ())
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        forced = token_ids(settings.get(name))
        if forced and suppressed.issuperset(forced):
            raise ArgumentError(
                f"{name} and suppress_tokens name the same tokens: none could follow",
                where=where,
                found=list(forced),
                hint="to keep a sequence from ending early, use min_new_tokens",
            )


def asks(name: str, value: Any) -> bool:
    """Return whether a value of something that is not followed asks for something."""
    neutral = NOT_FOLLOWED.get(name, OF_A_CALL.get(name, ()))
    comparable = isinstance(value, bool | int | float | str | list | tuple)
    return value is not None and not (comparable and value in neutral)


def unfollowed(settings: Mapping[str, Any], *, do_sample: bool) -> list[str]:
    """Return the names of settings that would change what is written, and are not followed.

    Args:
        settings: Of the checkpoint.
        do_sample: Whether tokens are drawn; without it, what rules drawing changes nothing.
    """
    idle = {*IN_BEAMS, *IN_REPORTS, *(() if do_sample else IN_SAMPLING)}
    return [
        name for name in settings if name in NOT_FOLLOWED and name not in idle and asks(name, settings[name])
    ]


def neutral_of(names: Iterable[str]) -> str:
    """Return the arguments that say of each setting what changes nothing."""
    return ", ".join(f"{name}={next(iter(NOT_FOLLOWED[name]), None)!r}" for name in names)
