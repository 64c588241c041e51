"""Overlapping requests of one browser, on every engine; the controls are plain Flask-Session, which fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from flask import Flask

from flask_tokenrotate.testing import LoginAs
from tests.web.conftest import MakeApp

from .overlap import Views, both, contents, plain_flask_session, twin, under_way

WRITERS = 8


@pytest.fixture
def app(make_app: MakeApp, database: str) -> Iterator[Flask]:
    """The application on each engine."""
    app, _ = make_app(TOKENROTATE_DATABASE_URI=database, TOKENROTATE_ENGINE_OPTIONS={"pool_size": WRITERS})
    with app.app_context():
        app.extensions["tokenrotate"].maintenance.create_tables()
    return app


@pytest.fixture
def views(app: Flask) -> Views:
    """Its views."""
    return Views(app)


def two_writes(app: Flask, views: Views) -> dict[str, str]:
    """Let two tabs set one key each at the same time and return what the session holds then."""
    client = app.test_client()
    client.post("/set/start/1")
    other = twin(client)
    both(views, partial(client.post, "/set/a/1?stop"), partial(other.post, "/set/b/2?stop"))
    return contents(client)


def test_two_tabs_that_write_at_once_lose_nothing(app: Flask, views: Views) -> None:
    """Each request's key is in the session afterwards."""
    assert two_writes(app, views) == {"start": "1", "a": "1", "b": "2"}


def test_plain_flask_session_loses_a_write() -> None:
    """The control: the later save overwrites the earlier one's key."""
    plain = plain_flask_session()
    assert len(two_writes(plain, Views(plain))) == 2


def test_many_tabs_that_write_at_once_lose_nothing(app: Flask, views: Views) -> None:
    """The compare-and-set is repeated until each write is in."""
    client = app.test_client()
    client.post("/set/start/1")
    tabs = [twin(client) for _ in range(WRITERS)]
    both(views, *(partial(tab.post, f"/set/k{number}/1?stop") for number, tab in enumerate(tabs)))
    assert contents(client) == {"start": "1", **{f"k{number}": "1" for number in range(WRITERS)}}


def sign_out_meanwhile(app: Flask, views: Views) -> tuple[dict[str, str], bool]:
    """Clear the session while a request is under way.

    Return what the old cookie opens afterwards, and whether the late request's answer has a cookie in it.
    """
    client = app.test_client()
    client.post("/set/user/alice")
    other, old = twin(client), twin(client)
    with under_way(views, partial(other.post, "/set/seen/1?stop")) as answers:
        client.post("/clear")
    return contents(old), "Set-Cookie" in answers[0].headers


def test_a_session_that_was_signed_out_stays_out(app: Flask, views: Views) -> None:
    """A request that was under way does not write it back, and touches no cookie."""
    assert sign_out_meanwhile(app, views) == ({}, False)


def test_plain_flask_session_revives_it() -> None:
    """The control: the late save brings the signed-out user back."""
    plain = plain_flask_session()
    assert sign_out_meanwhile(plain, Views(plain)) == ({"user": "alice", "seen": "1"}, True)


def regenerate_meanwhile(app: Flask, views: Views) -> tuple[dict[str, str], dict[str, str]]:
    """Give the session a new id while a request with the old one is under way.

    Return what the old cookie opens afterwards, and what the new one does.
    """
    client = app.test_client()
    client.post("/set/user/alice")
    other, old = twin(client), twin(client)
    with under_way(views, partial(other.post, "/set/seen/1?stop")):
        client.post("/regenerate")
    return contents(old), contents(client)


def test_an_id_that_was_given_up_stays_dead(app: Flask, views: Views) -> None:
    """A request under the old id does not write it back; the new one is untouched by it."""
    assert regenerate_meanwhile(app, views) == ({}, {"user": "alice"})


def test_plain_flask_session_revives_the_old_id() -> None:
    """The control: the id from before a sign-in is alive again, with the contents."""
    plain = plain_flask_session()
    old, _ = regenerate_meanwhile(plain, Views(plain))
    assert old == {"user": "alice", "seen": "1"}


def test_what_was_written_before_a_new_id_goes_along(app: Flask, views: Views) -> None:
    """A write between the reading and the saving of the request that takes a new id is kept."""
    client = app.test_client()
    client.post("/set/user/alice")
    other = twin(client)
    with under_way(views, partial(client.post, "/regenerate?stop")):
        other.post("/set/cart/1")
    assert contents(client) == {"user": "alice", "cart": "1"}
    assert contents(other) == {}


def test_a_new_id_does_not_carry_a_session_out_of_a_sign_out(app: Flask, views: Views) -> None:
    """Of a session that ended meanwhile nothing is taken along, and no empty session is begun."""
    client = app.test_client()
    client.post("/set/user/alice")
    other = twin(client)
    with under_way(views, partial(other.post, "/regenerate?stop")) as answers:
        client.post("/clear")
    assert "Set-Cookie" not in answers[0].headers
    assert contents(other) == {}


@pytest.mark.parametrize(
    ("late", "early", "left"),
    [
        ("/set/k/late", "/set/k/early", {"k": "late", "other": "1"}),
        ("/delete/k", "/set/k/early", {"other": "1"}),
        ("/set/k/late", "/delete/k", {"k": "late", "other": "1"}),
        ("/delete/k", "/delete/k", {"other": "1"}),
        ("/delete/other", "/set/k/early", {"k": "early"}),
        ("/read", "/set/k/early", {"k": "early", "other": "1"}),
        ("/clear", "/set/k/early", {}),
    ],
)
def test_conflicts(app: Flask, views: Views, late: str, early: str, left: dict[str, str]) -> None:
    """Of two changes of one key the last writer's counts, others are left alone, and a clear takes all."""
    client = app.test_client()
    client.post("/set/k/1")
    client.post("/set/other/1")
    other, reader = twin(client), twin(client)
    call: Callable[[str], object] = other.get if late == "/read" else other.post
    with under_way(views, partial(call, f"{late}?stop")):
        client.post(early)
    assert contents(reader) == left


def test_emptying_a_session_ends_it_only_when_it_is_empty(app: Flask, views: Views) -> None:
    """A request that takes out the last key that it saw does not end what another one wrote meanwhile."""
    client = app.test_client()
    client.post("/set/flash/1")
    other = twin(client)
    with under_way(views, partial(other.post, "/delete/flash?stop")) as answers:
        client.post("/set/cart/1")
    assert contents(client) == {"cart": "1"}
    assert "Expires=Thu, 01 Jan 1970" not in answers[0].headers.get("Set-Cookie", "")


def test_sign_out_everywhere_during_requests(
    app: Flask, views: Views, make_app: MakeApp, login_as: LoginAs
) -> None:
    """Neither a write nor a new id that is under way keeps a session of the user alive."""
    tabs = [app.test_client() for _ in range(2)]
    for client, path in zip(tabs, ("/set/seen/1?stop", "/regenerate?stop"), strict=True):
        login_as(client, "alice")
        with under_way(views, partial(client.post, path)), app.app_context():
            state = app.extensions["tokenrotate"]
            assert len(state.sessions.end_everywhere("alice")) == 1
        assert contents(client) == {}
