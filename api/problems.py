"""Map every error class to an HTTP status, a stable code, an exit code and a title: the one table.

Errors are keyed by room and name, so that a client maps them without importing their rooms. A class
that is absent takes the row of its nearest base that is present; `tests/api/test_problems.py`
asserts that every leaf of every room has a row of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_NOT_ALLOWED = 4
TYPE_PREFIX = "urn:ternery:problem:"
_FIELDS = ("file", "field", "expected", "actual", "reason", "branch", "module")
_NUMBERS = ("offset", "limit_bytes", "size_bytes", "retry_after_s")


@dataclass(frozen=True, slots=True)
class Row:
    """Say how one class of error meets the outside.

    Attributes:
        status: HTTP status.
        code: stable, for programs.
        title: the same for every error of the class, for people.
        exit_code: what the command line exits with.
        told: whether the error's own message may leave the hub.
        retry_after_s: when a retry makes sense, or None.
    """

    status: int
    code: str
    title: str
    exit_code: int = EXIT_ERROR
    told: bool = True
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Be one error as RFC 9457 shows it.

    Attributes:
        row: its place in the table.
        detail: what happened this time.
        hint: what to do about it.
        extra: further members: `expected`, `actual`, `file`, `field`, `offset` …
    """

    row: Row
    detail: str
    hint: str = ""
    extra: Mapping[str, str | int] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def retry_after_s(self) -> int | None:
        """Return when to try again, if the error or its row says."""
        own = self.extra.get("retry_after_s")
        return own if isinstance(own, int) else self.row.retry_after_s


UNEXPECTED = Row(500, "unexpected", "the hub failed", told=False)
INVALID_REQUEST = Row(422, "invalid-request", "the request is not acceptable")
_BY_STATUS = {
    400: Row(400, "unreadable-body", "the body cannot be read"),
    401: Row(401, "token-missing", "a token is needed", EXIT_NOT_ALLOWED),
    403: Row(403, "not-allowed", "not allowed", EXIT_NOT_ALLOWED),
    404: Row(404, "no-such-route", "nothing is served here"),
    405: Row(405, "method-not-allowed", "this is not done with that method"),
    413: Row(413, "too-large", "it is too large"),
    415: Row(415, "not-json", "the body must be application/json"),
}

TABLE: Mapping[str, Row] = {
    "registry.RegistryError": Row(500, "registry-failed", "the registry failed", told=False),
    # what a push or a request says is wrong
    "registry.ValidationError": Row(422, "invalid", "the input is not acceptable"),
    "registry.FileError": Row(422, "file-refused", "a file is refused"),
    "registry.PathError": Row(422, "path-refused", "a path is refused"),
    "registry.RefusedFileError": Row(422, "file-kind-refused", "this kind of file is refused"),
    "registry.LfsPointerError": Row(422, "lfs-pointer", "a Git LFS pointer, not the file"),
    "registry.HeaderError": Row(422, "bad-safetensors", "not a well-formed safetensors file"),
    "registry.NonFiniteError": Row(422, "non-finite", "weights hold NaN or infinity"),
    "registry.ConfigError": Row(422, "bad-config", "the configuration is not acceptable"),
    "registry.WeightsMissingError": Row(422, "weights-missing", "the weights are missing"),
    "registry.LayoutError": Row(422, "bad-layout", "weights and configuration disagree"),
    "registry.UnknownKindError": Row(422, "unknown-kind", "not an adapter of a known kind"),
    "registry.BaseShapeError": Row(422, "base-shape", "the shapes are not those of the base"),
    "registry.UploadOverrunError": Row(422, "upload-overrun", "more bytes came than announced"),
    "registry.BlobTooLargeError": Row(413, "too-large", "it is too large"),
    "registry.QuotaExceededError": Row(413, "quota-exceeded", "the namespace is full"),
    # what is not there, or not for the caller
    "registry.NotFoundError": Row(404, "not-found", "no such thing"),
    "registry.BlobNotFoundError": Row(404, "blob-not-found", "no such blob"),
    "registry.AdapterNotFoundError": Row(404, "adapter-not-found", "no such adapter"),
    "registry.RevisionNotFoundError": Row(404, "revision-not-found", "no such revision"),
    "registry.FileNotInRevisionError": Row(404, "file-not-found", "no such file"),
    "registry.BaseModelNotFoundError": Row(404, "base-not-found", "no such base model"),
    "registry.TokenNotFoundError": Row(404, "token-not-found", "no such token"),
    "registry.JobNotFoundError": Row(404, "job-not-found", "no such job"),
    "registry.InvalidTokenError": Row(
        401, "token-invalid", "the token is refused", EXIT_NOT_ALLOWED
    ),
    "registry.PermissionDeniedError": Row(403, "not-allowed", "not allowed", EXIT_NOT_ALLOWED),
    # what moved on
    "registry.ConflictError": Row(409, "conflict", "it contradicts what is there"),
    "registry.BranchConflictError": Row(409, "branch-moved", "the branch moved"),
    "registry.TagExistsError": Row(409, "tag-exists", "the tag points elsewhere"),
    "registry.RefNameTakenError": Row(409, "ref-name-taken", "the name is taken"),
    "registry.LastRefError": Row(409, "last-ref", "it is the last branch or tag"),
    "registry.PinConflictError": Row(409, "pin-moved", "the ref does not point there"),
    "registry.BaseConflictError": Row(409, "other-base", "it belongs to another base model"),
    "registry.KindConflictError": Row(409, "other-kind", "it is of another kind"),
    "registry.AliasTakenError": Row(409, "alias-taken", "the alias is taken"),
    "registry.BlobsMissingError": Row(409, "blobs-missing", "blobs were not sent"),
    "registry.UploadBusyError": Row(
        409, "upload-busy", "the blob is being sent already", retry_after_s=1
    ),
    "registry.OffsetMismatchError": Row(409, "offset-mismatch", "it continues elsewhere"),
    "registry.UploadIncompleteError": Row(409, "upload-incomplete", "bytes are missing"),
    "registry.DatabaseNotEmptyError": Row(409, "database-not-empty", "the database is not empty"),
    "registry.JobStateError": Row(409, "job-state", "the job's state does not allow it"),
    "registry.JobKeyError": Row(409, "job-key-taken", "the key stands for other work"),
    "registry.LeaseLostError": Row(409, "lease-lost", "the job belongs to another attempt"),
    "registry.BlobBusyError": Row(503, "blob-busy", "the blob is being collected"),
    # what broke
    "registry.StorageError": Row(
        503, "storage-failed", "the storage failed", told=False, retry_after_s=5
    ),
    "registry.DatabaseError": Row(
        503, "database-failed", "the database failed", told=False, retry_after_s=5
    ),
    "registry.StoreAheadError": Row(503, "store-ahead", "the store is ahead", told=False),
    "registry.StagingFullError": Row(
        503, "staging-full", "too many unfinished uploads", retry_after_s=60
    ),
    "registry.DigestMismatchError": Row(422, "digest-mismatch", "bytes differ from their digest"),
    # between client and hub
    "api.ApiError": Row(500, "unexpected", "the hub failed", told=False),
    "api.StartError": Row(500, "cannot-start", "the hub refuses to start", EXIT_USAGE),
    "api.UnauthenticatedError": Row(401, "token-missing", "a token is needed", EXIT_NOT_ALLOWED),
    "api.TokenMissingError": Row(401, "token-missing", "a token is needed", EXIT_NOT_ALLOWED),
    "api.TokenInvalidError": Row(401, "token-invalid", "the token is refused", EXIT_NOT_ALLOWED),
    "api.ForeignCallError": Row(403, "foreign-call", "not from this machine", EXIT_NOT_ALLOWED),
    "api.RateError": Row(429, "too-many", "too much at once"),
    "api.RequestRateError": Row(429, "too-many-requests", "too many requests"),
    "api.TokenRateError": Row(429, "too-many-wrong-tokens", "too many wrong tokens"),
    "api.UploadRateError": Row(429, "too-many-uploads", "too many uploads at once"),
    "api.TooLargeError": Row(413, "too-large", "it is too large"),
    "api.RequestError": Row(400, "bad-request", "the request contradicts itself"),
    "api.LengthMissingError": Row(411, "length-missing", "the length is missing"),
    "api.ContentRangeError": Row(400, "bad-content-range", "the part is not acceptable"),
    "api.BodyCutError": Row(400, "body-cut", "the body ended early"),
    "api.RangeError": Row(416, "range-outside", "the range lies outside the file"),
    "api.JobRequestError": Row(422, "bad-job", "the job is not acceptable"),
    "api.UnknownJobKindError": Row(422, "no-such-job-kind", "there is no such kind of job"),
    "api.HeaderSizeError": Row(431, "headers-too-large", "the headers are too large"),
    # on the client's side: the status is what a gateway would answer
    "api.HubError": Row(502, "hub-refused", "the hub refuses"),
    "api.HubUnreachableError": Row(502, "hub-unreachable", "no hub answers"),
    "api.NotAHubError": Row(502, "not-a-hub", "it does not answer as a hub"),
    "api.ListingError": Row(502, "bad-listing", "the hub's listing is not acceptable"),
    "api.EndpointError": Row(400, "bad-endpoint", "not the URL of a hub", EXIT_USAGE),
    "api.CredentialsError": Row(500, "bad-credentials", "stored tokens cannot be used"),
    "api.FileChangedError": Row(409, "file-changed", "a file changed meanwhile"),
    "api.SourceNotFoundError": Row(404, "source-not-found", "it is not there"),
    "api.TargetTakenError": Row(409, "target-taken", "the folder holds something else"),
    "api.NotCompressedError": Row(404, "not-compressed", "there is no compressed form"),
    "api.NoLayersError": Row(404, "no-layers", "there are no such layers"),
    "api.PinMismatchError": Row(409, "pin-moved", "the ref does not point there"),
    "api.TourError": Row(500, "tour-failed", "the tour failed"),
    # arithmetic on adapters
    "merge.MergeError": Row(422, "not-mergeable", "these cannot be merged"),
    "merge.IncompatibleError": Row(422, "incompatible", "these do not fit together"),
    "merge.MergeOptionError": Row(422, "bad-option", "an option is out of range", EXIT_USAGE),
    "compress.CompressError": Row(422, "not-compressible", "it cannot be compressed"),
    "compress.OptionError": Row(422, "bad-option", "an option is out of range", EXIT_USAGE),
    "compress.SourceError": Row(422, "bad-source", "it cannot be compressed as it is"),
    "compress.PickleRefusedError": Row(422, "pickle-refused", "a pickle is never opened"),
    "compress.NonFiniteError": Row(422, "non-finite", "weights hold NaN or infinity"),
    "compress.BaseMismatchError": Row(422, "base-mismatch", "the base model does not fit"),
    "compress.DestinationError": Row(409, "destination-taken", "the destination is taken"),
    "compress.TernError": Row(422, "bad-tern", "the .tern file is not acceptable"),
    "compress.TernDamagedError": Row(422, "tern-damaged", "the .tern file is damaged"),
    "compress.TernVersionError": Row(422, "tern-version", "the .tern file is of another version"),
    "compress.TernTooLargeError": Row(413, "tern-too-large", "the .tern file is too large"),
}


def key_of(cls: type[BaseException]) -> str:
    """Return the key of an error class: its room and name."""
    return f"{cls.__module__.partition('.')[0]}.{cls.__name__}"


def row_of(error: BaseException) -> Row:
    """Return the row of an error: its own, or that of its nearest base; else `UNEXPECTED`."""
    keys = (key_of(cls) for cls in type(error).__mro__)
    return next((TABLE[key] for key in keys if key in TABLE), UNEXPECTED)


def row_of_status(status: int) -> Row:
    """Return the row of a bare HTTP status, as a framework raises it."""
    return _BY_STATUS.get(status) or Row(status, f"http-{status}", "the request failed")


def exit_code_of(code: str) -> int:
    """Return the exit code of a problem that came over the wire."""
    rows = (*TABLE.values(), *_BY_STATUS.values())
    return next((row.exit_code for row in rows if row.code == code), EXIT_ERROR)


def problem_of(error: BaseException) -> Problem:
    """Return what an error tells the outside: nothing of its own unless its row says so."""
    row = row_of(error)
    if not row.told:
        return Problem(row, f"{row.title}; the hub's log says why", extra={})
    message = getattr(error, "message", "") or str(error) or row.title
    return Problem(row, message, getattr(error, "hint", ""), _extra(error))


def _extra(error: BaseException) -> dict[str, str | int]:
    extra: dict[str, str | int] = {}
    for name in _FIELDS:
        value = getattr(error, name, None)
        if value not in (None, ""):
            extra[name] = str(value)
    for name in _NUMBERS:
        value = getattr(error, name, None)
        if isinstance(value, int):
            extra[name] = value
    return extra
