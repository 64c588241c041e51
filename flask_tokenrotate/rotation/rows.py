"""Reads a grant's row, and what belongs to it but is not in it yet.

A token set that could not be saved is saved before the row is read: who reads the row without it would
spend a refresh token that has been spent already.
"""

from __future__ import annotations

from dataclasses import replace

from ..errors import SignInRequired, StoreUnavailable
from .ports import Clock, GrantStore
from .sighting import Sighting
from .tokens import Grant
from .unsaved import UnsavedTokenSets


class Rows:
    """The rows, as this process reads them. ``claim_seconds``: how long a claim stands without a renewal."""

    def __init__(
        self, store: GrantStore, unsaved: UnsavedTokenSets, clock: Clock, *, claim_seconds: float
    ) -> None:
        self._store = store
        self._unsaved = unsaved
        self._clock = clock
        self._claim_seconds = claim_seconds
        self._was_away_at: float | None = None

    def load(self, grant_id: str) -> Sighting:
        """Return the grant as its row is now.

        Raises `SignInRequired`, `StoreUnavailable` and `GrantUnreadable`.
        """
        self._unsaved.save_kept()
        try:
            grant = self._store.load(grant_id)
            return self._examined(grant_id, grant, self._clock.monotonic())
        except StoreUnavailable:
            self._was_away_at = self._clock.monotonic()
            raise

    def examine(self, grant_id: str, found: Grant | None, at: float) -> Sighting:
        """Return the grant as it was ``found``, by a lost claim or with its session.

        ``at`` is when that was, on `Clock.monotonic`: who waited for it may have been stopped since.
        """
        if self._unsaved.save_kept():
            # What was saved just now is not in a row that was read before.
            return self.load(grant_id)
        return self._examined(grant_id, found, at)

    def recheck(self, seen: Sighting) -> Sighting:
        """Return the grant as it was read a moment ago, with its session; or read it again."""
        grant = seen.grant
        if grant.standing is None and not grant.doubts and not self._unsaved.has(grant.id):
            return seen
        return self.examine(grant.id, grant, seen.at)

    def _examined(self, grant_id: str, grant: Grant | None, at: float) -> Sighting:
        if grant is None:
            raise SignInRequired(None, "no_grant")
        if self._unsaved.save_rescued_of(grant):
            grant = self._store.load(grant_id) or grant
            at = self._clock.monotonic()
        if self._unsaved.has(grant_id):
            # The row still has the refresh token that this process has spent; after the claim's
            # deadline it would look in doubt, and a replay would end the successor held here.
            raise StoreUnavailable(f"The new token set of grant {grant_id} is not saved yet.")
        return Sighting(self._with_time_to_renew(grant, at), at)

    def _with_time_to_renew(self, grant: Grant, at: float) -> Grant:
        """Return the grant with its claim's deadline moved, if the database was away a moment ago.

        Its holder could not renew the claim meanwhile. Taken for in doubt, its refresh token would be
        replayed while the holder has the response, or waits for it.
        """
        if self._was_away_at is None or grant.standing is None:
            return grant
        left = self._was_away_at + self._claim_seconds - at
        deadline = max(grant.standing.deadline, grant.seen_at + left)
        return replace(grant, standing=replace(grant.standing, deadline=deadline))
