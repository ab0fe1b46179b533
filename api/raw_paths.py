"""Decode path parameters after routing, so that `feature%2Fx` is one name and not two."""

from __future__ import annotations

from urllib.parse import unquote

from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope


class RawPathRoute(APIRoute):
    """Match the raw path, then decode what the parameters caught."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether the route fits, and the scope of its handler."""
        match, child = super().matches(scope)
        if match is not Match.NONE:
            child["path_params"] = {
                name: unquote(text) for name, text in child["path_params"].items()
            }
        return match, child
