"""Read what is stored and compare every byte with its digest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from registry.adapters import Adapters
from registry.catalog.database import Database
from registry.catalog.revisions import revision_page
from registry.catalog.values import RevisionRecord
from registry.digest import Digest
from registry.errors import StorageError
from registry.manifest import FileEntry, Manifest
from registry.records import manifest_key
from registry.refs import AdapterName, Reference
from registry.storage.blobs import BlobNotFoundError, BlobStore

MANIFEST_PATH = "(manifest)"
_PAGE = 100


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """Say whether one stored file is what its digest names.

    Attributes:
        adapter: whose file.
        revision: of which revision.
        path: the file's path, or `(manifest)` for the record of the revision itself.
        digest: what it should be.
        ok: whether it is.
        detail: what is wrong, or an empty string.
    """

    adapter: AdapterName
    revision: Digest
    path: str
    digest: Digest
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verifier:
    """Check revisions against the store.

    Attributes:
        database: the catalog.
        store: where the blobs are.
        adapters: resolves references.
    """

    database: Database
    store: BlobStore
    adapters: Adapters

    def verify(self, reference: Reference | None = None) -> Iterator[FileVerdict]:
        """Yield a verdict for every file of one revision, or of all; equal blobs are read once.

        Raises:
            AdapterNotFoundError: there is no such adapter (at the call).
            RevisionNotFoundError: it has no such revision (at the call).
        """
        if reference is None:
            return self._verify_all()
        return self._verify_revision(self.adapters.resolve(reference), {})

    def _verify_all(self) -> Iterator[FileVerdict]:
        details: dict[Digest, str] = {}
        page = self._page(0)
        while page:
            for _, digest, manifest in page:
                yield from self._verify_revision(RevisionRecord(digest, manifest), details)
            page = self._page(page[-1][0])

    def _page(self, after: int) -> list[tuple[int, Digest, Manifest]]:
        with self.database.read() as connection:
            return revision_page(connection, after=after, limit=_PAGE)

    def _verify_revision(
        self, revision: RevisionRecord, details: dict[Digest, str]
    ) -> Iterator[FileVerdict]:
        manifest = revision.manifest
        detail = self._check_manifest(manifest, revision.digest)
        name, digest = manifest.adapter, revision.digest
        yield FileVerdict(name, digest, MANIFEST_PATH, digest, not detail, detail)
        for entry in manifest.files:
            if entry.digest not in details:
                details[entry.digest] = self._check_blob(entry)
            detail = details[entry.digest]
            yield FileVerdict(name, digest, entry.path, entry.digest, not detail, detail)

    def _check_manifest(self, manifest: Manifest, digest: Digest) -> str:
        try:
            data = self.store.read_record(manifest_key(manifest.adapter, digest))
        except StorageError as error:
            return error.message
        if data is None:
            return "the manifest is missing from the store"
        actual = Digest.of(data)
        return "" if actual == digest else f"the stored manifest is {actual}"

    def _check_blob(self, entry: FileEntry) -> str:
        try:
            size = sum(len(chunk) for chunk in self.store.read(entry.digest))
        except (BlobNotFoundError, StorageError) as error:
            return error.message
        if size != entry.size_bytes:
            return f"the stored blob has {size} bytes, not {entry.size_bytes}"
        return ""
