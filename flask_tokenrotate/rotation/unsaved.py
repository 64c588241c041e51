"""Token sets that could not be saved when they came: kept in memory, put aside in a rescue file, saved later.

A token set is saved through the same fence however often it is tried, so two processes that save one at once
are harmless, and a newer one stays.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import RescueFailed, StoreUnavailable, TokenRotateError
from .outcomes import SaveOutcome
from .ports import GrantStore, Rescue
from .revocation import Revocation
from .tokens import Grant, Unsaved

logger = logging.getLogger("flask_tokenrotate")


class UnsavedTokenSets:
    """What this process could not save yet, and what others have put aside."""

    def __init__(self, store: GrantStore, rescue: Rescue, revocation: Revocation) -> None:
        self._store = store
        self._rescue = rescue
        self._revocation = revocation
        # By the claim: two redemptions of one grant may both wait here, and each brought tokens that
        # have to be saved or revoked.
        self._kept: dict[str, Unsaved] = {}

    def first_save(self, unsaved: Unsaved) -> SaveOutcome:
        """Save what has just come; put it aside where that fails. Raises `StoreUnavailable`.

        Further tries may take longer than the claim stands. Without the copy another worker would then find
        the claim in doubt, and replay it or sign the user out; and a web server that kills the worker
        for being slow would lose the only copy.
        """
        try:
            return self._save(unsaved)
        except StoreUnavailable:
            if unsaved.claim.id not in self._kept:
                self._keep(unsaved)
                self._put_aside(unsaved)
            raise

    @contextmanager
    def kept_if_interrupted(self, unsaved: Unsaved) -> Iterator[None]:
        """Keep the token set in memory when anything stops the block, a `gevent.Timeout` as well."""
        try:
            yield
        except BaseException:
            self._keep(unsaved)
            raise

    def forget(self, unsaved: Unsaved) -> None:
        """Drop the copies of a token set that has been dealt with."""
        if self._kept.pop(unsaved.claim.id, None) is not None:
            self._remove(unsaved)

    def has(self, grant_id: str) -> bool:
        """Return whether a token set of the grant waits in memory."""
        return any(unsaved.grant.id == grant_id for unsaved in list(self._kept.values()))

    def save_kept(self) -> bool:
        """Try once more to save what this process keeps; return whether anything was saved.

        Called before each read of a row: the sooner the database has them, the less likely another
        worker takes the claim for in doubt.
        """
        any_saved = False
        for unsaved in list(self._kept.values()):
            try:
                self._save_or_revoke(unsaved)
            except StoreUnavailable:
                continue  # one row that another transaction has locked must not cost the others
            self._kept.pop(unsaved.claim.id, None)
            any_saved = True
        return any_saved

    def save_rescued_of(self, grant: Grant) -> bool:
        """Save what was put aside for the grant; return whether the row has to be read again.

        Looked for only when something about the row is open: a healthy grant costs no look at a disk.
        What cannot be read is logged and left where it is. Raises `StoreUnavailable` when what was found
        cannot be written: whoever went on without it would spend a refresh token again.
        """
        if grant.standing is None and not grant.doubts and grant.ended_at is None:
            return False
        saved, errors = self.save_rescued(grant.id)
        for error in errors:
            if isinstance(error, StoreUnavailable):
                raise error
            logger.error("a rescued token set of grant %s cannot be used: %s", grant.id, error)
        return saved > 0

    def save_rescued(self, grant_id: str | None = None) -> tuple[int, list[TokenRotateError]]:
        """Save all that was put aside (for one grant); return how many, and why others could not be."""
        try:
            found = self._rescue.waiting(grant_id)
        except RescueFailed as error:
            return 0, [error]
        saved = 0
        errors: list[TokenRotateError] = []
        for each in found:
            if isinstance(each, RescueFailed):
                errors.append(each)
                continue
            try:
                self._save_or_revoke(each)
                saved += 1
            except StoreUnavailable as error:
                errors.append(error)
        return saved, errors

    def _save_or_revoke(self, unsaved: Unsaved) -> None:
        """Save, or revoke if the user signed out; then remove the copy that was put aside.

        The copy goes last: after a crash in between it is saved once more, and the fence makes that harmless.
        """
        if self._save(unsaved) is SaveOutcome.ENDED:
            self._revocation.revoke_if_signed_out(unsaved.grant.id, unsaved.tokens)
        self._remove(unsaved)

    def _save(self, unsaved: Unsaved) -> SaveOutcome:
        return self._store.save(unsaved.grant, unsaved.claim, unsaved.tokens, http_status=unsaved.http_status)

    def _keep(self, unsaved: Unsaved) -> None:
        self._kept[unsaved.claim.id] = unsaved

    def _put_aside(self, unsaved: Unsaved) -> None:
        try:
            self._rescue.put(unsaved)
        except RescueFailed:
            logger.exception("the new token set of grant %s is kept in memory only", unsaved.grant.id)

    def _remove(self, unsaved: Unsaved) -> None:
        try:
            self._rescue.remove(unsaved.claim)
        except RescueFailed:
            logger.exception("a rescue file of grant %s stays; it is harmless", unsaved.grant.id)
