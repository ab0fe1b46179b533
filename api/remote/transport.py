"""Send requests to one hub: bearer token, retries with back-off, problems turned into errors."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpx2
from pydantic import BaseModel
from pydantic import ValidationError as BodyError

from api.remote.answers import RETRYABLE_STATUS, bounded, problem
from api.remote.credentials import Access
from api.remote.errors import HubError, HubUnreachableError, NotAHubError
from api.remote.network import BulkTransport

API = "/api/v1"

Answer = TypeVar("Answer", bound=BaseModel)
Given = TypeVar("Given")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Say how patiently a lost connection or a busy hub is tried again.

    Attributes:
        attempts: tries of one request, from 1, once the hub has answered before.
        first_attempts: tries of the very first request: a hub that is not there is told soon.
        first_wait_s: pause before the second try; it doubles each time.
        longest_wait_s: never pause longer, whatever the hub asks for.
        sleep: how to pause.
    """

    attempts: int = 8
    first_attempts: int = 3
    first_wait_s: float = 0.2
    longest_wait_s: float = 30.0
    sleep: Callable[[float], None] = time.sleep

    def wait_s(self, attempt: int, asked_s: float | None) -> float:
        """Return how long to pause after the n-th try, from 1; a hub's own wish comes first."""
        if asked_s is not None:
            return min(asked_s, self.longest_wait_s)
        doubled = min(self.first_wait_s * 2.0 ** (attempt - 1), self.longest_wait_s)
        return doubled * random.uniform(0.5, 1.0)  # noqa: S311 - spreads clients, hides nothing


class Transport:
    """Speak HTTP with one hub."""

    def __init__(
        self, access: Access, *, timeout_s: float = 60.0, retry: RetryPolicy | None = None
    ) -> None:
        self.endpoint = access.endpoint
        self.retry = retry or RetryPolicy()
        headers = {"Accept-Encoding": "identity", "User-Agent": "adapters"}
        if access.token:
            headers["Authorization"] = f"Bearer {access.token}"
        # The environment is read in settings.py only: no proxies or netrc behind our back.
        self._http = httpx2.Client(
            base_url=access.endpoint + API,
            headers=headers,
            timeout=httpx2.Timeout(timeout_s, connect=10.0),
            trust_env=False,
            transport=BulkTransport(),
        )
        self._answered = False

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def ask(
        self,
        method: str,
        path: str,
        answer: type[Answer],
        *,
        params: Mapping[str, str | int | None] | None = None,
        body: BaseModel | None = None,
    ) -> Answer:
        """Send JSON, if any, and read the answer as a body; safe requests and ours are retried.

        Raises:
            HubError: the hub refuses.
            HubUnreachableError: nothing answers.
            NotAHubError: what answers is no hub.
        """
        response = self.send(method, path, params=params, body=body)
        try:
            return answer.model_validate_json(response.content)
        except BodyError as error:
            raise NotAHubError(self.endpoint, f"{method} {path} answered something else") from error

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int | None] | None = None,
        body: BaseModel | None = None,
        follow: bool = False,
    ) -> httpx2.Response:
        """Send a request, again if the connection is lost or the hub busy; return a good answer.

        Raises:
            HubError: the hub refuses.
            HubUnreachableError: nothing answers.
            NotAHubError: what answers is no hub.
        """
        query = {key: value for key, value in (params or {}).items() if value is not None}
        content = body.model_dump_json(exclude_unset=True) if body is not None else None
        headers = {"Content-Type": "application/json"} if content is not None else {}

        def once() -> httpx2.Response:
            with self._http.stream(
                method,
                path,
                params=query,
                content=content,
                headers=headers,
                follow_redirects=follow,
            ) as arriving:
                response = bounded(arriving, self.endpoint)
            self.check(response)
            return response

        return self.retried(once)

    def retried(self, once: Callable[[], Given]) -> Given:
        """Call until it succeeds, while what fails can heal by itself.

        Raises:
            HubError: the hub refuses.
            HubUnreachableError: nothing answers.
            NotAHubError: what answers is no hub.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return once()
            except httpx2.TransportError as error:
                asked_s = None
                if attempt >= self._attempts():
                    raise HubUnreachableError(self.endpoint, _reason(error)) from error
            except (httpx2.TooManyRedirects, httpx2.DecodingError) as error:
                raise NotAHubError(self.endpoint, str(error)) from error
            except HubError as error:
                asked_s = retry_after_s(error)
                if error.status not in RETRYABLE_STATUS or attempt >= self.retry.attempts:
                    raise
            self.retry.sleep(self.retry.wait_s(attempt, asked_s))

    def _attempts(self) -> int:
        return self.retry.attempts if self._answered else self.retry.first_attempts

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        content: Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        follow: bool = False,
    ) -> Iterator[httpx2.Response]:
        """Send one request, once, whose body or answer is too large for memory.

        Raises:
            HubError: the hub refuses.
            NotAHubError: what answers is no hub.
            httpx2.TransportError: the connection is lost: the caller knows how to go on.
        """
        try:
            with self._http.stream(
                method, path, content=content, headers=dict(headers or {}), follow_redirects=follow
            ) as response:
                if not response.is_success:
                    self.check(bounded(response, self.endpoint))
                self.check(response)
                yield response
        except httpx2.TooManyRedirects as error:
            raise NotAHubError(self.endpoint, str(error)) from error

    def check(self, response: httpx2.Response) -> None:
        """Note that something answered, and raise what it refused.

        Raises:
            HubError: the hub refuses.
            NotAHubError: what answers is no hub.
        """
        self._answered = True
        if response.is_success:
            return
        if response.is_redirect:
            raise NotAHubError(self.endpoint, f"it redirects to {response.headers.get('location')}")
        raise problem(response, self.endpoint)


def retry_after_s(error: HubError) -> float | None:
    """Return how long the hub asks to wait, if it does."""
    asked = error.extra.get("retry_after_s")
    try:
        return max(0.0, float(str(asked))) if asked is not None else None
    except ValueError:
        return None


def _reason(error: httpx2.TransportError) -> str:
    return str(error) or type(error).__name__
