"""Takes up token sets that some process could not save: its own, or another one's that is gone.

A rescued token set is saved through the same fence as any other, so that it is never saved twice in
effect: two processes that take up one at once are harmless, and what is newer stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..errors import RescueFailed, StoreUnavailable, TokenRotateError
from .ports import GrantStore, Rescue, SaveOutcome
from .tokens import Grant, TokenSet, Unsaved

logger = logging.getLogger("flask_tokenrotate")


class Rescuer:
    """Puts unsaved token sets aside and saves them later; ``revoke_if_signed_out`` is the redeemer's."""

    def __init__(
        self, store: GrantStore, rescue: Rescue, revoke_if_signed_out: Callable[[str, TokenSet], None]
    ) -> None:
        self._store = store
        self._rescue = rescue
        self._revoke_if_signed_out = revoke_if_signed_out

    def put_aside(self, unsaved: Unsaved) -> None:
        """Put ``unsaved`` where another process finds it; where that fails it stays in memory only."""
        try:
            self._rescue.put(unsaved)
        except RescueFailed:
            logger.exception("the new token set of grant %s is kept in memory only", unsaved.grant.id)

    def save(self, unsaved: Unsaved) -> None:
        """Save ``unsaved``, or revoke it if its user signed out; then forget the copy put aside.

        Raises `StoreUnavailable`. The copy goes last: after a crash in between it is taken up once
        more, and the fence makes that harmless.
        """
        outcome = self._store.save(
            unsaved.grant, unsaved.claim, unsaved.tokens, http_status=unsaved.http_status
        )
        if outcome is SaveOutcome.ENDED:
            self._revoke_if_signed_out(unsaved.grant.id, unsaved.tokens)
        self.forget(unsaved)

    def forget(self, unsaved: Unsaved) -> None:
        """Remove the copy put aside, if there is one."""
        try:
            self._rescue.remove(unsaved.claim)
        except RescueFailed:
            logger.exception("a rescue file of grant %s stays; it is harmless", unsaved.grant.id)

    def take_up_for(self, grant: Grant) -> bool:
        """Save what was put aside for the grant; return whether the row has to be read again.

        Looked for only when something about the row is open: a healthy grant costs no look at a disk.
        What cannot be read is logged and left where it is. Raises `StoreUnavailable` when the database
        does not take what was found: whoever went on without it would spend a refresh token again.
        """
        if grant.standing is None and not grant.doubts and grant.ended_at is None:
            return False
        taken_up, errors = self.take_up(grant.id)
        for error in errors:
            if isinstance(error, StoreUnavailable):
                raise error
            logger.error("a rescued token set of grant %s cannot be used: %s", grant.id, error)
        return taken_up > 0

    def take_up(self, grant_id: str | None = None) -> tuple[int, list[TokenRotateError]]:
        """Save all that was put aside (for one grant); return how many, and why others could not be."""
        taken_up = 0
        errors: list[TokenRotateError] = []
        try:
            found = self._rescue.waiting(grant_id)
        except RescueFailed as error:
            return 0, [error]
        for each in found:
            if isinstance(each, RescueFailed):
                errors.append(each)
                continue
            try:
                self.save(each)
                taken_up += 1
            except StoreUnavailable as error:
                errors.append(error)
        return taken_up, errors
