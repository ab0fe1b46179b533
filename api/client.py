"""Call a hub's HTTP API by methods with typed answers.

Start here to talk to a hub from Python: `open_client("http://…", token=…)`. Whole pushes and pulls
stand in `workflows.py`; bytes move in `sending.py` and `fetching.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import quote

from api.remote.credentials import Access, normal_endpoint
from api.remote.errors import HubError, PinMismatchError
from api.remote.transport import RetryPolicy, Transport
from api.schemas import (
    AdapterBody,
    AdapterPage,
    LineageBody,
    MissingBody,
    RefsBody,
    RevisionBody,
    RevisionPage,
    VerdictsBody,
    WhoamiBody,
)
from api.schemas_admin import BaseModelBody
from api.schemas_requests import BlobIn, MissingIn, PushIn, TagIn
from registry.digest import Digest, DigestMismatchError
from registry.manifest_json import from_body, revision_id
from registry.refs import AdapterName, Reference


def adapter_path(adapter: AdapterName, *rest: str) -> str:
    """Return the path of something of an adapter; each part is escaped as a whole."""
    return "/".join(["/adapters", str(adapter), *(quote(part, safe=":") for part in rest)])


class HubClient:
    """Be one hub, as a caller sees it. Thread-safe; close it when done."""

    def __init__(
        self, access: Access, *, timeout_s: float = 60.0, retry: RetryPolicy | None = None
    ) -> None:
        self.transport = Transport(access, timeout_s=timeout_s, retry=retry)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def endpoint(self) -> str:
        """Return the URL of the hub."""
        return self.transport.endpoint

    def close(self) -> None:
        """Close every connection."""
        self.transport.close()

    def whoami(self) -> WhoamiBody:
        """Return who the token belongs to and what it allows."""
        return self.transport.ask("GET", "/whoami", WhoamiBody)

    def adapters(
        self,
        *,
        namespace: str | None = None,
        base: str | None = None,
        search: str | None = None,
        kind: str | None = None,
        limit: int | None = None,
    ) -> Iterator[AdapterBody]:
        """Yield adapters by name, page after page.

        Args:
            namespace: only of this namespace.
            base: only of this base model, in any spelling.
            search: only whose name or base contains this.
            kind: only of this kind.
            limit: stop after so many; None means all.
        """
        asked = {"namespace": namespace, "base": base, "search": search, "kind": kind}
        left, cursor = limit, None
        while True:
            page = self.transport.ask(
                "GET",
                "/adapters",
                AdapterPage,
                params={**asked, "cursor": cursor, "limit": min(left or 500, 500)},
            )
            yield from page.items[:left]
            left = None if left is None else left - len(page.items)
            cursor = page.next_cursor
            if cursor is None or (left is not None and left <= 0):
                return

    def adapter(self, adapter: AdapterName) -> AdapterBody:
        """Return an adapter with its refs."""
        return self.transport.ask("GET", adapter_path(adapter), AdapterBody)

    def head(self, adapter: AdapterName, branch: str) -> Digest | None:
        """Return what a branch points at, or None if there is no such branch or adapter."""
        try:
            refs = self.refs(adapter)
        except HubError as error:
            if error.status == 404:
                return None
            raise
        return next((Digest.parse(r.digest) for r in refs.branches if r.name == branch), None)

    def refs(self, adapter: AdapterName) -> RefsBody:
        """Return the branches and tags of an adapter."""
        return self.transport.ask("GET", adapter_path(adapter, "refs"), RefsBody)

    def resolve(self, reference: Reference) -> RevisionBody:
        """Return the revision that a reference names.

        Raises:
            PinMismatchError: it has both a ref and a digest, and they disagree.
            HubError: there is no such adapter or revision.
            DigestMismatchError: what came is not what its digest, or the wanted one, names.
        """
        wanted = str(reference.digest) if reference.digest else None
        if reference.ref or not wanted:
            found = self._revision(reference.adapter, reference.branch)
            if wanted and found.digest != wanted:
                raise PinMismatchError(str(reference), found.digest)
            return found
        found = self._revision(reference.adapter, wanted)
        if found.digest != wanted:
            raise DigestMismatchError(Digest.parse(wanted), Digest.parse(found.digest))
        return found

    def _revision(self, adapter: AdapterName, wanted: str) -> RevisionBody:
        """Return a revision once its manifest is what its digest names, whoever keeps the hub."""
        path = adapter_path(adapter, "revisions", wanted)
        found = self.transport.ask("GET", path, RevisionBody)
        named, actual = Digest.parse(found.digest), revision_id(from_body(found.manifest))
        if named != actual:
            raise DigestMismatchError(named, actual)
        return found

    def log(self, reference: Reference, *, limit: int | None = None) -> Iterator[RevisionBody]:
        """Yield a branch's revisions, newest first."""
        wanted = reference.digest.commit_id if reference.digest else reference.branch
        left, cursor = limit, None
        while True:
            page = self.transport.ask(
                "GET",
                adapter_path(reference.adapter, "revisions"),
                RevisionPage,
                params={"ref": wanted, "cursor": cursor, "limit": min(left or 100, 100)},
            )
            yield from page.items[:left]
            left = None if left is None else left - len(page.items)
            cursor = page.next_cursor
            if cursor is None or (left is not None and left <= 0):
                return

    def missing(self, adapter: AdapterName, blobs: Sequence[BlobIn]) -> dict[Digest, int]:
        """Return which blobs must be sent, each with how many bytes have arrived already."""
        answer = self.transport.ask(
            "POST",
            adapter_path(adapter, "blobs", "missing"),
            MissingBody,
            body=MissingIn(blobs=list(blobs)),
        )
        return {Digest.parse(blob.digest): blob.offset for blob in answer.missing}

    def commit(self, adapter: AdapterName, push: PushIn) -> tuple[RevisionBody, bool]:
        """Make a revision of blobs that have arrived; return it and whether it is new."""
        response = self.transport.send("POST", adapter_path(adapter, "revisions"), body=push)
        return RevisionBody.model_validate_json(response.content), response.status_code == 201

    def read_small(self, adapter: AdapterName, digest: Digest) -> bytes:
        """Return a blob that is known to be small, checked against its digest.

        Raises:
            DigestMismatchError: what came is not what the digest names.
        """
        response = self.transport.send(
            "GET", adapter_path(adapter, "blobs", str(digest)), follow=True
        )
        actual = Digest.of(response.content)
        if actual != digest:
            raise DigestMismatchError(digest, actual)
        return response.content

    def tag(self, reference: Reference, tag: str) -> None:
        """Give a revision a name that stays."""
        revision = str(reference.digest) if reference.digest else reference.branch
        path = adapter_path(reference.adapter, "tags", tag)
        self.transport.send("PUT", path, body=TagIn(revision=revision))

    def delete_tag(self, adapter: AdapterName, tag: str) -> None:
        """Remove a tag; its revision stays if another ref reaches it."""
        self.transport.send("DELETE", adapter_path(adapter, "tags", tag))

    def delete_branch(self, adapter: AdapterName, branch: str) -> None:
        """Remove a branch; its revisions stay if another ref reaches them."""
        self.transport.send("DELETE", adapter_path(adapter, "branches", branch))

    def delete(self, adapter: AdapterName) -> None:
        """Remove an adapter with all its refs and revisions."""
        self.transport.send("DELETE", adapter_path(adapter))

    def verify(self, reference: Reference) -> VerdictsBody:
        """Let the hub read every byte of a revision and check its digests."""
        wanted = str(reference.digest) if reference.digest else reference.branch
        path = adapter_path(reference.adapter, "verify", wanted)
        return self.transport.ask("POST", path, VerdictsBody)

    def lineage(self, revision: RevisionBody) -> LineageBody:
        """Return what a revision was made from and what was made from it."""
        adapter = AdapterName.parse(revision.manifest.adapter)
        path = adapter_path(adapter, "lineage", revision.digest)
        return self.transport.ask("GET", path, LineageBody)

    def base_model(self, name: str) -> BaseModelBody:
        """Return a base model by any of its spellings.

        Raises:
            HubError: the hub knows none of this name, or none that the caller may see.
        """
        return self.transport.ask("GET", f"/base-models/{quote(name, safe='/')}", BaseModelBody)


def open_client(endpoint: str, *, token: str | None = None, timeout_s: float = 60.0) -> HubClient:
    """Return a client of the hub at an endpoint; close it, or use it in `with`.

    Raises:
        EndpointError: `endpoint` is not the URL of a hub.
    """
    return HubClient(Access(normal_endpoint(endpoint), token), timeout_s=timeout_s)
