"""Name what goes wrong on the client's side.

The branch of the tree in `errors.py` that a hub never raises:

    ApiError
    ├── HubError                   the hub refuses: its problem, with status, code and members
    ├── HubUnreachableError        nothing answers, or the connection broke for good
    ├── NotAHubError               something answers that is no hub
    ├── ListingError               what a hub lists could harm this machine
    ├── EndpointError              not the URL of a hub
    ├── CredentialsError           stored tokens cannot be read or written, or this is no token
    ├── SourceNotFoundError        a local folder or file is not there
    ├── FileChangedError           a file changed while it was being pushed
    ├── TargetTakenError           the folder to pull into holds something else
    ├── PinMismatchError           a ref does not point at the digest beside it
    ├── NotCompressedError         a revision has no compressed form
    └── TourError                  a step of the tour did not give what it must
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from api.errors import ApiError


class HubError(ApiError):
    """Pass on a problem that the hub told (RFC 9457).

    Attributes:
        status: HTTP status.
        code: stable, for programs: one of `api.problems.TABLE`.
        extra: further members of the problem: expected, actual, file, field, offset …
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        hint: str = "",
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.extra = dict(extra or {})


class HubUnreachableError(ApiError):
    """Say that nothing answers at the endpoint, or that the connection broke for good.

    Attributes:
        endpoint: where the hub was looked for.
    """

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(
            f"no hub answers at {endpoint}: {reason}",
            hint="start one with `adapters serve`, or name yours with --endpoint",
        )
        self.endpoint = endpoint


class NotAHubError(ApiError):
    """Say that something answers at the endpoint, but not as a hub does."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(
            f"{endpoint} does not answer as a hub: {reason}",
            hint="check --endpoint; a proxy in between may also answer in the hub's place",
        )


class EndpointError(ApiError):
    """Say that a text is not the URL of a hub."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(
            f"{endpoint!r} is not the URL of a hub",
            hint="write http://host:port or https://host",
        )


class CredentialsError(ApiError):
    """Say that stored tokens cannot be read or written."""


class SourceNotFoundError(ApiError):
    """Say that a local folder or file is not there."""

    def __init__(self, path: Path, *, expected: str = "an adapter's folder") -> None:
        super().__init__(
            f"{path} is not there or not what is needed: expected {expected}",
            hint="a path starts with ./, / or ~; namespace/name is looked for on the hub",
        )
        self.path = path


class FileChangedError(ApiError):
    """Say that a file changed while it was being pushed."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} changed while it was being pushed",
            hint="wait until whatever writes it is done, then push again",
        )
        self.file = path


class TargetTakenError(ApiError):
    """Say that a folder to pull into holds something else.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path, example: str) -> None:
        super().__init__(
            f"{path} is not empty and holds something else ({example})",
            hint="choose another --to, or add --force to replace files of the same name",
        )
        self.path = path
        self.file = example


class PinMismatchError(ApiError):
    """Say that a branch or tag does not point at the digest beside it."""

    def __init__(self, reference: str, actual: str) -> None:
        super().__init__(
            f"{reference} does not match: the ref points at {actual}",
            hint="drop the ref to take the digest, or the digest to take what the ref points at",
        )
        self.expected = reference.rpartition("@")[2]
        self.actual = actual


class NotCompressedError(ApiError):
    """Say that no compressed form of a revision is known."""

    def __init__(self, reference: str) -> None:
        name = reference.partition(":")[0].partition("@")[0]
        super().__init__(
            f"{reference} has no compressed form on this hub",
            hint=f"make one: adapters compress {reference} --as {name}-small",
        )


class NoLayersError(ApiError):
    """Say that what was asked for in layers has none, or fewer.

    Attributes:
        file: the file or revision.
        expected: what would have been right.
        actual: what is there.
    """

    def __init__(self, file: str, *, actual: str, expected: str = "the method rd") -> None:
        super().__init__(
            f"{file} does not have these layers: expected {expected}, got {actual}",
            hint="leave out --layers to take all of it; only the method rd makes layers",
        )
        self.file = file
        self.expected = expected
        self.actual = actual


class ListingError(ApiError):
    """Say that a hub's listing of files contradicts itself or could harm this machine."""


class TourError(ApiError):
    """Say which step of the tour did not give what it must."""
