"""Let our client talk to a hub that lies: endless, packed, empty, false and dangerous answers."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from api.client import HubClient
from api.remote.credentials import Access
from api.remote.errors import HubUnreachableError, ListingError, NotAHubError
from api.remote.fetching import BlobFetcher
from api.remote.transport import RetryPolicy
from api.workflows.pull import PullOptions, WantedEncoding, find_encoding, pull
from registry.digest import Digest, DigestMismatchError
from registry.manifest import ConfigSummary, FileEntry, LineageEdge, Manifest, Operation
from registry.manifest_json import FileBody, edge_body, revision_id, to_body
from registry.refs import AdapterName, Reference

DATA = b"hello"
DIGEST = Digest.of(DATA)
NAME = AdapterName("team", "x")
QUICK = RetryPolicy(attempts=2, first_attempts=2, first_wait_s=0.001, longest_wait_s=0.002)


@dataclass(frozen=True, slots=True)
class Answer:
    """Be what the liar says: a body, or pieces without end."""

    status: int = 200
    body: bytes = DATA
    headers: Mapping[str, str] = field(default_factory=dict)
    endless: bool = False


@dataclass(slots=True)
class Liar:
    """Be a server that answers as it is told, and remembers what it was asked."""

    url: str
    asked: list[tuple[str, str | None]]

    def client(self) -> HubClient:
        return HubClient(Access(self.url, "tern_secret"), timeout_s=10, retry=QUICK)


@contextmanager
def liar(answer: Callable[[str], Answer]) -> Iterator[Liar]:
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_args: object) -> None:
            pass

        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("authorization")))
            told = answer(self.path)
            self.send_response(told.status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            if not told.endless:
                self.send_header("Content-Length", str(len(told.body)))
            self.end_headers()
            try:
                self.wfile.write(told.body)
                while told.endless:
                    self.wfile.write(b" " * (1 << 20))
            except OSError:
                pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Liar(f"http://127.0.0.1:{server.server_port}", asked)
        server.shutdown()


def always(answer: Answer) -> Callable[[str], Answer]:
    return lambda _path: answer


def shown(manifest: Manifest, digest: Digest | None = None) -> dict[str, Any]:
    digest = digest or revision_id(manifest)
    body = to_body(manifest).model_dump(mode="json")
    return {"digest": str(digest), "commit_id": digest.commit_id, "manifest": body, "refs": []}


def listing(*paths: str, **fields: Any) -> Manifest:
    files = tuple(FileEntry(path, DIGEST, len(DATA), "text/plain") for path in paths)
    return Manifest(NAME, None, ConfigSummary("LORA"), files, created_at="t", **fields)


def as_json(value: object) -> Answer:
    return Answer(body=json.dumps(value).encode())


def hub_of(revision: dict[str, Any]) -> Callable[[str], Answer]:
    return lambda path: Answer() if "/blobs/" in path else as_json(revision)


def pulled(server: Liar, reference: str, folder: Path) -> Path:
    options = PullOptions(cache_dir=folder / "cache")
    with server.client() as client:
        pull(client, Reference.parse(reference), folder / "out", options=options)
    return folder / "out"


def test_a_token_never_follows_to_another_origin() -> None:
    with liar(always(Answer())) as bucket:
        for host in ("127.0.0.1", "localhost"):
            elsewhere = f"http://{host}:{bucket.url.rpartition(':')[2]}/signed"
            with liar(always(Answer(307, headers={"Location": elsewhere}))) as server:
                with server.client() as client:
                    assert client.read_small(NAME, DIGEST) == DATA
                assert [token for _, token in server.asked] == ["Bearer tern_secret"]
        assert [token for _, token in bucket.asked] == [None, None]


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://x/y", "gopher://x"])
def test_a_redirect_leads_to_http_alone(where: str) -> None:
    refused = pytest.raises((HubUnreachableError, NotAHubError))
    with (
        liar(always(Answer(307, headers={"Location": where}))) as server,
        server.client() as client,
    ):
        with refused:
            client.read_small(NAME, DIGEST)
        assert len(server.asked) <= QUICK.attempts


def test_a_circle_of_redirects_ends(tmp_path: Path) -> None:
    circle = always(Answer(307, headers={"Location": "/round"}))
    with liar(circle) as server, server.client() as client:
        with pytest.raises(NotAHubError):
            client.read_small(NAME, DIGEST)
        with pytest.raises(NotAHubError):
            fetch(client, tmp_path)


@pytest.mark.parametrize("status", [200, 500, 503])
def test_an_endless_answer_ends(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.remote.answers.MAX_ANSWER_BYTES", 4 << 20)
    with liar(always(Answer(status, endless=True))) as server, server.client() as client:
        with pytest.raises(NotAHubError, match="longer"):
            client.whoami()
        with pytest.raises(NotAHubError, match="longer"):
            client.read_small(NAME, DIGEST)
        if status != 200:
            with pytest.raises(NotAHubError, match="longer"):
                fetch(client, tmp_path)


def test_a_packed_answer_is_not_unpacked() -> None:
    bomb = gzip.compress(b" " * 1_000_000)
    packed = always(Answer(body=bomb, headers={"Content-Encoding": "gzip"}))
    with liar(packed) as server, server.client() as client:
        with pytest.raises(NotAHubError, match="packed"):
            client.whoami()
        with pytest.raises(NotAHubError, match="packed"):
            client.read_small(NAME, Digest.of(bomb))


def fetch(client: HubClient, folder: Path, size_bytes: int = len(DATA)) -> Path:
    file = FileBody(path="a", digest=str(DIGEST), size_bytes=size_bytes, media_type="x")
    BlobFetcher(client, NAME, folder / "cache").fetch(file, folder / "a", lambda _count: None)
    return folder / "a"


@pytest.mark.parametrize("status", [200, 206])
def test_a_hub_that_sends_nothing_is_given_up(status: int, tmp_path: Path) -> None:
    with liar(always(Answer(status, b""))) as server, server.client() as client:
        with pytest.raises(HubUnreachableError, match="nothing"):
            fetch(client, tmp_path)
        assert len(server.asked) == QUICK.attempts


def test_what_is_sent_beyond_the_end_is_not_read(tmp_path: Path) -> None:
    with liar(always(Answer(body=DATA, endless=True))) as server, server.client() as client:
        assert fetch(client, tmp_path).read_bytes() == DATA


@pytest.mark.parametrize("size", [0, 3, 4])
def test_a_false_size_gives_no_file(size: int, tmp_path: Path) -> None:
    with liar(always(Answer())) as server, server.client() as client:
        with pytest.raises(DigestMismatchError):
            fetch(client, tmp_path, size)
        assert not (tmp_path / "a").exists()


def test_an_honest_listing_is_pulled(tmp_path: Path) -> None:
    manifest = listing("adapter_config.json", metrics={"a": 1, "b": 1e-7, "c": 1e22})
    with liar(hub_of(shown(manifest))) as server:
        folder = pulled(server, f"team/x@{revision_id(manifest)}", tmp_path)
        assert (folder / "adapter_config.json").read_bytes() == DATA


def test_another_revision_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    with liar(hub_of(shown(listing("adapter_config.json")))) as server:
        with pytest.raises(DigestMismatchError):
            pulled(server, f"team/x@{DIGEST}", tmp_path)
        assert not (tmp_path / "out").exists()


def test_a_listing_under_a_foreign_digest_is_refused(tmp_path: Path) -> None:
    with liar(hub_of(shown(listing("adapter_config.json"), DIGEST))) as server:
        for reference in ("team/x", f"team/x@{DIGEST}"):
            with pytest.raises(DigestMismatchError):
                pulled(server, reference, tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        "../up",
        "/etc/passwd",
        "a/../../b",
        ".git/hooks/pre-commit",
        "a\\b",
        "x\x00",
        "x.py",
        "adapter_model.bin",
        "model.pkl",
        "run.sh",
        "lib.so",
        ".cache/huggingface/x",
    ],
)
def test_a_dangerous_path_is_not_written(path: str, tmp_path: Path) -> None:
    with liar(hub_of(shown(listing("adapter_config.json", path)))) as server:
        with pytest.raises(ListingError):
            pulled(server, "team/x", tmp_path)
        assert not (tmp_path / "out").exists()


def test_only_the_own_namespace_says_what_was_compressed_from_it() -> None:
    original = listing("adapter_config.json")
    edge = LineageEdge(Operation.COMPRESSED_FROM, NAME, revision_id(original))
    tern = ConfigSummary("LORA", encoding="tern")
    made = {
        name: Manifest(AdapterName.parse(name), None, tern, (), lineage=(edge,), created_at=time)
        for name, time in (("team/x-small", "2026"), ("evil/x-small", "2027"))
    }
    below = [
        {"adapter": name, "revision": str(revision_id(m)), "edge": edge_body(edge), "distance": 1}
        for name, m in made.items()
    ]
    graph = {"ancestors": [], "descendants": below, "truncated": False}

    def answer(path: str) -> Answer:
        if "/lineage/" in path:
            return as_json(json.loads(json.dumps(graph, default=lambda b: b.model_dump())))
        found = next((m for name, m in made.items() if name in path), original)
        return as_json(shown(found))

    with liar(answer) as server, server.client() as client:
        found = find_encoding(client, Reference(NAME), WantedEncoding.TERN)
    assert found.manifest.adapter == "team/x-small"
