"""Shards of a large model are all there and hold what their index says, or the push is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from registry.errors import ConfigError, FileError, LayoutError, WeightsMissingError
from registry.validation.adapter_files import InspectOptions, inspect_files
from registry.validation.adapter_summary import AdapterSummary, Kind
from registry.validation.file_sources import BytesFile
from registry.validation.reasons import Reason
from registry.validation.shard_index import INDEX_FILE, read_index
from tests.safetensors_files import good_file

SHARDS = {
    f"model-0000{i}-of-00002.safetensors": good_file(
        {f"layer.{i}.weight": np.ones((2, 3), np.float32)}
    )
    for i in (1, 2)
}
FIRST, SECOND = SHARDS
WHERE = {"layer.1.weight": FIRST, "layer.2.weight": SECOND}


def index(weight_map: Any) -> bytes:
    return json.dumps({"metadata": {"total_size": 48}, "weight_map": weight_map}).encode()


def inspect(files: dict[str, bytes]) -> AdapterSummary:
    sources = {path: BytesFile(data) for path, data in files.items()}
    return inspect_files(sources, options=InspectOptions(declared_kind=Kind.FULL_MODEL))


def test_complete_shards_are_one_model() -> None:
    summary = inspect(SHARDS | {INDEX_FILE: index(WHERE)})
    assert [file.path for file in summary.weight_files] == [FIRST, SECOND]
    assert summary.module_shapes == {"layer.1": (2, 3), "layer.2": (2, 3)}
    assert summary.parameters == {"F32": 12}


@pytest.mark.parametrize("missing", SHARDS)
def test_a_missing_shard_is_named(missing: str) -> None:
    files = {path: data for path, data in SHARDS.items() if path != missing}
    with pytest.raises(WeightsMissingError) as caught:
        inspect(files | {INDEX_FILE: index(WHERE)})
    assert caught.value.file == missing
    assert caught.value.reason == Reason.WEIGHTS_MISSING


def test_a_tensor_in_another_shard_is_named() -> None:
    swapped = {"layer.1.weight": SECOND, "layer.2.weight": FIRST}
    with pytest.raises(LayoutError) as caught:
        inspect(SHARDS | {INDEX_FILE: index(swapped)})
    assert caught.value.field == "layer.1.weight"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.JSON_SYNTAX),
        (b"[]", Reason.CONFIG_MISSING_FIELD),
        (b"{}", Reason.CONFIG_MISSING_FIELD),
        (index([]), Reason.CONFIG_MISSING_FIELD),
        (index({"a": 1}), Reason.CONFIG_TYPE),
        (index({"a": None}), Reason.CONFIG_TYPE),
        (b'{"weight_map": {"a": "x", "a": "y"}}', Reason.JSON_DUPLICATE),
        (b"[" * 100, Reason.JSON_DEPTH),
        (b" " * 25_000_001, Reason.JSON_SIZE),
    ],
)
def test_a_broken_index_is_refused_with_its_reason(data: bytes, reason: Reason) -> None:
    with pytest.raises(ConfigError) as caught:
        read_index(BytesFile(data))
    assert caught.value.reason == reason
    assert caught.value.file == INDEX_FILE


@pytest.mark.parametrize("shard", ["../x.safetensors", "/etc/passwd", "nowhere\n.safetensors"])
def test_a_shard_is_only_looked_up_among_the_files(shard: str) -> None:
    with pytest.raises(FileError) as caught:
        inspect(SHARDS | {INDEX_FILE: index(WHERE | {"x": shard})})
    assert caught.value.reason == Reason.WEIGHTS_MISSING
    assert caught.value.message.isprintable()
