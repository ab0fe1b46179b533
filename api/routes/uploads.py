"""Receive blobs, whole or in parts, without ever holding one in memory."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from api.errors import ContentRangeError, LengthMissingError, TooLargeError
from api.hub.deps import Caller, DigestDep, HubDep, WriteAdapter
from api.hub.problem_responses import problems
from api.hub.route_kinds import RawPathRoute
from api.hub.state import Hub
from api.hub.streams import in_thread, pour, received
from api.ranges import Span, sent_span
from api.schemas import UploadBody
from registry.digest import Digest

router = APIRouter(
    prefix="/api/v1/adapters/{namespace}/{name}",
    tags=["blobs"],
    route_class=RawPathRoute,
    responses=problems(400, 401, 403, 404, 409, 411, 413, 422, 429, 503),
)
_BODY = {
    "required": True,
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}
_OFFSET = {"description": "how many bytes have arrived", "schema": {"type": "integer"}}


@router.put(
    "/blobs/{digest}",
    status_code=201,
    responses={
        201: {"description": "Every byte arrived and matches the digest"},
        202: {
            "model": UploadBody,
            "description": "More is to come",
            "headers": {"Upload-Offset": _OFFSET},
        },
    },
    openapi_extra={"requestBody": _BODY},
)
async def put_blob(
    *,
    request: Request,
    response: Response,
    adapter: WriteAdapter,
    caller: Caller,
    digest: DigestDep,
    hub: HubDep,
    content_range: Annotated[
        str | None,
        Header(
            description="`bytes first-last/total` for a part, `bytes */total` to finish",
            max_length=100,
        ),
    ] = None,
) -> UploadBody:
    """Receive a blob, or with Content-Range the part that begins where the last one ended.

    What arrived stays when the connection breaks: `blobs/missing` tells the offset to go on from.
    """
    part = _announced(content_range, request.headers.get("content-length"))
    _check_size(part, hub.settings.max_file_bytes)
    who = caller.id if hub.settings.needs_token else ""
    with hub.uploads.enter(who), hub.metrics.uploads_in_flight.track_inprogress():
        offset = await _receive(request, adapter.namespace, digest, part=part)
    stored = offset == part.total
    response.status_code = 201 if stored else 202
    response.headers["Upload-Offset"] = str(offset)
    return UploadBody(digest=str(digest), offset=offset, stored=stored)


async def _receive(request: Request, namespace: str, digest: Digest, *, part: Span) -> int:
    hub: Hub = request.app.state.hub
    opened = hub.registry.pushes.upload(namespace, digest, offset=part.start, size_bytes=part.total)
    body = received(request, limit_bytes=part.length, idle_s=hub.settings.upload_idle_s)
    async with in_thread(opened) as session:
        await pour(body, session, hub.metrics.bytes_in.inc)
        return session.offset


def _announced(content_range: str | None, content_length: str | None) -> Span:
    """Return which part of a blob the headers announce.

    Raises:
        ContentRangeError: they contradict each other.
        LengthMissingError: they do not say how long the blob is.
    """
    part = sent_span(content_range)
    length = int(content_length) if content_length and content_length.isdecimal() else None
    if part is None:
        if length is None:
            raise LengthMissingError(
                "an upload must say how long it is", field="Content-Length", expected="bytes"
            )
        return Span(0, length, length)
    if length not in {None, part.length}:
        raise ContentRangeError(
            "Content-Range and Content-Length contradict each other",
            field="Content-Range",
            expected=f"{length} bytes",
            actual=part.content_range,
        )
    return part


def _check_size(part: Span, limit_bytes: int) -> None:
    if part.total > limit_bytes:
        raise TooLargeError(
            f"a file of {part.total} bytes is larger than this hub allows",
            limit_bytes=limit_bytes,
            hint=f"keep files below {limit_bytes} bytes, or raise ADAPTERS_MAX_FILE_BYTES",
        )
