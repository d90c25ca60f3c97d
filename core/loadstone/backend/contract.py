"""The contract between core and a backend: a dozen methods, the same for every framework.

Core decides what goes where; a backend owns its framework's objects. Core branches on `capabilities` and never
on a backend's name. A model is opaque to core: it is handed from one method to the next.
"""

from __future__ import annotations

import abc
import functools
import importlib
import os
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from loadstone import plugins
from loadstone.backend.model import bind, is_bound
from loadstone.backend.records import Capabilities, Device, Parameter
from loadstone.backend.registered import is_registered, registered_class
from loadstone.errors import (
    ArchitectureError,
    ArgumentError,
    BackendError,
    LoadstoneError,
    MissingFrameworkError,
    PluginError,
    logger_of,
)

if TYPE_CHECKING:
    from loadstone.architectures import Architecture, Head
    from loadstone.backend.adoption import Adoption
    from loadstone.backend.placement import Placement
    from loadstone.config import Config
    from loadstone.plugins.hookspecs import BackendRecord
    from loadstone.read.on_disk import OnDisk
    from loadstone.read.tensor import HostTensor

logger = logger_of(__name__)


def host_memory() -> tuple[int, int]:
    """Return the bytes of this machine's memory that are free and that there are; 0 where the system does not tell."""
    names = ("SC_PAGE_SIZE", "SC_AVPHYS_PAGES", "SC_PHYS_PAGES")
    if not all(name in getattr(os, "sysconf_names", {}) for name in names):
        return 0, 0
    page, free, total = map(os.sysconf, names)
    return free * page, total * page


def must_fit(tensor: HostTensor, shape: tuple[int, ...]) -> None:
    """Make sure that a tensor has the shape of the parameter that it is put into.

    Raises:
        BackendError: If it has another.
    """
    if tensor.shape != shape:
        raise BackendError(
            "a tensor has another shape than the parameter that it is put into",
            where=tensor.name,
            expected=f"shape {list(shape)}",
            found=f"shape {list(tensor.shape)}",
            hint="give the parameter that shape with resize() first",
        )


def _blamed(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a contract call whose failure is told as its plugin's, whoever calls it."""

    @functools.wraps(method)
    def call(backend: Backend, *arguments: Any, **named: Any) -> Any:
        try:
            return method(backend, *arguments, **named)
        except LoadstoneError:
            raise
        except Exception as error:
            claim = None if _lacks_memory(error) else _guilty(backend, name, arguments)
            if claim is None:
                raise
            with plugins.blamed(claim, f"fails in {name}()", hint=REPORT):
                raise

    return call


REPORT = "report it to the author of the plugin, with the traceback"


NO_MEMORY = ("MemoryError", "ResourceExhausted", "RESOURCE_EXHAUSTED", "out of memory", "allocate memory")


def _lacks_memory(error: Exception) -> bool:
    """Return whether there was no memory, as each framework says it: that is nobody's fault, and callers catch it."""
    said = f"{type(error).__name__}: {error}"
    return any(words in said for words in NO_MEMORY)


def _guilty(backend: Backend, method: str, arguments: tuple[Any, ...]) -> plugins.Claim | None:
    """Return the plugin to blame for a contract call: the backend's, or the one whose model class was made.

    None: it was a class of the caller's own, or the backend is no plugin's.
    """
    if not getattr(backend, "asked", ""):
        return None
    claim, module = plugins.backend_claim(backend.asked), ""
    if method in ("build", "adopt") and arguments:
        module = arguments[0].__module__
        if module.startswith("loadstone.remote."):  # of a checkpoint's own code
            return None
    elif method == "model_class" and arguments:
        module = arguments[0].modules.get(backend.name, "")
    package = module.partition(".")[0]
    if package in ("", _package(claim)):
        return claim
    return next((one for one in plugins.claims() if _package(one) == package), None)


def _package(claim: plugins.Claim) -> str:
    return claim.value.partition(".")[0]


class Backend(abc.ABC):
    """One framework. Instances hold no state: every call names the model it is about.

    What a contract call raises that is no `LoadstoneError` reaches the caller as a `PluginError` that names the plugin.

    Attributes:
        name: The claim without `backend.`, e.g. "torch".
        capabilities: What core may ask of it.
        asked: The name under which `get_backend` was asked for it: `name`, or "name@distribution".
    """

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    asked: str

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in CONTRACT & vars(cls).keys():
            setattr(cls, name, _blamed(name, vars(cls)[name]))

    @abc.abstractmethod
    def devices(self) -> tuple[Device, ...]:
        """Return the devices, accelerators first, the host last."""

    @abc.abstractmethod
    def device(self, requested: object) -> Device:
        """Return the device that a caller named: a string or the framework's object.

        None is the default one: where the framework itself would put a new parameter here and now.

        Raises:
            PlacementError: If there is no such device.
        """

    @abc.abstractmethod
    def build(
        self,
        model_class: type,
        config: Config,
        *,
        dtype: str,
        attn_implementation: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return a model whose parameters have shapes and dtypes and no memory.

        Args:
            model_class: From `model_class`.
            config: Kept by the model as `.config`.
            dtype: Canonical float dtype of its parameters, except those that the architecture keeps in float32.
            attn_implementation: The caller's choice, checked by the backend; None is the default.
            options: Further keyword arguments of the class (`Head.options`).
        """

    @abc.abstractmethod
    def parameters(self, model: Any) -> dict[str, Parameter]:
        """Return name -> parameter for every leaf that a checkpoint may hold, in the model's order.

        Two names of a tied parameter are two entries. State that is in no checkpoint is not listed.
        """

    @abc.abstractmethod
    def put(self, model: Any, name: str, tensor: HostTensor, device: Device) -> None:
        """Make `tensor` the value of the parameter `name`, on `device`.

        On the host the memory is aliased where `capabilities` says so, and the tensor's dtype is kept. A parameter
        that has memory already stays the same object, for the optimisers and ties that know it.

        Raises:
            BackendError: If the tensor has another shape than the parameter; `must_fit` sees it.
        """

    def resize(self, model: Any, name: str, shape: tuple[int, ...]) -> None:
        """Give a parameter another shape, and what its layer says of itself too; it has no memory until the next `put`.

        Other names of a tied parameter are tied anew by the caller. No load needs it: a backend may do without.

        Raises:
            BackendError: If this backend cannot.
        """
        raise BackendError(
            f"the backend {self.name!r} gives no parameter another shape",
            where=name,
            hint="make a model of the new size with from_config, or resize the checkpoint with another backend",
        )

    @abc.abstractmethod
    def tie(self, model: Any, name: str, to: str) -> None:
        """Make `name` the same parameter as `to`."""

    def spread(
        self, model: Any, placement: Placement, *, blocks: Callable[[str], str], on_disk: OnDisk | None
    ) -> None:
        """Make a model run whose parameters lie in several places; core asks it where `capabilities.spreads` is True.

        A block is computed on the device that `placement.runs_on` says of it: what comes in goes there first. Parameters
        that lie elsewhere come there when their block runs, and are let go of after; those on disk from `on_disk`, and
        until then the model has their shapes and dtypes alone. `read` gives them too, bit for bit.

        Args:
            model: It; all else is put, drawn and tied.
            placement: Where each parameter is.
            blocks: Parameter -> the name of its block, or "" for what is in none and comes with the module that holds it.
            on_disk: What stays on disk; None: nothing.

        Raises:
            BackendError: If this backend cannot.
        """
        raise BackendError(
            f"the backend {self.name!r} runs no model that lies in several places",
            found=str(placement),
            hint="name one device, or leave device_map and max_memory out",
        )

    @abc.abstractmethod
    def compute(self, model: Any, placement: Placement) -> tuple[str, ...]:
        """Compute the state that is in no checkpoint (rope tables, position ids) and return its names."""

    @abc.abstractmethod
    def finish(self, model: Any, *, training: bool) -> None:
        """Make sure that nothing without memory is left but what stays on disk, buffers and seeds included, and set the mode.

        Raises:
            BackendError: If a parameter or a buffer has no memory yet.
        """

    @abc.abstractmethod
    def read(self, model: Any, name: str) -> HostTensor:
        """Return the value of a parameter on the host: its own memory where possible, else a copy."""

    def to_host(self, name: str, value: Any) -> HostTensor:
        """Return an array of the framework's on the host, under a parameter's name: its own memory where possible.

        This serves arrays that numpy can read.
        """
        from loadstone.read.tensor import from_numpy

        return from_numpy(name, value)

    def draw_seed(self, rngs: object = None) -> int:
        """Return the number from which a call draws that says no `seed=`.

        A framework with a global generator takes it from there, so that what its users do to fix randomness decides;
        without one, it differs from call to call.

        Args:
            rngs: A source of random numbers that the caller passed, where the framework's users pass such; None: nothing.

        Raises:
            ArgumentError: If this framework takes no such source.
        """
        if rngs is not None:
            raise ArgumentError(
                f"the backend {self.name!r} takes no rngs=",
                found=type(rngs).__name__,
                hint="pass seed=, a number",
            )
        import secrets

        return secrets.randbits(63)

    def model_class(self, architecture: Architecture, head: Head) -> type:
        """Return the class of one head of an architecture; a family that the backend has makes those of a plugin's type.

        Raises:
            ArchitectureError: If this backend has no such class, or it is another architecture's.
        """
        if (own := registered_class(architecture, head, self.name)) is not None:
            return own
        record = plugins.backend_record(self.asked)
        module_name = models_module(architecture, record)
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name != module_name:
                raise
            raise ArchitectureError(
                f"{record.title} has no models of the family {architecture.family!r} yet",
                expected=f"a module {module_name}",
                hint=self._hint(architecture, head),
            ) from error
        if not hasattr(module, _class_name(self, head)) and hasattr(module, "add_architecture"):
            module.add_architecture(architecture)  # a plugin's, of a family that this backend has
        found = getattr(module, _class_name(self, head), None)
        if found is None:
            raise ArchitectureError(
                f"{record.title} has no class {_class_name(self, head)} yet",
                where=module_name,
                hint=self._hint(architecture, head),
            )
        if not is_bound(found):  # its module leaves that to its place and its name
            bind(found, architecture, head)
        return found  # type: ignore[no-any-return]

    def _hint(self, architecture: Architecture, head: Head) -> str:
        """Return what to do where this backend has no class of a head."""
        if is_registered(architecture):
            return f"register it: loadstone.register(the architecture, {{{self.name!r}: {_class_name(self, head)}}})"
        return "load it with another backend; docs/support.md lists what each has"

    def adopt(
        self, model_class: type, config: Config, *, task: str, stored: Collection[str] | None
    ) -> Adoption:
        """Return how a class that comes with a checkpoint, or is a user's own, is loaded: its parameters are what it declares.

        This takes classes that stand on this backend's own base class. What a checkpoint lacks of them core draws; a backend
        whose classes give values in their constructors passes `draws`.

        Args:
            model_class: The class; whatever module it lies in has been imported, and is trusted.
            config: The configuration of the model that is loaded.
            task: What follows `AutoModelFor`.
            stored: Names of the tensors that the checkpoint has; None before they are known: then the class is prepared,
                and nothing built.

        Raises:
            ArchitectureError: If the class stands on nothing that this backend can load, or fails when it is made.
        """
        from loadstone.backend.own import adopted

        return adopted(self, model_class, config, task, stored)


CONTRACT = frozenset(
    name for name in vars(Backend) if not name.startswith("_") and callable(vars(Backend)[name])
)
"""Names of the contract's methods."""


def _class_name(backend: Backend, head: Head) -> str:
    """Return the name of a head's class in a backend, with its prefix."""
    return plugins.class_prefix_of(backend.asked) + head.class_name


def models_module(architecture: Architecture, record: BackendRecord) -> str:
    """Return the module that holds an architecture's classes in a backend."""
    return architecture.modules.get(record.name, f"{record.models}.{architecture.family}")


def get_backend(name: str | None = None) -> Backend:
    """Return a backend by name, importing its framework; None is the default one.

    Raises:
        PluginError: If no plugin, or more than one, claims the name, or the one that does is broken.
        MissingFrameworkError: If its framework is not installed.
    """
    return _backend(name or _default())


def _default() -> str:
    """Return the default backend: a third party's that nobody named is passed over where it cannot be made."""
    for name in plugins.default_backends():
        if plugins.is_named(name) or plugins.is_first_party(plugins.backend_claim(name)):
            return name
        try:
            return _backend(name).asked
        except PluginError as error:
            logger.warning("passed over: %s", error)
    return plugins.default_backend()


@functools.cache
def _backend(name: str) -> Backend:
    record = plugins.backend_record(name)
    if not plugins.is_installed(record):
        raise MissingFrameworkError(
            f"{record.title} is not installed",
            expected=f"the module(s) {', '.join(record.requires)}",
            hint=record.install,
        )
    claim = plugins.backend_claim(name)
    with plugins.blamed(claim, f"offers {record.backend!r}, which cannot be imported"):
        backend = plugins.load_attribute(record.backend)()
    if not isinstance(backend, Backend):
        raise plugins.wrong_offer(
            claim, record.backend, expected="a subclass of loadstone.backend.Backend", found=backend
        )
    backend.asked = name
    return backend
