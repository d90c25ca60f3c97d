"""The names that weights may use, and the records that stand for what they would make.

Source: `torch/_utils.py` and `torch/serialization.py` say what torch calls when it loads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

from loadstone.checkpoint.formats.pickle.fault import Place
from loadstone.checkpoint.formats.pickle.values import Known, Other, Storage, Table, Tensor, told
from loadstone.dtypes import DTYPES
from loadstone.errors import shown

MAX_AXES = 64
"""Axes that a tensor may have."""

_LIMIT = 2**62
_Arguments = tuple[object, ...]


def storage(named: object, place: Place) -> Storage:
    """Return the storage that a persistent id names: ("storage", type, key, device, count[, view])."""
    if (
        isinstance(named, tuple)
        and len(named) in (5, 6)
        and named[0] == "storage"
        and isinstance(named[1], Known)
        and named[1].storage
    ):
        kind, key, _, count = named[1:5]
        view = named[5] if len(named) == 6 else None
        if isinstance(key, str) and 0 < len(key) <= 100 and _whole(count):
            if view is None:
                return Storage(kind.dtype, kind.itemsize, key, count)
            if isinstance(view, tuple) and len(view) == 3 and _part(view[1], view[2], count):
                return Storage(kind.dtype, kind.itemsize, key, view[2], view[1], count)
    place.fail(
        "refers to something that is no storage of numbers",
        expected="('storage', its type, its key, its device, its size)",
        found=told(named),
    )


def _part(first: object, size: object, count: int) -> bool:
    return _whole(first) and _whole(size) and first + size <= count


def _whole(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < _LIMIT


def _tensor(arguments: _Arguments, place: Place, *, dtype: Known | None = None) -> Tensor:
    if len(arguments) < 4:
        place.fail("describes a tensor wrongly", found=f"{len(arguments)} facts of 4")
    where, first, shape, strides = arguments[:4]
    if not isinstance(where, Storage):
        place.fail("describes a tensor without a storage", found=told(where))
    if not (_whole(first) and _sizes(shape) and _sizes(strides) and len(shape) == len(strides)):
        place.fail(
            "describes a tensor with impossible sizes",
            expected=f"a first number, and for each of at most {MAX_AXES} axes a size and a stride, none negative",
            found=", ".join(_told_sizes(value) for value in (first, shape, strides)),
        )
    if dtype is not None:
        return Tensor(where, dtype.dtype, dtype.itemsize, first, shape, strides)
    name = "uint8" if where.dtype == "" else where.dtype
    return Tensor(where, name, where.itemsize, first, shape, strides)


def _sizes(value: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(value, tuple) and len(value) <= MAX_AXES and all(_whole(size) for size in value)


def _told_sizes(value: object) -> str:
    if type(value) is int:
        return shown(value)
    plain = isinstance(value, tuple) and all(type(size) is int for size in value[:MAX_AXES])
    return shown(list(value[:6])) if plain else told(value)  # type: ignore[index]


def _tensor_v2(arguments: _Arguments, place: Place) -> Tensor:
    _plain_numbers(arguments, 6, place)
    return _tensor(arguments, place)


def _tensor_v3(arguments: _Arguments, place: Place) -> Tensor:
    dtype = arguments[6] if len(arguments) > 6 else None
    if not isinstance(dtype, Known) or not dtype.itemsize or dtype.storage:
        place.fail("describes a tensor without a dtype", found=told(dtype))
    _plain_numbers(arguments, 7, place)
    return _tensor(arguments, place, dtype=dtype)


def _plain_numbers(arguments: _Arguments, position: int, place: Place) -> None:
    """Refuse numbers that stand for others: those of a conjugate or a negative view."""
    marks = arguments[position] if len(arguments) > position else None
    if isinstance(marks, Table) and any(value is not False for _, value in marks.pairs):
        place.fail(
            "holds a tensor whose numbers are to be changed as they are read",
            found="a conjugate or negative view",
            hint="save it again after .resolve_conj().resolve_neg()",
        )


def _parameter(arguments: _Arguments, place: Place) -> Tensor:
    if not arguments or not isinstance(arguments[0], Tensor):
        place.fail(
            "describes a parameter without a tensor", found=told(arguments[0]) if arguments else "nothing"
        )
    return arguments[0]


def _of_type(arguments: _Arguments, place: Place) -> object:
    """A tensor with attributes of its own: (how, class, arguments, attributes)."""
    how, kind, inner = arguments[:3] if len(arguments) > 2 else (None, None, None)
    if (
        not isinstance(how, Known)
        or how.name not in _REBUILDS
        or not isinstance(kind, Known)
        or kind.name not in _CLASSES
        or not isinstance(inner, tuple)
        or how.make is None
    ):
        place.distrust("holds a tensor of a class of its own", found=told(kind))
    if how.name == _OF_TYPE:
        place.distrust("describes a tensor by itself", found=told(how))
    return how.make(inner, place)


def _dictionary(arguments: _Arguments, place: Place) -> Table:
    """An empty one, or one of pairs; what else it is called with (a default) is of no use to weights."""
    table = Table()
    pairs = arguments[0] if arguments else ()
    if isinstance(pairs, Table):
        table.pairs.extend(pairs.pairs)
    elif isinstance(pairs, list | tuple):
        for pair in pairs:
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                place.fail("describes a dictionary wrongly", found=told(pair))
            table.pairs.append((pair[0], pair[1]))
    elif not isinstance(pairs, Known):
        place.fail("describes a dictionary wrongly", found=told(pairs))
    return table


def _size(arguments: _Arguments, place: Place) -> tuple[object, ...]:
    if len(arguments) != 1 or not isinstance(arguments[0], tuple | list):
        place.fail("describes sizes wrongly", found=told(arguments[0]) if arguments else "nothing")
    return tuple(arguments[0])


def _some(what: str) -> Callable[[_Arguments, Place], Other]:
    return lambda arguments, place: Other(what)


def _numpy_dtype(arguments: _Arguments, place: Place) -> Other:
    name = arguments[0] if arguments else None
    return Other(shown(name[:40]) if isinstance(name, str) else "a numpy dtype")


def _refused(what: str) -> Callable[[_Arguments, Place], object]:
    def make(arguments: _Arguments, place: Place) -> object:
        place.fail(
            f"holds {what}",
            expected="dense tensors",
            hint="make it dense before it is saved: .to_dense(), .dequantize()",
        )

    return make


_OF_TYPE = "torch._tensor._rebuild_from_type_v2"
_REBUILDS = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    _OF_TYPE: _of_type,
}
_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")

_MADE: dict[str, Callable[[_Arguments, Place], object]] = {
    **_REBUILDS,
    "collections.OrderedDict": _dictionary,
    "collections.defaultdict": _dictionary,
    "collections.Counter": _dictionary,
    "torch.Size": _size,
    "torch.device": _some("a device"),
    "torch.serialization._get_layout": _some("a layout"),
    "torch._utils._rebuild_sparse_tensor": _refused("a sparse tensor"),
    "torch._utils._rebuild_qtensor": _refused("a quantised tensor"),
    "torch._utils._rebuild_meta_tensor_no_storage": _refused("a tensor without numbers, of the device meta"),
    "numpy.dtype": _numpy_dtype,
    "_codecs.encode": _some("some bytes"),
    **{
        f"numpy.{core}.multiarray.{name}": _some(what)
        for core in ("core", "_core")
        for name, what in (("_reconstruct", "a numpy array"), ("scalar", "a numpy number"))
    },
    **{f"numpy.{core}.numeric._frombuffer": _some("a numpy array") for core in ("core", "_core")},
    **{
        f"{module}.{name}": _some(f"a {name}")
        for module in ("builtins", "__builtin__")
        for name in ("set", "frozenset", "bytearray", "bytes", "complex", "slice", "range")
    },
}

_DTYPE_NAMES = {
    **{name: name for name in DTYPES if DTYPES[name].bits % 8 == 0},
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "long": "int64",
    "int": "int32",
    "short": "int16",
}
_UNNAMED = {
    "complex128": 16,
    "complex32": 4,
    "float8_e4m3fnuz": 1,
    "float8_e5m2fnuz": 1,
    "qint8": 1,
    "quint8": 1,
}
_UNNAMED |= {"float4_e2m1fn_x2": 1, "qint32": 4, "cdouble": 16}
_STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Bool": "bool",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "ComplexFloat": "complex64",
}
TYPED = {dtype: name for name, dtype in _STORAGES.items()}
"""Dtype -> what the type of its storages is called, for those that have one."""

_UNNAMED_STORAGES = {"ComplexDouble": 16, "QInt8": 1, "QUInt8": 1, "QInt32": 4, "QUInt4x2": 1, "QUInt2x4": 1}


def _known() -> dict[str, Known]:
    found = {name: Known(name, make) for name, make in _MADE.items()}
    found |= {name: Known(name) for name in (*_CLASSES, "numpy.ndarray", "builtins.dict", "__builtin__.dict")}
    found |= {
        name: Known(name)
        for m in ("builtins", "__builtin__")
        for name in (f"{m}.list", f"{m}.int", f"{m}.float")
    }
    for name, dtype in _DTYPE_NAMES.items():
        found[f"torch.{name}"] = Known(f"torch.{name}", None, dtype, DTYPES[dtype].itemsize)
    for name, size in _UNNAMED.items():
        found[f"torch.{name}"] = Known(f"torch.{name}", None, None, size)
    for name, dtype in _STORAGES.items():
        full = f"torch.{name}Storage"
        found[full] = Known(full, None, dtype, DTYPES[dtype].itemsize, storage=True)
    for name, size in _UNNAMED_STORAGES.items():
        found[f"torch.{name}Storage"] = Known(f"torch.{name}Storage", None, None, size, storage=True)
    untyped = "torch.storage.UntypedStorage"
    return found | {untyped: Known(untyped, None, "", 1, storage=True)}


KNOWN = _known()
"""Module and name -> what it stands for."""
