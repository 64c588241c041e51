"""The grants that were read in one statement with one of the extension's own sessions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..errors import GrantUnreadable
from ..rotation.sighting import Sighting
from ..rotation.token_sets import TokenSets
from ..rotation.tokens import Grant, TokenSet
from .session import ServerSession


class JoinedGrants:
    """Makes grants from the rows that were read with a session, and decrypts each token set once.

    ``grant_from`` makes a grant from a row and its token set, if that was decrypted before. Decrypted token
    sets are cached in ``token_sets``.
    """

    def __init__(self, grant_from: Callable[[Any, TokenSet | None], Grant], token_sets: TokenSets) -> None:
        self._grant_from = grant_from
        self._token_sets = token_sets

    def of(self, session: object) -> dict[str, Sighting] | None:
        """Return the session's grants by id; None if the session is not one of the extension's own.

        A grant that cannot be decrypted is left out: it is read again when it is needed, and that raises.
        """
        if not isinstance(session, ServerSession):
            return None
        grants = {}
        for grant_id, row in session.joined_grants().items():
            assert session.stored is not None
            with suppress(GrantUnreadable):
                grants[grant_id] = Sighting(self._grant_of(row), session.stored.read_at)
        return grants

    def _grant_of(self, row: Any) -> Grant:
        state = (row.token_version, row.provider, row.user_id, row.subject)
        known = self._token_sets.get(row.id, state)
        grant = self._grant_from(row, known)
        if known is None:
            self._token_sets.put(row.id, state, grant.tokens)
        return grant
