"""Write tensor names and small integer columns in few bytes.

Names of one adapter differ mostly in numbers ("layer.0", "layer.1", …). Each name is split into a
template, its text with the numbers left out, and the numbers. Templates are written once, numbers
column by column as differences, so that what remains is almost constant and deflates to almost
nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from compress.errors import TernDamagedError
from compress.tensor_file import MAX_NAME_CHARS

#: Up to nine digits without a leading zero: what int() and str() map onto each other.
_NUMBER = re.compile(r"(?<![0-9])(?:0|[1-9][0-9]{0,8})(?![0-9])")
_HOLE = "\0"
_MAX_VARINT_BYTES = 10
_MAX_NAMES_CHARS = 64 << 20


class ByteWriter:
    """Append integers and byte strings to a buffer."""

    def __init__(self) -> None:
        self.data = bytearray()

    def number(self, value: int) -> None:
        """Append a non-negative integer, seven bits to a byte, lowest first."""
        while value >= 0x80:
            self.data.append(value & 0x7F | 0x80)
            value >>= 7
        self.data.append(value)

    def numbers(self, values: Iterable[int]) -> None:
        """Append integers one after another, without their count."""
        for value in values:
            self.number(value)

    def block(self, value: bytes) -> None:
        """Append a byte string with its length in front."""
        self.number(len(value))
        self.data += value


class ByteReader:
    """Take integers and byte strings from a buffer; every read is checked."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self) -> int:
        """Take an integer."""
        short = self._data[self._at : self._at + 1]
        if short and short.isascii():
            self._at += 1
            return short[0]
        value = 0
        for step in range(_MAX_VARINT_BYTES):
            byte = self._take(1)[0]
            value |= (byte & 0x7F) << (7 * step)
            if byte < 0x80:
                return value
        raise TernDamagedError("a number is too long", field="index")

    def numbers(self, count: int) -> list[int]:
        """Take so many integers; there must be at least as many bytes left."""
        if count > len(self._data) - self._at:
            raise TernDamagedError(
                "a list is longer than its data", field="index", actual=str(count)
            )
        short = self._data[self._at : self._at + count]
        if short.isascii():
            self._at += count
            return list(short)
        return [self.number() for _ in range(count)]

    def block(self) -> bytes:
        """Take a byte string."""
        return self._take(self.number())

    def fixed(self, size: int) -> bytes:
        """Take so many bytes."""
        return self._take(size)

    def finish(self) -> None:
        """Refuse bytes that are left over."""
        if self._at != len(self._data):
            raise TernDamagedError(
                "bytes are left over", field="index", actual=str(len(self._data) - self._at)
            )

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise TernDamagedError("the index is cut off", field="index")
        self._at += size
        return taken


def table_order(names: Iterable[str]) -> list[str]:
    """Order names as `write_names` writes them: by template, then by numbers."""
    return sorted(names, key=_split)


def write_names(out: ByteWriter, names: Sequence[str]) -> None:
    """Write distinct names without control characters that stand in `table_order`."""
    groups: dict[str, list[tuple[int, ...]]] = {}
    for name in names:
        template, numbers = _split(name)
        groups.setdefault(template, []).append(numbers)
    out.block("\n".join(groups).encode())
    out.numbers(len(rows) for rows in groups.values())
    for rows in groups.values():
        for column in zip(*rows, strict=True):
            previous = 0
            for value in column:
                out.number(_zigzag(value - previous))
                previous = value


def read_names(data: ByteReader, count: int) -> list[str]:
    """Read so many names, in `table_order`.

    Raises:
        TernDamagedError: cut off, not UTF-8, or names that repeat.
    """
    try:
        text = data.block().decode()
    except UnicodeDecodeError as error:
        raise TernDamagedError("names are not UTF-8", field="index") from error
    templates = text.split("\n") if count else []
    if any(len(template) > MAX_NAME_CHARS for template in templates):
        raise TernDamagedError("a name is too long", field="index")
    sizes = data.numbers(len(templates))
    if sum(sizes) != count:
        raise TernDamagedError("names do not add up", field="index", actual=str(sum(sizes)))
    if sum(map(math.prod, zip(map(len, templates), sizes, strict=True))) > _MAX_NAMES_CHARS:
        raise TernDamagedError("the names take too much memory", field="index")
    names: list[str] = []
    for template, size in zip(templates, sizes, strict=True):
        if size > 1 and _HOLE not in template:
            raise TernDamagedError("a name stands twice", field="index", actual=template[:80])
        columns = [_read_column(data, size) for _ in range(template.count(_HOLE))]
        names += [_fill(template, [column[row] for column in columns]) for row in range(size)]
    if len(set(names)) != count:
        raise TernDamagedError("a name stands twice", field="index")
    return names


def _split(name: str) -> tuple[str, tuple[int, ...]]:
    return _NUMBER.sub(_HOLE, name), tuple(int(digits) for digits in _NUMBER.findall(name))


def _fill(template: str, numbers: Sequence[int]) -> str:
    pieces = template.split(_HOLE)
    filled = [piece + str(number) for piece, number in zip(pieces, numbers, strict=False)]
    return "".join(filled) + pieces[-1]


def _zigzag(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


def _read_column(data: ByteReader, size: int) -> list[int]:
    column, value = [], 0
    for coded in data.numbers(size):
        value += coded // 2 if coded % 2 == 0 else -(coded + 1) // 2
        column.append(value)
    return column
