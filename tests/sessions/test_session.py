"""The session as a dict: whatever looks at it first sees its contents, and not an empty dict."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest
from flask import Flask
from flask.json.provider import DefaultJSONProvider
from flask_session.base import ServerSideSession

from flask_tokenrotate.sessions.session import ServerSession
from flask_tokenrotate.sessions.store import StoredSession

CONTENTS = {"a": 1, "b": [2]}
DATA = b'{"a":1,"b":[2]}'


def stored(data: bytes = DATA) -> StoredSession:
    """Return a row with ``data``."""
    return StoredSession(data=data, version=0, login_id="login", grants=(), read_at=0.0)


def unread(
    load: Callable[[str], StoredSession | None] = lambda sid: stored(), *, permanent: bool = False
) -> ServerSession:
    """Return a session whose row holds `CONTENTS` and was not read yet."""
    numbers = iter(range(10))
    return ServerSession("the-cookie", load=load, new_id=lambda: f"new-{next(numbers)}", permanent=permanent)


def updated(session: ServerSession) -> object:
    """Return what `update` leaves."""
    session.update(c=3)
    return dict(session)


def written(session: ServerSession) -> object:
    """Return what an assignment and a deletion leave."""
    session["c"] = 3
    del session["a"]
    return dict(session)


def or_assigned(session: ServerSession) -> object:
    """Return what ``|=`` leaves."""
    session |= {"c": 3}
    assert isinstance(session, ServerSession)
    return dict(session)


def cleared(session: ServerSession) -> object:
    """Return what `clear` leaves, and whether anything was there."""
    session.clear()
    return dict(session), bool(session.changes())


METHODS: dict[str, tuple[Callable[[Any], object], object]] = {
    "__contains__": (lambda session: ("a" in session, "x" in session), (True, False)),
    "__delitem__": (lambda session: session.__delitem__("a") or dict(session), {"b": [2]}),
    "__eq__": (lambda session: session == CONTENTS, True),
    "__ge__": (lambda session: session.__ge__({}), NotImplemented),
    "__getitem__": (lambda session: session["a"], 1),
    "__gt__": (lambda session: session.__gt__({}), NotImplemented),
    "__ior__": (or_assigned, {**CONTENTS, "c": 3}),
    "__iter__": (lambda session: list(session), ["a", "b"]),
    "__le__": (lambda session: session.__le__({}), NotImplemented),
    "__len__": (len, 2),
    "__lt__": (lambda session: session.__lt__({}), NotImplemented),
    "__ne__": (lambda session: session != CONTENTS, False),
    "__or__": (lambda session: session | {"c": 3}, {**CONTENTS, "c": 3}),
    "__repr__": (lambda session: (repr(session), session.was_used), ("<ServerSession, not read yet>", False)),
    "__reversed__": (lambda session: list(reversed(session)), ["b", "a"]),
    "__ror__": (lambda session: {"c": 3} | session, {**CONTENTS, "c": 3}),
    "__setitem__": (written, {"b": [2], "c": 3}),
    "clear": (cleared, ({}, True)),
    "copy": (lambda session: session.copy(), CONTENTS),
    "get": (lambda session: (session.get("a"), session.get("x", 7)), (1, 7)),
    "items": (lambda session: list(session.items()), list(CONTENTS.items())),
    "keys": (lambda session: list(session.keys()), ["a", "b"]),
    "pop": (lambda session: (session.pop("a"), session.pop("x", 7), dict(session)), (1, 7, {"b": [2]})),
    "popitem": (lambda session: (session.popitem(), dict(session)), (("b", [2]), {"a": 1})),
    "setdefault": (
        lambda session: (session.setdefault("a", 7), session.setdefault("x", 7), dict(session)),
        (1, 7, {**CONTENTS, "x": 7}),
    ),
    "update": (updated, {**CONTENTS, "c": 3}),
    "values": (lambda session: list(session.values()), [1, [2]]),
}
"""What each method of dict returns for a session that was not read, and what it should."""

NOT_OF_THE_CONTENTS = {"__class_getitem__", "__hash__", "__init__", "__new__", "__sizeof__", "fromkeys"}

CONSUMERS: dict[str, tuple[Callable[[Any], object], object]] = {
    "bool": (bool, True),
    "dict()": (dict, CONTENTS),
    "list()": (list, ["a", "b"]),
    "sorted()": (sorted, ["a", "b"]),
    "{**}": (lambda session: {**session}, CONTENTS),
    "f(**)": (lambda session: (lambda **kw: kw)(**session), CONTENTS),
    "dict.update": (lambda session: (lambda other: other.update(session) or other)({}), CONTENTS),
    "dict |=": (lambda session: {}.__ior__(session), CONTENTS),
    "equal to it": (lambda session: session == CONTENTS, True),
    "dict ==": (lambda session: session == CONTENTS, True),
    "json.dumps": (json.dumps, json.dumps(CONTENTS)),
    "json.dumps, sorted": (lambda session: json.dumps(session, sort_keys=True), json.dumps(CONTENTS)),
    "json.dumps, indented": (lambda session: json.dumps(session, indent=1), json.dumps(CONTENTS, indent=1)),
    "Flask's JSON": (
        lambda session: json.loads(DefaultJSONProvider(Flask("x")).dumps(session)),
        CONTENTS,
    ),
    "copy": (lambda session: (type(copy.copy(session)), copy.copy(session)), (dict, CONTENTS)),
    "deepcopy": (copy.deepcopy, CONTENTS),
    "pickle": (lambda session: pickle.loads(pickle.dumps(session)), CONTENTS),
    "%": (lambda session: "%(a)s" % session, "1"),  # noqa: UP031 - this is what is tested
    "format_map": (lambda session: "{a}".format_map(session), "1"),
    "match": (lambda session: matched(session), 1),
    "permanent": (lambda session: session.permanent, False),
    "sid": (lambda session: session.sid, "the-cookie"),
    "login_id": (lambda session: session.login_id, "login"),
}


def matched(session: object) -> object:
    """Return what a mapping pattern finds."""
    match session:
        case {"a": found}:
            return found
    return None


@pytest.mark.parametrize("method", sorted({*vars(dict), "__ne__"} - {"__doc__", "__getattribute__"}))
def test_every_method_of_dict_sees_the_contents(method: str) -> None:
    """The list is this Python's own, so that a method which a later version adds fails here."""
    if method in NOT_OF_THE_CONTENTS:
        return
    call, expected = METHODS[method]
    assert call(unread()) == expected


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_what_takes_a_dict_sees_the_contents(consumer: str) -> None:
    """C code included: it looks at the size of a dict, or at its memory, before it calls a method."""
    call, expected = CONSUMERS[consumer]
    assert call(unread()) == expected


class WithoutCare(ServerSideSession):  # type: ignore[misc]
    """A session that is read in the obvious methods only."""

    def __getitem__(self, key: str) -> Any:
        self.update(CONTENTS)
        return super().__getitem__(key)


@pytest.mark.parametrize("consumer", ["bool", "dict()", "list()", "{**}", "json.dumps", "copy"])
def test_a_lazy_subclass_without_care_shows_an_empty_dict(consumer: str) -> None:
    """The control: these fail where only `__getitem__` reads the row."""
    call, expected = CONSUMERS[consumer]
    try:
        shown = call(WithoutCare())
    except Exception:
        return
    assert shown != expected


def test_code_that_calls_no_method_raises() -> None:
    """It cannot be made to read the row; it fails instead of writing an empty session, and works after it."""
    session = unread()
    with pytest.raises(TypeError):
        msgspec.json.encode(session)
    session.read()
    assert msgspec.json.decode(msgspec.json.encode(session)) == CONTENTS


def test_the_repr_of_a_session_that_was_read() -> None:
    """It shows the contents, as Flask-Session's does."""
    session = unread()
    session.read()
    assert repr(session) == "<ServerSession {'a': 1, 'b': [2]}>"


def test_what_is_set_first_does_not_hide_the_rest() -> None:
    """`permanent`, as the first thing that a request sets, is added to the contents."""
    session = unread()
    session.permanent = True
    assert session == {**CONTENTS, "_permanent": True}
    assert session.changes().written == {"_permanent": b"true"}


class WatchedLock:
    """A lock that says when a second thread waits for it."""

    def __init__(self, waiting: threading.Event) -> None:
        self._lock = threading.Lock()
        self._waiting = waiting

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self._waiting.set()
            self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def first_used_by_two_threads(lock: Callable[[threading.Event], Any]) -> dict[str, Any]:
    """Let a second thread write while the first one's read is in progress; return what the session holds."""
    first_reads, go_on = threading.Event(), threading.Event()

    def load(sid: str) -> StoredSession:
        if not first_reads.is_set():
            first_reads.set()
            assert go_on.wait(30)
        return stored()

    session = unread(load)
    session._lock = lock(go_on)

    def second() -> None:
        session["second"] = 1
        go_on.set()

    first = threading.Thread(target=session.__setitem__, args=("first", 1))
    threads = [first, threading.Thread(target=second)]
    first.start()
    assert first_reads.wait(30)
    threads[1].start()
    for thread in threads:
        thread.join(30)
    return dict(session)


def test_two_threads_that_use_the_session_first() -> None:
    """The row is read once, and neither write is lost."""
    assert first_used_by_two_threads(WatchedLock) == {**CONTENTS, "first": 1, "second": 1}


def test_two_threads_without_the_lock_lose_a_write() -> None:
    """The control: the later read replaces what the other thread wrote."""
    assert first_used_by_two_threads(lambda go_on: nullcontext()) == {**CONTENTS, "first": 1}


def test_a_failed_read_is_tried_again() -> None:
    """The first use raises what the store raised; the next one reads."""
    rows: list[StoredSession] = []

    def load(sid: str) -> StoredSession:
        if not rows:
            rows.append(stored())
            raise ConnectionError
        return rows[0]

    session = unread(load)
    with pytest.raises(ConnectionError):
        bool(session)
    assert not session.was_used
    assert session == CONTENTS


class TestIds:
    def test_sid_is_the_cookies_where_that_names_a_session(self) -> None:
        """Otherwise it is a new one."""
        assert unread().sid == "the-cookie"
        assert unread(lambda sid: None).sid == "new-0"

    def test_sid_may_be_set(self) -> None:
        """As with Flask-Session: the session moves to that id."""
        session = unread()
        session.sid = "chosen"
        assert (session.sid, session.has_new_id, session.stored_sid) == ("chosen", True, "the-cookie")
        assert session == CONTENTS

    def test_the_login_stays_when_the_id_changes(self) -> None:
        """A new id keeps the login, by which the grants are found; another user gets a new one."""
        session = unread()
        session.renew()
        assert (session.sid, session.login_id, session.modified) == ("new-0", "login", True)
        session.clear()
        session.new_login()
        assert session.sid == "new-1"
        assert session.login_id != "login"
        assert len(session.login_id) == 32

    def test_logins_are_random(self) -> None:
        """Each new session has its own."""
        assert len({unread(lambda sid: None).login_id for _ in range(50)}) == 50


class TestPermanent:
    def test_a_new_session_only(self) -> None:
        """SESSION_PERMANENT is for new sessions; one that is stored is as it was stored."""
        assert unread(lambda sid: None, permanent=True) == {"_permanent": True}
        assert unread(permanent=True) == CONTENTS

    def test_clear_takes_it_too(self) -> None:
        """As Flask's does, and unlike Flask-Session's."""
        session = unread(lambda sid: stored(b'{"_permanent":true,"a":1}'))
        assert session.permanent is True
        session.clear()
        assert session.permanent is False
        assert session == {}
