"""Tell the store what the database decided, so that the catalog can be rebuilt from the store.

A move is decided in the database first, with `recorded` false; then its record is written, then
`recorded` becomes true. A crash between leaves an unrecorded move, which the next start mends.
"""

from __future__ import annotations

from dataclasses import dataclass

from registry.catalog.base_states import mark_base_recorded, unrecorded_bases
from registry.catalog.database import Database
from registry.catalog.errors import StoreAheadError
from registry.catalog.refs import mark_moves_recorded, unrecorded_moves
from registry.records import base_key, encode_base, encode_move, move_key
from registry.storage.blobs import BlobStore


@dataclass(frozen=True, slots=True)
class Recorder:
    """Write what is unrecorded; writing twice is harmless, whoever does it."""

    database: Database
    store: BlobStore

    def record_moves(self, adapter: int | None = None) -> int:
        """Record the moves of one adapter's refs, or of all, and return how many there were.

        Raises:
            StoreAheadError: the store holds another move under the same number.
        """
        with self.database.read() as connection:
            moves = unrecorded_moves(connection, adapter)
        for _, move in moves:
            key = move_key(move.adapter, move.kind, move.name, move.sequence)
            self._create(key, encode_move(move))
        if moves:
            self.database.write(lambda connection: mark_moves_recorded(connection, moves))
        return len(moves)

    def record_bases(self, base: int | None = None) -> int:
        """Record the state of one base model, or of all, and return how many there were.

        Raises:
            StoreAheadError: the store holds another state under the same number.
        """
        with self.database.read() as connection:
            states = unrecorded_bases(connection, base)
        for state in states:
            self._create(base_key(state.key, state.sequence), encode_base(state))
        if states:
            self.database.write(lambda connection: mark_base_recorded(connection, states))
        return len(states)

    def _create(self, key: str, data: bytes) -> None:
        if not self.store.create_record(key, data):
            raise StoreAheadError(key)
