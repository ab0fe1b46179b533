"""Hold what one running hub shares among its requests; nothing here is global."""

from __future__ import annotations

from dataclasses import dataclass

from api.hub.auth import Doorkeeper
from api.hub.limits import RateLimiter, UploadGate
from api.hub.metrics import Metrics
from api.settings import HubSettings
from registry.service import Registry


@dataclass(frozen=True, slots=True)
class Hub:
    """Be one hub.

    Attributes:
        settings: as it was started.
        registry: what it keeps.
        metrics: what it counts.
        doorkeeper: who tells callers apart.
        requests: how often each of them may call.
        uploads: how many may send at once.
    """

    settings: HubSettings
    registry: Registry
    metrics: Metrics
    doorkeeper: Doorkeeper
    requests: RateLimiter
    uploads: UploadGate
