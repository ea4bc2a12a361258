"""A machine that runs a pickle, builds data and calls nothing; `_opcodes` says what each opcode does to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spcl_fast.merc.dataset import DatasetError
from spcl_fast.merc.readers._words import reason

#: Containers that any file may hold, and bytes for each further one: published files have 15 or more. An empty set
#: takes 216 bytes in memory and one in a file.
MAX_CONTAINERS = 10_000
BYTES_OF_A_CONTAINER = 3
#: Bytes that functions may copy, and how often all of the file: published files are copied once or twice.
MAX_COPIED = 65_536
COPIES_OF_THE_FILE = 8
#: A container inside another, counted where the inner one is not finished; published files have 4.
MAX_PENDING = 1000
_REFUSED = {
    "P": "a persistent id",
    "o": "an object of a class",
    "i": "an object of a class",
    "\x81": "an object of a class",
    "\x92": "an object of a class",
    "\x82": "an extension code",
    "\x83": "an extension code",
    "\x84": "an extension code",
    "\x97": "a buffer that lies outside the file",
    "\x98": "a buffer that lies outside the file",
}


#: opcode -> what it does to the machine; filled by `_opcodes`.
OPCODES: dict[int, Callable[[Machine], None]] = {}


class Machine:
    """Runs one pickle of `data` after the other; `position` is then behind it.

    Only in `is_storage`, the bytes of a tensor, a persistent id stands for what it says of the storage.
    """

    def __init__(self, data: bytes, *, is_storage: bool = False) -> None:
        self.data, self.position, self.opcode_at, self.is_storage = data, 0, 0, is_storage
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.copies_left = MAX_COPIED + COPIES_OF_THE_FILE * len(data)
        self.containers_left = MAX_CONTAINERS + len(data) // BYTES_OF_A_CONTAINER

    def run(self) -> Any:
        """The object that the pickle describes.

        Raises:
            DatasetError: with the byte at which the pickle stops being data.
        """
        data, table = self.data, OPCODES
        try:
            while True:
                self.opcode_at = at = self.position
                if at >= len(data):
                    raise DatasetError("the file ends before the pickle does")
                if data[at] == 0x2E:  # "."
                    self.position += 1
                    return self.pop()
                self.position = at + 1
                handler = table.get(data[at])
                if handler is None:
                    raise DatasetError(self.unknown(data[at]))
                handler(self)
        except DatasetError as error:
            raise DatasetError(f"byte {self.opcode_at}: {error}") from None
        except (ValueError, TypeError, OverflowError, IndexError, KeyError, MemoryError, RecursionError) as error:
            raise DatasetError(f"byte {self.opcode_at}: damaged ({reason(error)})") from None

    def unknown(self, opcode: int) -> str:
        """Why an opcode is refused."""
        if opcode == 0x80:
            return f"protocol {self.data[self.position : self.position + 1].hex() or '?'} is not one of 0 to 5"
        if self.opcode_at == 0:
            return f"not a pickle (opcode 0x{opcode:02x})"
        if chr(opcode) in _REFUSED:
            return f"holds {_REFUSED[chr(opcode)]}, which is not data"
        return f"unknown opcode 0x{opcode:02x}"

    def take(self, n: int) -> bytes:
        """The next `n` bytes; never more memory than the file has bytes."""
        at = self.position
        if n > len(self.data) - at:
            raise DatasetError(f"{n} bytes are announced, but {len(self.data) - at} are left")
        self.position = at + n
        return self.data[at : self.position]

    def number(self, width: int) -> int:
        """An unsigned little-endian integer."""
        return int.from_bytes(self.take(width), "little")

    def line(self) -> bytes:
        """The bytes up to the end of the line, without it."""
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise DatasetError("the file ends inside a line")
        found = self.data[self.position : end]
        self.position = end + 1
        return found

    def pop(self) -> Any:
        """The top of the stack, above the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise DatasetError("takes what is not there")
        return self.stack.pop()

    def top(self) -> Any:
        """The same, left where it is."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise DatasetError("takes what is not there")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        """Everything above the last mark."""
        if not self.marks:
            raise DatasetError("takes what is not there")
        at = self.marks.pop()
        found = self.stack[at:]
        del self.stack[at:]
        return found

    def spend(self, amount: int) -> None:
        """Counts bytes that are about to be copied."""
        self.copies_left -= amount
        if self.copies_left < 0:
            raise DatasetError("copies the same bytes again and again")

    def push_container(self, value: Any) -> None:
        """Pushes what takes more memory than its opcode takes bytes; there may be so many, not more."""
        self.containers_left -= 1
        if self.containers_left < 0:
            raise DatasetError("holds more containers than a file of its size has")
        self.stack.append(value)
