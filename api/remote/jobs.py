"""Call what a hub offers about jobs."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx2
from pydantic import JsonValue

from api.client import HubClient
from api.remote.errors import HubError, HubUnreachableError, NotAHubError
from api.schemas_jobs import (
    JobBody,
    JobIn,
    JobKindsBody,
    JobLogBody,
    JobLogLineBody,
    JobPage,
)
from registry.jobs.states import JobState

_PAGE = 500


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Be one event of a job's stream.

    Attributes:
        job: the job after a change, or None.
        line: a new line of its log, or None.
    """

    job: JobBody | None = None
    line: JobLogLineBody | None = None


class HubJobs:
    """Be the jobs of a hub."""

    def __init__(self, client: HubClient) -> None:
        self._transport = client.transport

    def submit(
        self,
        kind: str,
        parameters: Mapping[str, JsonValue],
        *,
        key: str = "",
        gpus: int = 0,
        max_attempts: int = 3,
    ) -> JobBody:
        """Queue a job, or find the one that was asked for with the same key.

        Without a key one is made, so that asking again after a lost answer queues nothing twice.
        """
        body = JobIn(
            kind=kind,
            parameters=dict(parameters),
            idempotency_key=key or secrets.token_hex(16),
            gpus=gpus,
            max_attempts=max_attempts,
        )
        return self._transport.ask("POST", "/jobs", JobBody, body=body)

    def list(
        self,
        *,
        state: JobState | None = None,
        kind: str | None = None,
        parent: str | None = None,
        limit: int | None = None,
    ) -> Iterator[JobBody]:
        """Yield jobs, newest first, page after page.

        Args:
            state: only in this state.
            kind: only of this kind.
            parent: only those of this map; None means those of none.
            limit: stop after so many; None means all.
        """
        asked = {"state": state.value if state else None, "kind": kind, "parent": parent}
        left, cursor = limit, None
        while True:
            size = min(left or _PAGE, _PAGE)
            page = self._transport.ask(
                "GET", "/jobs", JobPage, params={**asked, "cursor": cursor, "limit": size}
            )
            yield from page.items[:left]
            left = None if left is None else left - len(page.items)
            cursor = page.next_cursor
            if cursor is None or (left is not None and left <= 0):
                return

    def kinds(self) -> JobKindsBody:
        """Return the kinds of jobs, and what each takes."""
        return self._transport.ask("GET", "/jobs/kinds", JobKindsBody)

    def get(self, job: str) -> JobBody:
        """Return a job."""
        return self._transport.ask("GET", f"/jobs/{job}", JobBody)

    def cancel(self, job: str) -> JobBody:
        """Cancel a job; one that runs is asked to stop."""
        return self._transport.ask("POST", f"/jobs/{job}/cancel", JobBody)

    def retry(self, job: str) -> JobBody:
        """Queue a job again that failed or was cancelled."""
        return self._transport.ask("POST", f"/jobs/{job}/retry", JobBody)

    def log(self, job: str, *, after: int = 0, limit: int = 1000) -> JobLogBody:
        """Return the end of a job's log."""
        params = {"after": after, "limit": limit}
        return self._transport.ask("GET", f"/jobs/{job}/log", JobLogBody, params=params)

    def watch(self, job: str) -> Iterator[JobEvent]:
        """Yield what happens to a job until it ends; a lost connection is taken up again.

        Raises:
            HubError: there is no such job.
            HubUnreachableError: the hub is gone for good.
        """
        seen, failures = "", 0
        retry = self._transport.retry
        while True:
            try:
                for event, ident in self._events(job, seen):
                    seen, failures = ident, 0
                    yield event
                    if event.job is not None and event.job.state.ended:
                        return
                failures += 1  # the stream ended before the job did: the hub stops
            except httpx2.TransportError as error:
                failures += 1
                if failures >= retry.attempts:
                    raise HubUnreachableError(self._transport.endpoint, str(error)) from error
            except HubError as error:
                failures += 1
                if error.status < 500 or failures >= retry.attempts:
                    raise
            retry.sleep(retry.wait_s(max(1, failures), None))

    def _events(self, job: str, seen: str) -> Iterator[tuple[JobEvent, str]]:
        headers = {"Last-Event-ID": seen} if seen else {}
        path = f"/jobs/{job}/events"
        with self._transport.stream("GET", path, headers=headers) as response:
            fields: dict[str, str] = {}
            for line in response.iter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                    continue
                if "data" in fields:
                    yield self._event(fields), fields.get("id", "")
                fields = {}

    def _event(self, fields: Mapping[str, str]) -> JobEvent:
        try:
            if fields.get("event") == "log":
                return JobEvent(line=JobLogLineBody.model_validate_json(fields["data"]))
            return JobEvent(job=JobBody.model_validate_json(fields["data"]))
        except ValueError as error:
            raise NotAHubError(self._transport.endpoint, "its events cannot be read") from error
