"""Translating stored names: old spellings, and where the base model sits in the checkpoint and in the model."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from loadstone.architectures import Architecture, Head


class NameMap:
    """Stored name -> parameter name, for one checkpoint and one model class.

    A checkpoint of the base model has its names without a prefix, one of a model with a head has them under that
    head's; whichever fits most parameters is taken to be the checkpoint's.

    Args:
        architecture: Prefixes and renamings.
        head: The model class.
        stored: Stored name -> the name after the caller's own renaming.
        parameters: Names of the model's parameters.
    """

    def __init__(
        self, architecture: Architecture, head: Head, stored: Mapping[str, str], parameters: Collection[str]
    ) -> None:
        self.head = head
        self._parameters = parameters
        self._renamed = stored
        if architecture.renamed:
            self._renamed = {name: current_name(new, architecture) for name, new in stored.items()}
        as_stored = all(new is name for name, new in self._renamed.items())
        present = self._renamed.keys() if as_stored else set(self._renamed.values())
        self.base_prefix = self._prevailing(architecture, present)
        # Only what moves is held: most checkpoints have the parameters' own names, up to 200,000 a file.
        self._moved = {name: to for name, new in self._renamed.items() if (to := self._place(new)) != name}

    @property
    def stored(self) -> Collection[str]:
        """Every stored name, aliases last."""
        return self._renamed.keys()

    def parameter(self, stored: str) -> str:
        """Return the parameter that a stored tensor would be, whether or not the model has it."""
        return self._moved.get(stored, stored)

    def base(self, parameter: str) -> str:
        """Return a parameter's name without the prefix of the base model."""
        return self.head.base_name(parameter)

    def stored_base(self, stored: str) -> str:
        """Return a stored name, spelled as today, without the prefix under which the checkpoint has the base model."""
        return _strip(self._renamed[stored], self.base_prefix)

    def _prevailing(self, architecture: Architecture, stored: Collection[str]) -> str:
        own = [name for name in self._parameters if name.startswith(_dotted(self.head.prefix))]
        if all(name in stored for name in own):
            return self.head.prefix
        base = [self.base(name) for name in own]
        candidates = sorted(architecture.base_prefixes, key=lambda one: one != self.head.prefix)
        return max(candidates, key=lambda one: sum(_dotted(one) + name in stored for name in base))

    def _place(self, name: str) -> str:
        if name in self._parameters and self.base_prefix == self.head.prefix:
            return name
        if self.base_prefix and not name.startswith(_dotted(self.base_prefix)):
            return name  # of a head, not of the base model
        moved = _dotted(self.head.prefix) + _strip(name, self.base_prefix)
        return moved if moved in self._parameters or name not in self._parameters else name


def current_name(name: str, architecture: Architecture) -> str:
    """Return a stored name, spelled as today."""
    for old, new in architecture.renamed:
        if name == old or name.endswith(f".{old}"):
            return name.removesuffix(old) + new
    return name


def _dotted(base_prefix: str) -> str:
    return f"{base_prefix}." if base_prefix else ""


def _strip(name: str, base_prefix: str) -> str:
    return name.removeprefix(_dotted(base_prefix))
