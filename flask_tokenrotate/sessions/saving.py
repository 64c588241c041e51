"""How what a request changed in its session gets into the row, when other requests write to it too."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ..rotation.tokens import Secret
from .grants_in_session import user_of
from .merging import Changes, Fields, is_empty, pack, unpack, values_of
from .session import Cookie

if TYPE_CHECKING:
    from collections.abc import Callable

    from .session import ServerSession
    from .store import SqlSessionStore, StoredSession

logger = logging.getLogger("flask_tokenrotate")


class Saving:
    """One request's save. ``key`` returns what the store finds a session by, given its id.

    ``seconds``: how long the session is valid after this write.
    """

    def __init__(
        self, store: SqlSessionStore, key: Callable[[str], Secret], session: ServerSession, seconds: float
    ) -> None:
        self._store = store
        self._session = session
        self._key = key(session.sid)
        self._stored_key = None if session.stored_sid is None else key(session.stored_sid)
        self._seconds = seconds

    def save(self) -> Cookie:
        """Write the changes and return what the response does to the cookie.

        Raises `NotStorableInSession` and `StoreUnavailable`.
        """
        changes = self._session.changes()
        if self._stored_key is not None and self._session.has_new_id:
            return self._move(changes, self._stored_key)
        return self._change(changes) if changes else Cookie.LEAVE

    def _change(self, changes: Changes) -> Cookie:
        stored = self._session.stored
        if stored is None:
            fields = changes.onto({})
            if is_empty(fields):
                return Cookie.LEAVE
            self._insert(fields)
            return Cookie.SEND

        def step(stored: StoredSession | None) -> Cookie | None:
            if stored is None:
                return _dropped()
            newest = unpack(stored.data)
            fields = changes.onto(newest)
            if fields == newest:
                return Cookie.LEAVE
            if is_empty(fields):
                ended = self._store.end(self._key, seen_version=stored.version)
                return Cookie.DELETE if ended else None
            return Cookie.SEND if self._replace(fields, stored.version) else None

        return self._store.change(self._key, stored, step)

    def _move(self, changes: Changes, former: Secret) -> Cookie:
        """Store the session under its new id, then end the row of the former one.

        In this order: between the two, `end_everywhere` finds at least one of the rows. If it ended the
        former one, this request cannot end it, and the new row keeps only what this request wrote.
        """
        version: int | None = None

        def step(stored: StoredSession | None) -> Cookie | None:
            nonlocal version
            fields = changes.onto({} if stored is None else unpack(stored.data))
            if version is not None:
                if stored is None and is_empty(fields):
                    self._store.end(self._key, seen_version=version)
                    return _dropped()
                if not self._replace(fields, version):
                    return _dropped()
                version += 1
            elif not is_empty(fields):
                self._insert(fields)
                version = 0
            if stored is not None and not self._store.end(former, seen_version=stored.version):
                return None
            if version is not None:
                return Cookie.SEND
            return Cookie.LEAVE if stored is None else Cookie.DELETE

        return self._store.change(former, self._session.stored, step)

    def _insert(self, fields: Fields) -> None:
        self._store.insert(self._key, pack(fields), login_id=self._session.login_id, **self._beside(fields))

    def _replace(self, fields: Fields, seen_version: int) -> bool:
        return self._store.replace(self._key, pack(fields), seen_version=seen_version, **self._beside(fields))

    def _beside(self, fields: Fields) -> dict[str, Any]:
        """Return what the row holds beside the contents."""
        return {"user_id": user_of(values_of(fields)), "seconds": self._seconds}


def _dropped() -> Cookie:
    logger.info("a session was ended while a request used it; what that request changed in it is dropped")
    return Cookie.LEAVE
