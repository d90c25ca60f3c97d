"""Single blocks, as transformers' own modules compute them: what no family shows yet, and every backend's blocks can.

`tests/oracle/record_blocks.py` records them; `arrays` gives a case's, and makes the file where it is missing or old. The rows of `BLOCKS` are core's own specs and
names, so that the three backends build the same blocks from them. A key is CASE/weight/NAME, CASE/input/NAME or CASE/output/NAME.

B batch, T query tokens, S key tokens, M tokens of an encoder, C hidden size.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loadstone.architectures import (
    AttentionNames,
    AttentionSpec,
    BucketSpec,
    DecoderSpec,
    EmbeddingNames,
    EmbeddingSpec,
    EncoderSpec,
    FeedForwardNames,
    FeedForwardSpec,
    LayerSpec,
    Names,
    NormSpec,
    RopeSpec,
    ScoreSpec,
    bert,
    classifier_spec,
    llama,
    rope_spec,
)
from loadstone.architectures.llama import LlamaConfig
from loadstone.testing.store import TRANSFORMERS

RECORDER = Path(__file__).with_name("record_blocks.py")
FILE = Path(__file__).parents[2] / ".cache" / "oracle" / "blocks.npz"
BATCH, TOKENS, MEMORY, HIDDEN, MIDDLE, WINDOW, WORDS = 2, 11, 7, 24, 20, 4, 31
HEADS, GROUPS, HEAD = 4, 2, 6
EPS, THETA = 1e-3, 50.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block that is compared.

    Attributes:
        kind: "attention", "cross_attention", "feed_forward", "layer", "relative_bias", "embeddings", "decoder" or "encoder".
        spec: What it is built from.
        names: Where its parts are, relative to it; of a layer all names of a model.
    """

    kind: str
    spec: Any
    names: Any = None


def rope(rotated: int, *, interleaved: bool = False, theta: float = THETA) -> RopeSpec:
    """Return a plain rope."""
    plain = rope_spec(LlamaConfig(rope_theta=theta), head_dim=rotated)
    return dataclasses.replace(plain, interleaved=interleaved)


def attends(**fields: Any) -> AttentionSpec:
    """Return grouped attention without biases, with some fields otherwise."""
    usual = {
        "num_heads": HEADS,
        "num_kv_heads": GROUPS,
        "head_dim": HEAD,
        "bias": False,
        "output_bias": False,
    }
    fields = usual | fields
    return AttentionSpec(**{"scale": fields["head_dim"] ** -0.5} | fields)


LLAMA = AttentionNames(query="q_proj", key="k_proj", value="v_proj", output="o_proj")
T5 = AttentionNames(query="q", key="k", value="v", output="o")
BART = AttentionNames(query="q_proj", key="k_proj", value="v_proj", output="out_proj")
WHOLE = {"num_kv_heads": HEADS, "bias": True, "output_bias": True}
SWIGLU = FeedForwardSpec(size=MIDDLE, activation="silu", bias=False)
OLMO2 = Names(
    embeddings=EmbeddingNames(words="embed_tokens"),
    layers="layers",
    attention=AttentionNames(
        query="self_attn.q_proj",
        key="self_attn.k_proj",
        value="self_attn.v_proj",
        output="self_attn.o_proj",
        query_norm="self_attn.q_norm",
        key_norm="self_attn.k_norm",
        after="post_attention_layernorm",
    ),
    feed_forward=FeedForwardNames(
        gate="mlp.gate_proj", up="mlp.up_proj", down="mlp.down_proj", after="post_feedforward_layernorm"
    ),
)
BART_LAYER = Names(
    embeddings=EmbeddingNames(words="embed_tokens"),
    layers="layers",
    attention=AttentionNames(
        query="self_attn.q_proj",
        key="self_attn.k_proj",
        value="self_attn.v_proj",
        output="self_attn.out_proj",
        after="self_attn_layer_norm",
    ),
    cross_attention=AttentionNames(
        query="encoder_attn.q_proj",
        key="encoder_attn.k_proj",
        value="encoder_attn.v_proj",
        output="encoder_attn.out_proj",
        after="encoder_attn_layer_norm",
    ),
    feed_forward=FeedForwardNames(up="fc1", down="fc2", after="final_layer_norm"),
)
WIDE = NormSpec(kind="rms", eps=EPS, wide=True)
PLAIN = NormSpec(kind="rms", eps=EPS)
OFFSET = NormSpec(kind="rms", eps=EPS, offset=True)
GEMMA3 = dataclasses.replace(
    llama.GEMMA2,
    attention=dataclasses.replace(
        llama.GEMMA2.attention, query_norm="self_attn.q_norm", key_norm="self_attn.k_norm"
    ),
)


def decoder(names: Names, norm: NormSpec, *attentions: AttentionSpec, **fields: Any) -> DecoderSpec:
    """Return a decoder of a layer for each attention."""
    feed_forward = dataclasses.replace(SWIGLU, activation=fields.pop("activation", "silu"))
    return DecoderSpec(
        hidden_size=HIDDEN,
        layers=tuple(LayerSpec(attention=one, feed_forward=feed_forward, norm=norm) for one in attentions),
        norm=norm,
        names=names,
        embeddings=EmbeddingSpec(vocab_size=WORDS, pad_token_id=0, **fields),
        classifier=classifier_spec(LlamaConfig(), dropout=0.0),
    )


ELECTRA = dataclasses.replace(
    bert.NAMES,
    embeddings=dataclasses.replace(bert.NAMES.embeddings, projection="embeddings_project"),
)
OF_SUM = NormSpec(kind="layer", eps=EPS, of_sum=True)
FAR, NEAR = rope(HEAD, theta=500.0), rope(HEAD)
SCALED = {"scale": 5**-0.5, "qk_norm": OFFSET}

BLOCKS: Mapping[str, Block] = {
    "sinks": Block(
        kind="attention",
        spec=attends(bias=True, output_bias=True, rope=rope(HEAD)),
        names=dataclasses.replace(LLAMA, sinks="sinks"),
    ),
    "alibi": Block(
        kind="attention",
        spec=attends(num_heads=3, head_dim=8, **WHOLE | {"num_kv_heads": 3}),
        names=dataclasses.replace(LLAMA, output="dense"),
    ),
    "buckets-both-ways": Block(
        kind="attention", spec=attends(num_kv_heads=HEADS, head_dim=5, scale=1.0), names=T5
    ),
    "buckets-one-way": Block(
        kind="attention", spec=attends(num_kv_heads=HEADS, head_dim=5, scale=1.0), names=T5
    ),
    "relative-both-ways": Block(
        kind="relative_bias", spec=BucketSpec(buckets=8, max_distance=6, both_ways=True)
    ),
    "relative-one-way": Block(
        kind="relative_bias", spec=BucketSpec(buckets=9, max_distance=7, both_ways=False)
    ),
    "cross": Block(kind="cross_attention", spec=attends(**WHOLE), names=BART),
    "rope-part-interleaved": Block(
        kind="attention",
        spec=attends(head_dim=8, bias=True, rope=rope(4, interleaved=True)),
        names=LLAMA,
    ),
    "rope-interleaved": Block(kind="attention", spec=attends(rope=rope(HEAD, interleaved=True)), names=LLAMA),
    "rope-none": Block(kind="attention", spec=attends(), names=LLAMA),
    "fused-qkv": Block(
        kind="attention",
        spec=attends(rope=rope(HEAD)),
        names=AttentionNames(qkv="qkv_proj", output="o_proj"),
    ),
    "fused-gate": Block(
        kind="feed_forward", spec=SWIGLU, names=FeedForwardNames(gate_up="gate_up_proj", down="down_proj")
    ),
    "norms-after": Block(
        kind="layer",
        spec=LayerSpec(
            attention=attends(num_heads=HEADS, rope=rope(HEAD), qk_norm=WIDE, qk_norm_whole=True),
            feed_forward=SWIGLU,
            norm=WIDE,
        ),
        names=OLMO2,
    ),
    "ropes-two": Block(
        kind="decoder",
        spec=decoder(
            GEMMA3,
            OFFSET,
            attends(rope=NEAR, window=WINDOW, **SCALED),
            attends(rope=FAR, **SCALED),
            attends(rope=NEAR, window=WINDOW, **SCALED),
            scale=HIDDEN**0.5,
            activation="gelu_tanh",
        ),
    ),
    "ropes-some": Block(
        kind="decoder",
        spec=decoder(llama.LLAMA, PLAIN, attends(rope=NEAR), attends(), attends(rope=NEAR)),
    ),
    "words-factorised": Block(
        kind="encoder",
        spec=EncoderSpec(
            hidden_size=HIDDEN,
            layers=2
            * (
                LayerSpec(
                    attention=attends(**WHOLE),
                    feed_forward=FeedForwardSpec(size=MIDDLE, activation="gelu"),
                    norm=OF_SUM,
                ),
            ),
            norm=None,
            names=ELECTRA,
            embeddings=EmbeddingSpec(
                vocab_size=WORDS, pad_token_id=0, size=10, positions=TOKENS, types=2, norm=OF_SUM
            ),
            scores=ScoreSpec(size=10, activation="gelu", norm=OF_SUM),
            classifier=classifier_spec(LlamaConfig(), dropout=0.0),
        ),
    ),
    "positions-offset": Block(
        kind="embeddings",
        spec=EmbeddingSpec(vocab_size=WORDS, pad_token_id=0, positions=TOKENS + 2, positions_offset=2),
        names=EmbeddingNames(words="embed_tokens", positions="embed_positions"),
    ),
    "cross-layer": Block(
        kind="layer",
        spec=LayerSpec(
            attention=attends(**WHOLE),
            cross_attention=attends(**WHOLE),
            feed_forward=FeedForwardSpec(size=MIDDLE, activation="gelu"),
            norm=NormSpec(kind="layer", eps=1e-5, of_sum=True),
        ),
        names=BART_LAYER,
    ),
}


def arrays(case: str) -> dict[str, dict[str, np.ndarray]]:
    """Return a case's arrays: "weight", "input" and "output" -> name -> array."""
    found: dict[str, dict[str, np.ndarray]] = {"weight": {}, "input": {}, "output": {}}
    for key, array in _recorded().items():
        name, _, rest = key.partition("/")
        if name == case:
            kind, _, leaf = rest.partition("/")
            found[kind][leaf] = array
    return found


@functools.cache
def _recorded() -> dict[str, np.ndarray]:
    if not FILE.exists() or str(_open(FILE)["fingerprint"]) != fingerprint():
        done = subprocess.run([sys.executable, RECORDER, FILE], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{RECORDER} failed:\n{done.stdout}{done.stderr}")
    return _open(FILE)


def _open(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as held:
        return dict(held)


def fingerprint() -> str:
    """SHA-256 of all that decides what the file holds."""
    made_of = (Path(__file__).read_text(), RECORDER.read_text())
    return hashlib.sha256("".join((TRANSFORMERS, *made_of)).encode()).hexdigest()
