"""``flask.session`` as this extension keeps it: a dict that is read from its row when it is first used."""

from __future__ import annotations

import functools
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec
from flask_session.base import ServerSideSession

from .merging import Changes, Fields, changes_between, unpack, values_of

if TYPE_CHECKING:
    from .store import StoredSession

logger = logging.getLogger("flask_tokenrotate")

_UNREAD = object()
"""The only key of a session that was not read yet.

C code may look at a dict's size before it calls a method: without a key, `json.dumps` would write ``{}``.
Code that calls no method at all (msgspec, orjson) meets a key that it cannot write, and raises `TypeError`.
"""

_NOT_CONTENTS = {
    "__class_getitem__", "__doc__", "__getattribute__", "__hash__", "__init__", "__new__", "__sizeof__",
    "fromkeys",
}  # fmt: skip


class Cookie(Enum):
    """What the response does to the browser's cookie."""

    LEAVE = "leave"
    SEND = "send"
    DELETE = "delete"


class ServerSession(ServerSideSession):  # type: ignore[misc]
    """``flask.session``: a `flask_session` session that is read from its row at its first use.

    ``cookie`` is the id that the browser sent, ``load`` reads the row of an id, ``new_id`` returns a random
    id, ``permanent`` is what `permanent` is in a new session. ``stored`` is the row that was read and
    ``stored_sid`` its id, both None where there is none; ``outcome`` is what was done to save the session.

    Values are JSON; a tuple is a list when it is read again. A copy, and what is unpickled, is a plain dict.
    """

    def __init__(
        self,
        cookie: str | None,
        *,
        load: Callable[[str], StoredSession | None],
        new_id: Callable[[], str],
        permanent: bool,
    ) -> None:
        super().__init__()
        self._cookie = cookie
        self._load = load
        self._new_id = new_id
        self._permanent = permanent
        self._lock = threading.Lock()
        self._read: Fields = {}
        self._sid = self._login_id = ""
        self._cleared = False
        self.was_used = False
        self.stored_sid: str | None = None
        self.stored: StoredSession | None = None
        self.outcome: Cookie | None = None
        dict.__setitem__(self, _UNREAD, None)

    @property
    def sid(self) -> str:
        """The session's id, which the response sends; the cookie's only where that names a living session."""
        self.read()
        return self._sid

    @sid.setter
    def sid(self, sid: str | None) -> None:
        if sid is not None:  # which is what Flask-Session's constructor sets
            self.read()
            self._sid = sid

    @property
    def login_id(self) -> str:
        """The random id by which the session's row and its grants' rows are read in one statement.

        It stays when the session gets a new id. It gives no access to anything.
        """
        self.read()
        return self._login_id

    @property
    def has_new_id(self) -> bool:
        """Whether the row that was read ends when the session is saved under its new id."""
        return self.stored_sid is not None and self.stored_sid != self.sid

    def renew(self) -> None:
        """Take a new id; the row of the former one ends when the session is saved."""
        self.sid = self._new_id()
        self.modified = True

    def new_login(self) -> None:
        """Take a new id and a new `login_id`, for another user: call it when the session was cleared."""
        self.renew()
        self._login_id = _new_login_id()

    def joined_grants(self) -> Mapping[str, Any]:
        """Return the rows of the login's living grants, by grant id, as they were read with the session.

        The grant ids in the session decide which of them are the session's. A grant that is not here was
        not read: it may exist. ``stored.read_at`` is when they were read, by this process's clock.
        """
        self.read()
        return {} if self.stored is None else {row.id: row for row in self.stored.grants}

    def changes(self) -> Changes:
        """Return what this request changed. Raises `NotStorableInSession`."""
        return changes_between(self._read, self, cleared=self._cleared)

    def clear(self) -> None:
        """Empty the session, as Flask does, and of what other requests are writing to it now."""
        self.read()
        dict.clear(self)
        self._cleared = self.modified = True

    def read(self) -> None:
        """Read the row, unless that was done. Raises what the store raises; the next use tries again."""
        if self.was_used:
            return
        # One of two threads that begin at once reads. The other's first write would be lost otherwise: the
        # later of two reads replaces what the dict holds.
        with self._lock:
            if not self.was_used:
                values = self._values_of_row()
                dict.clear(self)
                dict.update(self, values)
                self.was_used = self.accessed = True

    def __repr__(self) -> str:
        # A debugger must not read the database, nor show an empty session.
        shown: str = super().__repr__() if self.was_used else f"<{type(self).__name__}, not read yet>"
        return shown

    def __reduce_ex__(self, protocol: object) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)

    def _values_of_row(self) -> dict[str, Any]:
        stored = self._load(self._cookie) if self._cookie else None
        if stored is not None:
            try:
                self._read = unpack(stored.data)
                values = values_of(self._read)
            except msgspec.DecodeError:
                logger.error("a session cannot be read, because its row was altered; a new one begins")
            else:
                self.stored, self.stored_sid = stored, self._cookie
                self._sid, self._login_id = self._cookie or "", stored.login_id
                return values
        self._read = {}
        self._sid, self._login_id = self._new_id(), _new_login_id()
        return {"_permanent": True} if self._permanent else {}


def _new_login_id() -> str:
    return secrets.token_hex(16)


def _reads_first(name: str) -> Callable[..., Any]:
    method = getattr(ServerSideSession, name)

    @functools.wraps(method)
    def reads_first(self: ServerSession, *args: Any, **kwargs: Any) -> Any:
        self.read()
        return method(self, *args, **kwargs)

    return reads_first


for _name in {*vars(dict), "__bool__"} - _NOT_CONTENTS - set(vars(ServerSession)):
    setattr(ServerSession, _name, _reads_first(_name))
