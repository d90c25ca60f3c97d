"""The TensorFlow backend's claim. Imports no framework."""

from collections.abc import Iterable

from loadstone.hookspecs import BackendRecord, hookimpl


@hookimpl
def loadstone_backends() -> Iterable[BackendRecord]:
    """Offer TensorFlow."""
    yield BackendRecord(
        name="tensorflow",
        title="TensorFlow (Keras 3)",
        requires=("tensorflow", "keras"),
        install="pip install 'loadstone[tensorflow]'",
        backend="loadstone_tensorflow.backend:TensorFlowBackend",
        models="loadstone_tensorflow.models",
    )
