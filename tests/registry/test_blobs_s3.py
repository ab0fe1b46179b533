"""Check the S3 store where no server is needed, and run the contract over moto, in this process.

What moto cannot be trusted with (integrity, credentials, expiry) stands in
tests/real/test_s3_store.py.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from moto import mock_aws

from registry.digest import Digest
from registry.errors import StorageError, ValidationError
from registry.storage.blobs import BlobStore
from registry.storage.blobs_s3 import S3BlobStore, S3Settings
from registry.storage.s3_multipart import part_size
from tests.contracts.blob_store import BlobStoreContract, sample
from tests.real.services import shared_clients


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Give a plain client of the simulated server."""
    with pytest.MonkeyPatch.context() as patch, shared_clients():
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        with mock_aws():
            raw = boto3.client("s3")
            yield raw
            raw.close()


@pytest.fixture(scope="module")
def bucket_name(client: Any) -> str:
    client.create_bucket(Bucket="simulated")
    return "simulated"


class TestS3BlobStore(BlobStoreContract):
    """Be the contract over moto."""

    @pytest.fixture
    def store(
        self, bucket_name: str, client: Any, request: pytest.FixtureRequest
    ) -> Iterator[BlobStore]:
        prefix = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]
        self.client, self.bucket_name = client, bucket_name
        opened = S3BlobStore(bucket_name, prefix)
        yield opened
        opened.close()

    def damage(self, store: BlobStore, digest: Digest, data: bytes) -> None:
        assert isinstance(store, S3BlobStore)
        self.client.put_object(Bucket=self.bucket_name, Key=store._key(digest), Body=data)

    def test_threads_race_to_store_the_same(self, store: BlobStore, tmp_path: Path) -> None:
        pytest.skip("moto's own objects are not safe for threads; a real server runs this")

    def test_threads_race_to_write_a_record(self, store: BlobStore) -> None:
        pytest.skip("moto's own objects are not safe for threads; a real server runs this")


def test_many_records_are_listed_over_pages(bucket_name: str, client: Any) -> None:
    store = S3BlobStore(bucket_name, "many")
    keys = [f"r/{n:04}" for n in range(1005)]
    for key in keys:
        client.put_object(Bucket=bucket_name, Key=f"many/records/{key}", Body=b"")
    assert list(store.list_records("r/")) == keys
    store.close()


def closed_port() -> int:
    """Return a port of this machine where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_silent_endpoint_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    endpoint = f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(StorageError) as caught:
        S3BlobStore.from_url("s3://bucket", settings=S3Settings(endpoint, attempts=1))
    assert endpoint in caught.value.message
    assert "'bucket'" in caught.value.message
    assert "AWS_ENDPOINT_URL_S3" in caught.value.hint


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide every place where boto3 looks for credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


@pytest.mark.usefixtures("no_credentials")
def test_missing_credentials_say_what_to_do() -> None:
    store = S3BlobStore("bucket", settings=S3Settings("http://127.0.0.1:1"))
    with pytest.raises(StorageError) as caught:
        store.read_record("a")
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint
    assert "read records/a" in caught.value.message
    store.close()


def test_half_a_credential_says_what_to_do(
    no_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    with pytest.raises(StorageError) as caught:
        S3BlobStore("bucket", settings=S3Settings("http://127.0.0.1:2"))
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.hint


@pytest.mark.parametrize("name", ["", "ab", "a/b", "-abc", "a" * 64, "a b c", "abc\n"])
def test_bad_buckets_are_refused(name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        S3BlobStore(name)
    assert caught.value.field == "store"


@pytest.mark.parametrize("prefix", ["/a", "a/", "../a", "a//b", "a b"])
def test_bad_prefixes_are_refused(prefix: str) -> None:
    with pytest.raises(ValidationError):
        S3BlobStore("bucket", prefix)


@pytest.mark.parametrize("url", ["s3://", "s3:///a", "s3://bucket/a?b=c", "http://bucket/a"])
def test_bad_urls_are_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        S3BlobStore.from_url(url)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (None, "https://bucket.s3.amazonaws.com/blobs/"),
        ("http://127.0.0.1:9", "http://127.0.0.1:9/bucket/blobs/"),
        ("https://store.example", "https://store.example/bucket/blobs/"),
    ],
)
def test_amazon_is_addressed_by_host_and_others_by_path(
    client: Any, endpoint: str | None, expected: str
) -> None:
    store = S3BlobStore("bucket", settings=S3Settings(endpoint))
    url = store.presigned_url(Digest.of(b""), expires_s=60)
    assert url is not None
    assert url.startswith(expected)
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in url
    store.close()


@pytest.mark.parametrize("size", [1, 5 << 20, 80 << 30, 5 << 40])
def test_parts_are_never_more_than_allowed(size: int) -> None:
    part = part_size(size, 8 << 20)
    assert part >= 8 << 20
    assert -(-size // part) <= 10_000


def test_a_server_without_conditions_is_asked_first(bucket_name: str) -> None:
    store = S3BlobStore(bucket_name, "unconditional", settings=S3Settings(attempts=2))
    asked: list[str] = []

    def refuse(request: Any, **_: object) -> AWSResponse | None:
        if "If-None-Match" not in request.headers:
            return None
        asked.append(request.url)
        return AWSResponse(request.url, 501, HTTPHeaders(), _Empty())

    store._objects.client.meta.events.register_first("before-send.s3.PutObject", refuse)
    assert store.create_record("a", b"one")
    assert store.create_record("a", b"one")
    assert not store.create_record("a", b"two")
    assert store.read_record("a") == b"one"
    assert asked
    store.close()


class _Empty:
    """Be the body of a reply that has none."""

    def stream(self, **_: object) -> Iterator[bytes]:
        return iter(())


def test_a_lost_reply_and_its_retry_make_one_record(bucket_name: str) -> None:
    store = S3BlobStore(bucket_name, "lost-reply", settings=S3Settings(attempts=3))
    lost: list[int] = []

    def lose(response: Any, **_: object) -> float | None:
        if not lost and response is not None:
            lost.append(response[0].status_code)
            return 0.0  # the reply never came: send it again at once
        return None

    store._objects.client.meta.events.register_first("needs-retry.s3.PutObject", lose)
    assert store.create_record("a", b"mine")
    assert lost == [200]
    assert store.read_record("a") == b"mine"
    store.close()


def test_a_large_file_goes_in_parts(bucket_name: str, tmp_path: Path) -> None:
    data = sample(10 * (1 << 20) + 1)
    path = tmp_path / "large"
    path.write_bytes(data)
    tuned = S3Settings(multipart_above_bytes=1 << 20, part_bytes=5 << 20)
    store = S3BlobStore(bucket_name, "parts", settings=tuned)
    store.put_file(Digest.of(data), path)
    assert b"".join(store.read(Digest.of(data))) == data
    assert path.exists()
    store.close()
