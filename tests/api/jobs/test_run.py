"""Run attempts of every kind, in this process, on real adapters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.client import open_client
from api.jobs.inner_hub import OneCaller, inner_hub
from api.jobs.pulse import EXIT_LOST
from api.jobs.run import failure_of, run_attempt
from api.remote.errors import HubError
from api.settings import HubSettings, environment_with
from registry.catalog.values import Role
from registry.digest import Digest
from registry.errors import PermissionDeniedError, StorageError, ValidationError
from registry.jobs.errors import LeaseLostError
from registry.jobs.states import JobState
from registry.jobs.values import Job, JobFailure, Lease
from registry.manifest import Operation
from registry.refs import AdapterName, Reference
from registry.service import Registry
from registry.tokens import Principal
from tests.jobs_kit import asked, hub_at, long_noop, opened, process_of, state, until
from tests.registry_kit import adapter_files, at, push

DIED = JobFailure("died", "it died")
ANN = Principal("ann", {"team": Role.WRITE}, "1")


@pytest.fixture
def settings(tmp_path: Path) -> HubSettings:
    return hub_at(tmp_path)


@pytest.fixture
def registry(settings: HubSettings) -> Iterator[Registry]:
    with opened(settings) as registry:
        yield registry


def claimed(registry: Registry) -> Job:
    job = registry.leases.claim("test", lease_s=60, gpus=9)
    assert job is not None
    return job


def done(registry: Registry, settings: HubSettings) -> Job:
    """Run the next job here, and return it as it is then."""
    job = claimed(registry)
    run_attempt(settings, registry, job.lease)
    return registry.jobs.get(job.id)


def test_compress_publishes_with_its_lineage(registry: Registry, settings: HubSettings) -> None:
    source = push(registry, "team/a").revision.digest
    asked(
        registry,
        "compress",
        {"source": "team/a", "target": "team/a-small", "how": {"method": "compeft"}},
        principal=ANN,
    )
    job = done(registry, settings)
    assert job.state is JobState.SUCCEEDED, job.error
    made = at(registry, "team/a-small")
    assert job.result is not None
    assert (str(job.result.adapter), job.result.revision) == ("team/a-small", made.digest)
    assert job.outcome is not None
    assert job.outcome["method"] == "compeft"
    (edge,) = made.manifest.lineage
    assert (edge.operation, edge.revision) == (Operation.COMPRESSED_FROM, source)
    assert made.manifest.author == "ann"
    assert job.progress.step == job.progress.total


def test_a_job_works_on_what_was_there_when_it_was_asked_for(
    registry: Registry, settings: HubSettings
) -> None:
    first = push(registry, "team/a").revision.digest
    asked(registry, "compress", {"source": "team/a", "target": "team/b"})
    push(registry, "team/a", adapter_files(1))
    job = done(registry, settings)
    assert job.parameters["source"] == f"team/a@{first}"
    assert at(registry, "team/b").manifest.lineage[0].revision == first


def test_merge_publishes_with_its_weights(registry: Registry, settings: HubSettings) -> None:
    push(registry, "team/a")
    push(registry, "team/b", adapter_files(1))
    parameters = {"sources": ["team/a", "team/b"], "weights": [0.7, 0.3], "target": "team/m"}
    asked(registry, "merge", parameters)
    job = done(registry, settings)
    assert job.state is JobState.SUCCEEDED, job.error
    edges = at(registry, "team/m").manifest.lineage
    assert [(edge.adapter.name, edge.weight) for edge in edges] == [("a", 0.7), ("b", 0.3)]


def test_a_map_compresses_every_adapter_of_a_base_once(
    registry: Registry, settings: HubSettings
) -> None:
    for number in range(3):
        push(registry, f"team/a{number}", adapter_files(number))
    push(registry, "team/other", adapter_files(9, base="large"))
    how = {"method": "lossless"}
    parent = asked(registry, "compress", {"base_model": "tiny", "suffix": ".c", "how": how})
    assert parent.children == 3
    for _ in range(3):
        assert done(registry, settings).state is JobState.SUCCEEDED
    assert state(registry, parent) is JobState.SUCCEEDED
    for number in range(3):
        assert at(registry, f"team/a{number}.c").manifest.config.encoding == "tern"
    again = asked(registry, "compress", {"base_model": "tiny", "suffix": ".c", "how": how})
    assert again.children == 3, "what is compressed is not compressed again"
    for _ in range(3):
        done(registry, settings)
    log = registry.adapters.log(Reference(AdapterName("team", "a0.c"))).items
    assert len(log) == 1, "equal content is no new revision"


def test_verify_tells_what_is_damaged(registry: Registry, settings: HubSettings) -> None:
    revision = push(registry, "team/a").revision
    asked(registry, "verify", {"source": "team/a"})
    assert done(registry, settings).outcome == {"ok": True, "checked": 3, "damaged": []}
    registry.store.delete(revision.manifest.files[0].digest)
    asked(registry, "verify", {})
    job = done(registry, settings)
    assert job.state is JobState.SUCCEEDED
    assert job.outcome is not None
    assert job.outcome["ok"] is False
    assert any("damaged" in line.text for line in registry.jobs.log(job.id))


def test_gc_removes_what_nothing_needs(registry: Registry, settings: HubSettings) -> None:
    push(registry, "team/a")
    registry.adapters.delete(AdapterName("team", "a"))
    asked(registry, "gc", {"grace_s": 0, "dry_run": True})
    dry = done(registry, settings).outcome
    asked(registry, "gc", {"grace_s": 0})
    wet = done(registry, settings).outcome
    assert dry is not None
    assert wet is not None
    assert dry["blobs"] == wet["blobs"] != []
    blobs: Any = wet["blobs"]
    assert registry.store.stat(Digest.parse(blobs[0])) is None


def test_evaluate_fails_where_no_rows_are(registry: Registry, settings: HubSettings) -> None:
    push(registry, "team/a")
    asked(registry, "evaluate", {"source": "team/a", "base_model": "/none", "rows": "/none"})
    job = done(registry, settings)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.code in {"bad-source", "bad-option"}


def test_a_later_attempt_goes_on_from_the_checkpoint(
    registry: Registry, settings: HubSettings
) -> None:
    asked(registry, "noop", {"namespace": "team", "steps": 5})
    first = claimed(registry)
    registry.leases.save_checkpoint(first.lease, json.dumps(3).encode())
    registry.leases.give_back(first.lease, DIED)
    job = done(registry, settings)
    assert job.outcome is not None
    assert (job.outcome["begun_at"], job.attempt) == (3, 2)


def test_what_was_published_before_a_death_is_not_published_again(
    registry: Registry, settings: HubSettings
) -> None:
    push(registry, "team/a")
    asked(registry, "compress", {"source": "team/a", "target": "team/b"})
    first = claimed(registry)
    job = first.lease
    with inner_hub(settings, registry, Principal("x", {"*": Role.ADMIN}, lease=job)) as client:
        from api.jobs.context import JobContext
        from api.jobs.kinds import kind_of
        from api.jobs.pulse import Pulse

        pulse = Pulse(registry.leases, job, lease_s=60, orphaned=lambda: False)
        kind = kind_of("compress")
        folder = settings.data_dir / "work"
        kind.run(kind.read(first.parameters), JobContext(settings, registry, first, pulse, folder))
        assert client.head(AdapterName("team", "b"), "main") is not None
    assert state(registry, first) is JobState.RUNNING, "it died before it could say so"
    push(registry, "team/b", adapter_files(5))
    newest = at(registry, "team/b").digest
    registry.leases.give_back(job, DIED)
    assert state(registry, first) is JobState.SUCCEEDED
    assert at(registry, "team/b").digest == newest


def test_a_job_may_do_what_who_asked_may(registry: Registry, settings: HubSettings) -> None:
    push(registry, "team/a")
    push(registry, "ann/secret")
    with inner_hub(settings, registry, ANN) as client:
        assert [adapter.name for adapter in client.adapters()] == ["team/a"]
        with pytest.raises(HubError, match="no adapter"):
            client.resolve(Reference(AdapterName("ann", "secret")))
        stranger = open_client(client.endpoint, token="tern_" + "A" * 49)
        with stranger, pytest.raises(HubError) as caught:
            stranger.whoami()
        assert caught.value.status == 401


def test_one_caller_is_known_by_the_secret_alone() -> None:
    gate = OneCaller("secret", ANN)
    assert gate.identify("Bearer secret", "127.0.0.1") is ANN
    for wrong in (None, "", "Bearer other", "secret"):
        with pytest.raises(Exception, match="nobody else"):
            gate.identify(wrong, "127.0.0.1")


def test_a_defect_ends_a_job_and_a_failing_store_does_not() -> None:
    failure, again = failure_of(ValidationError("the rank is wrong", hint="fix it"))
    assert (failure.code, failure.hint, again) == ("invalid", "fix it", False)
    assert failure_of(PermissionDeniedError("no"))[1] is False
    assert failure_of(ZeroDivisionError("secret"))[0].message.count("secret") == 0
    assert failure_of(ZeroDivisionError())[1] is False
    assert failure_of(StorageError("disk"))[1] is True
    assert failure_of(HubError("busy", status=503, code="blob-busy")) == (
        JobFailure("blob-busy", failure_of(HubError("busy", status=503, code="x"))[0].message),
        True,
    )
    assert failure_of(HubError("moved", status=409, code="branch-moved"))[1] is False


def test_an_attempt_that_is_over_does_not_begin(registry: Registry, settings: HubSettings) -> None:
    asked(registry)
    job = claimed(registry)
    registry.leases.give_back(job.lease, DIED)
    with pytest.raises(LeaseLostError):
        run_attempt(settings, registry, job.lease)


def begun(settings: HubSettings, lease: Lease) -> subprocess.Popen[bytes]:
    """Start the process of an attempt, as a child of this one."""
    command = [sys.executable, "-m", "api.jobs.run", lease.job, str(lease.attempt)]
    environment = environment_with(settings)
    return subprocess.Popen([*command, str(os.getpid())], env=environment)


def test_a_process_that_lost_its_lease_ends_itself(
    registry: Registry, settings: HubSettings
) -> None:
    asked(registry, parameters=long_noop())
    job = claimed(registry)
    process = begun(settings, job.lease)
    process_of(registry, job)
    registry.leases.give_back(job.lease, DIED)
    other = claimed(registry)
    assert process.wait(20) == EXIT_LOST
    assert registry.jobs.get(job.id).attempt == other.attempt
    assert registry.jobs.get(job.id).owner == "test"


def test_a_process_that_is_to_stop_ends_itself_even_without_a_supervisor(
    registry: Registry, tmp_path: Path
) -> None:
    settings = hub_at(tmp_path, job_lease_s=2)
    asked(registry, parameters=long_noop())
    job = registry.leases.claim("test", lease_s=2)
    assert job is not None
    process = begun(settings, job.lease)
    process_of(registry, job)
    registry.jobs.cancel(job.id)
    assert process.wait(20) == 143
    until(registry.leases.expire)
    assert state(registry, job) is JobState.CANCELLED


def test_a_living_process_keeps_its_lease(registry: Registry, tmp_path: Path) -> None:
    settings = hub_at(tmp_path, job_lease_s=1)
    asked(registry, parameters={"namespace": "team", "steps": 30, "step_s": 0.1})
    job = registry.leases.claim("test", lease_s=5)
    assert job is not None
    process = begun(settings, job.lease)
    process_of(registry, job)
    while process.poll() is None:
        assert registry.leases.expire() == []
    assert process.returncode == 0
    assert state(registry, job) is JobState.SUCCEEDED
