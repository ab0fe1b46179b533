"""Make, recognise and hash the secrets of tokens.

A secret is `tern_`, 256 random bits in base 62 and a checksum, so that a scanner or a typing error
is found without asking anybody. It is shown once; what is kept is its HMAC-SHA256 under a pepper
that is not in the database.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import string
import zlib
from contextlib import suppress
from pathlib import Path

from registry.errors import StorageError

PREFIX = "tern_"
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_DIGITS, _CHECK_DIGITS = 43, 6  # 62**43 > 2**256, 62**6 > 2**32
_LENGTH = len(PREFIX) + _RANDOM_DIGITS + _CHECK_DIGITS


def new_secret() -> str:
    """Return a new secret."""
    body = PREFIX + _base62(secrets.randbits(256), _RANDOM_DIGITS)
    return body + _checksum(body)


def is_well_formed(secret: str) -> bool:
    """Tell whether a text could be a secret: prefix, length and checksum."""
    if len(secret) != _LENGTH or not secret.isascii() or not secret.startswith(PREFIX):
        return False
    return hmac.compare_digest(_checksum(secret[:-_CHECK_DIGITS]), secret[-_CHECK_DIGITS:])


def hash_secret(secret: str, pepper: bytes) -> str:
    """Return what is kept of a secret."""
    return hmac.new(pepper, secret.encode(), hashlib.sha256).hexdigest()


def load_pepper(path: Path) -> bytes:
    """Return the pepper kept in a file, made with mode 0600 if it is not there.

    Raises:
        StorageError: the file cannot be read or made, or is not a pepper.
    """
    try:
        if not path.exists():
            _create(path)
        pepper = path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot keep the tokens' pepper in {path}: {error}") from error
    if len(pepper) < 32:
        raise StorageError(
            f"{path} holds {len(pepper)} bytes where the tokens' pepper of 32 should be",
            hint="restore it from a backup; without it every token must be made anew",
        )
    return pepper


def _create(path: Path) -> None:
    """Write the file whole and only once, however many processes begin at the same time."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, secrets.token_bytes(32))
        os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(part, path)
    finally:
        os.close(descriptor)
        part.unlink()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_DIGITS)


def _base62(number: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        number, rest = divmod(number, 62)
        text = _DIGITS[rest] + text
    return text
