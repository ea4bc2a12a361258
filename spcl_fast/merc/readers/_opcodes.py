"""What the bytes of a pickle say, opcode by opcode.

A pickle is a program. These opcodes build numbers, text, bytes and containers; where a program asks for a function or
a class, a name of the table in `_numpy_parts` stands in for it, which only `_numpy_parts` can turn into an array. No
function that a file names is ever looked up, so none can run. What each opcode means: Python's `pickletools`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

from spcl_fast.merc.dataset import DatasetError
from spcl_fast.merc.readers import _numpy_parts as parts
from spcl_fast.merc.readers._machine import MAX_PENDING, OPCODES
from spcl_fast.merc.readers._machine import Machine as Machine

#: Longer integers are no labels, and to read them as text takes quadratic time.
MAX_INTEGER_BYTES = 64

# Numbers in a list follow each other; one match takes them all. Possessive, so nothing is kept for a way back.
_FLOATS = re.compile(rb"(?:G.{8}){1,65536}+", re.DOTALL)
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"\\": b"\\", b"'": b"'", b'"': b'"'}


def _opcode(codes: str) -> Callable[[Callable[[Machine], None]], Callable[[Machine], None]]:
    def register(handler: Callable[[Machine], None]) -> Callable[[Machine], None]:
        OPCODES.update({ord(code): handler for code in codes})
        return handler

    return register


def _integer(text: bytes) -> int:
    if len(text) > MAX_INTEGER_BYTES:
        raise DatasetError(f"an integer of {len(text)} digits")
    return int(text)


def _signed(machine: Machine, width: int) -> int:
    if width > MAX_INTEGER_BYTES:
        raise DatasetError(f"an integer of {width} bytes")
    return int.from_bytes(machine.take(width), "little", signed=True)


@_opcode("\x80")
def _protocol(machine: Machine) -> None:
    if machine.number(1) > 5:
        machine.position -= 1
        raise DatasetError(machine.unknown(0x80))


@_opcode("\x95")
def _frame(machine: Machine) -> None:
    size = machine.number(8)
    if size > len(machine.data) - machine.position:
        raise DatasetError(f"{size} bytes are announced, but {len(machine.data) - machine.position} are left")


@_opcode("I")
def _int_line(machine: Machine) -> None:
    text = machine.line()
    machine.stack.append({b"00": False, b"01": True}[text] if text in (b"00", b"01") else _integer(text))


@_opcode("L")
def _long_line(machine: Machine) -> None:
    machine.stack.append(_integer(machine.line().removesuffix(b"L")))


@_opcode("F")
def _float_line(machine: Machine) -> None:
    machine.stack.append(float(machine.line()))


@_opcode("G")
def _floats(machine: Machine) -> None:
    run = _FLOATS.match(machine.data, machine.opcode_at)
    if run is None:
        raise DatasetError("the file ends inside a number")
    machine.position = run.end()
    machine.stack.extend(struct.unpack_from(">" + "xd" * ((run.end() - run.start()) // 9), machine.data, run.start()))


@_opcode("S")
def _string_line(machine: Machine) -> None:
    text = machine.line().strip()
    if len(text) < 2 or text[:1] not in (b"'", b'"') or text[-1:] != text[:1]:
        raise DatasetError("text without its quotes")
    machine.stack.append(_ESCAPE.sub(_unescape, text[1:-1]).decode("latin-1"))


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if code in _ESCAPED:
        return _ESCAPED[code]
    if code[:1] == b"x" and len(code) == 3:
        return bytes([int(code[1:], 16)])
    if code.isdigit():
        return bytes([int(code, 8) & 255])
    raise DatasetError(f"text with the escape {match[0]!r}")


@_opcode("V")
def _unicode_line(machine: Machine) -> None:
    machine.stack.append(machine.line().decode("raw-unicode-escape"))


def _text(width: int, codec: str) -> Callable[[Machine], None]:
    # Text of Python 2 is bytes; latin-1, the authors' choice, keeps each of them.
    return lambda machine: machine.stack.append(machine.take(machine.number(width)).decode(codec, "surrogatepass"))


def _content(width: int) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(machine.take(machine.number(width)))


def _unsigned(width: int) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(machine.number(width))


def _constant(value: bool | None) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(value)


def _short_tuple(length: int) -> Callable[[Machine], None]:
    return lambda machine: machine.push_container(tuple([machine.pop() for _ in range(length)][::-1]))


for _code, _handler in {
    **{"U": _text(1, "latin-1"), "T": _text(4, "latin-1")},
    **{"\x8c": _text(1, "utf-8"), "X": _text(4, "utf-8"), "\x8d": _text(8, "utf-8")},
    **{"C": _content(1), "B": _content(4), "\x8e": _content(8), "\x96": _content(8)},
    **{"K": _unsigned(1), "M": _unsigned(2)},
    **{"N": _constant(None), "\x88": _constant(True), "\x89": _constant(False)},
    **{")": _short_tuple(0), "\x85": _short_tuple(1), "\x86": _short_tuple(2), "\x87": _short_tuple(3)},
}.items():
    _opcode(_code)(_handler)


@_opcode("J")
def _int4(machine: Machine) -> None:
    machine.stack.append(_signed(machine, 4))


@_opcode("\x8a")
def _long1(machine: Machine) -> None:
    machine.stack.append(_signed(machine, machine.number(1)))


@_opcode("\x8b")
def _long4(machine: Machine) -> None:
    machine.stack.append(_signed(machine, machine.number(4)))


@_opcode("(")
def _mark(machine: Machine) -> None:
    if len(machine.marks) >= MAX_PENDING:
        raise DatasetError(f"containers nested deeper than {MAX_PENDING}")
    machine.marks.append(len(machine.stack))


@_opcode("0")
def _drop(machine: Machine) -> None:
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.pop()


@_opcode("1")
def _drop_mark(machine: Machine) -> None:
    machine.pop_mark()


@_opcode("2")
def _twice(machine: Machine) -> None:
    machine.stack.append(machine.top())


@_opcode("]")
def _empty_list(machine: Machine) -> None:
    machine.push_container([])


@_opcode("}")
def _empty_dict(machine: Machine) -> None:
    machine.push_container({})


@_opcode("\x8f")
def _empty_set(machine: Machine) -> None:
    machine.push_container(set())


@_opcode("l")
def _list(machine: Machine) -> None:
    machine.push_container(machine.pop_mark())


@_opcode("d")
def _dict(machine: Machine) -> None:
    machine.push_container(parts.pairs(machine.pop_mark()))


@_opcode("\x91")
def _frozenset(machine: Machine) -> None:
    machine.push_container({parts.key(x) for x in machine.pop_mark()})


@_opcode("t")
def _tuple(machine: Machine) -> None:
    machine.push_container(tuple(machine.pop_mark()))


@_opcode("a")
def _append(machine: Machine) -> None:
    value = machine.pop()
    parts.require(machine.top(), list, "appends to").append(value)


@_opcode("e")
def _appends(machine: Machine) -> None:
    values = machine.pop_mark()
    parts.require(machine.top(), list, "appends to").extend(values)


@_opcode("s")
def _set_item(machine: Machine) -> None:
    value, name = machine.pop(), machine.pop()
    parts.require(machine.top(), dict, "sets an item of")[parts.key(name)] = value


@_opcode("u")
def _set_items(machine: Machine) -> None:
    values = machine.pop_mark()
    parts.require(machine.top(), dict, "sets items of").update(parts.pairs(values))


@_opcode("\x90")
def _add_items(machine: Machine) -> None:
    values = machine.pop_mark()
    parts.require(machine.top(), set, "adds to").update([parts.key(x) for x in values])


def _put(width: int) -> Callable[[Machine], None]:
    def put(machine: Machine) -> None:
        machine.memo[machine.number(width)] = machine.top()

    return put


def _get(width: int) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(_remembered(machine, machine.number(width)))


def _remembered(machine: Machine, number: int) -> Any:
    if number not in machine.memo:
        raise DatasetError(f"refers to object {number}, which is not there yet")
    return machine.memo[number]


for _code, _handler in {"q": _put(1), "r": _put(4), "h": _get(1), "j": _get(4)}.items():
    _opcode(_code)(_handler)


@_opcode("p")
def _put_line(machine: Machine) -> None:
    machine.memo[_integer(machine.line())] = machine.top()


@_opcode("g")
def _get_line(machine: Machine) -> None:
    machine.stack.append(_remembered(machine, _integer(machine.line())))


@_opcode("\x94")
def _memoize(machine: Machine) -> None:
    machine.memo[len(machine.memo)] = machine.top()


@_opcode("c")
def _global(machine: Machine) -> None:
    module, name = machine.line().decode("utf-8"), machine.line().decode("utf-8")
    machine.stack.append(parts.known(module, name))


@_opcode("\x93")
def _stack_global(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.stack.append(parts.known(module, name))


@_opcode("Q")
def _persistent_id(machine: Machine) -> None:
    if not machine.is_storage:
        raise DatasetError("holds a persistent id, which is not data")


@_opcode("R")
def _reduce(machine: Machine) -> None:
    arguments = machine.pop()
    if machine.is_storage:
        raise DatasetError("a storage that calls a function")
    machine.push_container(parts.make(machine.pop(), arguments, machine.spend))


@_opcode("b")
def _build(machine: Machine) -> None:
    state = machine.pop()
    parts.fill(machine.top(), state, machine.spend)
