"""What the plugin claims: `architecture.echo` and `backend.plain`. Imports no framework."""

from collections.abc import Iterable

from loadstone.hookspecs import ArchitectureRecord, BackendRecord, hookimpl


@hookimpl
def loadstone_architectures() -> Iterable[ArchitectureRecord]:
    """Offer Echo."""
    yield ArchitectureRecord(model_type="echo", architecture="loadstone_example.architecture:ECHO")


@hookimpl
def loadstone_backends() -> Iterable[BackendRecord]:
    """Offer plain numpy."""
    yield BackendRecord(
        name="plain",
        title="Plain numpy",
        requires=("numpy",),
        install="pip install numpy",
        backend="loadstone_example.backend:PlainBackend",
        models="loadstone_example.models",
    )
