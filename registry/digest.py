"""Address bytes by their sha256: the only identity that the registry trusts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from registry.errors import StorageError, ValidationError

_HEX = re.compile(r"[0-9a-f]{64}")
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """Hold the sha256 of some bytes; written `sha256:` and 64 hex digits.

    Attributes:
        hex: 64 lower-case hexadecimal digits.
    """

    hex: str

    def __post_init__(self) -> None:
        if not _HEX.fullmatch(self.hex):
            raise ValidationError(
                f"not a sha256 digest: {self.hex[:80]!r}",
                field="digest",
                expected="64 lower-case hex digits",
                actual=self.hex[:80],
            )

    def __str__(self) -> str:
        return f"sha256:{self.hex}"

    @property
    def short(self) -> str:
        """Return the first 12 hex digits, for people."""
        return self.hex[:12]

    @property
    def commit_id(self) -> str:
        """Return the first 40 hex digits: the commit id of a revision in the Hub protocol."""
        return self.hex[:40]

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read `sha256:<hex>` or bare hex.

        Raises:
            ValidationError: it is neither.
        """
        return cls(text.removeprefix("sha256:"))

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Return the digest of bytes in memory."""
        return cls(hashlib.sha256(data).hexdigest())

    @classmethod
    def of_stream(cls, stream: BinaryIO) -> Digest:
        """Return the digest of what is left in a stream, read in bounded chunks."""
        hasher = hashlib.sha256()
        while chunk := stream.read(CHUNK_BYTES):
            hasher.update(chunk)
        return cls(hasher.hexdigest())


class DigestMismatchError(StorageError):
    """Say that bytes are not those that their digest names.

    Attributes:
        expected: the digest that was asked for.
        actual: the digest of what came.
    """

    def __init__(self, expected: Digest, actual: Digest) -> None:
        super().__init__(
            f"bytes do not match their digest: expected {expected}, got {actual}",
            hint="the copy is damaged: send it again, or run `adapters verify`",
        )
        self.expected = expected
        self.actual = actual


def verified(chunks: Iterable[bytes], expected: Digest) -> Iterator[bytes]:
    """Pass chunks on, holding the last one back until the whole matches its digest.

    A reader that got everything got the right bytes; damaged bytes never arrive complete.

    Raises:
        DigestMismatchError: the chunks are not the bytes that `expected` names.
    """
    hasher = hashlib.sha256()
    held: bytes | None = None
    for chunk in chunks:
        hasher.update(chunk)
        if held is not None:
            yield held
        held = chunk
    actual = Digest(hasher.hexdigest())
    if actual != expected:
        raise DigestMismatchError(expected, actual)
    if held is not None:
        yield held
