"""Check the one table: every error has its place in it, and tells the outside just enough."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from api import problems
from api.errors import ApiError, RangeError, RequestRateError, TokenMissingError
from api.problems import (
    EXIT_NOT_ALLOWED,
    EXIT_USAGE,
    TABLE,
    UNEXPECTED,
    exit_code_of,
    key_of,
    problem_of,
    row_of,
    row_of_status,
)
from registry.digest import Digest, DigestMismatchError
from registry.errors import ConfigError, RegistryError, StorageError, ValidationError
from registry.validation.reasons import Reason

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("registry", "compress", "merge", "transfer", "api")


def modules() -> Iterator[str]:
    for room in ROOMS:
        for found in pkgutil.walk_packages([str(ROOT / room)], prefix=f"{room}."):
            # Alembic runs what stands there in a context of its own; no error is defined in it.
            if not found.name.startswith(("registry.catalog.migrations", "api.cli.tour")):
                yield found.name


def roots() -> list[type[Exception]]:
    for name in modules():
        importlib.import_module(name)
    found = [RegistryError, ApiError]
    for room, root in (("compress", "CompressError"), ("merge", "MergeError")):
        module = importlib.import_module(f"{room}.errors")
        found.append(getattr(module, root))
    return found


def family(cls: type[Exception]) -> Iterator[type[Exception]]:
    yield cls
    for child in cls.__subclasses__():
        if child.__module__.partition(".")[0] in ROOMS:
            yield from family(child)


def errors() -> list[type[Exception]]:
    return sorted({cls for root in roots() for cls in family(root)}, key=key_of)


def test_every_error_of_every_room_has_a_row() -> None:
    assert not [key_of(cls) for cls in errors() if key_of(cls) not in TABLE]


def test_every_row_belongs_to_an_error_that_exists() -> None:
    assert not set(TABLE) - {key_of(cls) for cls in errors()}


def test_no_two_errors_share_a_key() -> None:
    keys = [key_of(cls) for cls in errors()]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("key", TABLE)
def test_a_row_is_sensible(key: str) -> None:
    row = TABLE[key]
    assert 400 <= row.status <= 599
    assert row.code == row.code.lower().replace(" ", "-").replace("_", "-")
    assert row.title
    assert row.title[0].islower()
    assert (row.exit_code == EXIT_NOT_ALLOWED) == (row.status in {401, 403})
    assert row.told or row.status >= 500


def test_equal_codes_mean_equal_rows() -> None:
    seen: dict[str, problems.Row] = {}
    for row in TABLE.values():
        assert seen.setdefault(row.code, row) == replace(row)


def test_an_error_outside_the_table_takes_the_row_of_its_base() -> None:
    class NewError(StorageError):
        """Be in no table."""

    assert row_of(NewError("x")) == TABLE["registry.StorageError"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("secret"), RecursionError()])
def test_what_nobody_foresaw_tells_nothing(error: Exception) -> None:
    problem = problem_of(error)
    assert problem.row == UNEXPECTED
    assert "secret" not in problem.detail
    assert not problem.extra


def test_a_foreign_class_of_the_same_name_is_not_ours() -> None:
    class ValidationError(Exception):
        """Come from elsewhere."""

    ValidationError.__module__ = "pydantic_core"
    assert row_of(ValidationError()) == UNEXPECTED


def test_fields_come_along() -> None:
    error = ConfigError(
        "rank is wrong",
        reason=next(iter(Reason)),
        file="adapter_config.json",
        field="r",
        expected="1 or more",
        actual="0",
        hint="fix it",
    )
    problem = problem_of(error)
    assert problem.detail == "rank is wrong"
    assert problem.hint == "fix it"
    assert problem.extra["file"] == "adapter_config.json"
    assert problem.extra["field"] == "r"
    assert (problem.extra["expected"], problem.extra["actual"]) == ("1 or more", "0")
    assert problem.extra["reason"] == str(next(iter(Reason)))


def test_empty_fields_do_not() -> None:
    assert not problem_of(ValidationError("x")).extra


def test_digests_are_written_out() -> None:
    one, two = Digest.of(b"1"), Digest.of(b"2")
    assert problem_of(DigestMismatchError(one, two)).extra["expected"] == str(one)


def test_numbers_stay_numbers() -> None:
    assert problem_of(RangeError("x", size_bytes=5, actual="y")).extra["size_bytes"] == 5
    assert problem_of(RequestRateError("x", retry_after_s=7)).retry_after_s == 7


def test_a_failing_store_tells_when_to_retry_and_not_where_it_stands() -> None:
    problem = problem_of(StorageError("cannot write /srv/secret/place", hint="look at /srv"))
    assert "/srv" not in problem.detail + problem.hint
    assert problem.retry_after_s == 5


def test_exit_codes_survive_the_wire() -> None:
    assert exit_code_of(problem_of(TokenMissingError("x")).row.code) == EXIT_NOT_ALLOWED
    assert exit_code_of("bad-option") == EXIT_USAGE
    assert exit_code_of("never-heard-of") == 1


@pytest.mark.parametrize("status", [400, 401, 404, 405, 413, 415, 418, 500])
def test_a_bare_status_has_a_row(status: int) -> None:
    assert row_of_status(status).status == status
