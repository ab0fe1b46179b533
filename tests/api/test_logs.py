"""Check that a log line is JSON, carries the request's id and never a token."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from api.hub.logs import JsonFormatter, choose_request_id, configure, redact, request_id


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("ternery", logging.WARNING, "x.py", 1, message, None, None)
    for name, value in extra.items():
        setattr(made, name, value)
    return made


def test_a_line_is_one_json_object() -> None:
    line = JsonFormatter().format(record("two\nlines", fields={"status": 200, "path": "/ü"}))
    assert "\n" not in line
    read = json.loads(line)
    assert read["message"] == "two\nlines"
    assert (read["level"], read["logger"]) == ("warning", "ternery")
    assert (read["status"], read["path"]) == (200, "/ü")
    assert read["time"].endswith("Z")


def test_a_token_in_a_path_is_blotted_out() -> None:
    fields = {"path": "/api/v1/tokens/tern_" + "a" * 49, "status": 404}
    read = json.loads(JsonFormatter().format(record("request", fields=fields)))
    assert read["path"] == "/api/v1/tokens/[token]"


def test_a_line_belongs_to_its_request() -> None:
    token = request_id.set("abc")
    try:
        assert json.loads(JsonFormatter().format(record("x")))["request_id"] == "abc"
    finally:
        request_id.reset(token)
    assert "request_id" not in json.loads(JsonFormatter().format(record("x")))


def test_a_traceback_stays_in_the_line_and_hides_tokens() -> None:
    secret = "tern_" + "a" * 43
    made = record("failed")
    try:
        int(secret)
    except ValueError:
        made.exc_info = sys.exc_info()
    read = json.loads(JsonFormatter().format(made))
    assert "ValueError" in read["traceback"]
    assert secret not in read["traceback"]


@pytest.mark.parametrize(
    "text",
    [
        "tern_0123456789abcdef",
        "Authorization: Bearer s3cr3t-0123456789",
        "bearer   s3cr3t-0123456789",
    ],
)
def test_what_looks_like_a_token_is_blotted_out(text: str) -> None:
    assert "0123456789" not in redact(f"before {text} after")
    assert redact(f"before {text} after").startswith("before ")


@pytest.mark.parametrize("offered", ["a", "A-b_c.9", "x" * 64])
def test_a_harmless_id_is_kept(offered: str) -> None:
    assert choose_request_id(offered) == offered


@pytest.mark.parametrize("offered", ["", "x" * 65, "a b", "a\nb", 'a"b', "ü"])
def test_any_other_id_is_replaced(offered: str) -> None:
    assert choose_request_id(offered) != offered
    assert choose_request_id(offered) != choose_request_id(offered)


def test_configure_sets_level_and_stops_propagation(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("ternery", "uvicorn")
    before = {n: (logging.getLogger(n).handlers, logging.getLogger(n).propagate) for n in names}
    try:
        configure("warning")
        logging.getLogger("ternery.access").info("hidden")
        logging.getLogger("ternery.access").warning("shown")
        lines = capsys.readouterr().err.splitlines()
        assert [json.loads(line)["message"] for line in lines] == ["shown"]
    finally:
        for name, (handlers, propagate) in before.items():
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(logging.NOTSET)
