"""Pull into folders that are new, equal, taken or hostile, over good lines and bad ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from api.client import HubClient
from api.remote.credentials import Access
from api.remote.errors import (
    HubError,
    HubUnreachableError,
    ListingError,
    NotCompressedError,
    PinMismatchError,
    TargetTakenError,
)
from api.remote.fetching import BlobFetcher
from api.remote.hashed_file import HashedFile
from api.remote.placing import holds, place
from api.remote.transport import RetryPolicy
from api.schemas import RevisionBody
from api.workflows.pull import PullOptions, WantedEncoding, checked_files, pull
from api.workflows.push import PushedRevision, push
from registry.digest import Digest, DigestMismatchError
from registry.manifest_json import FileBody
from registry.refs import AdapterName, Reference
from tests.cutting_proxy import CuttingProxy
from tests.hub_pushes import small_adapter
from tests.live_hub import LiveHub, start_hub

NAME = Reference.parse("team/pulled")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name, data in small_adapter(11).items():
        (folder / name).write_bytes(data)
    (folder / "notes").mkdir()
    (folder / "notes" / "big.txt").write_bytes(b"0123456789abcdef" * 100_000)
    return folder


@pytest.fixture
def pushed(client: HubClient, source: Path) -> PushedRevision:
    return push(client, source, NAME)


@pytest.fixture
def options(tmp_path: Path) -> PullOptions:
    return PullOptions(tmp_path / "cache")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.usefixtures("pushed")
def test_a_new_folder_appears_whole(
    client: HubClient, source: Path, tmp_path: Path, options: PullOptions
) -> None:
    target = tmp_path / "deep" / "er" / "back"
    pulled = pull(client, NAME, target, options=options)
    assert contents(target) == contents(source)
    assert pulled.fetched_bytes == sum(len(data) for data in contents(source).values())
    assert [path.name for path in target.parent.iterdir()] == ["back"]
    assert list((tmp_path / "cache" / "partial").iterdir()) == []


@pytest.mark.usefixtures("pushed")
def test_an_empty_folder_is_filled(client: HubClient, tmp_path: Path, options: PullOptions) -> None:
    (tmp_path / "back").mkdir()
    assert pull(client, NAME, tmp_path / "back", options=options).files


@pytest.mark.usefixtures("pushed")
def test_the_working_folder_can_be_pulled_into(
    client: HubClient,
    source: Path,
    tmp_path: Path,
    options: PullOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    pull(client, NAME, Path(), options=options)
    assert contents(here) == contents(source)
    assert Path.cwd() == here


@pytest.mark.usefixtures("pushed")
def test_what_is_there_is_not_fetched_again(
    client: HubClient, source: Path, tmp_path: Path, options: PullOptions
) -> None:
    target = tmp_path / "back"
    pull(client, NAME, target, options=options)
    assert pull(client, NAME, target, options=options).fetched_bytes == 0
    (target / "adapter_config.json").unlink()
    config = (source / "adapter_config.json").stat().st_size
    assert pull(client, NAME, target, options=options).fetched_bytes == config
    assert contents(target) == contents(source)


@pytest.mark.parametrize("name", ["adapter_config.json", "mine.txt", "notes/other.txt"])
@pytest.mark.usefixtures("pushed")
def test_a_folder_with_something_else_is_left_alone(
    name: str, client: HubClient, source: Path, tmp_path: Path, options: PullOptions
) -> None:
    target = tmp_path / "back"
    (target / "notes").mkdir(parents=True)
    (target / name).write_bytes(b"mine")
    with pytest.raises(TargetTakenError, match="not empty") as caught:
        pull(client, NAME, target, options=options)
    assert caught.value.file == name
    assert contents(target) == {name: b"mine"}
    pull(client, NAME, target, options=PullOptions(options.cache_dir, force=True))
    assert {**contents(source), **contents(target)} == contents(target)
    assert {k: v for k, v in contents(target).items() if k in contents(source)} == contents(source)


@pytest.mark.usefixtures("pushed")
def test_a_file_in_the_way_is_left_alone(
    client: HubClient, tmp_path: Path, options: PullOptions
) -> None:
    (tmp_path / "back").write_text("mine")
    for force in (False, True):
        chosen = PullOptions(options.cache_dir, force=force)
        with pytest.raises(TargetTakenError):
            pull(client, NAME, tmp_path / "back", options=chosen)
    assert (tmp_path / "back").read_text() == "mine"


@pytest.mark.usefixtures("pushed")
def test_a_link_in_the_folder_does_not_lead_files_out(
    client: HubClient, tmp_path: Path, options: PullOptions
) -> None:
    outside, target = tmp_path / "outside", tmp_path / "back"
    outside.mkdir()
    target.mkdir()
    (target / "notes").symlink_to(outside)
    with pytest.raises(ListingError, match="leads out"):
        pull(client, NAME, target, options=PullOptions(options.cache_dir, force=True))
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("cuts", [[300_000], [200_000, 400_000, 100_000]])
def test_a_broken_line_is_resumed(
    cuts: list[int], hub: LiveHub, pushed: PushedRevision, source: Path, tmp_path: Path
) -> None:
    retry = RetryPolicy(first_wait_s=0.01, longest_wait_s=0.05)
    with CuttingProxy(hub.url, down=list(cuts)) as proxy:
        with HubClient(Access(proxy.url), retry=retry) as bad:
            pulled = pull(bad, NAME, tmp_path / "back", options=PullOptions(tmp_path / "cache"))
        assert proxy.cuts == len(cuts)
    assert contents(tmp_path / "back") == contents(source)
    total = sum(len(data) for data in contents(source).values())
    assert pulled.fetched_bytes == total
    assert pulled.revision.digest == pushed.revision.digest


def test_a_killed_pull_goes_on_where_it_stopped(
    hub: LiveHub, pushed: PushedRevision, source: Path, tmp_path: Path
) -> None:
    """Kill -9 a real client while a file arrives; the next pull fetches only the rest."""
    digest = next(f.digest for f in pushed.revision.manifest.files if f.path == "notes/big.txt")
    with CuttingProxy(hub.url, down=[500_000]) as proxy:
        script = (
            "from pathlib import Path; from api.client import HubClient;"
            "from api.remote.credentials import Access;"
            "from api.remote.transport import RetryPolicy;"
            "from api.workflows.pull import PullOptions, pull;"
            "from registry.refs import Reference;"
            f"c = HubClient(Access({proxy.url!r}), retry=RetryPolicy(first_wait_s=60));"
            f"pull(c, Reference.parse({str(NAME)!r}), Path({str(tmp_path / 'back')!r}),"
            f" options=PullOptions(Path({str(tmp_path / 'cache')!r})))"
        )
        process = subprocess.Popen([sys.executable, "-c", script])
        partial = tmp_path / "cache" / "partial" / f"{digest.removeprefix('sha256:')}.part"
        deadline = time.monotonic() + 30
        while proxy.cuts == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)
        process.kill()
        process.wait()
    assert not (tmp_path / "back").exists()
    size = partial.stat().st_size if partial.exists() else 0
    with HubClient(Access(hub.url)) as client:
        options = PullOptions(tmp_path / "cache")
        pulled = pull(client, NAME, tmp_path / "back", options=options)
    assert contents(tmp_path / "back") == contents(source)
    total = sum(len(data) for data in contents(source).values())
    assert pulled.fetched_bytes <= total - size
    assert size > 0


def test_a_damaged_partial_file_is_fetched_anew(
    client: HubClient, pushed: PushedRevision, tmp_path: Path, source: Path
) -> None:
    file = next(f for f in pushed.revision.manifest.files if f.path == "notes/big.txt")
    partials = tmp_path / "cache" / "partial"
    partials.mkdir(parents=True)
    partial = partials / f"{file.digest.removeprefix('sha256:')}.part"
    for start in (b"x" * 1000, b"x" * file.size_bytes, b"x" * (file.size_bytes + 5)):
        partial.write_bytes(start)
        fetcher = BlobFetcher(client, NAME.adapter, tmp_path / "cache")
        fetcher.fetch(file, tmp_path / "big.txt", lambda _: None)
        assert (tmp_path / "big.txt").read_bytes() == (source / "notes" / "big.txt").read_bytes()
        assert not partial.exists()


def test_wrong_bytes_never_appear(tmp_path: Path, source: Path) -> None:
    """Damage a blob on the hub's own disk: the pull fails and shows nothing."""
    with start_hub(tmp_path / "hub") as live:
        retry = RetryPolicy(attempts=2, first_wait_s=0.01)
        with HubClient(Access(live.url), retry=retry) as client:
            pushed = push(client, source, NAME)
            file = next(f for f in pushed.revision.manifest.files if f.path == "notes/big.txt")
            hexadecimal = file.digest.removeprefix("sha256:")
            blob = next(p for p in (tmp_path / "hub").rglob(hexadecimal) if p.is_file())
            data = bytearray(blob.read_bytes())
            data[1000] ^= 1
            blob.chmod(0o600)
            blob.write_bytes(data)
            with pytest.raises((DigestMismatchError, HubError, HubUnreachableError)):
                pull(client, NAME, tmp_path / "back", options=PullOptions(tmp_path / "cache"))
            assert not (tmp_path / "back").exists()
            verdicts = {f.path: f.ok for f in client.verify(NAME).files}
    assert not verdicts["notes/big.txt"]
    assert verdicts["adapter_config.json"]


def test_a_digest_pins(client: HubClient, pushed: PushedRevision, source: Path) -> None:
    first = pushed.revision.digest
    (source / "README.md").write_text("# more\n")
    second = push(client, source, NAME).revision.digest
    assert client.resolve(Reference.parse(f"{NAME}@{first}")).digest == first
    assert client.resolve(Reference.parse(f"{NAME}:main@{second}")).digest == second
    with pytest.raises(PinMismatchError) as caught:
        client.resolve(Reference.parse(f"{NAME}:main@{first}"))
    assert caught.value.expected == first


def test_a_hostile_listing_is_refused(pushed: PushedRevision) -> None:
    manifest = pushed.revision.manifest
    for path in ("../evil", "/etc/passwd", "a\x00b", "a\\b", ".git/config"):
        bad = manifest.files[0].model_copy(update={"path": path})
        revision = RevisionBody(
            digest=pushed.revision.digest,
            commit_id="",
            manifest=manifest.model_copy(update={"files": [bad]}),
            refs=[],
        )
        with pytest.raises(ListingError, match="refused"):
            checked_files(revision)


@pytest.mark.usefixtures("pushed")
def test_without_a_compressed_form_the_command_is_told(
    client: HubClient, tmp_path: Path, options: PullOptions
) -> None:
    chosen = PullOptions(options.cache_dir, encoding=WantedEncoding.TERN)
    with pytest.raises(NotCompressedError) as caught:
        pull(client, NAME, tmp_path / "back", options=chosen)
    assert caught.value.hint == "make one: adapters compress team/pulled --as team/pulled-small"


def test_a_missing_adapter_is_told(client: HubClient, tmp_path: Path, options: PullOptions) -> None:
    with pytest.raises(HubError, match="team/absent") as caught:
        pull(client, Reference.parse("team/absent"), tmp_path / "back", options=options)
    assert caught.value.status == 404
    assert not (tmp_path / "back").exists()


def test_a_file_is_hashed_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = os.urandom(5_000_001)
    path.write_bytes(data[:1_000_000])
    with HashedFile(path) as file:
        for start in range(1_000_000, len(data), 77_777):
            file.write(data[start : start + 77_777])
        assert file.size_bytes == len(data)
        assert file.digest() == Digest.of(data)
    assert path.read_bytes() == data


def test_holding_a_file_means_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "a")

    def body(path: str, data: bytes) -> FileBody:
        return FileBody(path=path, digest=str(Digest.of(data)), size_bytes=len(data), media_type="")

    assert holds(tmp_path, body("a", b"abc"))
    assert not holds(tmp_path, body("a", b"abd"))
    assert not holds(tmp_path, body("a", b"abcd"))
    assert not holds(tmp_path, body("b", b"abc"))
    assert not holds(tmp_path, body("link", b"abc"))


def test_a_folder_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "t"
    source.mkdir()
    (source / "x").write_text("file")
    (target / "x").mkdir(parents=True)
    (target / "x" / "inner").write_text("mine")
    with pytest.raises(ListingError):
        place(source, target, force=True)
    assert (target / "x" / "inner").read_text() == "mine"
    assert AdapterName.parse("a/b").name == "b"
