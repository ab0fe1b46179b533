"""State how jobs are asked for, claimed, carried on and ended, on every database."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from registry.catalog.values import Role
from registry.digest import Digest
from registry.errors import ValidationError
from registry.jobs import values
from registry.jobs.errors import JobKeyError, JobNotFoundError, JobStateError, LeaseLostError
from registry.jobs.states import NEXT, JobState, check_move
from registry.jobs.values import Job, JobFailure, JobProgress, JobQuery, Lease, NewJob
from registry.push_request import PushRequest
from registry.refs import AdapterName, Reference
from registry.service import Registry
from tests.registry_kit import Place, adapter_files, at, push, push_files, send

DIED = JobFailure("died", "it died")
LEASE_S = 60.0
MADE = Reference(AdapterName("team", "made"))


def new_job(kind: str = "noop", **fields: Any) -> NewJob:
    """Ask for a job of the namespace `team`."""
    given = {"namespace": "team", "parameters": {"steps": 1}, "grants": {"team": Role.WRITE}}
    return NewJob(kind, **{**given, **fields})


def submit(registry: Registry, **fields: Any) -> Job:
    """Queue one job."""
    return registry.jobs.submit(new_job(**fields))[0]


def claim(registry: Registry, owner: str = "w1", **fields: Any) -> Job:
    """Claim a job, which must be there."""
    job = registry.leases.claim(owner, lease_s=LEASE_S, **fields)
    assert job is not None
    return job


def state(registry: Registry, job: Job) -> JobState:
    """Return the present state of a job."""
    return registry.jobs.get(job.id).state


class JobContract:
    """Keep jobs; a subclass gives `place`."""

    @pytest.fixture
    def registry(self, place: Place) -> Registry:
        return place.open()

    def test_a_job_is_kept_as_it_was_asked_for(self, registry: Registry) -> None:
        made, new = registry.jobs.submit(
            new_job("merge", parameters={"b": [1.5, None], "a": "é"}, asked_by="ann", gpus=2)
        )
        assert new
        found = registry.jobs.get(made.id)
        assert found == made
        assert (found.kind, found.namespace, found.asked_by, found.gpus) == (
            "merge",
            "team",
            "ann",
            2,
        )
        assert found.parameters == {"a": "é", "b": [1.5, None]}
        assert found.grants == {"team": Role.WRITE}
        assert (found.state, found.attempt, found.version) == (JobState.QUEUED, 0, 1)

    def test_an_unknown_job_is_not_found(self, registry: Registry) -> None:
        for call in (registry.jobs.get, registry.jobs.cancel, registry.jobs.retry):
            with pytest.raises(JobNotFoundError):
                call("0123")

    def test_the_same_key_is_the_same_job(self, registry: Registry) -> None:
        first, _ = registry.jobs.submit(new_job(key="k1"))
        again, new = registry.jobs.submit(new_job(key="k1"))
        assert (again.id, new) == (first.id, False)
        assert registry.jobs.submit(new_job(key="k1", namespace="ann"))[1]
        assert registry.jobs.submit(new_job(key="k2"))[1]
        with pytest.raises(JobKeyError):
            registry.jobs.submit(new_job(key="k1", parameters={"steps": 2}))

    def test_what_was_asked_counts_not_what_it_resolved_to(self, registry: Registry) -> None:
        asked = {"source": "team/x:main"}
        first, _ = registry.jobs.submit(new_job(key="k", asked=asked, parameters={"source": "@1"}))
        again, _ = registry.jobs.submit(new_job(key="k", asked=asked, parameters={"source": "@2"}))
        assert again == first

    def test_one_key_asked_for_at_once_makes_one_job(self, registry: Registry) -> None:
        made: list[str] = []

        def ask() -> None:
            made.append(registry.jobs.submit(new_job(key="once"))[0].id)

        run_all([ask] * 8)
        assert len(made) == 8
        assert len(set(made)) == 1

    def test_jobs_are_listed_newest_first_by_state_and_kind(self, registry: Registry) -> None:
        ids = [submit(registry, kind=kind).id for kind in ("a", "b", "a", "b", "a")]
        claim(registry)
        page = registry.jobs.list(JobQuery(limit=2))
        assert [job.id for job in page.items] == [ids[4], ids[3]]
        rest = registry.jobs.list(JobQuery(limit=9, cursor=page.next_cursor))
        assert [job.id for job in rest.items] == [ids[2], ids[1], ids[0]]
        assert rest.next_cursor is None
        running = registry.jobs.list(JobQuery(state=JobState.RUNNING)).items
        assert [job.id for job in running] == [ids[0]]
        waiting = registry.jobs.list(JobQuery(kind="a", state=JobState.QUEUED)).items
        assert [job.id for job in waiting] == [ids[4], ids[2]]

    def test_a_listing_shows_what_may_be_read(self, registry: Registry) -> None:
        own = submit(registry, namespace="ann")
        submit(registry, namespace="team")
        submit(registry, namespace="*")
        found = registry.jobs.list(JobQuery(readable=frozenset({"ann"}))).items
        assert [job.id for job in found] == [own.id]
        assert len(registry.jobs.list(JobQuery()).items) == 3

    @pytest.mark.parametrize("cursor", ["x", "WyJhIl0"])
    def test_a_foreign_cursor_is_refused(self, registry: Registry, cursor: str) -> None:
        with pytest.raises(ValidationError):
            registry.jobs.list(JobQuery(cursor=cursor))


class LeaseContract:
    """Work on jobs; a subclass gives `place`."""

    @pytest.fixture
    def registry(self, place: Place) -> Registry:
        return place.open()

    def test_the_oldest_is_claimed_first_and_once(self, registry: Registry) -> None:
        first, second = submit(registry), submit(registry)
        taken = [claim(registry, "w1"), claim(registry, "w2")]
        assert [job.id for job in taken] == [first.id, second.id]
        assert [(job.owner, job.attempt, job.state) for job in taken] == [
            ("w1", 1, JobState.RUNNING),
            ("w2", 1, JobState.RUNNING),
        ]
        assert registry.leases.claim("w3", lease_s=1) is None

    def test_a_job_waits_for_its_gpus_and_lets_others_pass(self, registry: Registry) -> None:
        big, small = submit(registry, gpus=2), submit(registry)
        assert claim(registry, gpus=1).id == small.id
        assert registry.leases.claim("w", lease_s=1, gpus=1) is None
        assert claim(registry, gpus=2).id == big.id

    def test_many_claim_at_once_and_none_is_claimed_twice(self, place: Place) -> None:
        registry = place.open()
        ids = {submit(registry).id for _ in range(40)}
        taken: list[str] = []
        others = [place.open() for _ in range(4)]

        def work(own: Registry) -> None:
            while (job := own.leases.claim("w", lease_s=LEASE_S)) is not None:
                taken.append(job.id)

        run_all([lambda own=own: work(own) for own in others])
        assert len(taken) == 40
        assert set(taken) == ids

    def test_a_worker_tells_how_far_it_is(self, registry: Registry) -> None:
        submit(registry)
        job = claim(registry)
        registry.leases.report(job.lease, JobProgress(3, 10, "x" * 900, {"loss": 0.5}))
        found = registry.jobs.get(job.id)
        assert (found.progress.step, found.progress.total) == (3, 10)
        assert found.progress.metrics == {"loss": 0.5}
        assert len(found.progress.message) == values.MAX_MESSAGE
        assert found.version > job.version
        registry.leases.succeed(job.lease, {"accuracy": 0.75})
        done = registry.jobs.get(job.id)
        assert (done.state, done.outcome, done.owner) == (
            JobState.SUCCEEDED,
            {"accuracy": 0.75},
            None,
        )
        assert done.ended_at

    def test_a_silent_worker_loses_its_job(self, place: Place, registry: Registry) -> None:
        submit(registry)
        job = claim(registry)
        place.clock.advance(50)
        assert registry.leases.extend(job.lease, lease_s=LEASE_S) is False
        place.clock.advance(50)
        assert registry.leases.expire() == []
        place.clock.advance(20)
        assert registry.leases.expire() == [(job.id, JobState.QUEUED)]
        assert registry.leases.expire() == []
        again = claim(registry, "w2")
        assert (again.id, again.attempt) == (job.id, 2)

    def test_a_stale_worker_changes_nothing(self, place: Place, registry: Registry) -> None:
        submit(registry)
        old = claim(registry).lease
        place.clock.advance(100)
        registry.leases.expire()
        before = registry.jobs.get(old.job)
        refuse_everything(registry, old)
        assert registry.jobs.get(old.job) == before
        held = claim(registry, "w2")
        refuse_everything(registry, old)
        assert registry.jobs.get(old.job) == held
        assert registry.jobs.log(old.job) == ()
        registry.leases.succeed(held.lease)
        refuse_everything(registry, held.lease)
        refuse_everything(registry, Lease("0" * 16, 1))

    def test_a_job_is_begun_so_often_and_then_fails(self, place: Place, registry: Registry) -> None:
        submit(registry, max_attempts=2)
        for expected in (JobState.QUEUED, JobState.FAILED):
            job = claim(registry)
            place.clock.advance(100)
            assert registry.leases.expire() == [(job.id, expected)]
        failed = registry.jobs.get(job.id)
        assert failed.error is not None
        assert failed.error.code == "job-lost"
        assert (failed.attempt, failed.ended_at is not None) == (2, True)
        assert registry.leases.claim("w", lease_s=1) is None

    def test_a_stopped_worker_is_not_at_fault(self, registry: Registry) -> None:
        submit(registry, max_attempts=1)
        for _ in range(3):
            lease = claim(registry).lease
            assert registry.leases.give_back(lease, DIED, forgive=True) is JobState.QUEUED
        lease = claim(registry).lease
        assert lease.attempt == 4
        assert registry.leases.give_back(lease, DIED) is JobState.FAILED

    def test_a_later_attempt_finds_the_checkpoint(self, place: Place, registry: Registry) -> None:
        submit(registry)
        job = claim(registry)
        assert registry.leases.checkpoint(job) is None
        registry.leases.save_checkpoint(job.lease, b"one")
        digest = registry.leases.save_checkpoint(job.lease, b"two")
        assert digest == Digest.of(b"two")
        registry.leases.give_back(job.lease, DIED)
        place.clock.advance(3 * 24 * 3600)
        registry.collector.collect(0)
        again = claim(registry)
        assert registry.leases.checkpoint(again) == b"two"
        assert registry.store.stat(Digest.of(b"one")) is None, "what no attempt needs is collected"
        registry.leases.succeed(again.lease)
        place.clock.advance(3 * 24 * 3600)
        registry.collector.collect(0)
        assert registry.store.stat(digest) is None

    def test_a_checkpoint_is_bounded(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("registry.jobs.leases.MAX_CHECKPOINT_BYTES", 3)
        submit(registry)
        job = claim(registry)
        registry.leases.save_checkpoint(job.lease, b"123")
        with pytest.raises(ValidationError):
            registry.leases.save_checkpoint(job.lease, b"1234")

    def test_a_log_keeps_its_end(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("registry.catalog.job_logs.MAX_LOG_LINES", 5)
        submit(registry)
        submit(registry)
        job, other = claim(registry), claim(registry)
        registry.leases.log(other.lease, ["theirs"])
        for number in range(4):
            registry.leases.log(job.lease, [f"a{number}", "b\nc\0" + "x" * 3000])
        lines = registry.jobs.log(job.id)
        assert [line.text[:3] for line in lines] == ["b c", "a2", "b c", "a3", "b c"]
        assert max(len(line.text) for line in lines) == values.MAX_LOG_LINE
        assert [line.text for line in registry.jobs.log(job.id, after=lines[3].number)] == [
            lines[4].text
        ]
        assert [line.text for line in registry.jobs.log(job.id, limit=2)] == [
            line.text for line in lines[3:]
        ]
        assert [line.text for line in registry.jobs.log(other.id)] == ["theirs"]
        registry.leases.log(job.lease, [str(n) for n in range(50)])
        assert [line.text for line in registry.jobs.log(job.id)] == ["45", "46", "47", "48", "49"]

    def test_workers_learn_what_to_stop(self, registry: Registry) -> None:
        for _ in range(3):
            submit(registry)
        leases = [claim(registry).lease for _ in range(3)]
        assert registry.leases.to_stop(leases) == []
        assert registry.leases.to_stop([]) == []
        registry.jobs.cancel(leases[0].job)
        registry.leases.give_back(leases[2], DIED)
        assert registry.leases.to_stop(leases) == [leases[0], leases[2]]

    def test_an_earlier_attempt_beside_a_later_one_stops_alone(self, registry: Registry) -> None:
        submit(registry)
        earlier = claim(registry).lease
        registry.leases.give_back(earlier, DIED)
        later = claim(registry).lease
        assert later.job == earlier.job
        for leases in ([earlier, later], [later, earlier]):
            assert registry.leases.to_stop(leases) == [earlier]


class JobStateContract:
    """Move jobs from state to state; a subclass gives `place`."""

    @pytest.fixture
    def registry(self, place: Place) -> Registry:
        return place.open()

    @pytest.mark.parametrize("before", JobState)
    @pytest.mark.parametrize("after", JobState)
    def test_only_legal_moves_are_made(self, before: JobState, after: JobState) -> None:
        if after in NEXT[before]:
            assert check_move("x", before, after) is after
        else:
            with pytest.raises(JobStateError):
                check_move("x", before, after)

    def test_a_waiting_job_is_cancelled_at_once(self, registry: Registry) -> None:
        job = submit(registry)
        assert registry.jobs.cancel(job.id).state is JobState.CANCELLED
        assert registry.jobs.cancel(job.id).state is JobState.CANCELLED
        assert registry.leases.claim("w", lease_s=1) is None

    def test_a_running_job_is_asked_to_stop(self, place: Place, registry: Registry) -> None:
        submit(registry)
        job = claim(registry)
        asked = registry.jobs.cancel(job.id)
        assert (asked.state, asked.cancel_requested) == (JobState.RUNNING, True)
        assert registry.leases.extend(job.lease, lease_s=LEASE_S) is True
        assert registry.leases.give_back(job.lease, DIED) is JobState.CANCELLED
        submit(registry)
        silent = claim(registry)
        registry.jobs.cancel(silent.id)
        place.clock.advance(100)
        assert registry.leases.expire() == [(silent.id, JobState.CANCELLED)]

    def test_an_ended_job_is_not_cancelled(self, registry: Registry) -> None:
        submit(registry)
        job = claim(registry)
        registry.leases.succeed(job.lease)
        assert registry.jobs.cancel(job.id).state is JobState.SUCCEEDED
        with pytest.raises(JobStateError) as caught:
            registry.jobs.retry(job.id)
        assert caught.value.actual == "succeeded"

    def test_a_failed_job_is_tried_again_with_all_its_attempts(self, registry: Registry) -> None:
        job = submit(registry, max_attempts=1)
        registry.leases.save_checkpoint(claim(registry).lease, b"half")
        registry.leases.give_back(Lease(job.id, 1), DIED)
        assert state(registry, job) is JobState.FAILED
        again = registry.jobs.retry(job.id)
        assert (again.state, again.error, again.ended_at) == (JobState.QUEUED, None, None)
        held = claim(registry)
        assert held.attempt == 2
        assert registry.leases.checkpoint(held) == b"half"
        with pytest.raises(JobStateError):
            registry.jobs.retry(job.id)
        assert registry.leases.give_back(held.lease, DIED) is JobState.FAILED

    def test_a_cancelled_job_is_tried_again(self, registry: Registry) -> None:
        job = submit(registry)
        registry.jobs.cancel(job.id)
        registry.jobs.retry(job.id)
        held = claim(registry)
        assert registry.leases.extend(held.lease, lease_s=1) is False

    def test_a_defect_ends_it_for_good(self, registry: Registry) -> None:
        submit(registry)
        job = claim(registry)
        registry.leases.fail(job.lease, JobFailure("bad-option", "no", "do so"))
        found = registry.jobs.get(job.id)
        assert (found.state, found.error) == (
            JobState.FAILED,
            JobFailure("bad-option", "no", "do so"),
        )


class PublicationContract:
    """Publish what a job made, once; a subclass gives `place`."""

    @pytest.fixture
    def registry(self, place: Place) -> Registry:
        return place.open()

    def publish(self, registry: Registry, lease: Lease, seed: int = 0) -> Digest:
        """Push an adapter as the result of a job."""
        files = adapter_files(seed)
        send(registry, "team", files)
        request = PushRequest(AdapterName("team", "made"), push_files(files), lease=lease)
        return registry.pushes.commit(request).revision.digest

    def test_the_revision_and_the_result_are_one_act(self, registry: Registry) -> None:
        submit(registry)
        job = claim(registry)
        digest = self.publish(registry, job.lease)
        result = registry.jobs.get(job.id).result
        assert result is not None
        assert (str(result.adapter), result.revision) == ("team/made", digest)
        assert self.publish(registry, job.lease) == digest, "an answer that was lost is repeated"

    def test_a_stale_worker_publishes_nothing(self, place: Place, registry: Registry) -> None:
        submit(registry)
        old = claim(registry)
        place.clock.advance(100)
        registry.leases.expire()
        with pytest.raises(LeaseLostError):
            self.publish(registry, old.lease)
        held = claim(registry)
        with pytest.raises(LeaseLostError):
            self.publish(registry, old.lease)
        digest = self.publish(registry, held.lease)
        assert at(registry, "team/made").digest == digest
        assert len(registry.adapters.log(MADE).items) == 1

    def test_what_was_published_is_not_published_again(
        self, place: Place, registry: Registry
    ) -> None:
        submit(registry)
        job = claim(registry)
        self.publish(registry, job.lease)
        push(registry, "team/made", adapter_files(7))
        with pytest.raises(LeaseLostError):
            self.publish(registry, job.lease, seed=9)
        place.clock.advance(100)
        assert registry.leases.expire() == [(job.id, JobState.SUCCEEDED)]
        assert len(registry.adapters.log(MADE).items) == 2

    @pytest.mark.parametrize("end", ["fail", "cancel"])
    def test_who_has_published_has_succeeded(self, registry: Registry, end: str) -> None:
        submit(registry)
        job = claim(registry)
        self.publish(registry, job.lease)
        if end == "fail":
            registry.leases.fail(job.lease, DIED)
        else:
            registry.jobs.cancel(job.id)
            registry.leases.give_back(job.lease, DIED)
        assert state(registry, job) is JobState.SUCCEEDED


class MapContract:
    """Do the same to many adapters; a subclass gives `place`."""

    @pytest.fixture
    def registry(self, place: Place) -> Registry:
        return place.open()

    @pytest.fixture
    def parent(self, registry: Registry) -> Job:
        return registry.jobs.submit(new_job(key="all"), [new_job(max_attempts=1)] * 3)[0]

    def children(self, registry: Registry, parent: Job) -> list[Job]:
        return list(registry.jobs.list(JobQuery(parent=parent.id)).items)

    def test_a_map_counts_what_ended(self, registry: Registry, parent: Job) -> None:
        assert (parent.children, parent.progress.total) == (3, 3)
        assert len(self.children(registry, parent)) == 3
        assert [job.id for job in registry.jobs.list(JobQuery()).items] == [parent.id]
        for done in range(3):
            held = claim(registry)
            assert (held.parent, held.children) == (parent.id, 0)
            assert state(registry, parent) is JobState.RUNNING
            registry.leases.succeed(held.lease)
            assert registry.jobs.get(parent.id).progress.step == done + 1
        ended = registry.jobs.get(parent.id)
        assert (ended.state, ended.progress.message) == (JobState.SUCCEEDED, "3 succeeded")
        assert ended.ended_at
        assert registry.leases.claim("w", lease_s=1) is None, "a map itself is not worked on"

    def test_the_same_key_makes_no_second_map(self, registry: Registry, parent: Job) -> None:
        again, new = registry.jobs.submit(new_job(key="all"), [new_job()] * 3)
        assert (again.id, new) == (parent.id, False)
        assert len(self.children(registry, parent)) == 3

    def test_one_failure_fails_it_after_all_were_tried(
        self, registry: Registry, parent: Job
    ) -> None:
        registry.leases.fail(claim(registry).lease, DIED)
        assert state(registry, parent) is JobState.RUNNING
        for _ in range(2):
            registry.leases.succeed(claim(registry).lease)
        failed = registry.jobs.get(parent.id)
        assert failed.state is JobState.FAILED
        assert failed.error is not None
        assert "1 failed, 2 succeeded" in failed.error.message
        registry.jobs.retry(parent.id)
        assert state(registry, parent) is JobState.QUEUED
        registry.leases.succeed(claim(registry).lease)
        assert registry.leases.claim("w", lease_s=1) is None, "only what failed is done again"
        assert state(registry, parent) is JobState.SUCCEEDED

    def test_cancelling_it_cancels_its_jobs(self, registry: Registry, parent: Job) -> None:
        running = claim(registry)
        registry.jobs.cancel(parent.id)
        states = sorted(job.state for job in self.children(registry, parent))
        assert states == [JobState.CANCELLED, JobState.CANCELLED, JobState.RUNNING]
        assert state(registry, parent) is JobState.RUNNING
        assert registry.leases.give_back(running.lease, DIED) is JobState.CANCELLED
        assert state(registry, parent) is JobState.CANCELLED
        registry.jobs.retry(parent.id)
        for _ in range(3):
            registry.leases.succeed(claim(registry).lease)
        assert state(registry, parent) is JobState.SUCCEEDED

    def test_retrying_one_of_its_jobs_opens_it_again(self, registry: Registry, parent: Job) -> None:
        failed = claim(registry)
        registry.leases.fail(failed.lease, DIED)
        for _ in range(2):
            registry.leases.succeed(claim(registry).lease)
        registry.jobs.retry(failed.id)
        assert state(registry, parent) is JobState.QUEUED
        registry.jobs.cancel(failed.id)
        assert state(registry, parent) is JobState.CANCELLED

    def test_jobs_that_end_at_once_are_all_counted(self, place: Place, registry: Registry) -> None:
        parent, _ = registry.jobs.submit(new_job(), [new_job()] * 12)
        leases = [claim(registry).lease for _ in range(12)]
        run_all([lambda one=one: place.open().leases.succeed(one) for one in leases])
        ended = registry.jobs.get(parent.id)
        assert (ended.state, ended.progress.step) == (JobState.SUCCEEDED, 12)


def refuse_everything(registry: Registry, lease: Lease) -> None:
    """Check that a lease that does not hold allows nothing."""
    leases = registry.leases
    for act in (
        lambda: leases.extend(lease, lease_s=1),
        lambda: leases.report(lease, JobProgress(1)),
        lambda: leases.log(lease, ["x"]),
        lambda: leases.save_checkpoint(lease, b"stale"),
        lambda: leases.succeed(lease),
        lambda: leases.fail(lease, DIED),
        lambda: leases.give_back(lease, DIED),
        lambda: leases.held(lease),
    ):
        with pytest.raises(LeaseLostError):
            act()


def run_all(acts: list[Any]) -> None:
    """Run functions at once, and raise what the first of them raised."""
    errors: list[Exception] = []

    def guarded(act: Any) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
