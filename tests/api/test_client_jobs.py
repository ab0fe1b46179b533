"""Ask a hub for jobs over bad networks: nothing is queued twice, and no event is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from api.client import HubClient
from api.remote.credentials import Access
from api.remote.errors import HubError, HubUnreachableError
from api.remote.jobs import HubJobs
from api.remote.transport import RetryPolicy
from registry.jobs.states import JobState
from tests.cutting_proxy import CuttingProxy
from tests.jobs_kit import until
from tests.live_hub import LiveHub, start_hub

RETRY = RetryPolicy(first_wait_s=0.01, longest_wait_s=0.1)
TEAM = {"namespace": "team"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHub]:
    """Give a hub that runs jobs."""
    with start_hub(tmp_path_factory.mktemp("hub"), job_slots=1) as live:
        yield live
        live.stop()


@contextmanager
def behind(proxy: CuttingProxy) -> Iterator[HubJobs]:
    with HubClient(Access(proxy.url), retry=RETRY) as client:
        yield HubJobs(client)


def test_a_lost_answer_queues_nothing_twice(hub: LiveHub) -> None:
    with HubClient(Access(hub.url)) as client:
        before = len(list(HubJobs(client).list()))
    with CuttingProxy(hub.url, down=[1]) as proxy, behind(proxy) as jobs:
        made = jobs.submit("noop", TEAM)
        assert proxy.cuts == 1
        assert len(list(jobs.list())) == before + 1
        assert jobs.submit("noop", TEAM).id != made.id


def test_a_broken_stream_is_taken_up_again(hub: LiveHub) -> None:
    with CuttingProxy(hub.url) as proxy, behind(proxy) as jobs:
        made = jobs.submit("noop", {**TEAM, "steps": 8, "step_s": 0.3})
        proxy.down += [1500, 1200]
        seen = list(jobs.watch(made.id))
        assert proxy.cuts >= 1
    versions = [event.job.version for event in seen if event.job is not None]
    assert versions == sorted(set(versions)), "nothing is told twice"
    assert seen[-1].job is not None
    assert seen[-1].job.state is JobState.SUCCEEDED
    assert len([event for event in seen if event.line is not None]) == 1


def test_a_hub_that_goes_for_good_is_told(tmp_path: Path) -> None:
    with start_hub(tmp_path) as short, HubClient(Access(short.url), retry=RETRY) as client:
        jobs = HubJobs(client)
        made = jobs.submit("noop", TEAM)
        events = jobs.watch(made.id)
        assert next(events).job is not None
        short.kill()
        with pytest.raises(HubUnreachableError):
            list(events)


def test_a_job_that_is_not_there_is_told(hub: LiveHub) -> None:
    with HubClient(Access(hub.url), retry=RETRY) as client:
        with pytest.raises(HubError) as caught:
            list(HubJobs(client).watch("0" * 16))
        assert caught.value.code == "job-not-found"


def test_listings_go_on_page_after_page(hub: LiveHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.remote.jobs._PAGE", 2)
    with HubClient(Access(hub.url), retry=RETRY) as client:
        jobs = HubJobs(client)
        made = [jobs.submit("noop", TEAM).id for _ in range(5)]
        assert [job.id for job in jobs.list(limit=5)] == made[::-1]
        assert [job.id for job in jobs.list(limit=3)] == made[:1:-1]
        until(lambda: not list(jobs.list(state=JobState.QUEUED)))
        assert jobs.get(made[0]).state is not JobState.QUEUED
