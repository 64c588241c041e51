"""Ends grants for their users, and access tokens that are known to be no longer usable."""

from __future__ import annotations

import logging

from ..errors import GrantUnreadable
from .fresh_tokens import FreshTokens
from .ports import GrantStore, Observer
from .revocation import Revocation
from .rows import Rows
from .unsaved import UnsavedTokenSets

logger = logging.getLogger("flask_tokenrotate")


class Ending:
    """Signs out, and marks access tokens as expired."""

    def __init__(
        self,
        store: GrantStore,
        rows: Rows,
        tokens: FreshTokens,
        unsaved: UnsavedTokenSets,
        revocation: Revocation,
        observer: Observer,
    ) -> None:
        self._store = store
        self._rows = rows
        self._tokens = tokens
        self._unsaved = unsaved
        self._revocation = revocation
        self._observer = observer

    def sign_out(self, grant_id: str) -> bool:
        """End the grant, then revoke its tokens at the provider; return whether this call ended it.

        The row comes first: from the moment it is ended no worker gets a token from it, and a
        redemption in progress revokes what it brings. A provider that is down changes nothing.
        Called again, it revokes again: the call before may have been cut off in between.
        """
        ended = self._store.end(grant_id, "signed_out")
        self.revoke_signed_out(grant_id, notify=ended)
        return ended

    def revoke_signed_out(self, grant_id: str, *, notify: bool) -> None:
        """Drop what is cached of the grant, which its user ended, and revoke its tokens.

        ``notify``: whether the observer is notified of the end.
        """
        self._tokens.forget(grant_id)
        self._unsaved.save_kept()
        try:
            # Read after the end, so that a token set saved right before it is the one revoked.
            grant = self._store.load(grant_id)
        except GrantUnreadable:
            logger.exception("grant %s is signed out, but its tokens cannot be revoked", grant_id)
            return
        if grant is not None and self._unsaved.save_rescued_of(grant):
            grant = self._store.load(grant_id)
        if grant is None or grant.end_reason != "signed_out":
            return
        if notify:
            self._observer.notify("grant_ended", grant, {"reason": "signed_out"})
        self._revocation.revoke(grant, grant.tokens)

    def expire(self, grant_id: str) -> None:
        """Mark the stored access token as expired, for callers who learn it elsewhere.

        Raises `SignInRequired`, `StoreUnavailable` and `GrantUnreadable`.
        """
        grant = self._rows.load(grant_id).grant
        self._store.expire(grant_id, grant.token_version)
        self._tokens.forget(grant_id)
