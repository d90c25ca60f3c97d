"""What `generate` does in every framework: it reads prompts, and adds one token after the other."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from loadstone.backend import get_backend
from loadstone.errors import ArgumentError, logger_of
from loadstone.generate.processors import Processors, check_left
from loadstone.generate.sampling import Sampler
from loadstone.generate.settings import Generation, resolve_generation

if TYPE_CHECKING:
    from loadstone.backend import Model

logger = logger_of(__name__)

Array = np.ndarray[Any, Any]
NextLogits = Callable[[Array, Array], Array]
"""(ids (B, T), mask (B, T)) -> logits (B, V) that follow the last token; what was passed before may be cached."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prompts:
    """What a call of `generate` continues, and how.

    Attributes:
        ids: (B, T) token ids, padded on the left.
        mask: (B, T), zero at padding.
        call: The resolved call.
        types: (B, T) token types, of which the last goes on; None where nobody gave any that the model reads.
    """

    ids: Array
    mask: Array
    call: Generation
    types: Array | None = None

    def types_of(self, tokens: int) -> Array:
        """Return the types of as many tokens, (B, tokens)."""
        assert self.types is not None
        return np.pad(self.types, ((0, 0), (0, tokens - self.types.shape[1])), mode="edge")


class Streamer(Protocol):
    """Gets tokens as they are made: transformers' `TextStreamer` is one."""

    def put(self, value: Any) -> object:
        """Take the prompts (B, T), then the next token (B,) of each sequence."""

    def end(self) -> object:
        """Learn that there is no more."""


def read_prompts(model: Model, input_ids: Any, attention_mask: Any, arguments: Mapping[str, Any]) -> Prompts:
    """Check what `generate` was given.

    Args:
        model: A causal language model of any backend.
        input_ids: (B, T) token ids: lists, or an array on the host.
        attention_mask: (B, T), zero at padding. None: what `pad_token_id` says is padding, as in transformers.
        arguments: See `resolve_generation`; and `token_type_ids` (B, T).

    Raises:
        ArgumentError: If there are no prompts, they are no table of the vocabulary's tokens, the mask does not fit them,
            the model has no positions for what is asked, or an argument is unknown or out of range.
    """
    ids, text = _widened(_table("input_ids", input_ids)), model.config.get_text_config()
    types, arguments = _types(model, ids, arguments), _without_types(arguments)
    vocabulary = getattr(text, "vocab_size", None)
    if vocabulary is None:
        raise ArgumentError(
            f"{type(model).__name__} cannot generate: its configuration does not say how many tokens there are",
            where=type(model.config).__name__,
            expected="vocab_size",
            hint="declare it in the class of the configuration",
        )
    if ids.min() < 0 or ids.max() >= vocabulary:
        strange = ids[(ids < 0) | (ids >= vocabulary)]
        raise ArgumentError(
            "input_ids holds what is no token of the model",
            expected=f"0 to {vocabulary - 1}",
            found=int(strange[0]),
            hint="use the tokenizer that belongs to the checkpoint, or resize_token_embeddings",
        )
    longest = getattr(text, "max_position_embeddings", None)
    call = resolve_generation(
        model.generation_config, arguments, prompt_length=ids.shape[1], max_length=longest
    )
    _check_named(call, vocabulary)
    mask = _mask(ids, attention_mask, call.padding)
    learned = getattr(model.spec, "max_positions", None)  # rotary ones have no end
    needed = int(mask.sum(-1).max()) + call.max_new_tokens - 1  # the last token is written and never read
    if learned is not None and needed > learned:
        raise ArgumentError(
            "the model has no positions for so many tokens",
            expected=f"at most {learned}",
            found=f"{needed}: the longest prompt, and {call.max_new_tokens} new tokens but the last",
            hint="pass a smaller max_new_tokens=, or the end of the prompt",
        )
    if call.do_sample and call.seed is None:
        call = dataclasses.replace(call, seed=get_backend(model.backend_name).draw_seed())
    return Prompts(ids=ids, mask=mask, call=call, types=types)


def _check_named(call: Generation, vocabulary: int) -> None:
    """Refuse settings that name a token which the model cannot write."""
    named = {
        "bad_words_ids": [token for word in call.bad_words for token in word],
        "forced_bos_token_id": call.forced_bos,
        "forced_eos_token_id": call.forced_eos,
    }
    for name, tokens in named.items():
        if strange := [token for token in tokens if not 0 <= token < vocabulary]:
            raise ArgumentError(
                f"{name} holds what is no token of the model",
                expected=f"0 to {vocabulary - 1}",
                found=strange[0],
                hint=f"pass {name}=None to go without",
            )


def _widened(ids: Array) -> Array:
    """Return ids in a dtype that holds every token; ids of the prompts may fit in a byte."""
    return ids if ids.dtype in (np.int32, np.int64) else ids.astype(np.int64)


def _without_types(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in arguments.items() if name != "token_type_ids"}


def _types(model: Model, ids: Array, arguments: Mapping[str, Any]) -> Array | None:
    """Return the token types (B, T) of prompts, where a caller gave some and the model reads them."""
    if arguments.get("token_type_ids") is None:
        return None
    types = _widened(_table("token_type_ids", arguments["token_type_ids"]))
    if types.shape != ids.shape:
        raise ArgumentError(
            "token_type_ids does not fit input_ids", expected=list(ids.shape), found=list(types.shape)
        )
    if reads_types(type(model.base_model)):  # type: ignore[arg-type]  # a class is hashable
        return types
    if types.any():
        raise ArgumentError(
            f"{type(model).__name__} reads no token_type_ids",
            found=f"types other than 0: {int(types[types != 0][0])}",
            hint="leave them out",
        )
    return None


@functools.cache
def reads_types(model_class: type) -> bool:
    """Return whether a model class takes token types."""
    for name in ("forward", "call", "__call__"):
        if (method := getattr(model_class, name, None)) is not None:
            return "token_type_ids" in inspect.signature(method).parameters
    return False


def _table(name: str, given: Any) -> Array:
    """Return token ids, or a mask of them, as an array of (B, T)."""
    if given is None:
        raise ArgumentError(f"generate() needs {name}", expected="token ids (B, T)")
    try:
        table = np.asarray(given)
    except ValueError as error:
        raise ArgumentError(
            f"{name} has rows of several lengths",
            hint="pad the shorter prompts on the left, and pass attention_mask=",
        ) from error
    if table.ndim != 2 or 0 in table.shape or table.dtype.kind not in "iub":
        raise ArgumentError(
            f"{name} is no table of integers (B, T)", found=f"{table.dtype} of shape {list(table.shape)}"
        )
    return table


def _mask(ids: Array, given: Any, pad: int | None) -> Array:
    """Return the mask of prompts (B, T); one that nobody gave leaves out what is padding."""
    if given is None:
        mask = np.ones_like(ids) if pad is None else (ids != pad).astype(ids.dtype)
    else:
        mask = _table("attention_mask", given).astype(ids.dtype)
    if mask.shape != ids.shape:
        raise ArgumentError(
            "attention_mask does not fit input_ids", expected=list(ids.shape), found=list(mask.shape)
        )
    if not mask[:, -1].all():
        logger.warning("a prompt ends with padding, and is continued behind it: pad prompts on the left")
    return mask


def decode(next_logits: NextLogits, prompts: Prompts, *, streamer: Streamer | None = None) -> Array:
    """Continue prompts.

    Args:
        next_logits: Runs the model.
        prompts: What `read_prompts` returned.
        streamer: Gets tokens as they are made.

    Returns:
        (B, T + new) prompts and continuations; sequences that ended early are filled with the pad token.

    Raises:
        ArgumentError: If the streamer is none, or the settings leave no token that may follow.
    """
    if streamer is not None and not (hasattr(streamer, "put") and hasattr(streamer, "end")):
        raise ArgumentError("streamer has no put and end", found=type(streamer).__name__)
    ids, mask, call = prompts.ids, prompts.mask, prompts.call
    prompt = ids.shape[1]
    process, sampler, running = Processors(call, mask), Sampler(call), np.ones(len(ids), bool)
    if streamer is not None:
        streamer.put(ids)
    for _ in range(call.max_new_tokens):
        scores = process(next_logits(ids, mask), ids)
        check_left(scores[running])
        chosen = np.where(running, sampler.choose(scores), call.pad_token_id).astype(ids.dtype)
        ids = np.concatenate((ids, chosen[:, None]), axis=1)
        mask = np.concatenate((mask, np.ones_like(mask[:, :1])), axis=1)
        if streamer is not None:
            streamer.put(chosen)
        running &= ~_ended(ids[:, prompt:], call)
        if not running.any():
            break
    if streamer is not None:
        streamer.end()
    return ids


def _ended(new: Array, call: Generation) -> Array:
    """Return which sequences end with their last token, or have just completed a stop string."""
    ended = np.isin(new[:, -1], call.eos_token_ids)
    if call.stop_strings:
        texts = [call.to_text(row.tolist()) for row in new]
        ended |= np.array([any(stop in text for stop in call.stop_strings) for text in texts])
    return ended


def positions(mask: Array) -> Array:
    """Return each token's position (B, T): how many tokens that are not padding precede it."""
    return (mask.cumsum(-1) - 1).clip(min=0)
