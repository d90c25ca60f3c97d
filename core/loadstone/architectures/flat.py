"""A spec's fields side by side, read by modules that are not composed of blocks; a field stands in one part, and is only looked up here."""

from __future__ import annotations

from typing import Any

from loadstone.architectures.names import AttentionNames


class Flat:
    """What the first layer says, each under one name."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        """Return a part's field: `num_heads`, `intermediate_size`, `norm_eps`, ..."""
        path = _PATHS.get(name)
        if path is None:
            raise AttributeError(f"{type(self).__name__} has no field {name!r}")
        found: Any = self
        for segment in path.split("."):
            found = found[0] if segment == "0" else getattr(found, segment)
        return found

    @property
    def max_positions(self) -> Any:
        """The longest sequence that there are positions for; None: they have no end."""
        return self.embeddings.positions or None

    @property
    def sandwich_norms(self) -> bool:
        """Whether there are norms before and after each part."""
        names: AttentionNames = self.names.attention
        return bool(names.before and names.after)

    @property
    def qk_norm(self) -> bool:
        """Whether queries and keys are normalised."""
        return self.layers[0].attention.qk_norm is not None

    @property
    def attention_scales(self) -> tuple[float, ...]:
        """Per layer, the factor on the scores."""
        return tuple(layer.attention.scale for layer in self.layers)


_ATTENTION, _FEED = "layers.0.attention", "layers.0.feed_forward"
_PATHS = {
    "num_heads": f"{_ATTENTION}.num_heads",
    "num_kv_heads": f"{_ATTENTION}.num_kv_heads",
    "head_dim": f"{_ATTENTION}.head_dim",
    "rope": f"{_ATTENTION}.rope",
    "attention_scale": f"{_ATTENTION}.scale",
    "attention_bias": f"{_ATTENTION}.bias",
    "output_bias": f"{_ATTENTION}.output_bias",
    "attention_dropout": f"{_ATTENTION}.dropout",
    "attention_softcap": f"{_ATTENTION}.softcap",
    "answer_dropout": "classifier.answer_dropout",
    "residual_dropout": f"{_FEED}.dropout",
    "hidden_dropout": f"{_FEED}.dropout",
    "intermediate_size": f"{_FEED}.size",
    "activation": f"{_FEED}.activation",
    "mlp_bias": f"{_FEED}.bias",
    "norm_eps": "layers.0.norm.eps",
    "norm_offset": "layers.0.norm.offset",
    "pad_token_id": "embeddings.pad_token_id",
    "embedding_scale": "embeddings.scale",
    "embedding_dropout": "embeddings.dropout",
    "positions_skip_padding": "embeddings.positions_skip_padding",
    "type_vocab_size": "embeddings.types",
    "image_size": "embeddings.image_size",
    "patch_size": "embeddings.patch_size",
    "num_channels": "embeddings.num_channels",
    "grid": "embeddings.grid",
    "pooler_size": "pooler.size",
    "pooler_activation": "pooler.activation",
}
