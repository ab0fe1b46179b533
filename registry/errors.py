"""Name everything that can go wrong in the registry.

The tree (no class knows HTTP or exit codes; `api/problems.py` maps each leaf to both; what carries
digests and names stands in catalog_errors.py, blobs.py, digest.py and database.py):

    RegistryError
    ├── ValidationError            what came is wrong: file, field, expected, actual
    │   ├── FileError              a pushed file or folder is refused; adds a reason code
    │   │   ├── PathError              a path that no client could store
    │   │   ├── RefusedFileError       pickles, code, archives, symbolic links
    │   │   ├── LfsPointerError        a Git LFS pointer where the file should be
    │   │   ├── HeaderError            not a well-formed safetensors file
    │   │   ├── NonFiniteError         NaN or infinity among the values
    │   │   ├── ConfigError            adapter_config.json is not acceptable
    │   │   ├── WeightsMissingError    a config without weights
    │   │   ├── LayoutError            weights contradict themselves or the config
    │   │   └── UnknownKindError       nothing here looks like an adapter
    │   ├── BaseShapeError         a module is not shaped as the base model's
    │   ├── BlobTooLargeError      in uploads.py
    │   ├── UploadOverrunError     in upload_session.py
    │   └── QuotaExceededError     the namespace may not hold so much
    ├── NotFoundError              no such thing, or none that the caller may see
    │   ├── AdapterNotFoundError
    │   ├── RevisionNotFoundError      no such branch, tag, commit id or digest
    │   ├── FileNotInRevisionError
    │   ├── BaseModelNotFoundError
    │   ├── TokenNotFoundError
    │   ├── JobNotFoundError           in jobs/errors.py
    │   └── BlobNotFoundError          in blobs.py
    ├── ConflictError              it changed, or contradicts what is there
    │   ├── BranchConflictError        another push moved the branch first
    │   ├── TagExistsError             a tag stays where it is
    │   ├── RefNameTakenError          a branch and a tag cannot share a name
    │   ├── LastRefError               the last ref goes only with its adapter
    │   ├── PinConflictError           a ref does not point at the digest beside it
    │   ├── BaseConflictError          the adapter is bound to another base model
    │   ├── KindConflictError          the adapter is bound to another kind
    │   ├── AliasTakenError            the name belongs to another base model
    │   ├── BlobsMissingError          a push names blobs that were not sent
    │   ├── BlobBusyError              collected at this moment: try again shortly
    │   ├── UploadBusyError            in uploads.py
    │   ├── OffsetMismatchError        in uploads.py
    │   ├── UploadIncompleteError      in upload_session.py
    │   ├── JobStateError              in jobs/errors.py: not in a state that allows it
    │   ├── JobKeyError                in jobs/errors.py: the key stands for other work
    │   ├── LeaseLostError             in jobs/errors.py: somebody else has the job
    │   └── DatabaseNotEmptyError      a rebuild starts from an empty database
    ├── PermissionDeniedError      the token does not reach this far
    │   └── InvalidTokenError          unknown, expired or revoked
    └── StorageError               the disk, bucket or database failed
        ├── DigestMismatchError        in digest.py
        ├── StagingFullError           in uploads.py
        ├── DatabaseError              in database.py
        └── StoreAheadError            the store knows moves that the database does not
"""

from __future__ import annotations

from registry.validation.reasons import Reason


class RegistryError(Exception):
    """Be the root of every error that the registry raises.

    Attributes:
        message: what happened, in one sentence.
        hint: what to do about it, or an empty string.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NotFoundError(RegistryError):
    """Say that a thing does not exist, or that the caller may not know that it does."""


class ConflictError(RegistryError):
    """Say that the state moved on or contradicts what was asked."""


class PermissionDeniedError(RegistryError):
    """Say that the caller is known but not allowed to do this."""


class StorageError(RegistryError):
    """Say that a disk, bucket or database failed; the foreign error is its cause."""


class ValidationError(RegistryError):
    """Say what in the input was wrong.

    Attributes:
        file: the file concerned, or an empty string.
        field: the field, tensor or module concerned, or an empty string.
        expected: what would have been right.
        actual: what came.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str = "",
        field: str = "",
        expected: str = "",
        actual: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.file = file
        self.field = field
        self.expected = expected
        self.actual = actual


class FileError(ValidationError):
    """Say why a pushed file or folder is refused.

    Takes the fields of `ValidationError`, too.

    Attributes:
        reason: a stable code.
    """

    def __init__(self, message: str, *, reason: Reason, **fields: str) -> None:
        super().__init__(message, **fields)
        self.reason = reason


class PathError(FileError):
    """Say that a path could not be stored safely by every client."""


class RefusedFileError(FileError):
    """Say that a kind of file is never accepted: pickles, code, archives, links."""


class LfsPointerError(FileError):
    """Say that a Git LFS pointer stands where the file itself should be."""


class HeaderError(FileError):
    """Say what breaks the rules of the safetensors format."""


class NonFiniteError(FileError):
    """Say which tensor holds a NaN or an infinity, and where."""


class ConfigError(FileError):
    """Say which field of an adapter's configuration is not acceptable."""


class WeightsMissingError(FileError):
    """Say that a configuration came without the weights that it describes."""


class LayoutError(FileError):
    """Say how the weights contradict themselves or their configuration."""


class UnknownKindError(FileError):
    """Say that nothing here is an adapter of a kind that we know, and what was seen."""
