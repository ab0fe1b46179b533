"""Call what administrators of a hub may do: tokens, garbage, counts."""

from __future__ import annotations

from api.client import HubClient
from api.schemas import StatsBody
from api.schemas_admin import CollectedBody, NewTokenBody, TokensBody
from api.schemas_requests import CollectIn, TokenIn


class HubAdmin:
    """Be a hub's administrator, or that of a namespace."""

    def __init__(self, client: HubClient) -> None:
        self._transport = client.transport

    def stats(self) -> StatsBody:
        """Count what the hub holds."""
        return self._transport.ask("GET", "/admin/stats", StatsBody)

    def collect(self, *, grace_s: float | None, dry_run: bool) -> CollectedBody:
        """Remove what no ref reaches, or list it."""
        body = CollectIn(grace_s=grace_s, dry_run=dry_run)
        return self._transport.ask("POST", "/admin/gc", CollectedBody, body=body)

    def tokens(self) -> TokensBody:
        """List the tokens of the namespaces that the caller administers."""
        return self._transport.ask("GET", "/tokens", TokensBody)

    def create_token(self, token: TokenIn) -> NewTokenBody:
        """Make a token; its secret is in the answer and nowhere else."""
        return self._transport.ask("POST", "/tokens", NewTokenBody, body=token)

    def revoke_token(self, token_id: str) -> None:
        """Revoke a token for good."""
        self._transport.send("DELETE", f"/tokens/{token_id}")
