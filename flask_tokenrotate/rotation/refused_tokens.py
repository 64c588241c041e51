"""What to do when a resource server refuses an access token: read the row first, then rotate at most once."""

from __future__ import annotations

from .cache import Replacements
from .fresh_tokens import FreshTokens
from .ports import Clock, GrantStore
from .protocol import AHEAD_SHARE
from .rows import Rows
from .sighting import Fresh
from .tokens import Grant

YOUNG = 5.0
"""Seconds for which a refusal by a resource server says nothing about a token set just issued."""


class RefusedTokens:
    """Replaces access tokens that a resource server has refused."""

    def __init__(self, store: GrantStore, rows: Rows, tokens: FreshTokens, clock: Clock) -> None:
        self._store = store
        self._rows = rows
        self._tokens = tokens
        self._replacements = Replacements(clock, YOUNG)

    def replace(self, fresh: Fresh, *, min_ttl: float | None = None, here: bool = False) -> Fresh:
        """Return what to use after a resource server refused the access token of ``fresh``.

        The row is read first: if it has a newer token set, that one is returned and nothing is
        redeemed. A token set that is younger than `YOUNG` is returned as it is, or a resource server
        that refuses everything would cost a redemption for each request. So is one that cannot be
        rotated: one resource server's refusal must not end it for all others. ``here`` and
        the errors are those of `FreshTokens.get`.
        """
        seen = self._rows.load(fresh.grant.id)
        if seen.grant.token_version <= fresh.token_version:
            if seen.grant.tokens.refresh_token is None or self._is_young(seen.grant):
                return fresh
            self._store.expire(fresh.grant.id, fresh.token_version)
        at_least = fresh.token_version + 1
        replacement = self._tokens.get(fresh.grant.id, min_ttl=min_ttl, at_least=at_least, here=here)
        self._replacements.note(replacement.grant)
        return replacement

    def reset(self) -> None:
        """In a forked child: what threads of the parent were doing never ends here."""
        self._replacements.reset()

    def _is_young(self, grant: Grant) -> bool:
        lifetime = grant.tokens.lifetime
        if lifetime is None:
            # Nothing says when it was issued, but this process knows what its last refusal brought.
            return self._replacements.is_young(grant)
        return lifetime - grant.tokens.remaining(grant.seen_at) < min(YOUNG, lifetime * AHEAD_SHARE)
