"""The keywords of `generate`, the same in every framework; beside them each model has its own inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict


class GenerateArguments(TypedDict, total=False):
    """What a caller of `generate` may say beside the prompts.

    What is left out stands in generation_config.json, or does nothing; None says of a setting that none shall hold.

    Attributes:
        generation_config: A `GenerationConfig` of ours or transformers', whose settings go before the checkpoint's.
        tokenizer: Anything with a `decode` method, which `stop_strings` needs.
        token_type_ids: (B, T) types of the prompts' tokens, of which the last goes on.
        max_new_tokens: Tokens to add at most; where nobody says a length, 20.
        max_length: The same, the prompts' tokens included.
        min_new_tokens: No sequence ends before it has this many new tokens.
        min_length: The same, the prompts' tokens included.
        do_sample: Draw tokens by their probability; False takes the likeliest.
        temperature: Divides the logits, in sampling.
        top_k: Draw from this many likeliest tokens only; 0: from all.
        top_p: Draw from the likeliest tokens that make up this probability; 1: from all.
        seed: Decides which tokens are drawn, the same in every framework; left out, the framework's own generator does.
        repetition_penalty: Above 1 makes tokens that occurred less likely.
        no_repeat_ngram_size: No run of this many tokens occurs twice; 0: any may.
        bad_words_ids: Runs of tokens that do not occur.
        suppress_tokens: Tokens that never follow.
        begin_suppress_tokens: Tokens that do not follow first.
        forced_bos_token_id: One of these follows a prompt of one token.
        forced_eos_token_id: One of these is the last token that the length allows.
        eos_token_id: A sequence ends with any of them.
        pad_token_id: Fills sequences that ended early.
        stop_strings: A sequence ends when its continuation holds one of them.
    """

    generation_config: object
    tokenizer: object
    token_type_ids: object
    max_new_tokens: int | None
    max_length: int | None
    min_new_tokens: int | None
    min_length: int | None
    do_sample: bool | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    seed: int | None
    repetition_penalty: float | None
    no_repeat_ngram_size: int | None
    bad_words_ids: Sequence[Sequence[int]] | None
    suppress_tokens: Sequence[int] | None
    begin_suppress_tokens: Sequence[int] | None
    forced_bos_token_id: int | Sequence[int] | None
    forced_eos_token_id: int | Sequence[int] | None
    eos_token_id: int | Sequence[int] | None
    pad_token_id: int | None
    stop_strings: str | Sequence[str] | None


ARGUMENTS = tuple(sorted(GenerateArguments.__annotations__))
