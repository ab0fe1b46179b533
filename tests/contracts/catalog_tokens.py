"""State how tokens are made, recognised and revoked, on every database."""

from __future__ import annotations

import pytest

from registry.catalog.errors import InvalidTokenError, TokenNotFoundError
from registry.catalog.tables import tokens
from registry.catalog.values import Role
from registry.errors import ValidationError
from registry.service import Registry
from tests.registry_kit import Place


class TokenContract:
    """Keep tokens; a subclass gives `place`."""

    @pytest.fixture
    def registry(self, place: Place) -> Registry:
        return place.open()

    def test_a_secret_is_recognised_and_not_kept(self, registry: Registry) -> None:
        record, secret = registry.tokens.create("team", Role.WRITE, label="ann's laptop")
        principal = registry.tokens.authenticate(secret)
        assert (principal.label, dict(principal.grants)) == ("ann's laptop", {"team": Role.WRITE})
        assert registry.tokens.get(record.id).label == "ann's laptop"
        with registry.database.read() as connection:
            (row,) = connection.execute(tokens.select()).all()
        assert secret not in str(row)
        assert len(row.secret_hash) == 64

    @pytest.mark.parametrize("change", ["", "x", "tern_", "A" * 54])
    def test_other_secrets_are_not(self, registry: Registry, change: str) -> None:
        _, secret = registry.tokens.create("team", Role.READ)
        wrong = secret[:-1] + ("0" if secret[-1] != "0" else "1") if change == "x" else change
        with pytest.raises(InvalidTokenError):
            registry.tokens.authenticate(wrong)

    def test_another_registrys_pepper_knows_no_token(self, place: Place) -> None:
        first = place.open("main", token_pepper="one")
        _, secret = first.tokens.create("team", Role.READ)
        assert place.open("main", token_pepper="one").tokens.authenticate(secret)
        with pytest.raises(InvalidTokenError):
            place.open("main", token_pepper="two").tokens.authenticate(secret)

    def test_the_kept_pepper_survives_and_is_private(self, place: Place) -> None:
        _, secret = place.open().tokens.create("team", Role.READ)
        assert place.open().tokens.authenticate(secret)
        assert (place.folder / "token-pepper").stat().st_mode & 0o777 == 0o600

    def test_a_token_ends(self, place: Place, registry: Registry) -> None:
        _, secret = registry.tokens.create(
            "team", Role.READ, expires_at="2026-01-01T01:00:00+00:00"
        )
        place.clock.advance(3590)
        assert registry.tokens.authenticate(secret)
        place.clock.advance(20)
        with pytest.raises(InvalidTokenError):
            registry.tokens.authenticate(secret)

    def test_a_revoked_token_is_worth_nothing(self, registry: Registry) -> None:
        record, secret = registry.tokens.create("team", Role.READ)
        registry.tokens.revoke(record.id, principal="root")
        first = registry.tokens.get(record.id).revoked_at
        registry.tokens.revoke(record.id)
        assert registry.tokens.get(record.id).revoked_at == first
        with pytest.raises(InvalidTokenError):
            registry.tokens.authenticate(secret)
        with pytest.raises(TokenNotFoundError):
            registry.tokens.revoke("nothing")

    def test_use_is_noted_once_a_minute(self, place: Place, registry: Registry) -> None:
        record, secret = registry.tokens.create("team", Role.READ)
        assert registry.tokens.get(record.id).last_used_at is None
        registry.tokens.authenticate(secret)
        first = registry.tokens.get(record.id).last_used_at
        registry.tokens.authenticate(secret)
        assert registry.tokens.get(record.id).last_used_at == first is not None
        place.clock.advance(61)
        registry.tokens.authenticate(secret)
        assert (registry.tokens.get(record.id).last_used_at or "") > first

    def test_listings_are_by_namespace(self, registry: Registry) -> None:
        made = [registry.tokens.create(n, Role.READ)[0].id for n in ("team", "ann", "*")]
        assert [token.id for token in registry.tokens.list()] == made[::-1]
        assert [t.namespace for t in registry.tokens.list(frozenset({"ann"}))] == ["ann"]

    def test_somebody_can_administer(self, registry: Registry) -> None:
        assert not registry.tokens.has_admin()
        registry.tokens.create("team", Role.ADMIN)
        registry.tokens.create("*", Role.WRITE)
        assert not registry.tokens.has_admin()
        record, _ = registry.tokens.create("*", Role.ADMIN)
        assert registry.tokens.has_admin()
        registry.tokens.revoke(record.id)
        assert not registry.tokens.has_admin()

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"namespace": "a b"}, "namespace"),
            ({"namespace": ""}, "namespace"),
            ({"label": "x" * 201}, "label"),
            ({"label": "a\nb"}, "label"),
            ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
            ({"expires_at": "2030-01-01T00:00:00"}, "expires_at"),
            ({"expires_at": "soon"}, "expires_at"),
        ],
    )
    def test_what_no_token_may_be(
        self, registry: Registry, fields: dict[str, str], field: str
    ) -> None:
        wanted = {"namespace": "team", "label": "x"} | fields
        namespace = wanted.pop("namespace")
        with pytest.raises(ValidationError) as caught:
            registry.tokens.create(namespace, Role.READ, **wanted)
        assert caught.value.field == field
        assert registry.tokens.list() == ()
