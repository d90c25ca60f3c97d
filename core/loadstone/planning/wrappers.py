"""Names that a wrapper of a model left on its parameters when it, and not the model inside, was saved."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

# Segments of names, and who puts them there; those of the second table also stand before modules inside a model.
_OUTSIDE = {
    "module.": "DistributedDataParallel or DataParallel",
    "base_model.model.": "PEFT",
    "_forward_module.": "Lightning",
    "model.": "a module with the model in its attribute `model`",
    **dict.fromkeys(
        ("state_dict.", "model_state_dict.", "model_state.", "network.", "net.", "weights.", "params."),
        "a training script",
    ),
}
_ANYWHERE = {
    "_orig_mod.": "torch.compile",
    "_fsdp_wrapped_module.": "FSDP",
    "_checkpoint_wrapped_module.": "activation checkpointing",
}


def wrappers(names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield patterns that unwrap the names, each with who wrapped them; whether that helps is for the caller to try.

    Example:
        >>> list(wrappers(["module._orig_mod.norm.weight"]))[-1]
        ('^module\\\\._orig_mod\\\\.', 'DistributedDataParallel or DataParallel and torch.compile')
    """
    for segment, who in _ANYWHERE.items():
        if any(segment in name for name in names):
            yield re.escape(segment), who
    front, who_all = "", []
    while names:
        # Beside the model, a training checkpoint holds its optimiser's tensors: not all names have the model's front.
        inside = {
            segment: [name for name in names if name.startswith(front + segment)]
            for segment in _OUTSIDE | _ANYWHERE
        }
        segment = max(inside, key=lambda segment: len(inside[segment]))
        names = inside[segment]
        if not names:
            return
        front += segment
        who_all.append((_OUTSIDE | _ANYWHERE)[segment])
        yield f"^{re.escape(front)}", " and ".join(who_all)
