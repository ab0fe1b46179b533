"""Hold what one running hub shares among its requests; nothing here is global."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from api.hub.auth import Gate
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
        closing: set when the hub is told to stop; endless answers end then.
    """

    settings: HubSettings
    registry: Registry
    metrics: Metrics
    doorkeeper: Gate
    requests: RateLimiter
    uploads: UploadGate
    closing: threading.Event = field(default_factory=threading.Event)
