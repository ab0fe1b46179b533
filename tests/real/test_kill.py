"""Kill -9 a real hub and real clients at many points.

Nothing acknowledged is lost, nothing is half-visible, and nothing that arrived is sent again.

The hub dies at durable steps chosen one by one (`tests/crash_runner.py`); the client dies at
moments spread over its run. ADAPTERS_TEST_ALL_STEPS=1 tries every step instead of a sample.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import numpy as np
import pytest
from safetensors.numpy import save_file

from api.client import HubClient
from api.remote.credentials import Access
from api.remote.errors import HubError, HubUnreachableError
from api.remote.transport import RetryPolicy
from api.workflows.pull import PullOptions, pull
from api.workflows.push import push
from registry.refs import Reference
from tests.live_hub import LiveHub, start_hub

ROOT = Path(__file__).resolve().parent.parent.parent
NAME = Reference.parse("team/expert")
SAMPLED_STEPS = 9
CLIENT_KILLS = 5
MIB = 1 << 20


def write_adapter(folder: Path, seed: int, rank: int = 4, width: int = 64) -> Path:
    """Write a PEFT folder of 2 · rank · width float32 values."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    stem = "base_model.model.layers.0.q"
    tensors = {
        f"{stem}.lora_A.weight": rng.standard_normal((rank, width), dtype=np.float32),
        f"{stem}.lora_B.weight": rng.standard_normal((width, rank), dtype=np.float32),
    }
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": "org/base",
        "r": rank,
        "lora_alpha": 8,
        "target_modules": ["q"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def client_environment(folder: Path, url: str) -> dict[str, str]:
    """Return the environment of a command-line client with a home of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ADAPTERS_")}
    return {
        **clean,
        "ADAPTERS_ENDPOINT": url,
        "PYTHONPATH": str(ROOT),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }


def client_of(url: str, *, attempts: int = 1) -> HubClient:
    """Return a client in this process, which gives up on a dead hub after so many attempts."""
    return HubClient(Access(url, None), timeout_s=30, retry=RetryPolicy(attempts=attempts))


def pushed(url: str, source: Path) -> str:
    """Push, and return the digest of the revision."""
    with client_of(url) as client:
        return push(client, source, NAME).revision.digest


def acknowledged(url: str, source: Path) -> bool:
    """Push to a hub that may die; return whether it said that the revision stands."""
    try:
        pushed(url, source)
    except (HubError, HubUnreachableError):
        return False
    return True


def history(url: str) -> list[str]:
    """Return the digests of the branch, newest first."""
    with client_of(url) as client:
        return [revision.digest for revision in client.log(NAME)]


def require_whole(folder: Path, url: str, source: Path) -> None:
    """Check that what the branch points at comes back byte for byte."""
    target = folder / f"pulled-{time.monotonic_ns()}"
    with client_of(url) as client:
        pull(client, NAME, target, options=PullOptions(folder / "cache"))
    for file in source.iterdir():
        assert (target / file.name).read_bytes() == file.read_bytes()
    shutil.rmtree(target)


def require_undamaged(hub: LiveHub, point: str) -> None:
    """Check that the hub reads every blob and finds it to be what its digest says."""
    with hub.client() as client:
        report = client.post("/admin/verify").json()
    assert report["checked"] >= 4, point
    assert report["damaged"] == [], point


class MortalHub:
    """Be a hub that ends itself at its n-th durable step."""

    def __init__(self, folder: Path, step: int) -> None:
        self.log = folder.with_name(f"{folder.name}-steps")
        environment = client_environment(folder, "") | {"CRASH_LOG": str(self.log)}
        command = [sys.executable, str(ROOT / "tests" / "crash_runner.py"), str(step)]
        serve = ["api.cli.main", "serve", "--port", "0", "--data-dir", str(folder), "--json"]
        self.process = subprocess.Popen(
            [*command, *serve],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        line = self.process.stdout.readline() if self.process.stdout else ""
        self.url = str(json.loads(line)["url"]) if line else ""

    def end(self) -> int:
        """End it if it still lives; return its exit status."""
        if self.process.poll() is None:
            self.process.kill()
        status = self.process.wait(30)
        if self.process.stdout:
            self.process.stdout.close()
        return status

    def steps(self) -> int:
        """Count the steps so far."""
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a data folder of a hub that holds one revision, and the adapter `v1` beside it."""
    folder = tmp_path_factory.mktemp("before")
    with start_hub(folder / "hub") as hub:
        pushed(hub.url, write_adapter(folder / "v1", 1))
        hub.stop()
    write_adapter(folder / "v2", 2)
    return folder


@pytest.fixture(scope="module")
def steps_of_a_push(before: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, int]:
    """Count the durable steps of a hub until it is ready, and until a push is acknowledged."""
    folder = tmp_path_factory.mktemp("count")
    shutil.copytree(before / "hub", folder / "hub")
    hub = MortalHub(folder / "hub", 0)
    ready = hub.steps()
    assert acknowledged(hub.url, before / "v2")
    done = hub.steps()
    hub.end()
    assert done - ready >= 10, hub.log.read_text()
    return ready, done


def chosen(first: int, last: int) -> list[int]:
    """Return the steps to die at: all of them, or a sample with both ends."""
    if os.environ.get("ADAPTERS_TEST_ALL_STEPS"):
        return list(range(first, last + 1))
    return sorted({round(float(x)) for x in np.linspace(first, last, SAMPLED_STEPS)})


def test_a_hub_killed_at_any_step_keeps_what_it_acknowledged(
    before: Path, steps_of_a_push: tuple[int, int], tmp_path: Path
) -> None:
    ready, done = steps_of_a_push
    deaths = 0
    for step in chosen(ready + 1, done):
        data = tmp_path / f"hub-{step}"
        shutil.copytree(before / "hub", data)
        mortal = MortalHub(data, step)
        said = acknowledged(mortal.url, before / "v2")
        deaths += mortal.end() == -signal.SIGKILL and mortal.steps() == step
        point = f"step {step}: {mortal.log.read_text().splitlines()[-1]}"
        with start_hub(data) as hub:
            found = history(hub.url)
            assert len(found) in ({2} if said else {1, 2}), point
            require_whole(tmp_path, hub.url, before / ("v2" if len(found) == 2 else "v1"))
            head = pushed(hub.url, before / "v2")
            assert history(hub.url) == [head, found[-1]], point
            require_whole(tmp_path, hub.url, before / "v2")
            require_undamaged(hub, point)
        shutil.rmtree(data)
    assert deaths >= SAMPLED_STEPS - 2


def test_a_hub_killed_while_it_starts_starts_again(before: Path, tmp_path: Path) -> None:
    data = tmp_path / "hub"
    shutil.copytree(before / "hub", data)
    counted = MortalHub(data, 0)
    total = counted.steps()
    counted.end()
    for step in sorted({1, max(1, total // 2), max(1, total)}):
        MortalHub(data, step).end()
    with start_hub(data) as hub:
        require_whole(tmp_path, hub.url, before / "v1")


def received_bytes(hub: LiveHub) -> int:
    """Return how many bytes of blobs the hub has received since it started."""
    text = httpx2.get(f"{hub.url}/metrics", trust_env=False).text
    found = re.search(r"^ternery_blob_received_bytes_total (\S+)", text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def test_a_client_killed_again_and_again_finishes_without_sending_twice(tmp_path: Path) -> None:
    source = write_adapter(tmp_path / "big", 3, rank=64, width=96 << 10)
    weights = source / "adapter_model.safetensors"
    size = weights.stat().st_size
    assert size > 45 * MIB
    with start_hub(tmp_path / "hub") as hub:
        deaths = 0
        for attempt in range(CLIENT_KILLS):
            client = subprocess.Popen(
                [sys.executable, "-m", "api.cli.main", "push", str(source), str(NAME)],
                env=client_environment(tmp_path, hub.url),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            before = received_bytes(hub)
            deadline = time.monotonic() + 20
            wanted = before + (attempt + 1) * MIB if attempt else 0
            while received_bytes(hub) < wanted and time.monotonic() < deadline:
                if client.poll() is not None:
                    break
            client.kill()
            deaths += client.wait() == -signal.SIGKILL
        assert deaths >= 2
        pushed(hub.url, source)
        require_whole(tmp_path, hub.url, source)
        # What was on its way when a client died may be sent again; what arrived is not.
        assert received_bytes(hub) <= size + MIB + deaths * 8 * MIB
        assert received_bytes(hub) < 2 * size


def test_a_hub_killed_in_an_upload_goes_on_where_it_was(tmp_path: Path) -> None:
    source = write_adapter(tmp_path / "big", 4, rank=64, width=192 << 10)
    size = (source / "adapter_model.safetensors").stat().st_size
    hub = start_hub(tmp_path / "hub")
    client = subprocess.Popen(
        [sys.executable, "-m", "api.cli.main", "push", str(source), str(NAME)],
        env=client_environment(tmp_path, hub.url),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while received_bytes(hub) < size // 4 and client.poll() is None:
        time.sleep(0.002)
    hub.kill()
    client.kill()
    client.wait()
    with start_hub(tmp_path / "hub") as again:
        with client_of(again.url) as asking:
            assert asking.head(NAME.adapter, "main") is None
        pushed(again.url, source)
        assert received_bytes(again) < size
        require_whole(tmp_path, again.url, source)


def test_two_pushes_race_and_one_wins(tmp_path: Path) -> None:
    with start_hub(tmp_path / "hub") as hub:
        head = pushed(hub.url, write_adapter(tmp_path / "v0", 0))
        for race in range(2):
            clients = []
            for racer in range(3):
                source = write_adapter(tmp_path / f"r{race}-{racer}", 10 * race + racer + 1)
                command = [sys.executable, "-m", "api.cli.main", "push", str(source), str(NAME)]
                clients.append(
                    subprocess.Popen(
                        [*command, "--onto", head],
                        env=client_environment(tmp_path, hub.url),
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                    )
                )
            answers = [(*client.communicate(timeout=60), client.returncode) for client in clients]
            winners = [out for out, _, status in answers if status == 0]
            losers = [err for _, err, status in answers if status == 1]
            assert (len(winners), len(losers)) == (1, 2), answers
            assert all("main" in err and head.removeprefix("sha256:")[:12] in err for err in losers)
            found = history(hub.url)
            assert len(found) == race + 2
            head = found[0]
