"""Revokes what is left at the provider when a user has signed out."""

from __future__ import annotations

import logging

from ..errors import ConfigurationError, GrantUnreadable
from .ports import Clock, GrantStore, TokenEndpoint
from .tokens import Grant, TokenSet
from .writing import until_written

logger = logging.getLogger("flask_tokenrotate")


class Revocation:
    """Revokes tokens of grants that their users have ended."""

    def __init__(self, store: GrantStore, endpoint: TokenEndpoint, clock: Clock) -> None:
        self._store = store
        self._endpoint = endpoint
        self._clock = clock

    def revoke_if_signed_out(self, grant_id: str, tokens: TokenSet) -> None:
        """Revoke tokens that found their grant ended, if its user ended it.

        After a refusal or a replacement they are left alone: at many providers revoking one token
        ends the whole family, the successor included.
        """
        try:
            row = until_written(self._clock, lambda: self._store.load(grant_id))
        except GrantUnreadable:
            logger.exception("new tokens of grant %s, which has ended, are not revoked", grant_id)
            return
        if row is not None and row.end_reason == "signed_out":
            self.revoke(row, tokens)

    def revoke(self, grant: Grant, tokens: TokenSet) -> None:
        """Revoke tokens of a grant that its user has signed out of; the log says what stays valid."""
        try:
            confirmed = self._endpoint.revoke(grant.provider, tokens)
        except ConfigurationError:
            # The provider is no longer registered: that must not keep anybody signed in.
            logger.exception("grant %s is signed out, but its tokens cannot be revoked", grant.id)
            return
        if not confirmed:
            logger.warning("grant %s is signed out; %s did not revoke its tokens", grant.id, grant.provider)
