"""The keywords of `generate` as type checkers are to see them. Written by `make names`."""

from collections.abc import Sequence
from typing import Any, Literal

from loadstone.generate.arguments import GenerateArguments


class Keywords(GenerateArguments, total=False):
    """What `generate` follows; and what else transformers has, with the values that ask for nothing."""

    assistant_confidence_threshold: Any
    assistant_early_exit: None
    assistant_ensemble_weight: None
    assistant_lookbehind: Any
    assistant_model: None
    assistant_tokenizer: None
    bos_token_id: Any
    cache_config: Any
    cache_implementation: str | None
    compile_config: Any
    constraints: None
    continuous_batching_config: Any
    custom_generate: None
    decoder_input_ids: None
    decoder_start_token_id: Any
    disable_compile: Any
    diversity_penalty: float | None
    dola_layers: None
    early_stopping: Literal[False] | None
    encoder_no_repeat_ngram_size: Literal[0] | None
    encoder_outputs: None
    encoder_repetition_penalty: float | None
    epsilon_cutoff: float | None
    eta_cutoff: float | None
    exponential_decay_length_penalty: None
    force_words_ids: None
    guidance_scale: float | None
    inputs_embeds: None
    is_assistant: Any
    length_penalty: float | None
    logits_processor: Sequence[Any] | None
    low_memory: Any
    max_cache_len: Any
    max_matching_ngram_size: Any
    max_time: None
    min_p: float | None
    negative_prompt_attention_mask: None
    negative_prompt_ids: None
    num_assistant_tokens: Any
    num_assistant_tokens_schedule: Any
    num_beam_groups: Literal[1] | None
    num_beams: Literal[1] | None
    num_return_sequences: Literal[1] | None
    output_attentions: Literal[False] | None
    output_hidden_states: Literal[False] | None
    output_logits: Literal[False] | None
    output_scores: Literal[False] | None
    past_key_values: None
    penalty_alpha: float | None
    position_ids: None
    prefill_chunk_size: Any
    prefix_allowed_tokens_fn: None
    prompt_lookup_num_tokens: None
    remove_invalid_values: Literal[False] | None
    renormalize_logits: Any
    return_dict_in_generate: Literal[False] | None
    sequence_bias: None
    speculation_type: None
    stopping_criteria: Sequence[Any] | None
    synced_gpus: Literal[False] | None
    target_lookbehind: Any
    token_healing: Literal[False] | None
    top_h: None
    transformers_version: Any
    trust_remote_code: Literal[False] | None
    typical_p: float | None
    use_mtp: Literal[False] | None
    watermarking_config: None
