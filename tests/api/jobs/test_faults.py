"""Run jobs while what runs them is killed; `benchmarks/job_faults.py` does so for minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import Storm, settings_for, storm
from tests.jobs_kit import opened

SHORT = Storm(jobs=14, workers=3, kills_s=10, pause_s=1.0, cancels=2)


@pytest.mark.slow
def test_no_job_is_lost_and_none_publishes_twice_on_sqlite(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "hub", "")
    with opened(settings) as registry:
        damage = storm(registry, settings, SHORT)
    assert damage.wrong == []
    assert damage.killed_jobs > 0
    assert sum(damage.states.values()) == SHORT.jobs
