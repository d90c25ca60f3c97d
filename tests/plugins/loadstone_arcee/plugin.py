"""What the plugin claims: `architecture.arcee`."""

from collections.abc import Iterable

from loadstone.hookspecs import ArchitectureRecord, hookimpl


@hookimpl
def loadstone_architectures() -> Iterable[ArchitectureRecord]:
    """Offer Arcee."""
    yield ArchitectureRecord(model_type="arcee", architecture="loadstone_arcee.architecture:ARCEE")
