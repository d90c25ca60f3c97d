"""What Keras finds under the names of our classes before these are imported. Imports no framework.

Keras makes a model from a `.keras` file again by the name that its class registered under, and imports no module to find
one. So a stand-in is registered for each class: it imports the class when a file asks for it, and the class then takes its
place. Keras itself may be imported after us, or never.
"""

from __future__ import annotations

import functools
import importlib.abc
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def offer_when_imported() -> None:
    """Register the stand-ins with Keras: now where it is imported, else as soon as it is."""
    if "keras" in sys.modules:
        offer(sys.modules["keras"])
    else:
        sys.meta_path.insert(0, _Watch())


class _Watch(importlib.abc.MetaPathFinder):
    """Waits for the import of Keras, which it leaves to the other finders, and then goes away."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return None for all but Keras."""
        if name != "keras":
            return None
        finders = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        others = (finder.find_spec(name, path, target) for finder in finders)
        spec = next((spec for spec in others if spec is not None), None)
        if spec is not None and spec.loader is not None:
            # Whoever only asks whether Keras is installed runs nothing of this.
            spec.loader.exec_module = functools.partial(self._run, spec.loader)  # type: ignore[method-assign]
        return spec

    def _run(self, loader: Any, module: ModuleType) -> None:
        """Run the module as its own loader does, and register the stand-ins."""
        del loader.exec_module
        loader.exec_module(module)
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        offer(module)


def offer(keras: ModuleType) -> None:
    """Register a stand-in for each class that has none yet and is not registered itself."""
    from loadstone._names import HEADS
    from loadstone.plugins import class_prefix_of

    if not hasattr(getattr(keras, "saving", None), "get_custom_objects"):
        return  # it is being imported by another thread, or is so old that nothing of ours works with it
    registered, prefix = keras.saving.get_custom_objects(), class_prefix_of("tensorflow")
    for class_name in HEADS:
        name = f"{prefix}{class_name}"
        registered.setdefault(f"loadstone>{name}", type(name, (_StandIn,), {}))


class _StandIn:
    """Makes a model of the class that has its name."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Return what Keras asks the class itself for."""
        import loadstone

        return getattr(loadstone, cls.__name__).from_config(config)
