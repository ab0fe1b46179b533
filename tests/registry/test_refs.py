"""Check the grammar of names and references."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.digest import Digest
from registry.errors import ValidationError
from registry.refs import AdapterName, Reference, check_namespace, check_ref_name

DIGEST = Digest.of(b"x")


@pytest.mark.parametrize(
    "text", ["team/sql-expert", "a/b", "Team_1/x.y-z", "0/9", "a" * 96 + "/" + "b" * 96]
)
def test_names_that_are_allowed(text: str) -> None:
    assert str(AdapterName.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "adapter"),
        ("alone", "adapter"),
        ("/x", "namespace"),
        ("a/", "name"),
        ("a/b/c", "name"),
        ("-a/b", "namespace"),
        ("a/b-", "name"),
        ("a/b.", "name"),
        ("a/..", "name"),
        ("a/b..c", "name"),
        ("a/b--c", "name"),
        ("a/b.git", "name"),
        ("api/x", "namespace"),
        ("API/x", "namespace"),
        ("_private/x", "namespace"),
        ("a/b c", "name"),
        ("a/é", "name"),
        ("a/b\n", "name"),
        ("a/" + "b" * 97, "name"),
        ("a\x00/b", "namespace"),
    ],
)
def test_names_that_are_refused_say_which_part(text: str, field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AdapterName.parse(text)
    assert caught.value.field == field
    assert caught.value.expected


@pytest.mark.parametrize("text", ["main", "v1.0", "feature/x", "_x", "a", "release-2", "A/B/c_d"])
def test_refs_that_are_allowed(text: str) -> None:
    assert check_ref_name(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/x",
        "x/",
        "a//b",
        "a..b",
        "-x",
        "x.lock",
        "refs/heads/x",
        "a" * 40,
        "0" * 64,
        "a b",
        "x\n",
        "x" * 129,
        "x:y",
        "x.",
    ],
)
def test_refs_that_are_refused(text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        check_ref_name(text)
    assert caught.value.field == "ref"


def test_namespace_rule_stands_alone() -> None:
    assert check_namespace("team") == "team"
    with pytest.raises(ValidationError):
        check_namespace("team/")


@pytest.mark.parametrize(
    ("text", "ref", "digest"),
    [
        ("a/b", None, None),
        ("a/b:main", "main", None),
        ("a/b:feature/x", "feature/x", None),
        (f"a/b@{DIGEST}", None, DIGEST),
        (f"a/b@{DIGEST.hex}", None, DIGEST),
        (f"a/b:v1@{DIGEST}", "v1", DIGEST),
        (f"a/b:{DIGEST.commit_id}", DIGEST.commit_id, None),
    ],
)
def test_references_parse(text: str, ref: str | None, digest: Digest | None) -> None:
    reference = Reference.parse(text)
    assert (str(reference.adapter), reference.ref, reference.digest) == ("a/b", ref, digest)


@pytest.mark.parametrize(
    "text", ["a/b:", "a/b@", "a/b:@", "a/b:x@y", "a:b/c", "a/b@sha256:12", "a/b:bad ref"]
)
def test_references_that_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Reference.parse(text)


def test_a_push_goes_to_main_unless_told() -> None:
    assert Reference.parse("a/b").branch == "main"
    assert Reference.parse("a/b:dev").branch == "dev"


@given(
    st.from_regex(r"[a-z0-9][a-z0-9_]{0,20}", fullmatch=True),
    st.from_regex(r"[a-z][a-z0-9_/]{0,8}[a-z]", fullmatch=True).filter(
        lambda t: "//" not in t and not t.startswith("refs/")
    ),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_text_and_reference_round_trip(name: str, ref: str, pinned: bool) -> None:
    reference = Reference(AdapterName("ns", name), ref, DIGEST if pinned else None)
    assert Reference.parse(str(reference)) == reference
