"""Refuse who lacks a right; what asks needs no web framework."""

from __future__ import annotations

from registry.errors import PermissionDeniedError
from registry.tokens import EVERYTHING, Principal, Role


def demand(caller: Principal, namespace: str, role: Role) -> None:
    """Let pass only who has this role in a namespace.

    Raises:
        PermissionDeniedError: the caller has not.
    """
    if not caller.may(role, namespace):
        where = "every namespace" if namespace == EVERYTHING else f"namespace {namespace!r}"
        raise PermissionDeniedError(
            f"your token has no {role} right in {where}",
            hint=f"ask an administrator for a token with {role} there",
        )
