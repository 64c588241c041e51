"""A request reads its session and its grants in one statement, and sees what other processes wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from flask import Flask, session
from flask.views import MethodView
from sqlalchemy import event

from flask_tokenrotate import TokenRotate, current_token, require_fresh_token
from flask_tokenrotate.rotation.token_sets import TokenSets
from flask_tokenrotate.storage.sealed.sealing import Sealer
from flask_tokenrotate.testing import LoginAs

from .conftest import MakeApp, database_of

pytestmark = pytest.mark.engine

MakeProcess = Callable[[], Flask]


@pytest.fixture
def make_process(make_app: MakeApp, database: str) -> MakeProcess:
    """Return a factory of applications over one database: what several processes are to each other."""

    def make() -> Flask:
        app, _ = make_app(TOKENROTATE_DATABASE_URI=database)
        app.add_url_rule("/plain", view_func=lambda: "plain")

        @app.get("/session")
        def of_session() -> str:
            return str(session.get("anything"))

        @app.get("/both")
        @require_fresh_token
        def both() -> str:
            return f"{session.get('anything')} {current_token.token_version} {current_token.access_token[:0]}"

        class Methods(MethodView):
            decorators = [require_fresh_token]  # noqa: RUF012

            def get(self) -> str:
                return str(current_token.token_version)

        app.add_url_rule("/methods", view_func=Methods.as_view("methods"))
        with app.app_context():
            app.extensions["tokenrotate"].maintenance.create_tables()
        # The keys are tried once for each process; that is not what is counted here.
        app.extensions["tokenrotate"].warned.of_keys = True
        return app

    return make


@contextmanager
def statements(app: Flask) -> Iterator[list[str]]:
    """Collect the statements of the application's engine inside the block."""
    seen: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        seen.append(statement)

    engine = database_of(app)
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize(
    ("path", "count"), [("/plain", 0), ("/nowhere", 0), ("/session", 1), ("/both", 1), ("/methods", 1)]
)
def test_a_request_runs_one_statement_at_most(
    make_process: MakeProcess, login_as: LoginAs, path: str, count: int
) -> None:
    """None where it uses neither session nor token; one for both, in a process that has the token or not."""
    first, second = make_process(), make_process()
    client = first.test_client()
    login_as(client)
    cookie = client.get_cookie("session")
    assert cookie is not None
    other = second.test_client()
    other.set_cookie("session", cookie.value)
    for process, browser in ((first, client), (first, client), (second, other)):
        with statements(process) as seen:
            browser.get(path)
        assert len(seen) == count, seen


def test_a_token_set_is_decrypted_once(
    make_process: MakeProcess, login_as: LoginAs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a process caches is the token set: the row is read each time, and decrypted the first time."""
    app = make_process()
    client = app.test_client()
    login_as(client)
    opened: list[object] = []
    real = Sealer.open
    monkeypatch.setattr(Sealer, "open", lambda self, *args: opened.append(args) or real(self, *args))
    for _ in range(3):
        assert client.get("/both").status_code == 200
    assert len(opened) == 1


def test_without_the_cache_it_would_be_decrypted_each_time(
    make_process: MakeProcess, login_as: LoginAs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    app = make_process()
    client = app.test_client()
    login_as(client)
    opened: list[object] = []
    real = Sealer.open
    monkeypatch.setattr(Sealer, "open", lambda self, *args: opened.append(args) or real(self, *args))
    monkeypatch.setattr(TokenSets, "get", lambda *_: None)
    for _ in range(3):
        client.get("/both")
    assert len(opened) == 3


@pytest.mark.parametrize("what", ["sign_out", "expire", "rotate"])
def test_the_next_request_sees_what_another_process_did(
    make_process: MakeProcess, login_as: LoginAs, what: str
) -> None:
    """However long a process may cache: with the extension's own sessions each request reads the row."""
    here, there = make_process(), make_process()
    client = here.test_client()
    grant = login_as(client, expires_in=1000)
    assert client.get("/both").text.split()[1] == "0"
    with there.app_context():
        if what == "sign_out":
            TokenRotate().sign_out_grant(grant.id)
        else:
            TokenRotate().expire(grant.id)
        if what == "rotate":
            TokenRotate().token(grant.id)
    with statements(here) as seen:
        response = client.get("/both")
    if what == "sign_out":
        assert response.json is not None
        assert (response.status_code, response.json["reason"]) == (401, "signed_out")
        assert len(seen) == 2, "the session, and the row that did not come with it"
    else:
        assert response.text.split()[1] == "1"
    assert (len(seen) == 1) == (what == "rotate")
