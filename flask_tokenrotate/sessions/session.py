"""``flask.session`` as this extension keeps it: a mapping that is read from its row at first use."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import nullcontext
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec
from flask import Flask, has_app_context
from flask.sessions import SessionMixin

from ..rotation.tokens import Secret
from .merging import Changes, Fields, changes_between, unpack, values_of

if TYPE_CHECKING:
    from .store import SqlSessionStore, StoredSession

logger = logging.getLogger("flask_tokenrotate")


class Cookie(Enum):
    """What the response does to the browser's cookie."""

    LEAVE = "leave"
    SEND = "send"
    DELETE = "delete"


class ServerSession(SessionMixin):
    """``flask.session``: a mapping that is read from its row at first use.

    ``sid`` is the id that the response will hand out, ``stored_sid`` the one whose row was read (None where
    there is none), ``stored`` that row. Values are JSON; a tuple is a list when it comes back.
    """

    modified = False

    def __init__(self, app: Flask, store: SqlSessionStore, cookie: str | None) -> None:
        self._app = app
        self._store = store
        self._cookie = cookie
        self._values: dict[str, Any] | None = None
        self._read: Fields = {}
        self._sid = ""
        self._cleared = False
        self.stored_sid: str | None = None
        self.stored: StoredSession | None = None
        self.outcome: Cookie | None = None

    @property
    def sid(self) -> str:
        """The session's id; the cookie's only where that names a living session."""
        self._contents()
        return self._sid

    @property
    def was_used(self) -> bool:
        """Whether anything was read or written."""
        return self._values is not None

    @property
    def has_new_id(self) -> bool:
        """Whether the row that was read shall end in favour of a new id."""
        return self.stored_sid is not None and self.stored_sid != self.sid

    def renew(self) -> None:
        """Take a new id; the row of the former one ends when the session is saved."""
        self._contents()
        self._sid = _new_id()

    def changes(self) -> Changes:
        """Return what this request did. Raises `NotStorableInSession`."""
        return changes_between(self._read, self._contents(), cleared=self._cleared)

    def clear(self) -> None:
        """Empty the session, of what other requests are writing to it now as well."""
        self._contents().clear()
        self._cleared = self.modified = True

    def __getitem__(self, key: str) -> Any:
        return self._contents()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._contents()[key] = value
        self.modified = True

    def __delitem__(self, key: str) -> None:
        del self._contents()[key]
        self.modified = True

    def __iter__(self) -> Iterator[str]:
        return iter(self._contents())

    def __len__(self) -> int:
        return len(self._contents())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'read' if self.was_used else 'not read'}>"

    def _contents(self) -> dict[str, Any]:
        if self._values is None:
            self._values = self._load()
        return self._values

    def _load(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if self._cookie:
            # A test client's session transaction uses the session outside of any context.
            with nullcontext() if has_app_context() else self._app.app_context():
                stored = self._store.load(Secret(self._cookie))
            if stored is not None:
                try:
                    self._read = unpack(stored.data)
                    values = values_of(self._read)
                except msgspec.DecodeError:
                    logger.error("a session cannot be read, because its row was altered; a new one begins")
                else:
                    self.stored, self.stored_sid = stored, self._cookie
        self._sid = self.stored_sid or _new_id()
        return values


def _new_id() -> str:
    return secrets.token_urlsafe(32)
