"""Name everything that can go wrong between a client and a hub.

The tree (no class knows HTTP or exit codes; `api/problems.py` maps each leaf to both):

    ApiError
    ├── StartError                 the hub refuses to start as configured
    ├── UnauthenticatedError       who is calling is unknown
    │   ├── TokenMissingError          no bearer token came
    │   └── TokenInvalidError          the token is wrong, revoked or expired
    ├── ForeignCallError           an open hub is called by something that is not on its machine
    ├── RateError                  too much at once; adds retry_after_s
    │   ├── RequestRateError           more requests a minute than allowed
    │   ├── TokenRateError             more wrong tokens a minute than allowed
    │   └── UploadRateError            more uploads at once than allowed
    ├── TooLargeError              a body is larger than allowed; adds limit_bytes
    ├── RequestError               headers contradict each other or the body
    │   ├── LengthMissingError         an upload does not say how long it is
    │   ├── ContentRangeError          Content-Range is malformed or contradicts the body
    │   ├── BodyCutError               a body ended before its announced end, or never came
    │   └── RangeError                 the asked range lies outside the file; adds size_bytes
    ├── JobRequestError            in jobs/errors.py: a job that is asked for is not acceptable
    └── HeaderSizeError            the request line and headers are larger than allowed
"""

from __future__ import annotations


class ApiError(Exception):
    """Be the root of every error of this room.

    Attributes:
        message: what happened, in one sentence.
        hint: what to do about it, or an empty string.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class StartError(ApiError):
    """Say why the hub refuses to start as configured."""


class UnauthenticatedError(ApiError):
    """Say that who is calling is unknown."""


class TokenMissingError(UnauthenticatedError):
    """Say that no bearer token came."""


class TokenInvalidError(UnauthenticatedError):
    """Say that a token is wrong, revoked or expired; which of these is not told."""


class ForeignCallError(ApiError):
    """Say that an open hub is called from outside, or by a web page."""


class RateError(ApiError):
    """Say that too much is asked at once.

    Attributes:
        retry_after_s: when to try again.
    """

    def __init__(self, message: str, *, retry_after_s: int, hint: str = "") -> None:
        super().__init__(message, hint=hint or f"try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class RequestRateError(RateError):
    """Say that one principal or address sends too many requests."""


class TokenRateError(RateError):
    """Say that too many wrong tokens came from one address."""


class UploadRateError(RateError):
    """Say that too many uploads are in flight."""


class TooLargeError(ApiError):
    """Say that a body is larger than allowed.

    Attributes:
        limit_bytes: the largest that is.
    """

    def __init__(self, message: str, *, limit_bytes: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.limit_bytes = limit_bytes


class RequestError(ApiError):
    """Say how headers contradict each other or the body.

    Attributes:
        field: the header concerned.
        expected: what would have been right.
        actual: what came.
    """

    def __init__(
        self, message: str, *, field: str, expected: str = "", actual: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.field = field
        self.expected = expected
        self.actual = actual


class LengthMissingError(RequestError):
    """Say that an upload does not announce its length."""


class ContentRangeError(RequestError):
    """Say that Content-Range is malformed or contradicts the body."""


class BodyCutError(RequestError):
    """Say that a body ended before its announced end, or stopped coming."""


class RangeError(RequestError):
    """Say that the asked range lies outside the file.

    Attributes:
        size_bytes: the length of the file.
    """

    def __init__(self, message: str, *, size_bytes: int, actual: str) -> None:
        super().__init__(
            message, field="Range", expected=f"bytes within 0-{size_bytes - 1}", actual=actual
        )
        self.size_bytes = size_bytes


class HeaderSizeError(ApiError):
    """Say that the request line and headers are larger than allowed."""
