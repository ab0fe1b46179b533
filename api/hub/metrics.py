"""Count what a hub does, for Prometheus; one registry for each app, no global one."""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)


class Metrics:
    """Hold the counters of one hub.

    Attributes:
        requests: answered requests by method, route template and status.
        latency_s: seconds from the first byte of a request to the last of its answer.
        bytes_in: bytes of blobs received.
        bytes_out: bytes of blobs sent.
        pushes: commits by result: `created`, `same`, or the code of the problem.
        uploads_in_flight: uploads being received now.
        store_errors: failures of disk, bucket or database, by code.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "ternery_requests_total",
            "Answered requests",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.latency_s = Histogram(
            "ternery_request_seconds",
            "Seconds from request to last byte of the answer",
            ("method", "route"),
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.bytes_in = Counter(
            "ternery_blob_received_bytes_total", "Bytes of blobs received", registry=self.registry
        )
        self.bytes_out = Counter(
            "ternery_blob_sent_bytes_total", "Bytes of blobs sent", registry=self.registry
        )
        self.pushes = Counter(
            "ternery_pushes_total", "Commits by result", ("result",), registry=self.registry
        )
        self.uploads_in_flight = Gauge(
            "ternery_uploads_in_flight", "Uploads being received", registry=self.registry
        )
        self.store_errors = Counter(
            "ternery_store_errors_total",
            "Failures of disk, bucket or database",
            ("code",),
            registry=self.registry,
        )

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)
