"""Send blobs and files: whole or one range, streamed, or redirected to a signed URL.

A digest is no capability: a blob is sent only to who may read an adapter that refers to it. Answers
must be revalidated by their ETag, the digest, so that what was deleted is not served from a cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from api.hub.deps import DigestDep, HubDep, ReadAdapter, ReferenceDep
from api.hub.problem_responses import problems
from api.hub.route_kinds import RawPathRoute
from api.hub.state import Hub
from api.hub.streams import read_ahead
from api.ranges import Span, etag_listed, range_still_holds, requested_span
from registry.digest import DigestMismatchError
from registry.errors import StorageError
from registry.manifest import FileEntry
from registry.storage.blobs import BlobNotFoundError

OCTETS = "application/octet-stream"
_BINARY = {"content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole file", **_BINARY},
    206: {"description": "The part that was asked for", **_BINARY},
    304: {"description": "The client has it already"},
    307: {"description": "A signed URL of the bucket, where the hub is set to use them"},
    **problems(401, 403, 404, 416, 422, 429, 503),
}
router = APIRouter(
    prefix="/api/v1/adapters/{namespace}/{name}",
    tags=["blobs"],
    route_class=RawPathRoute,
    default_response_class=Response,
)


def get_blob(request: Request, adapter: ReadAdapter, digest: DigestDep, hub: HubDep) -> Response:
    """Send a blob that some revision of this adapter refers to."""
    entry = hub.registry.adapters.find_blob(adapter, digest)
    return _answer(request, hub, entry, filename=digest.hex)


def get_file(
    request: Request,
    reference: ReferenceDep,
    hub: HubDep,
    path: Annotated[str, Path(max_length=1024, examples=["adapter_config.json"])],
) -> Response:
    """Send a file of a revision."""
    entry = hub.registry.adapters.find_file(reference, path)
    return _answer(request, hub, entry, filename=path.rpartition("/")[2])


for _path, _endpoint in (
    ("/blobs/{digest}", get_blob),
    ("/files/{revision}/{path:path}", get_file),
):
    for _method in ("GET", "HEAD"):
        router.add_api_route(
            _path,
            _endpoint,
            methods=[_method],
            responses=_ANSWERS,
            operation_id=f"{_method.lower()}_{_endpoint.__name__.removeprefix('get_')}",
        )


def _answer(request: Request, hub: Hub, entry: FileEntry, *, filename: str) -> Response:
    etag = entry.digest.hex
    headers = {
        "ETag": f'"{etag}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
    }
    if etag_listed(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    span = None
    if range_still_holds(request.headers.get("if-range"), etag):
        span = requested_span(request.headers.get("range"), entry.size_bytes)
    if hub.settings.presigned_downloads and (url := _signed_url(hub, entry)):
        return RedirectResponse(url, 307, headers={"Cache-Control": "no-store"})
    headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
    part = span or Span(0, entry.size_bytes, entry.size_bytes)
    headers["Content-Length"] = str(part.length)
    if span is not None:
        headers["Content-Range"] = span.content_range
    status = 200 if span is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=OCTETS)
    return _stream(hub, entry, part=part, answer=(status, headers))


def _stream(
    hub: Hub, entry: FileEntry, *, part: Span, answer: tuple[int, dict[str, str]]
) -> Response:
    status, headers = answer
    body = read_ahead(_chunks(hub, entry, part), sent=hub.metrics.bytes_out.inc)
    return StreamingResponse(body, status_code=status, headers=headers, media_type=OCTETS)


def _chunks(hub: Hub, entry: FileEntry, part: Span) -> Iterator[bytes]:
    """Begin to read, so that what fails at once fails before the answer begins.

    Raises:
        StorageError: the store lost the blob or damaged it; that is not the client's fault.
    """
    length = None if part.whole else part.length
    try:
        chunks = hub.registry.store.read(entry.digest, start=part.start, length=length)
        first = next(chunks, b"")
    except (BlobNotFoundError, DigestMismatchError) as error:
        raise StorageError(f"blob {entry.digest} is lost or damaged") from error
    return _continued(first, chunks)


def _continued(first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from chunks


def _signed_url(hub: Hub, entry: FileEntry) -> str | None:
    expires_s = hub.settings.presigned_expires_s
    return hub.registry.store.presigned_url(entry.digest, expires_s=expires_s)
