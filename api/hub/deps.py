"""Give routes what they ask for in their signature: the hub, the caller, names, rights.

A route that takes `ReadAdapter` answers 404 to whoever may not read that namespace, with the very
words of a missing adapter; `WriteAdapter` and `AdminAdapter` answer 403 to those who may only read.
What needs no waiting is `async`, which spares it a thread; what asks the database is not.
"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from api.errors import RequestRateError
from api.hub.rights import demand
from api.hub.state import Hub
from api.schemas_requests import PATTERN_DIGEST, PATTERN_PART, PATTERN_REVISION
from registry.catalog.errors import AdapterNotFoundError
from registry.catalog.values import Readable
from registry.digest import Digest
from registry.refs import AdapterName, Reference
from registry.tokens import EVERYTHING, Principal, Role

_BEARER = HTTPBearer(auto_error=False, scheme_name="token", description="`tern_…`")
_DIGEST = re.compile(r"[0-9a-f]{64}")


async def hub_of(request: Request) -> Hub:
    """Return the hub that serves a request."""
    hub: Hub = request.app.state.hub
    return hub


HubDep = Annotated[Hub, Depends(hub_of)]


def identify(request: Request, hub: Hub) -> Principal:
    """Return who is calling, once that is known and not too often.

    Raises:
        UnauthenticatedError: it is not known.
        RateError: it is too often.
    """
    address = request.client.host if request.client else "local"
    principal = hub.doorkeeper.identify(request.headers.get("authorization"), address)
    request.state.principal, request.state.caller = principal.label, principal
    wait = hub.requests.spend(principal.id if hub.settings.needs_token else address)
    if wait:
        raise RequestRateError("you send more requests than this hub allows", retry_after_s=wait)
    return principal


def caller_of(
    request: Request,
    hub: HubDep,
    _documented: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
) -> Principal:
    """Return who is calling; see `identify`, which is not asked twice for one request."""
    known: Principal | None = getattr(request.state, "caller", None)
    return known or identify(request, hub)


Caller = Annotated[Principal, Depends(caller_of)]


async def readable_of(caller: Caller) -> Readable:
    """Return the namespaces that the caller may read."""
    return caller.readable


ReadableDep = Annotated[Readable, Depends(readable_of)]


async def _adapter_of(
    namespace: Annotated[str, Path(pattern=PATTERN_PART, examples=["team"])],
    name: Annotated[str, Path(pattern=PATTERN_PART, examples=["sql-expert"])],
) -> AdapterName:
    return AdapterName(namespace, name)


_Adapter = Annotated[AdapterName, Depends(_adapter_of)]


async def read_adapter(caller: Caller, adapter: _Adapter) -> AdapterName:
    """Return the adapter named by the path, if the caller may read it.

    Raises:
        AdapterNotFoundError: the caller may not, whether or not it is there.
    """
    if not caller.may(Role.READ, adapter.namespace):
        raise AdapterNotFoundError(adapter)
    return adapter


ReadAdapter = Annotated[AdapterName, Depends(read_adapter)]


async def write_adapter(caller: Caller, adapter: ReadAdapter) -> AdapterName:
    """Return the adapter named by the path, if the caller may write it."""
    demand(caller, adapter.namespace, Role.WRITE)
    return adapter


async def admin_adapter(caller: Caller, adapter: ReadAdapter) -> AdapterName:
    """Return the adapter named by the path, if the caller administers its namespace."""
    demand(caller, adapter.namespace, Role.ADMIN)
    return adapter


async def admin_of_all(caller: Caller) -> Principal:
    """Return the caller, who administers everything."""
    demand(caller, EVERYTHING, Role.ADMIN)
    return caller


WriteAdapter = Annotated[AdapterName, Depends(write_adapter)]
AdminAdapter = Annotated[AdapterName, Depends(admin_adapter)]
AdminOfAll = Annotated[Principal, Depends(admin_of_all)]


async def reference_of(
    adapter: ReadAdapter,
    revision: Annotated[
        str,
        Path(
            pattern=PATTERN_REVISION,
            description="digest, commit id, branch or tag; a slash in it is written %2F",
            examples=["main"],
        ),
    ],
) -> Reference:
    """Return the revision named by the path."""
    return parse_revision(adapter, revision)


ReferenceDep = Annotated[Reference, Depends(reference_of)]


def parse_revision(adapter: AdapterName, text: str) -> Reference:
    """Read a digest (bare or with `sha256:`), commit id, branch or tag."""
    if text.startswith("sha256:") or _DIGEST.fullmatch(text):
        return Reference(adapter, digest=Digest.parse(text))
    return Reference(adapter, text)


async def digest_of(digest: Annotated[str, Path(pattern=PATTERN_DIGEST)]) -> Digest:
    """Return the digest named by the path."""
    return Digest.parse(digest)


DigestDep = Annotated[Digest, Depends(digest_of)]


async def json_only(request: Request) -> None:
    """Let pass only bodies that say that they are JSON, which no web form can say.

    Raises:
        HTTPException: 415.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415)
