"""A configuration within a configuration: the `text_config` of one that holds more than a text model."""

from __future__ import annotations

from typing import Any, Self

from loadstone.config.fields import Typed


class Nested(Typed):
    """What a configuration knows of the one nested in it, whose keys have the same names and types."""

    text_config: dict[str, Any] | None

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Self:
        """Return the configuration of the text model: the nested `text_config`, where there is one.

        Args:
            decoder: Whether the decoder's is asked for; no model here has another one for its encoder.
            encoder: Whether the encoder's is; with this alone the nested one is none.
        """
        if encoder and not decoder:
            return self
        nested = self.text_config
        if nested is None:
            return self
        return type(self).from_dict(nested, where="text_config")
