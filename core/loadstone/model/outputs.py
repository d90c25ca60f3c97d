"""What a model returns: a dict of the fields present, with attribute and tuple access, as in transformers."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from loadstone.errors import nearest
from loadstone.model.kin import Kin

# Every field that a model of any backend may return. Reading one that is absent gives None.
FIELDS = (
    "loss",
    "logits",
    "prediction_logits",
    "seq_relationship_logits",
    "start_logits",
    "end_logits",
    "last_hidden_state",
    "pooler_output",
    "past_key_values",
    "hidden_states",
    "attentions",
)


class ModelOutput(Kin, OrderedDict[str, Any]):
    """The outputs of a model, in order, absent ones left out.

    Example:
        >>> output = ModelOutput(logits=1, hidden_states=None)
        >>> output.logits, output["logits"], output[0], output.loss, len(output)
        (1, 1, 1, None, 1)
        >>> output.logits = 2
        >>> output["logits"]
        2
    """

    kin = "transformers.utils.generic:ModelOutput"

    def __init__(self, *args: Any, **fields: Any) -> None:
        super().__init__({name: value for name, value in dict(*args, **fields).items() if value is not None})

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name in FIELDS:
            return None
        raise AttributeError(f"a model output has no field {name!r}; {nearest(name, FIELDS) or list(self)}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        elif value is None:
            self.pop(name, None)
        else:
            self[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise AttributeError(f"a model output has no field {name!r}")
        del self[name]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return super().__getitem__(key)
        return self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the fields present, in order."""
        return tuple(self.values())

    def rest(self) -> dict[str, Any]:
        """Return the fields of a base model that a head passes on: all but what it reads."""
        read = ("last_hidden_state", "pooler_output")
        return {name: value for name, value in self.items() if name not in read}

    def __reduce__(self) -> tuple[Any, ...]:
        return ModelOutput, (dict(self),)
