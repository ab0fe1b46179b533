"""Read what a hub answers, which may be no hub or a hostile one: bounded, and as an error."""

from __future__ import annotations

import json

import httpx2

from api.remote.errors import HubError, NotAHubError

MAX_ANSWER_BYTES = 64 << 20
RETRYABLE_STATUS = frozenset({429, 502, 503, 504})
_PROBLEM = "application/problem+json"
_PROBLEM_MEMBERS = frozenset({"type", "title", "status", "detail", "instance", "hint", "code"})


def bounded(response: httpx2.Response, endpoint: str) -> httpx2.Response:
    """Read an answer into memory, unless it has no end or was packed to burst there.

    Raises:
        NotAHubError: it is longer than any answer of a hub.
    """
    kept = bytearray()
    if "content-encoding" in response.headers:  # nobody asked for one
        raise NotAHubError(endpoint, "its answer is packed")
    for chunk in response.iter_raw():
        kept += chunk
        if len(kept) > MAX_ANSWER_BYTES:
            raise NotAHubError(endpoint, f"its answer is longer than {MAX_ANSWER_BYTES} bytes")
    headers = [(k, v) for k, v in response.headers.multi_items() if k != "transfer-encoding"]
    return httpx2.Response(
        response.status_code, headers=headers, content=bytes(kept), request=response.request
    )


def problem(response: httpx2.Response, endpoint: str) -> HubError | NotAHubError:
    """Return the error that a refusal tells."""
    try:
        value = json.loads(response.content)
    except (ValueError, RecursionError):
        value = None
    kind = response.headers.get("content-type", "").partition(";")[0]
    if kind != _PROBLEM or not isinstance(value, dict):
        if response.status_code in RETRYABLE_STATUS:  # a proxy answers while the hub restarts
            return HubError(
                f"{endpoint} answered {response.status_code}",
                status=response.status_code,
                code=f"http-{response.status_code}",
                extra={"retry_after_s": response.headers.get("retry-after")},
            )
        return NotAHubError(endpoint, f"status {response.status_code} without a problem")
    extra = {key: item for key, item in value.items() if key not in _PROBLEM_MEMBERS}
    extra.setdefault("retry_after_s", response.headers.get("retry-after"))
    return HubError(
        str(value.get("detail") or value.get("title") or "refused"),
        status=response.status_code,
        code=str(value.get("code", "")),
        hint=str(value.get("hint") or ""),
        extra={key: item for key, item in extra.items() if item not in (None, "")},
    )
