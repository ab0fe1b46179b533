"""Name what the catalog refuses; the whole tree is drawn in `errors.py`."""

from __future__ import annotations

from collections.abc import Sequence

from registry.digest import Digest
from registry.errors import (
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    StorageError,
    ValidationError,
)
from registry.refs import AdapterName, RefKind


class AdapterNotFoundError(NotFoundError):
    """Say that there is no such adapter, or none that the caller may see."""

    def __init__(self, adapter: AdapterName) -> None:
        super().__init__(
            f"no adapter {adapter}", hint="check the name, or what your token may read"
        )
        self.adapter = adapter


class RevisionNotFoundError(NotFoundError):
    """Say that an adapter has no such branch, tag, commit id or digest."""

    def __init__(self, adapter: AdapterName, wanted: str, *, there_is: Sequence[str] = ()) -> None:
        shown = ", ".join(there_is[:10]) + (" …" if len(there_is) > 10 else "")
        super().__init__(
            f"adapter {adapter} has no revision {wanted!r}",
            hint=f"it has: {shown}" if shown else "see `adapters show` for its branches and tags",
        )
        self.adapter = adapter
        self.wanted = wanted


class FileNotInRevisionError(NotFoundError):
    """Say that a revision has no file of this path or digest."""

    def __init__(self, adapter: AdapterName, wanted: str) -> None:
        super().__init__(
            f"adapter {adapter} has no file {wanted!r} there",
            hint="see `adapters show` for the files of a revision",
        )
        self.adapter = adapter
        self.file = wanted


class BaseModelNotFoundError(NotFoundError):
    """Say that no base model goes by this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no base model {name!r}", hint="push an adapter of it, or register it")
        self.name = name


class TokenNotFoundError(NotFoundError):
    """Say that no token has this id."""

    def __init__(self, token_id: str) -> None:
        super().__init__(f"no token {token_id!r}", hint="list the tokens to see their ids")
        self.token_id = token_id


class BranchConflictError(ConflictError):
    """Say that a branch does not point where the pusher believed.

    Attributes:
        branch: which.
        expected: the head that the push builds on, or None for a new branch.
        actual: the head that is there, or None if there is no such branch.
    """

    def __init__(
        self, adapter: AdapterName, branch: str, *, expected: Digest | None, actual: Digest | None
    ) -> None:
        super().__init__(
            f"branch {branch!r} of {adapter} moved: expected {expected or 'no branch'}, "
            f"found {actual or 'no branch'}",
            hint=f"pull {adapter}:{branch}, decide what to keep, and push onto its new head",
        )
        self.adapter = adapter
        self.branch = branch
        self.expected = expected
        self.actual = actual


class TagExistsError(ConflictError):
    """Say that a tag points at another revision already; tags do not move."""

    def __init__(
        self, adapter: AdapterName, tag: str, *, expected: Digest, actual: Digest | None
    ) -> None:
        super().__init__(
            f"tag {tag!r} of {adapter} points at {actual}, not at {expected}",
            hint="tags stay where they are: choose another name, or delete the tag first",
        )
        self.adapter = adapter
        self.tag = tag
        self.expected = expected
        self.actual = actual


class RefNameTakenError(ConflictError):
    """Say that a branch has the name that a tag was to get, or the other way round."""

    def __init__(self, adapter: AdapterName, name: str, kind: RefKind) -> None:
        super().__init__(
            f"{adapter} has a {kind} named {name!r} already",
            hint="a branch and a tag cannot share a name: choose another",
        )
        self.adapter = adapter
        self.name = name


class LastRefError(ConflictError):
    """Say that the last ref of an adapter can go only with the adapter."""

    def __init__(self, adapter: AdapterName, name: str) -> None:
        super().__init__(
            f"{name!r} is the last branch or tag of {adapter}",
            hint="delete the adapter itself if that is meant",
        )
        self.adapter = adapter
        self.name = name


class PinConflictError(ConflictError):
    """Say that a ref does not point at the digest that stands beside it."""

    def __init__(self, adapter: AdapterName, ref: str, *, expected: Digest, actual: Digest) -> None:
        super().__init__(
            f"{adapter}:{ref} points at {actual}, not at {expected}",
            hint="name the digest alone, or drop it to take what the ref points at now",
        )
        self.expected = expected
        self.actual = actual


class BaseConflictError(ConflictError):
    """Say that an adapter is bound to another base model."""

    def __init__(self, adapter: AdapterName, *, expected: str, actual: str) -> None:
        super().__init__(
            f"adapter {adapter} belongs to base model {expected!r}, not to {actual!r}",
            hint="push it under another name, or register the name as an alias of the base",
        )
        self.expected = expected
        self.actual = actual


class KindConflictError(ConflictError):
    """Say that an adapter is bound to another PEFT type or kind."""

    def __init__(self, adapter: AdapterName, *, expected: str, actual: str) -> None:
        super().__init__(
            f"adapter {adapter} is of kind {expected}, and this is {actual}",
            hint="push it under another name",
        )
        self.expected = expected
        self.actual = actual


class AliasTakenError(ConflictError):
    """Say that a name belongs to another base model by an explicit registration."""

    def __init__(self, alias: str, owner: str) -> None:
        super().__init__(
            f"{alias!r} is a registered name of base model {owner!r}",
            hint=f"register it as {owner!r}, or leave this alias out",
        )
        self.alias = alias
        self.owner = owner


class BlobsMissingError(ConflictError):
    """Say that a push names blobs that its namespace did not send.

    Attributes:
        digests: those that are missing.
    """

    def __init__(self, digests: Sequence[Digest]) -> None:
        super().__init__(
            f"{len(digests)} blob(s) were not sent, first {digests[0]}",
            hint="ask which are missing, send those, and push again",
        )
        self.digests = tuple(digests)


class BlobBusyError(ConflictError):
    """Say that a blob is being collected at this moment.

    Attributes:
        retry_after_s: when to try again.
    """

    def __init__(self, digest: Digest, *, retry_after_s: int = 1) -> None:
        super().__init__(
            f"blob {digest} is being collected at this moment",
            hint="try again in a second; if it stays so, run `adapters admin gc`",
        )
        self.digest = digest
        self.retry_after_s = retry_after_s


class DatabaseNotEmptyError(ConflictError):
    """Say that a rebuild would mix with what a database holds already."""

    def __init__(self, rows: int) -> None:
        super().__init__(
            f"the database is not empty: {rows} rows of adapters, base models, revisions and files",
            hint="point ADAPTERS_DATABASE_URL at an empty database, and rebuild into that",
        )


class StoreAheadError(StorageError):
    """Say that the store has another record where the database wants to write its own."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"record {key} exists with other content: the store knows more than the database",
            hint="was an old database restored? run `adapters admin rebuild` into an empty one",
        )
        self.key = key


class InvalidTokenError(PermissionDeniedError):
    """Say that a token is unknown, malformed, expired or revoked; never which."""

    def __init__(self) -> None:
        super().__init__(
            "the token is not valid",
            hint="log in again with a token that is neither expired nor revoked",
        )


class BaseShapeError(ValidationError):
    """Say which module is not shaped as the base model's.

    Attributes:
        module: its path.
        expected_shape: `(d_out, d_in)` of the base model.
        actual_shape: what the push implies.
    """

    def __init__(
        self, base: str, module: str, *, expected: tuple[int, int], actual: tuple[int, int]
    ) -> None:
        super().__init__(
            f"module {module!r} is {actual[0]}×{actual[1]} here, "
            f"but {expected[0]}×{expected[1]} in base model {base!r}",
            field=module,
            expected=f"{expected[0]}×{expected[1]}",
            actual=f"{actual[0]}×{actual[1]}",
            hint="name the base model that it was trained on with --base",
        )
        self.base = base
        self.module = module
        self.expected_shape = expected
        self.actual_shape = actual


class QuotaExceededError(ValidationError):
    """Say that a namespace would hold more bytes than it may."""

    def __init__(self, namespace: str, *, limit: int, wanted: int) -> None:
        super().__init__(
            f"namespace {namespace!r} may hold {limit} bytes, and would hold {wanted}",
            field="size_bytes",
            expected=f"at most {limit} bytes",
            actual=f"{wanted} bytes",
            hint="delete what is no longer needed, or ask for a larger quota",
        )
        self.namespace = namespace
