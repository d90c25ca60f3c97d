"""BERT in plain numpy: the base model and a classifier, for inference.

B batch, T tokens, C channels, H heads, D head size.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from loadstone.config import Config
from loadstone.outputs import ModelOutput
from loadstone_example.modeling import PlainModel

erf = np.vectorize(math.erf, otypes=[np.float32])


class PlainBertModel(PlainModel):
    """Token ids to hidden states."""

    def __init__(self, config: Config, prefix: str = "") -> None:
        super().__init__(config)
        self.prefix = prefix
        size, inner = config.hidden_size, config.intermediate_size
        rows = {
            "word": config.vocab_size,
            "position": config.max_position_embeddings,
            "token_type": config.type_vocab_size,
        }
        for name, number in rows.items():
            self.declare(f"{prefix}embeddings.{name}_embeddings.weight", (number, size))
        self.declare_norm(f"{prefix}embeddings.LayerNorm")
        for layer in range(config.num_hidden_layers):
            at = f"{prefix}encoder.layer.{layer}."
            for name in ("self.query", "self.key", "self.value", "output.dense"):
                self.declare_linear(f"{at}attention.{name}", size, size)
            self.declare_norm(f"{at}attention.output.LayerNorm")
            self.declare_linear(f"{at}intermediate.dense", size, inner)
            self.declare_linear(f"{at}output.dense", inner, size)
            self.declare_norm(f"{at}output.LayerNorm")
        self.declare_linear(f"{prefix}pooler.dense", size, size)

    def declare_norm(self, name: str) -> None:
        """Add a norm's weight and bias."""
        for part in ("weight", "bias"):
            self.declare(f"{name}.{part}", (self.config.hidden_size,))

    def declare_linear(self, name: str, inputs: int, outputs: int) -> None:
        """Add a linear layer's weight [out, in] and bias."""
        self.declare(f"{name}.weight", (outputs, inputs))
        self.declare(f"{name}.bias", (outputs,))

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        """(..., in) -> (..., out)."""
        return x @ self[f"{name}.weight"].T + self[f"{name}.bias"]

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        """Normalise the last axis."""
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + self.config.layer_norm_eps)
        return x * self[f"{name}.weight"] + self[f"{name}.bias"]

    def embed(self, ids: np.ndarray, positions: Any, types: Any) -> np.ndarray:
        """(B, T) -> (B, T, C)."""
        tables = {
            name: self[f"{self.prefix}embeddings.{name}_embeddings.weight"]
            for name in ("word", "position", "token_type")
        }
        positions = np.arange(ids.shape[1])[None] if positions is None else positions
        types = np.zeros_like(ids) if types is None else types
        x = tables["word"][ids] + tables["position"][positions] + tables["token_type"][types]
        return self.norm(f"{self.prefix}embeddings.LayerNorm", x)

    def attend(self, at: str, x: np.ndarray, mask: Any) -> tuple[np.ndarray, np.ndarray]:
        """(B, T, C) -> the same, and the weights (B, H, T, T)."""
        heads = self.config.num_attention_heads

        def split(name: str) -> np.ndarray:
            y = self.linear(f"{at}self.{name}", x)
            return y.reshape(*y.shape[:2], heads, -1).swapaxes(1, 2)  # (B, H, T, D)

        query, key, value = split("query"), split("key"), split("value")
        scores = query @ key.swapaxes(2, 3) / np.sqrt(np.float32(query.shape[-1]))
        if mask is not None:
            scores = np.where(np.asarray(mask)[:, None, None] == 1, scores, np.float32(-1e9))
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights = weights / weights.sum(-1, keepdims=True)
        y = (weights @ value).swapaxes(1, 2).reshape(x.shape)
        return self.norm(f"{at}output.LayerNorm", x + self.linear(f"{at}output.dense", y)), weights

    def encode(
        self, input_ids: Any, attention_mask: Any, position_ids: Any, token_type_ids: Any
    ) -> ModelOutput:
        """(B, T) -> every layer's states and attentions, and the pooled first token."""
        x = self.embed(np.asarray(input_ids), position_ids, token_type_ids)
        states, attentions = [x], []
        for layer in range(self.config.num_hidden_layers):
            at = f"{self.prefix}encoder.layer.{layer}."
            x, weights = self.attend(f"{at}attention.", x, attention_mask)
            y = self.linear(f"{at}intermediate.dense", x)
            y = self.linear(f"{at}output.dense", y * 0.5 * (1 + erf(y / np.sqrt(np.float32(2)))))
            x = self.norm(f"{at}output.LayerNorm", x + y)
            states.append(x)
            attentions.append(weights)
        pooled = np.tanh(self.linear(f"{self.prefix}pooler.dense", x[:, 0]))
        return ModelOutput(
            last_hidden_state=x,
            pooler_output=pooled,
            hidden_states=tuple(states),
            attentions=tuple(attentions),
        )

    def __call__(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        position_ids: Any = None,
        token_type_ids: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        """(B, T) -> `last_hidden_state` (B, T, C) and `pooler_output` (B, C)."""
        found = self.encode(input_ids, attention_mask, position_ids, token_type_ids)
        return self.shown(found, output_hidden_states, output_attentions)

    def shown(self, output: ModelOutput, hidden_states: bool, attentions: bool) -> ModelOutput:
        """Leave out what was not asked for."""
        left = {"hidden_states": hidden_states, "attentions": attentions}
        return ModelOutput({name: value for name, value in output.items() if left.get(name, True)})


class PlainBertForSequenceClassification(PlainBertModel):
    """Scores each label."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, prefix="bert.")
        self.declare_linear("classifier", config.hidden_size, config.num_labels)

    def __call__(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        position_ids: Any = None,
        token_type_ids: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        """(B, T) -> `logits` (B, labels)."""
        found = self.encode(input_ids, attention_mask, position_ids, token_type_ids)
        layers = {name: found[name] for name in ("hidden_states", "attentions")}
        logits = self.linear("classifier", found["pooler_output"])
        return self.shown(ModelOutput(logits=logits, **layers), output_hidden_states, output_attentions)
