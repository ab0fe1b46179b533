"""Write one JSON object a line to stderr, with the id of the request that it belongs to.

A line holds no token: only headers named here by hand are ever logged. Start at `configure`.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

LOG = logging.getLogger("ternery")
ACCESS = logging.getLogger("ternery.access")
request_id: ContextVar[str] = ContextVar("request_id", default="")
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SECRET = re.compile(r"tern_[A-Za-z0-9]{8,}|(?i:bearer\s+)\S+")


def choose_request_id(offered: str) -> str:
    """Return the id that the client offered if it is harmless, else a fresh one."""
    return offered if _ID.fullmatch(offered) else secrets.token_hex(8)


def redact(text: str) -> str:
    """Return text with whatever looks like a token blotted out."""
    return _SECRET.sub("[token]", text)


class JsonFormatter(logging.Formatter):
    """Format a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's time, level, logger, message, request id and `fields`."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if current := request_id.get():
            line["request_id"] = current
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line |= {k: redact(v) if isinstance(v, str) else v for k, v in fields.items()}
        if record.exc_info:
            line["traceback"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, default=str, ensure_ascii=False)


def configure(level: str) -> None:
    """Send the hub's and uvicorn's log lines to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in ("ternery", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False
