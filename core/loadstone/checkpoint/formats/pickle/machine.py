"""Carrying out a pickle's instructions without the means to do harm: all that comes of them are records and containers.

A pickle is a program for a small stack machine. Python's own imports what it names and calls it; this one knows the
names in `known` alone, and "calling" one makes a record. Instructions, bytes and sizes of numbers are counted.

Source: https://github.com/python/cpython/blob/main/Lib/pickletools.py
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import NoReturn

from loadstone.checkpoint.formats.pickle.fault import Place
from loadstone.checkpoint.formats.pickle.known import KNOWN, storage
from loadstone.checkpoint.formats.pickle.stream import Stream
from loadstone.checkpoint.formats.pickle.values import Known, Other, Record, Storage, Table, told
from loadstone.errors import shown

MAX_STEPS = 500_000
"""Instructions that a file may have; a tensor takes about 30."""

MAX_BYTES = 32_000_000
"""Bytes of instructions that a file may have."""

MAX_DIGITS = 300
"""Bytes, or digits, that a whole number may have."""

MAX_NAME = 200
"""Bytes of the name of a module, or of what is in it."""


class Machine:
    """One run, from the first instruction of a pickle to its last.

    Args:
        stream: The instructions.
        place: The file they are in.
        known: What global names stand for.

    Attributes:
        storages: Key -> the storage, for each that the instructions name.
    """

    def __init__(self, stream: Stream, place: Place, known: Mapping[str, Known] = KNOWN) -> None:
        self.stream, self.place, self.known = stream, place, known
        self.stack: list[object] = []
        self.below: list[list[object]] = []
        self.memo: dict[int, object] = {}
        self.storages: dict[str, Storage] = {}
        self.copied = 0

    def run(self) -> object:
        """Return what the pickle describes.

        Raises:
            CheckpointError: If it asks for more than weights need, or is none.
        """
        byte, actions, stop = self.stream.byte, ACTIONS, ord(".")
        first = self.stream.offset
        try:
            for step in range(MAX_STEPS):
                code = byte()
                if code == stop:
                    return self.stack.pop()
                (actions.get(code) or self._unknown(code))(self)
                if not step % 1024 and self.stream.offset - first > MAX_BYTES:
                    break
        except (IndexError, KeyError) as error:
            self.place.fail("holds a damaged pickle: it takes what it has not put there", cause=error)
        except (UnicodeDecodeError, struct.error) as error:
            self.place.fail("holds a pickle with a text or number that is none", cause=error)
        self._too_much()

    def _too_much(self) -> NoReturn:
        self.place.fail(
            "describes more than weights can have",
            expected=f"at most {MAX_STEPS:,} instructions in {MAX_BYTES:,} bytes",
            hint="save the tensors in more and smaller shards, best as safetensors",
        )

    def _unknown(self, code: int) -> NoReturn:
        if code in _REFUSED:
            self.place.distrust(f"holds a pickle with {_REFUSED[code]}")
        self.place.fail(
            "holds a pickle with an instruction that there is not",
            found=f"the byte {code} before offset {self.stream.offset:,}",
        )

    def push(self, value: object) -> None:
        """Put a value."""
        self.stack.append(value)

    def extend(self, values: list[object]) -> None:
        """Add values to the list that was put last."""
        target = self.stack[-1]
        if not isinstance(target, list):
            self.place.distrust("adds to something that is no list", found=told(target))
        target.extend(values)

    def items(self) -> list[object]:
        """Return what was put since the last mark, and forget that."""
        found, self.stack = self.stack, self.below.pop()
        return found

    def call(self, function: object, arguments: object) -> object:
        """Return the record that calling a known name makes."""
        if not isinstance(function, Known) or function.make is None:
            self.place.distrust("asks for a call that weights have no use for", found=told(function))
        if not isinstance(arguments, tuple):
            self.place.fail("calls something without arguments that can be read", found=told(arguments))
        first = arguments[0] if arguments else None
        self.copied += (
            len(first)
            if isinstance(first, list | tuple)
            else len(first.pairs)
            if isinstance(first, Table)
            else 0
        )
        if self.copied > MAX_STEPS:
            self._too_much()
        return function.make(arguments, self.place)

    def named(self, module: object, name: object) -> Known:
        """Return what a global name stands for."""
        if isinstance(module, str) and isinstance(name, str):
            known = self.known.get(f"{module}.{name}")
            if known is not None:
                return known
            self.place.distrust(
                "names code that weights have no use for", found=shown(f"{module[:100]}.{name[:100]}")
            )
        self.place.distrust("names code by something that is no text", found=told(name))

    def table(self, value: object) -> Table:
        """Return a value that must be a dictionary."""
        if not isinstance(value, Table):
            self.place.distrust("puts an entry into something that is no dictionary", found=told(value))
        return value

    def add(self, table: Table, flat: list[object]) -> Table:
        """Put keys and values into a dictionary."""
        if len(flat) % 2:
            self.place.fail("holds a pickle with a key without a value")
        table.pairs.extend(zip(flat[::2], flat[1::2], strict=True))
        return table


Action = Callable[[Machine], None]


def _put(machine: Machine, number: int) -> None:
    machine.memo[number] = machine.stack[-1]


def _bytes_of(size: int) -> Action:
    return lambda machine: machine.stack.append(machine.stream.take(machine.stream.number(size)))


def _text_of(size: int) -> Action:
    def action(machine: Machine) -> None:
        # As pickle itself does; half of a surrogate pair is refused where it would name a tensor.
        data = machine.stream.take(machine.stream.number(size))
        machine.stack.append(data.decode("utf-8", "surrogatepass"))

    return action


def _old_text_of(size: int, *, signed: bool = False) -> Action:
    """Python 2 wrote texts so; those of weights are names."""

    def action(machine: Machine) -> None:
        length = machine.stream.number(size, signed=signed)
        if length < 0:
            machine.place.fail("holds a pickle with a text of negative length")
        machine.stack.append(machine.stream.take(length).decode("latin-1"))

    return action


def _number_of(size: int, *, signed: bool = False) -> Action:
    return lambda machine: machine.stack.append(machine.stream.number(size, signed=signed))


def _long_of(size: int) -> Action:
    def action(machine: Machine) -> None:
        length = machine.stream.number(size, signed=size == 4)
        if not 0 <= length <= MAX_DIGITS:
            machine.place.distrust("holds a number of an impossible length", found=f"{length:,} bytes")
        machine.stack.append(machine.stream.number(length, signed=True))

    return action


def _constant(value: object) -> Action:
    return lambda machine: machine.stack.append(value)


def _tuple_of(count: int) -> Action:
    def action(machine: Machine) -> None:
        if len(machine.stack) < count:
            raise IndexError(count)
        start = len(machine.stack) - count
        machine.stack[start:] = [tuple(machine.stack[start:])]

    return action


def _digits(machine: Machine, line: bytes) -> int:
    digits = line.removesuffix(b"L").removeprefix(b"-")
    if not (digits.isdigit() and len(digits) <= MAX_DIGITS):
        machine.place.fail("holds a pickle with a number that is none", found=shown(line[:40]))
    return int(line.removesuffix(b"L"))


def _int(machine: Machine) -> None:
    line = machine.stream.line()
    machine.stack.append(
        {b"00": False, b"01": True}[line] if line in (b"00", b"01") else _digits(machine, line)
    )


def _float(machine: Machine) -> None:
    line = machine.stream.line()
    try:
        machine.stack.append(float(line[:64]))
    except ValueError as error:
        machine.place.fail("holds a pickle with a number that is none", found=shown(line[:40]), cause=error)


def _string(machine: Machine) -> None:
    line = machine.stream.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"') or b"\\" in line:
        machine.place.fail("holds a pickle with a text that is none", found=shown(line[:40]))
    machine.stack.append(line[1:-1].decode("latin-1"))


def _unicode(machine: Machine) -> None:
    machine.stack.append(machine.stream.line().decode("raw-unicode-escape"))


def _name(machine: Machine) -> str:
    line = machine.stream.line()
    if len(line) > MAX_NAME:
        machine.place.distrust("names code that weights have no use for", found=shown(line[:100]))
    return line.decode("utf-8")


def _global(machine: Machine) -> None:
    module = _name(machine)
    machine.stack.append(machine.named(module, _name(machine)))


def _stack_global(machine: Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.named(module, name))


def _reduce(machine: Machine) -> None:
    arguments = machine.stack.pop()
    machine.stack[-1] = machine.call(machine.stack[-1], arguments)


def _newobj_ex(machine: Machine) -> None:
    named, arguments = machine.stack.pop(), machine.stack.pop()
    if not (isinstance(named, Table) and not named.pairs):
        machine.place.distrust("asks for a call that weights have no use for", found="named arguments")
    machine.stack[-1] = machine.call(machine.stack[-1], arguments)


def _inst(machine: Machine) -> None:
    _global(machine)
    function = machine.stack.pop()
    machine_items = tuple(machine.items())
    machine.stack.append(machine.call(function, machine_items))


def _obj(machine: Machine) -> None:
    function, *arguments = machine.items() or [None]
    machine.stack.append(machine.call(function, tuple(arguments)))


def _build(machine: Machine) -> None:
    """Attributes are of no use to weights: what is set is dropped, and nothing is called."""
    state = machine.stack.pop()
    value = machine.stack[-1]
    if isinstance(value, Record):
        value.state = state
    elif isinstance(value, Other):
        if isinstance(state, tuple) and value.what == "a numpy array" and len(state) == 5:
            value.what = _numpy(state) or value.what
    elif not isinstance(value, Table):
        machine.place.distrust("sets the state of something that has none", found=told(value))


def _numpy(state: tuple[object, ...]) -> str | None:
    shape, dtype = state[1:3]
    if not isinstance(shape, tuple) or not all(type(size) is int for size in shape) or len(shape) > 64:
        return None
    return f"a numpy array of {told(dtype)}, shape {shown(list(shape))}"


def _persistent(machine: Machine) -> None:
    found = storage(machine.stack[-1], machine.place)
    first = machine.storages.setdefault(found.key, found)
    if (first.whole, first.itemsize) != (found.whole, found.itemsize):
        machine.place.fail("describes one storage in two ways", key=found.key)
    machine.stack[-1] = found


def _append(machine: Machine) -> None:
    value = machine.stack.pop()
    machine.extend([value])


def _additems(machine: Machine) -> None:
    machine.items()
    if not isinstance(machine.stack[-1], Other):
        machine.place.distrust("adds to something that is no set", found=told(machine.stack[-1]))


def _setitem(machine: Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.table(machine.stack[-1]).pairs.append((key, value))


def _setitems(machine: Machine) -> None:
    flat = machine.items()
    machine.add(machine.table(machine.stack[-1]), flat)


def _frozenset(machine: Machine) -> None:
    machine.items()
    machine.stack.append(Other("a set"))


def _pop(machine: Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.items()


def _mark(machine: Machine) -> None:
    machine.below.append(machine.stack)
    machine.stack = []


def _get(machine: Machine, number: int) -> None:
    machine.stack.append(machine.memo[number])


def _text_number(machine: Machine) -> int:
    number = _digits(machine, machine.stream.line())
    if not 0 <= number < 2**32:
        raise KeyError(number)
    return number


ACTIONS: dict[int, Action] = {
    ord(code): action
    for code, action in {
        "\x80": lambda m: m.stream.number(1),
        "\x95": lambda m: m.stream.take(8),
        "(": _mark,
        "0": _pop,
        "1": lambda m: m.items(),
        "2": lambda m: m.push(m.stack[-1]),
        "N": _constant(None),
        "\x88": _constant(True),
        "\x89": _constant(False),
        "I": _int,
        "L": lambda m: m.push(_digits(m, m.stream.line())),
        "J": _number_of(4, signed=True),
        "K": _number_of(1),
        "M": _number_of(2),
        "\x8a": _long_of(1),
        "\x8b": _long_of(4),
        "F": _float,
        "G": lambda m: m.push(struct.unpack(">d", m.stream.take(8))[0]),
        "S": _string,
        "T": _old_text_of(4, signed=True),
        "U": _old_text_of(1),
        "V": _unicode,
        "X": _text_of(4),
        "\x8c": _text_of(1),
        "\x8d": _text_of(8),
        "B": _bytes_of(4),
        "C": _bytes_of(1),
        "\x8e": _bytes_of(8),
        "\x96": _bytes_of(8),
        "]": lambda m: m.push([]),
        "a": _append,
        "e": lambda m: m.extend(m.items()),
        "l": lambda m: m.push(m.items()),
        ")": _constant(()),
        "t": lambda m: m.push(tuple(m.items())),
        "\x85": _tuple_of(1),
        "\x86": _tuple_of(2),
        "\x87": _tuple_of(3),
        "}": lambda m: m.push(Table()),
        "d": lambda m: m.push(m.add(Table(), m.items())),
        "s": _setitem,
        "u": _setitems,
        "\x8f": lambda m: m.push(Other("a set")),
        "\x90": _additems,
        "\x91": _frozenset,
        "c": _global,
        "\x93": _stack_global,
        "R": _reduce,
        "\x81": _reduce,
        "\x92": _newobj_ex,
        "i": _inst,
        "o": _obj,
        "b": _build,
        "Q": _persistent,
        "p": lambda m: _put(m, _text_number(m)),
        "q": lambda m: _put(m, m.stream.number(1)),
        "r": lambda m: _put(m, m.stream.number(4)),
        "\x94": lambda m: _put(m, len(m.memo)),
        "g": lambda m: _get(m, _text_number(m)),
        "h": lambda m: _get(m, m.stream.number(1)),
        "j": lambda m: _get(m, m.stream.number(4)),
    }.items()
}

_REFUSED = {
    ord("P"): "a storage named by a line of text",
    0x82: "a name from the registry of extensions",
    0x83: "a name from the registry of extensions",
    0x84: "a name from the registry of extensions",
    0x97: "a buffer that lies outside it",
    0x98: "a buffer that lies outside it",
}
