"""Run the contract over a real S3 server, and check what only a bucket has."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from registry.digest import CHUNK_BYTES, Digest, DigestMismatchError
from registry.errors import StorageError, ValidationError
from registry.storage.blobs import MAX_RECORD_BYTES, BlobStore
from registry.storage.blobs_s3 import S3BlobStore, S3Settings
from registry.storage.stores import open_store
from tests.contracts.blob_store import BlobStoreContract, race, sample
from tests.real.services import S3Service, bucket, configured, s3_service

SMALL_PARTS = S3Settings(multipart_above_bytes=6 << 20, part_bytes=5 << 20)
LARGE = sample(11 * (1 << 20) + 3)


@pytest.fixture(scope="module")
def service() -> Iterator[S3Service]:
    """Give the server, and configure boto3 for it."""
    found = s3_service()
    with configured(found):
        yield found


@pytest.fixture(scope="module")
def bucket_name(service: S3Service) -> Iterator[str]:
    with bucket(service) as name:
        yield name


@pytest.fixture(scope="module")
def client(service: S3Service) -> Iterator[Any]:
    raw = service.client()
    yield raw
    raw.close()


@pytest.fixture
def own_prefix(request: pytest.FixtureRequest) -> str:
    """Give a prefix of the test's own."""
    return f"hub/{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]}"


@pytest.fixture
def store(bucket_name: str, own_prefix: str) -> Iterator[S3BlobStore]:
    opened = S3BlobStore(bucket_name, own_prefix, settings=SMALL_PARTS)
    yield opened
    opened.close()


def object_key(store: BlobStore, digest: Digest) -> str:
    """Return the key of a blob's object."""
    assert isinstance(store, S3BlobStore)
    return store._key(digest)


class TestS3BlobStore(BlobStoreContract):
    """Be the contract over a bucket."""

    @pytest.fixture(autouse=True)
    def _raw(self, client: Any, bucket_name: str) -> None:
        self.put_object = partial(client.put_object, Bucket=bucket_name)

    def damage(self, store: BlobStore, digest: Digest, data: bytes) -> None:
        self.put_object(Key=object_key(store, digest), Body=data)


def uploads_in_progress(client: Any, name: str) -> list[str]:
    """Name the keys of multipart uploads that were neither completed nor aborted."""
    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=name)
    return [upload["Key"] for page in pages for upload in page.get("Uploads", ())]


def test_a_large_file_goes_in_parts(
    store: S3BlobStore, tmp_path: Path, client: Any, bucket_name: str
) -> None:
    path, digest = tmp_path / "large", Digest.of(LARGE)
    path.write_bytes(LARGE)
    store.put_file(digest, path)
    head = client.head_object(Bucket=bucket_name, Key=object_key(store, digest))
    assert head["ETag"].strip('"').endswith("-3")
    assert b"".join(store.read(digest)) == LARGE
    assert b"".join(store.read(digest, start=5 << 20, length=77)) == LARGE[5 << 20 :][:77]
    with store.open(digest) as file:
        assert b"".join(iter(partial(file.read, 100_000), b"")) == LARGE
    assert not uploads_in_progress(client, bucket_name)


def test_a_wrong_large_file_leaves_nothing(
    store: S3BlobStore, tmp_path: Path, client: Any, bucket_name: str
) -> None:
    path, digest = tmp_path / "large", Digest.of(b"something else")
    path.write_bytes(LARGE)
    with pytest.raises(DigestMismatchError):
        store.put_file(digest, path, verified=True)
    assert store.stat(digest) is None
    assert not uploads_in_progress(client, bucket_name)


def test_interrupted_uploads_are_aborted_when_old(
    store: S3BlobStore, client: Any, bucket_name: str
) -> None:
    own = object_key(store, Digest.of(b"interrupted"))
    for key in (own, "somebody/else"):
        started = client.create_multipart_upload(Bucket=bucket_name, Key=key)
        client.upload_part(
            Bucket=bucket_name, Key=key, UploadId=started["UploadId"], PartNumber=1, Body=b"part"
        )
    assert store.discard_stale(older_than_s=3600) == 0
    assert store.discard_stale(older_than_s=-60) == 1
    assert uploads_in_progress(client, bucket_name) == ["somebody/else"]


def test_damage_on_the_way_is_noticed(bucket_name: str) -> None:
    store = S3BlobStore(bucket_name, "damaged", settings=S3Settings(attempts=2))

    def damage(model: object, params: dict[str, Any], **_: object) -> None:
        params["body"] = b"damage"

    store._objects.client.meta.events.register("before-call.s3.PutObject", damage)
    with pytest.raises(StorageError) as caught:
        store.put_bytes(Digest.of(b"intact"), b"intact")
    assert "BadDigest" in caught.value.message
    assert "try again" in caught.value.hint
    assert store.stat(Digest.of(b"intact")) is None
    store.close()


def test_stores_of_two_prefixes_are_apart(bucket_name: str, store: S3BlobStore) -> None:
    other = S3BlobStore(bucket_name, "hub")  # a prefix of the other's prefix
    store.put_bytes(Digest.of(b"one"), b"one")
    store.write_record("a", b"1")
    assert other.stat(Digest.of(b"one")) is None
    assert not list(other.list())
    assert not list(other.list_records(""))
    other.close()


def test_strangers_are_passed_over(store: S3BlobStore, client: Any, bucket_name: str) -> None:
    digest = Digest.of(b"blob")
    store.put_bytes(digest, b"blob")
    key = object_key(store, digest)
    for stranger in (f"{key}.bak", key.upper(), f"{key[:-70]}zz/{'0' * 64}"):
        client.put_object(Bucket=bucket_name, Key=stranger, Body=b"?")
    assert [found for found, _ in store.list()] == [digest]


def test_a_presigned_url_gives_the_blob_to_its_holder(store: S3BlobStore) -> None:
    store.put_bytes(Digest.of(b"blob"), b"blob")
    url = store.presigned_url(Digest.of(b"blob"), expires_s=60)
    assert url is not None
    with urllib.request.urlopen(url) as reply:
        assert reply.read() == b"blob"
        assert reply.headers["Content-Disposition"] == "attachment"
    part = urllib.request.Request(url, headers={"Range": "bytes=1-2"})
    with urllib.request.urlopen(part) as reply:
        assert reply.read() == b"lo"
    tampered = url.replace(Digest.of(b"blob").hex, Digest.of(b"other").hex)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(tampered)
    assert caught.value.code == 403
    caught.value.close()


@pytest.mark.parametrize("expires_s", [0, -1, 604_801])
def test_a_presigned_url_lasts_a_week_at_most(store: S3BlobStore, expires_s: int) -> None:
    with pytest.raises(ValidationError) as caught:
        store.presigned_url(Digest.of(b""), expires_s=expires_s)
    assert caught.value.field == "expires_s"


def test_a_foreign_record_cannot_fill_the_memory(
    store: S3BlobStore, client: Any, bucket_name: str
) -> None:
    key = f"{store._records._prefix}long"
    client.put_object(Bucket=bucket_name, Key=key, Body=bytes(MAX_RECORD_BYTES + 1))
    with pytest.raises(StorageError) as caught:
        store.read_record("long")
    assert str(MAX_RECORD_BYTES + 1) in caught.value.message


def test_a_race_has_one_winner_every_time(store: S3BlobStore) -> None:
    texts = [b"%d" % n for n in range(8)]
    for turn in range(8):
        won = race(partial(store.create_record, f"races/{turn}"), texts)
        assert [n for n in range(8) if won[n]] == [int(store.read_record(f"races/{turn}") or b"")]


def test_open_store_takes_boto_settings(bucket_name: str, service: S3Service) -> None:
    store = open_store(f"s3://{bucket_name}/some/prefix/")
    assert isinstance(store, S3BlobStore)
    assert store._objects.bucket.endpoint == service.endpoint_url
    store.put_bytes(Digest.of(b"blob"), b"blob")
    assert object_key(store, Digest.of(b"blob")).startswith("some/prefix/blobs/sha256/")
    assert sum(len(chunk) for chunk in store.read(Digest.of(b"blob"))) == 4 < CHUNK_BYTES
    store.close()


def test_a_missing_bucket_says_what_to_do(service: S3Service) -> None:
    with pytest.raises(StorageError) as caught:
        open_store("s3://no-such-bucket-here/prefix")
    assert "no-such-bucket-here" in caught.value.message
    assert service.endpoint_url in caught.value.message
    assert "create the bucket" in caught.value.hint
    store = S3BlobStore("no-such-bucket-here")
    for action in (
        lambda: store.read(Digest.of(b"")),
        lambda: store.put_bytes(Digest.of(b""), b""),
        lambda: list(store.list()),
        lambda: store.read_record("a"),
    ):
        with pytest.raises(StorageError) as caught:
            action()
        assert "NoSuchBucket" in caught.value.message
        assert "create the bucket" in caught.value.hint
    store.close()


def test_wrong_credentials_say_what_to_do(
    bucket_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    store = S3BlobStore(bucket_name, settings=S3Settings(attempts=1))
    with pytest.raises(StorageError) as caught:
        store.put_bytes(Digest.of(b""), b"")
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.hint
    store.close()
