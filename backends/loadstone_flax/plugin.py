"""The Flax backend's claim. Imports no framework."""

from collections.abc import Iterable

from loadstone.hookspecs import BackendRecord, hookimpl


@hookimpl
def loadstone_backends() -> Iterable[BackendRecord]:
    """Offer Flax."""
    yield BackendRecord(
        name="flax",
        title="Flax",
        requires=("jax", "flax"),
        install="pip install 'loadstone[flax]'",
        backend="loadstone_flax.backend:FlaxBackend",
        models="loadstone_flax.models",
    )
