"""The PyTorch backend's claim. Imports no framework."""

from collections.abc import Iterable

from loadstone.hookspecs import BackendRecord, hookimpl


@hookimpl
def loadstone_backends() -> Iterable[BackendRecord]:
    """Offer PyTorch."""
    yield BackendRecord(
        name="torch",
        title="PyTorch",
        requires=("torch",),
        install="pip install 'loadstone[torch]'",
        backend="loadstone_torch.backend:TorchBackend",
        models="loadstone_torch.models",
    )
