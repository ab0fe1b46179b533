"""Ask for jobs on the command line, of a hub that runs them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from api.cli.job_views import view
from api.schemas_jobs import JobBody
from tests.api.test_job_routes import NOOP
from tests.command_line import CommandLine
from tests.live_hub import LiveHub, start_hub

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "0" * 16


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHub]:
    """Give a hub that runs two jobs at once."""
    with start_hub(tmp_path_factory.mktemp("hub"), job_slots=2, job_grace_s=2) as live:
        yield live
        live.stop()


@pytest.fixture
def pushed(cli: CommandLine) -> str:
    cli("push", ROOT / "examples" / "sst2", "team/sst2")
    return "team/sst2"


def ended(cli: CommandLine, job: str, *, timeout_s: float = 90) -> dict[str, Any]:
    """Wait until a job ended, and return what `show` says."""
    deadline = time.monotonic() + timeout_s
    while True:
        found: dict[str, Any] = cli.json("jobs", "show", job)
        if found["state"] in {"succeeded", "failed", "cancelled"}:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def test_compress_runs_as_a_job(cli: CommandLine, pushed: str) -> None:
    asked = cli.json("compress", pushed, "--as", "team/sst2-job", "--bits", "0.5", "--job")
    assert asked["state"] in {"queued", "running"}
    assert asked["parameters"]["how"]["bits"] == 0.5
    done = ended(cli, asked["id"])
    assert done["state"] == "succeeded", done["error"]
    shown = cli.json("show", "team/sst2-job")
    assert done["result"] == {"adapter": "team/sst2-job", "digest": shown["digest"]}
    here = cli.json("compress", pushed, "--as", "team/sst2-here", "--bits", "0.5")
    other = cli.json("show", f"team/sst2-here@{here['digest']}")
    weights = [
        [f["digest"] for f in manifest["files"] if f["path"].endswith(".tern.safetensors")]
        for manifest in (shown["manifest"], other["manifest"])
    ]
    assert weights[0] == weights[1], "a job makes what the command makes"


def test_every_long_command_runs_as_a_job(cli: CommandLine, pushed: str) -> None:
    cli("push", ROOT / "examples" / "mr-rt-polarity", "team/mr")
    jobs = [
        cli.json("merge", pushed, "team/mr", "-w", "0.6", "-w", "0.4", "--as", "team/m", "--job"),
        cli.json("verify", pushed, "--job"),
        cli.json("verify", "--all", "--job"),
        cli.json("admin", "gc", "--dry-run", "--job"),
    ]
    for job in jobs:
        done = ended(cli, job["id"])
        assert done["state"] == "succeeded", done
    edges = cli.json("show", "team/m")["manifest"]["lineage"]
    assert [edge["weight"] for edge in edges] == [0.6, 0.4]
    rows = ROOT / "none.jsonl"
    judged = cli.json("evaluate", pushed, "--base-model", ".", "--rows", rows, "--job")
    failed = ended(cli, judged["id"])
    assert failed["state"] == "failed"
    assert failed["error"]["code"] in {"bad-source", "bad-option"}
    assert failed["parameters"]["rows"] == str(rows)


def test_all_of_a_base_model_is_one_job(cli: CommandLine, pushed: str) -> None:
    cli("push", ROOT / "examples" / "mr-rt-polarity", "team/mr")
    base = cli.json("show", pushed)["manifest"]["base_model"]
    asked = cli.json("compress", "--all-of", base, "--suffix", "-all", "--job")
    assert asked["children"] >= 2
    done = ended(cli, asked["id"])
    assert done["state"] == "succeeded", cli.json("jobs", "list", "--of", asked["id"])
    assert done["progress"]["step"] == asked["children"]
    assert {"team/sst2-all", "team/mr-all"} <= {a["name"] for a in cli.json("list")}
    children = cli("jobs", "list", "--of", asked["id"], "-q").out.split()
    assert len(children) == asked["children"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["compress", "./here", "--as", "team/x"], "push it"),
        (["compress", "team/x"], "--as NAME"),
        (["compress", "team/x", "--to", "y.tern"], "--to cannot go with --job"),
        (["compress", "team/x", "--as", "team/y", "--base", "b"], "--base cannot"),
        (["compress", "team/x", "--as", "team/y", "--density", "0.1"], "--method compeft"),
        (["compress", "--all-of", "b", "--as", "team/y"], "neither SRC"),
        (["merge", "team/x", "--to", "y"], "--to cannot"),
        (["similar", "team/x", "team/y"], "--others cannot"),
        (["verify", "./here", "--against", "team/x"], "--against cannot"),
    ],
)
def test_what_no_job_can_do_is_a_usage_error(
    cli: CommandLine, arguments: list[str], told: str
) -> None:
    Path("here").mkdir()
    assert told in cli(*arguments, "--job", code=2).err.replace("\n", " ")


@pytest.mark.parametrize("arguments", [["compress"], ["compress", "--all-of", "b", "--to", "x"]])
def test_without_a_job_there_is_a_source(cli: CommandLine, arguments: list[str]) -> None:
    assert "name a source" in cli(*arguments, code=2).err


def test_methods_travel_whole(cli: CommandLine, pushed: str) -> None:
    target = ("--as", "team/how", "--job")
    norm = cli.json("compress", pushed, *target, "--gain", "norm", "--heads", "int8")
    assert (norm["parameters"]["how"]["gain"], norm["parameters"]["how"]["heads"]) == (
        "norm",
        "int8",
    )
    number = cli.json("compress", pushed, *target, "--gain", "1.25")
    assert number["parameters"]["how"]["gain"] == 1.25
    recipe = cli.json("compress", pushed, *target, "--method", "compeft", "--density", "0.1")
    assert recipe["parameters"]["how"]["density"] == 0.1
    exact = cli.json("compress", pushed, *target, "--lossless")
    assert exact["parameters"]["how"] == {"method": "lossless"}
    assert "how" not in cli.json("compress", pushed, *target)["parameters"]
    wrong = cli("compress", pushed, *target, "--gain", "tune", "--json", code=2)
    assert "--gain tune" in wrong.err
    for job in cli("jobs", "list", "-q").out.split():
        cli("jobs", "cancel", job)


def test_without_json_the_id_alone_is_data(cli: CommandLine, pushed: str) -> None:
    ran = cli("verify", pushed, "--job")
    (job,) = ran.out.split()
    assert len(job) == 16
    assert f"adapters jobs watch {job}" in ran.err
    ended(cli, job)


def test_a_job_is_submitted_and_watched(cli: CommandLine) -> None:
    text = "-p", "namespace=team", "-p", "steps=3", "-p", "step_s=0.3"
    done = cli.json("jobs", "submit", "noop", *text, "--key", "once", "--watch")
    assert done["state"] == "succeeded"
    again = cli.json("jobs", "submit", "noop", *text, "--key", "once")
    assert again["id"] == done["id"]
    watched = cli("jobs", "watch", done["id"])
    assert "succeeded" in watched.out
    lines = [
        json.loads(line) for line in cli("jobs", "watch", done["id"], "--json").out.split("\n")[:-1]
    ]
    assert [line["event"] for line in lines] == ["log", "job"]
    assert lines[-1]["job"]["state"] == "succeeded"
    shown = cli("jobs", "show", done["id"]).out
    assert "100 %" in shown
    assert "began in process" in cli("jobs", "logs", done["id"]).out
    assert cli.json("jobs", "logs", done["id"])[0]["attempt"] == 1
    followed = cli("jobs", "logs", done["id"], "--follow", "--json").out
    assert json.loads(followed.splitlines()[0])["attempt"] == 1


def test_a_job_is_cancelled_watched_and_tried_again(cli: CommandLine) -> None:
    job = cli.json(
        "jobs", "submit", "noop", "-p", "namespace=team", "-p", "steps=9999", "-p", "step_s=1"
    )["id"]
    while cli.json("jobs", "show", job)["state"] == "queued":
        time.sleep(0.2)
    began = time.monotonic()
    cli("jobs", "cancel", job)
    told = cli("jobs", "watch", job, code=1)
    assert time.monotonic() - began < 10
    assert "cancelled" in told.out
    assert cli.json("jobs", "retry", job)["state"] in {"queued", "running"}
    cli("jobs", "cancel", job)
    assert ended(cli, job)["state"] == "cancelled"
    assert "cancelled" in cli("jobs", "list", "--state", "cancelled").out


def test_what_is_wrong_is_told(cli: CommandLine) -> None:
    assert "job-not-found" in cli("jobs", "show", NOBODY, "--json", code=1).err
    assert "there are compress" in cli("jobs", "submit", "route", code=1).err
    assert "NAME=VALUE" in cli("jobs", "submit", "noop", "-p", "steps", code=2).err
    assert "no jobs" in cli("jobs", "list", "--kind", "nothing").err
    done = cli.json("jobs", "submit", "noop", "-p", "namespace=team", "--watch")
    assert "succeeded" in cli("jobs", "retry", done["id"], code=1).err


def test_experts_are_compared_by_a_job(cli: CommandLine, pushed: str) -> None:
    cli("push", ROOT / "examples" / "mr-rt-polarity", "team/mr")
    cli("compress", pushed, "--as", "team/sst2-like", "--bits", "1")
    outcome = ended(cli, cli.json("similar", pushed, "--job")["id"])["outcome"]
    assert outcome == {**cli.json("similar", pushed), "reference": outcome["reference"]}
    assert "team/sst2-like" in {one["label"] for one in outcome["neighbours"] if one["relation"]}
    asked = cli.json("similar", pushed, "--clusters", "--threshold", "0.9", "--top", "1", "--job")
    compared = ended(cli, asked["id"])["outcome"]
    assert len(compared["pairs"]) == 1
    assert compared["alike"] >= 1
    assert any({"team/sst2", "team/sst2-like"} <= set(group) for group in compared["clusters"])
    assert "cosines" not in compared


def test_kinds_are_listed(cli: CommandLine) -> None:
    assert {"compress", "merge", "similar", "evaluate", "verify", "gc", "noop"} == {
        kind["kind"] for kind in cli.json("jobs", "kinds")
    }
    assert "base_model" in cli("jobs", "kinds").out


def body(**fields: Any) -> JobBody:
    """Return a job as a hub shows it."""
    progress = {"step": 3, "total": 10, "message": "half\x1b[31m", "metrics": {"loss": 0.5}}
    names = "worker lease_expires_at heartbeat_at checkpoint result outcome error parent"
    plain = dict.fromkeys([*names.split(), "started_at", "ended_at"])
    given = {"id": NOBODY, "namespace": "team", "state": "running", "cancel_requested": False}
    numbers = {"attempt": 2, "max_attempts": 3, "gpus": 0, "children": 0, "version": 1}
    told = {"asked_by": "ann", "created_at": "2026-01-01T00:00:00.000Z", "progress": progress}
    return JobBody.model_validate({**plain, **given, **numbers, **told, **NOOP, **fields})


def test_a_live_view_shows_state_bar_and_log() -> None:
    console = Console(width=80, record=True, file=StringIO())
    console.print(view(body(), ["attempt 2 began", "evil\x1b[2J"]))
    text = console.export_text(styles=False)
    for wanted in ("noop", NOBODY, "running", "30 %", "attempt 2 of 3", "loss 0.5", "began"):
        assert wanted in text
    assert "\x1b" not in text
