"""Push real and odd folders to a real hub, over good lines and bad ones."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from api.client import HubClient
from api.remote.credentials import Access
from api.remote.errors import FileChangedError, HubError, HubUnreachableError, SourceNotFoundError
from api.remote.sending import BlobSender, Outgoing
from api.remote.transport import RetryPolicy
from api.schemas_requests import BlobIn
from api.workflows.pull import PullOptions, pull
from api.workflows.push import PushOptions, check_folder, push
from registry.digest import Digest
from registry.errors import LfsPointerError, RefusedFileError, WeightsMissingError
from registry.refs import Reference
from tests.conftest import data_dir
from tests.cutting_proxy import CuttingProxy
from tests.hub_pushes import small_adapter
from tests.live_hub import LiveHub, start_hub


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def shared(kind: str) -> list[str]:
    folder = data_dir() / kind
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    "place", [f"{kind}/{name}" for kind in ("adapters", "experts") for name in shared(kind)]
)
def test_every_shared_adapter_comes_back_byte_for_byte(
    place: str, test_data: Path, client: HubClient, tmp_path: Path
) -> None:
    folder = test_data / place
    reference = Reference.parse(f"team/{folder.name}")
    pushed = push(client, folder, reference)
    assert pushed.created
    pulled = pull(client, reference, tmp_path / "back", options=PullOptions(tmp_path / "cache"))
    left_out = {finding.file for finding in pushed.warnings if finding.code == "file-skipped"}
    wanted = {name: data for name, data in contents(folder).items() if name not in left_out}
    assert contents(pulled.folder) == wanted
    assert pulled.revision.digest == pushed.revision.digest
    assert not any(path.endswith(".bin") for path in pulled.files)
    again = push(client, folder, reference)
    assert (again.created, again.sent_bytes) == (False, 0)
    assert again.revision.digest == pushed.revision.digest


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("config-only-weights-missing", WeightsMissingError, "weights"),
        ("pickle-bin-old-peft-enable-lora", RefusedFileError, "adapter_model.bin"),
    ],
)
def test_odd_folders_are_refused_before_a_byte_is_sent(
    name: str, error: type[Exception], told: str, test_data: Path
) -> None:
    nowhere = HubClient(Access("http://127.0.0.1:9"))
    with nowhere, pytest.raises(error, match=told):
        push(nowhere, test_data / "odd" / name, Reference.parse("team/odd"))


def test_of_two_files_with_the_same_weights_the_pickle_stays_here(
    test_data: Path, client: HubClient
) -> None:
    folder = test_data / "odd" / "diffusers-both-bin-and-safetensors-no-config"
    pushed = push(client, folder, Reference.parse("team/both"))
    assert [file.path for file in pushed.revision.manifest.files] == [
        "pytorch_lora_weights.safetensors"
    ]
    assert any("pickle" in finding.message for finding in pushed.warnings)


def test_a_git_lfs_pointer_is_refused_with_the_command(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 9\n"
    files = {**small_adapter(), "adapter_model.safetensors": pointer}
    with pytest.raises(LfsPointerError) as caught:
        check_folder(write(tmp_path / "a", files))
    assert "git lfs pull" in caught.value.hint


def test_links_are_never_followed(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", small_adapter())
    (folder / "README.md").symlink_to("/etc/passwd")
    with pytest.raises(RefusedFileError, match="symbolic link"):
        check_folder(folder)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="nothing-here"):
        check_folder(tmp_path / "nothing-here")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceNotFoundError, match="empty"):
        check_folder(tmp_path / "empty")


def test_a_push_carries_what_it_was_told(client: HubClient, tmp_path: Path) -> None:
    folder = write(tmp_path / "a", small_adapter(1))
    options = PushOptions(
        base_model="acme/base", message="m", author="ann", tags=("v1",), metrics={"acc": 0.5}
    )
    pushed = push(client, folder, Reference.parse("team/told:dev"), options=options)
    manifest = pushed.revision.manifest
    assert (manifest.message, manifest.author, manifest.metrics) == ("m", "ann", {"acc": 0.5})
    assert manifest.base_model == "acme/base"
    assert {(ref.kind.value, ref.name) for ref in pushed.revision.refs} == {
        ("branch", "dev"),
        ("tag", "v1"),
    }


def test_equal_files_are_sent_once(client: HubClient, tmp_path: Path) -> None:
    first = write(tmp_path / "a", small_adapter(2))
    push(client, first, Reference.parse("dedupe/one"))
    second = write(tmp_path / "b", {**small_adapter(2), "README.md": b"# another\n"})
    pushed = push(client, second, Reference.parse("dedupe/two"))
    assert pushed.created
    assert pushed.sent_bytes == len(b"# another\n")
    assert pushed.reused_bytes == sum(len(data) for data in small_adapter(2).values())


def test_the_loser_of_a_race_is_told(client: HubClient, tmp_path: Path) -> None:
    name = Reference.parse("team/raced")
    first = push(client, write(tmp_path / "a", small_adapter(3)), name)
    push(client, write(tmp_path / "b", small_adapter(4)), name)
    onto = Digest.parse(first.revision.digest)
    third = write(tmp_path / "c", small_adapter(5))
    with pytest.raises(HubError) as caught:
        push(client, third, name, options=PushOptions(onto=onto))
    assert caught.value.status == 409
    assert caught.value.extra["expected"] == first.revision.digest
    assert "pull" in caught.value.hint
    head = client.head(name.adapter, "main")
    assert head is not None
    assert push(client, third, name, options=PushOptions(onto=head)).created


def big_file(tmp_path: Path, size: int = 3_000_000) -> Outgoing:
    path = tmp_path / "big.bin"
    path.write_bytes(os.urandom(size))
    return Outgoing(path, path.name, Digest.of(path.read_bytes()), size)


def arrived(client: HubClient, blob: Outgoing, name: str = "team/resumed") -> int | None:
    asked = BlobIn(digest=str(blob.digest), size_bytes=blob.size_bytes)
    return client.missing(Reference.parse(name).adapter, [asked]).get(blob.digest)


@pytest.mark.parametrize("cuts", [[700_000], [1_000_000, 500_000, 900_000]])
def test_a_broken_line_costs_only_what_it_lost(
    cuts: list[int], hub: LiveHub, client: HubClient, tmp_path: Path
) -> None:
    blob = big_file(tmp_path)
    retry = RetryPolicy(first_wait_s=0.05, longest_wait_s=0.2)
    shown: list[int] = []
    with CuttingProxy(hub.url, up=list(cuts)) as proxy:
        with HubClient(Access(proxy.url), retry=retry) as bad:
            sender = BlobSender(bad, Reference.parse("team/resumed").adapter)
            sender.send(blob, 0, shown.append)
        assert proxy.cuts == len(cuts)
    assert arrived(client, blob) is None
    assert sum(shown) == blob.size_bytes
    assert sender.sent_bytes < blob.size_bytes * (1 + len(cuts))


def test_an_upload_goes_on_from_what_arrived(client: HubClient, tmp_path: Path) -> None:
    blob = big_file(tmp_path)
    name = Reference.parse("team/resumed")
    half = blob.size_bytes // 2
    path = f"/adapters/{name.adapter}/blobs/{blob.digest}"
    headers = {"Content-Range": f"bytes 0-{half - 1}/{blob.size_bytes}"}
    data = blob.path.read_bytes()[:half]
    with client.transport.stream("PUT", path, content=iter([data]), headers=headers) as response:
        assert response.status_code == 202
    assert arrived(client, blob) == half
    sender = BlobSender(client, name.adapter)
    sender.send(blob, half, lambda _: None)
    assert sender.sent_bytes == blob.size_bytes - half
    assert arrived(client, blob) is None


def test_a_wrong_offset_is_mended(client: HubClient, tmp_path: Path) -> None:
    blob = big_file(tmp_path)
    BlobSender(client, Reference.parse("team/resumed").adapter).send(blob, 1000, lambda _: None)
    assert arrived(client, blob) is None


def test_a_file_that_changes_meanwhile_is_told(client: HubClient, tmp_path: Path) -> None:
    blob = big_file(tmp_path, 5000)
    blob.path.write_bytes(bytes(5000))
    sender = BlobSender(client, Reference.parse("team/changed").adapter)
    with pytest.raises(FileChangedError, match="changed while"):
        sender.send(blob, 0, lambda _: None)
    blob.path.write_bytes(bytes(100))
    with pytest.raises(FileChangedError, match=r"big\.bin"):
        sender.send(blob, 0, lambda _: None)


def test_a_hub_that_dies_in_the_middle_and_returns_gets_the_rest(tmp_path: Path) -> None:
    """Kill -9 the hub during an upload, start it again, and push again."""
    folder = write(tmp_path / "a", small_adapter(6))
    weights = folder / "adapter_model.safetensors"
    name = Reference.parse("team/survivor")
    retry = RetryPolicy(attempts=2, first_wait_s=0.01, longest_wait_s=0.02)
    live = start_hub(tmp_path / "hub")
    try:
        blob = Outgoing(
            weights, weights.name, Digest.of(weights.read_bytes()), weights.stat().st_size
        )
        half = blob.size_bytes // 2
        with HubClient(Access(live.url), retry=retry) as client:
            path = f"/adapters/{name.adapter}/blobs/{blob.digest}"
            headers = {"Content-Range": f"bytes 0-{half - 1}/{blob.size_bytes}"}
            data = weights.read_bytes()[:half]
            with client.transport.stream("PUT", path, content=iter([data]), headers=headers):
                pass
            live.kill()
            with pytest.raises(HubUnreachableError):
                push(client, folder, name)
        live = start_hub(tmp_path / "hub")
        with HubClient(Access(live.url), retry=retry) as client:
            assert client.head(name.adapter, "main") is None
            pushed = push(client, folder, name)
        assert pushed.created
        assert pushed.sent_bytes == sum(f.stat().st_size for f in folder.iterdir()) - half
    finally:
        live.kill()


def test_a_lost_answer_to_the_commit_does_not_make_a_second_revision(
    hub: LiveHub, client: HubClient, tmp_path: Path
) -> None:
    folder = write(tmp_path / "a", small_adapter(7))
    name = Reference.parse("team/answered-late")
    push(client, folder, name)
    (folder / "README.md").write_text("# second\n")
    head = client.head(name.adapter, "main")
    assert head is not None
    first = push(client, folder, name, options=PushOptions(onto=head))
    again = push(client, folder, name, options=PushOptions(onto=head))
    assert (first.created, again.created) == (True, False)
    assert again.revision.digest == first.revision.digest
    assert len(list(client.log(name))) == 2


def test_the_listing_of_a_branch_and_of_adapters_is_paged(
    client: HubClient, tmp_path: Path
) -> None:
    folder = write(tmp_path / "a", small_adapter(8))
    for number in range(5):
        (folder / "README.md").write_text(f"# {number}\n")
        push(client, folder, Reference.parse("paged/one"), options=PushOptions(message=str(number)))
    shutil.rmtree(folder)
    messages = [r.manifest.message for r in client.log(Reference.parse("paged/one"))]
    assert messages == ["4", "3", "2", "1", "0"]
    limited = [r.manifest.message for r in client.log(Reference.parse("paged/one"), limit=2)]
    assert limited == ["4", "3"]
    assert [a.name for a in client.adapters(namespace="paged")] == ["paged/one"]
    assert len(list(client.adapters(limit=1))) == 1
    assert json.loads(next(client.adapters(namespace="paged")).model_dump_json())["revisions"] == 5
