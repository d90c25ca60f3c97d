"""Refusing a file of pickled weights: as any other, or because it asks for more than weights need."""

from __future__ import annotations

import dataclasses
from typing import NoReturn

from loadstone.checkpoint.formats import fault


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place(fault.Place):
    """The pickle that is read, and where it lies; every complaint carries both."""

    def distrust(self, what: str, *, found: str | None = None) -> NoReturn:
        """Refuse a file that asks for something that weights have no use for.

        Raises:
            CheckpointError: Always.
        """
        self.fail(
            what,
            expected="tensors, numbers, texts, and plain containers of them",
            found=found,
            hint="nothing of it was run. Ask its author for safetensors; or, if you trust it, open it with"
            " torch.load(weights_only=False) and save its state_dict alone",
        )
