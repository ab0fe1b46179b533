"""Answer every error as `application/problem+json` (RFC 9457), whatever raised it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from api.errors import ApiError, BodyCutError, RangeError
from api.hub.logs import LOG, request_id
from api.problems import (
    INVALID_REQUEST,
    TYPE_PREFIX,
    UNEXPECTED,
    Problem,
    problem_of,
    row_of_status,
)
from compress.errors import CompressError
from registry.errors import RegistryError

MEDIA_TYPE = "application/problem+json"
_REFERENCE = {"$ref": "#/components/schemas/ProblemBody"}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's description of these statuses as problems, for a route's `responses`."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": _REFERENCE}},
        }
        for status in statuses
    }


def problem_response(
    problem: Problem, instance: str, *, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the answer that shows a problem, with the headers that belong to it."""
    row = problem.row
    body: dict[str, str | int] = {
        "type": TYPE_PREFIX + row.code,
        "title": row.title,
        "status": row.status,
        "detail": problem.detail,
        "instance": instance[:2000],
        "code": row.code,
        "hint": problem.hint,
        "request_id": request_id.get(),
    }
    return JSONResponse(
        body | dict(problem.extra),
        status_code=row.status,
        headers={**(headers or {}), **_headers(problem)},
        media_type=MEDIA_TYPE,
    )


def _headers(problem: Problem) -> dict[str, str]:
    headers = {"Cache-Control": "no-store"}
    if problem.row.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="ternery"'
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    if "offset" in problem.extra:
        headers["Upload-Offset"] = str(problem.extra["offset"])
    return headers


def error_response(error: BaseException, instance: str) -> Response:
    """Return the answer to an error of any room."""
    problem = problem_of(error)
    headers = {}
    if isinstance(error, RangeError):
        headers["Content-Range"] = f"bytes */{error.size_bytes}"
    if isinstance(error, BodyCutError):
        headers["Connection"] = "close"
    if problem.row.status >= 500:
        LOG.error("%s", problem.row.code, exc_info=error)
    return problem_response(problem, instance, headers=headers)


async def _known(request: Request, error: Exception) -> Response:
    if problem_of(error).row.status >= 500:
        request.app.state.hub.metrics.store_errors.labels(problem_of(error).row.code).inc()
    return error_response(error, request.url.path)


async def _framework(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return await _unexpected(request, error)
    row = row_of_status(error.status_code)
    problem = Problem(row, f"{request.method} {request.url.path[:200]}: {row.title}")
    return problem_response(problem, request.url.path, headers=error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        return await _unexpected(request, error)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])[:200]
    more = f" (and {len(error.errors()) - 1} more)" if len(error.errors()) > 1 else ""
    detail = f"{field}: {first['msg']}{more}"
    extra: dict[str, str | int] = {"field": field, "expected": str(first["msg"])[:500]}
    return problem_response(Problem(INVALID_REQUEST, detail, extra=extra), request.url.path)


async def _unexpected(request: Request, _error: Exception) -> Response:
    # The server logs the traceback with the request's id; nothing of it leaves the hub.
    detail = "an unexpected error; the hub's log says why, under this request id"
    # It also closes the connection after such an answer, so that is said. This answer is made
    # outside of `api.hub.edge`, which adds these headers to all others.
    headers = {
        "Connection": "close",
        "X-Request-ID": request_id.get(),
        "X-Content-Type-Options": "nosniff",
    }
    return problem_response(Problem(UNEXPECTED, detail), request.url.path, headers=headers)


def install(app: FastAPI) -> None:
    """Make an app answer all its errors as problems."""
    for root in (RegistryError, ApiError, CompressError):
        app.add_exception_handler(root, _known)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)
