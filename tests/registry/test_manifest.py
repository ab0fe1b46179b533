"""Check that manifests are canonical, strict and content-addressed."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.digest import Digest
from registry.errors import ValidationError
from registry.manifest import ConfigSummary, FileEntry, LineageEdge, Manifest, Operation
from registry.manifest_json import decode, encode, revision_id
from registry.refs import AdapterName

NAME = AdapterName("team", "expert")


def sample() -> Manifest:
    """Return a manifest that uses every field."""
    return Manifest(
        adapter=NAME,
        base_model="gpt2",
        config=ConfigSummary(
            "LORA", base_model="gpt2", rank=8, alpha=16.0, target_modules=("c_attn",), parameters=9
        ),
        files=(
            FileEntry("b.safetensors", Digest.of(b"b"), 1, "application/vnd.safetensors"),
            FileEntry("a.json", Digest.of(b"a"), 1, "application/json"),
        ),
        lineage=(
            LineageEdge(Operation.PARENT, NAME, Digest.of(b"p")),
            LineageEdge(
                Operation.MERGED_FROM,
                AdapterName("x", "y"),
                Digest.of(b"m"),
                0.5,
                {"method": "linear"},
            ),
        ),
        metrics={"accuracy": 0.875},
        message="grüße",
        author="ada",
        created_at="2026-01-02T03:04:05.678Z",
        warnings=("base model unknown",),
    )


def test_json_is_canonical() -> None:
    data = encode(sample())
    assert (
        data
        == json.dumps(
            json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()
    )
    assert "grüße".encode() in data
    assert [f["path"] for f in json.loads(data)["files"]] == ["a.json", "b.safetensors"]


def test_decode_gives_back_what_was_encoded() -> None:
    decoded = decode(encode(sample()))
    assert encode(decoded) == encode(sample())
    assert decoded.config == sample().config
    assert decoded.lineage == sample().lineage
    assert set(decoded.files) == set(sample().files)
    assert decoded.parent == Digest.of(b"p")
    assert decoded.size_bytes == 2


def test_identity_ignores_the_order_of_files_and_nothing_else() -> None:
    manifest = sample()
    assert revision_id(dataclasses.replace(manifest, files=manifest.files[::-1])) == revision_id(
        manifest
    )
    changed = [
        dataclasses.replace(manifest, message="other"),
        dataclasses.replace(manifest, base_model=None),
        dataclasses.replace(manifest, files=manifest.files[:1]),
        dataclasses.replace(manifest, lineage=()),
        dataclasses.replace(manifest, metrics={"accuracy": 0.876}),
        dataclasses.replace(manifest, adapter=AdapterName("team", "other")),
        dataclasses.replace(manifest, created_at="2026-01-02T03:04:05.679Z"),
    ]
    assert len({revision_id(m) for m in [manifest, *changed]}) == len(changed) + 1


def test_a_first_revision_has_no_parent() -> None:
    assert dataclasses.replace(sample(), lineage=()).parent is None


def _broken(**changes: object) -> bytes:
    value = json.loads(encode(sample()))
    value.update(changes)
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        _broken(schema_version=2),
        _broken(files="none"),
        _broken(files=[{"path": "a", "digest": "sha256:zz", "size_bytes": 1, "media_type": "x"}]),
        _broken(
            files=[
                {"path": "a", "digest": str(Digest.of(b"")), "size_bytes": -1, "media_type": "x"}
            ]
        ),
        _broken(adapter="no-slash"),
        _broken(surprise=1),
        _broken(metrics={"loss": "low"}),
        _broken(
            lineage=[
                {"operation": "stolen_from", "adapter": "a/b", "revision": str(Digest.of(b""))}
            ]
        ),
    ],
)
def test_decode_refuses_what_is_not_a_manifest(data: bytes) -> None:
    with pytest.raises(ValidationError):
        decode(data)


def test_not_a_number_never_enters_a_manifest() -> None:
    with pytest.raises(ValueError, match="finite"):
        encode(dataclasses.replace(sample(), metrics={"loss": float("nan")}))


@given(
    st.text(max_size=40),
    st.dictionaries(
        st.text(max_size=8), st.floats(allow_nan=False, allow_infinity=False), max_size=4
    ),
)
@settings(max_examples=60, deadline=None)
def test_any_text_and_figures_round_trip(message: str, metrics: dict[str, float]) -> None:
    clean = message.encode("utf-8", "ignore").decode()
    manifest = dataclasses.replace(
        sample(),
        message=clean,
        metrics={k.encode("utf-8", "ignore").decode(): v for k, v in metrics.items()},
    )
    assert encode(decode(encode(manifest))) == encode(manifest)
