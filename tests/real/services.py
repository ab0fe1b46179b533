"""Find the real services that tests may use, or skip and say how to start them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.config import Config

from registry.storage import blobs_s3

S3_VARIABLES = ("S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
S3_HOW = (
    "no S3 server: set S3_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    'or start one: eval "$(bash ../shared/services/start-s3.sh)"'
)


@dataclass(frozen=True, slots=True)
class S3Service:
    """Say where an S3 server is, and how to get in."""

    endpoint_url: str
    access_key: str
    secret_key: str

    @property
    def environment(self) -> dict[str, str]:
        """Return boto3's own variables for it, as the product is configured."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """Return a plain client, for what a test does behind the store's back."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )


def s3_service() -> S3Service:
    """Return the S3 server that the environment names, or skip."""
    values = [os.environ.get(name, "") for name in S3_VARIABLES]
    if not all(values):
        pytest.skip(S3_HOW)
    return S3Service(*values)


@contextmanager
def bucket(service: S3Service) -> Iterator[str]:
    """Make a bucket of a new name, and remove it with all that is in it."""
    name, client = f"test-{uuid.uuid4().hex[:20]}", service.client()
    client.create_bucket(Bucket=name)
    try:
        yield name
    finally:
        uploads = client.get_paginator("list_multipart_uploads").paginate(Bucket=name)
        for upload in (found for page in uploads for found in page.get("Uploads", ())):
            client.abort_multipart_upload(
                Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"]
            )
        objects = client.get_paginator("list_objects_v2").paginate(Bucket=name)
        for entry in (found for page in objects for found in page.get("Contents", ())):
            client.delete_object(Bucket=name, Key=entry["Key"])
        client.delete_bucket(Bucket=name)
        client.close()


@contextmanager
def configured(service: S3Service) -> Iterator[None]:
    """Configure boto3 for a server by its own variables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name, value in service.environment.items():
            patch.setenv(name, value)
        with shared_clients():
            yield


@contextmanager
def shared_clients() -> Iterator[None]:
    """Make one client for equal settings: making it takes longer than most tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blobs_s3, "_client", cache(blobs_s3._client))
        yield
