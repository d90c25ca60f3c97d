"""What the plugin offers. No framework is imported here."""

from loadstone.hookspecs import ArchitectureRecord, hookimpl


@hookimpl
def loadstone_architectures():
    """Offer the architecture."""
    yield ArchitectureRecord(
        model_type="patchwork", architecture="loadstone_patchwork.architecture:PATCHWORK"
    )
