"""Build the hub's web application: registry, limits, routes and the description of all of them.

Start here to follow a request: `edge.py` lets it in, a module of `routes/` answers it, errors
leave through `problem_responses.py`. Nothing is global; two hubs can live in one process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

from anyio import to_thread
from fastapi import APIRouter, FastAPI

from api.errors import StartError
from api.hub.auth import Doorkeeper, Gate, check_start
from api.hub.edge import Edge
from api.hub.limits import RateLimiter, UploadGate
from api.hub.metrics import Metrics
from api.hub.problem_responses import install
from api.hub.state import Hub
from api.registry_settings import registry_settings
from api.routes import (
    adapters,
    admin,
    base_models,
    downloads,
    health,
    jobs,
    lineage,
    refs,
    revisions,
    tokens,
    uploads,
)
from api.schemas import ProblemBody
from api.settings import HubSettings
from registry.service import Registry, open_registry

_ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    adapters.router,
    revisions.router,
    uploads.router,
    downloads.router,
    refs.router,
    lineage.router,
    base_models.router,
    tokens.router,
    admin.router,
    jobs.router,
)
Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[None]]
_DESCRIPTION = "Keep every revision of fine-tuned adapters, by base model and by content."


def create_app(settings: HubSettings, registry: Registry | None = None) -> FastAPI:
    """Build a hub.

    Args:
        settings: how it is configured.
        registry: what it serves; None opens the one that the settings name, and closes it again.

    Raises:
        StartError: as configured, nobody could be told apart or nobody could administer it.
        StorageError: database or store cannot be opened.
    """
    owned = registry is None
    served = registry or open_registry(registry_settings(settings))
    try:
        check_start(settings, has_admin_token=served.tokens.has_admin())
    except StartError:
        if owned:
            served.close()
        raise

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        if owned:
            await to_thread.run_sync(served.close)

    return build_app(hub_of(settings, served, Doorkeeper(settings, served.tokens)), lifespan)


def build_app(hub: Hub, lifespan: Lifespan | None = None) -> FastAPI:
    """Build the web application of a hub.

    Args:
        hub: what it serves.
        lifespan: what to do before the first request and after the last.
    """
    app = HubApp(
        title="Ternery",
        description=_DESCRIPTION,
        version=_version(),
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.hub = hub
    app.add_middleware(Edge, settings=hub.settings, metrics=hub.metrics)
    install(app)
    for router in _ROUTERS:
        app.include_router(router)
    return app


def hub_of(settings: HubSettings, registry: Registry, doorkeeper: Gate) -> Hub:
    """Return the parts of a hub, whose callers `doorkeeper` tells apart."""
    return Hub(
        settings=settings,
        registry=registry,
        metrics=Metrics(),
        doorkeeper=doorkeeper,
        requests=RateLimiter(settings.requests_per_minute),
        uploads=UploadGate(settings.max_concurrent_uploads),
    )


def _version() -> str:
    try:
        return version("ternery")
    except PackageNotFoundError:
        return "0"


class HubApp(FastAPI):
    """Be a FastAPI app whose description knows its problems."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document; made once."""
        if self.openapi_schema is None:
            schemas = super().openapi()["components"]["schemas"]
            schemas["ProblemBody"] = ProblemBody.model_json_schema()
            schemas.pop("HTTPValidationError", None)
            schemas.pop("ValidationError", None)
        return super().openapi()
