"""The sessions that the extension keeps: what is read, written, refused and sent, one request at a time."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from cachelib import SimpleCache
from flask import Flask, flash, get_flashed_messages, jsonify, session
from flask.testing import FlaskClient
from flask_session import Session
from flask_session.base import ServerSideSession, ServerSideSessionInterface
from markupsafe import Markup
from sqlalchemy import event, text

from flask_tokenrotate import ConfigurationError
from flask_tokenrotate.testing import FakeProvider, LoginAs
from tests.web.conftest import MakeApp

from .overlap import Views, contents, twin


@pytest.fixture
def views(app: Flask) -> Views:
    """The views of `overlap`, on the application with its default settings."""
    return Views(app)


@pytest.fixture
def visitor(app: Flask, views: Views) -> FlaskClient:
    """A browser with a session that holds ``start``."""
    client = app.test_client()
    client.post("/set/start/1")
    return client


def statements(app: Flask) -> list[str]:
    """Return a list that grows by each statement on the application's database."""
    seen: list[str] = []
    engine = app.extensions["tokenrotate"].grants._transactions._database.engine()
    event.listen(engine, "before_cursor_execute", lambda *args: seen.append(args[2].split()[0]))
    return seen


def execute(app: Flask, statement: str, **values: Any) -> list[Any]:
    """Execute a statement on the application's database and return its rows."""
    with app.extensions["tokenrotate"].grants._transactions._database.engine().begin() as connection:
        result = connection.execute(text(statement), values)
        return list(result.all()) if result.returns_rows else []


def execute_count(app: Flask) -> int:
    """Return the number of sessions that have a row."""
    return int(execute(app, "SELECT count(*) FROM tokenrotate_sessions")[0][0])


class TestStatements:
    def test_a_request_that_does_not_use_the_session_costs_none(
        self, app: Flask, visitor: FlaskClient
    ) -> None:
        """With a session's cookie, but a view that does not look at it, the database is left alone."""
        seen = statements(app)
        answer = visitor.get("/plain")
        assert seen == []
        assert "Set-Cookie" not in answer.headers
        assert "Vary" not in answer.headers

    def test_reading_writes_nothing_and_sends_no_cookie(self, app: Flask, visitor: FlaskClient) -> None:
        """A request that changed nothing reads one row, and that is all."""
        seen = statements(app)
        answer = visitor.get("/read")
        assert seen == ["SELECT"]
        assert "Set-Cookie" not in answer.headers
        assert answer.headers["Vary"] == "Cookie"

    def test_setting_what_is_there_already_writes_nothing(self, app: Flask, visitor: FlaskClient) -> None:
        """An assignment of an equal value is no change."""
        seen = statements(app)
        assert "Set-Cookie" not in visitor.post("/set/start/1").headers
        assert seen == ["SELECT"]

    def test_an_uncontended_write_is_one_read_and_one_update(self, app: Flask, visitor: FlaskClient) -> None:
        """The row that was read is not read again before the write."""
        seen = statements(app)
        visitor.post("/set/more/1")
        assert seen == ["SELECT", "UPDATE"]

    def test_a_session_that_stays_empty_makes_no_row(self, app: Flask, views: Views) -> None:
        """Clearing and renewing what was never there leaves nothing behind and sends nothing."""
        client = app.test_client()
        for path in ("/clear", "/regenerate", "/delete/x"):
            assert "Set-Cookie" not in client.post(path).headers
        assert execute(app, "SELECT * FROM tokenrotate_sessions") == []


class TestValues:
    def test_a_change_inside_a_value_counts(self, app: Flask, views: Views) -> None:
        """An append to a list in the session is written without ``session.modified``."""
        client = app.test_client()
        with client.session_transaction() as contents_:
            contents_["list"] = ["a"]
        client.post("/append/b")
        assert contents(client) == {"list": ["a", "b"]}

    def test_flashed_messages(self, app: Flask, views: Views) -> None:
        """Flask's own use of the session works, markup included, and an empty session goes away."""
        app.add_url_rule("/flash", "flash", lambda: flash(Markup("<b>hello</b>"), "info") or "")
        app.add_url_rule("/shown", "shown", lambda: jsonify(get_flashed_messages(with_categories=True)))
        client = app.test_client()
        client.get("/flash")
        answer = client.get("/shown")
        assert answer.json == [["info", "<b>hello</b>"]]
        assert client.get_cookie("session") is None

    def test_a_request_with_such_a_value_fails_and_writes_nothing(
        self, app: Flask, visitor: FlaskClient
    ) -> None:
        """The mistake is a 500 in development, not a session that lacks a key later."""

        assert visitor.post("/mistake").status_code == 500
        assert contents(visitor) == {"start": "1"}

    @pytest.mark.parametrize("data", ["", "[]", "{", '{"k": tru}', "\x80\x04N."])
    def test_a_row_that_was_altered_begins_a_new_session(
        self, app: Flask, visitor: FlaskClient, data: str
    ) -> None:
        """What cannot be read is no error of the visitor's, and nothing is ever unpickled."""
        execute(app, "UPDATE tokenrotate_sessions SET data = :data", data=data.encode("latin-1"))
        assert contents(visitor) == {}
        visitor.post("/set/a/1")
        assert contents(visitor) == {"a": "1"}

    def test_a_megabyte(self, make_app: MakeApp, database: str) -> None:
        """A large session is stored whole on each engine."""
        app, _ = make_app(TOKENROTATE_DATABASE_URI=database)
        with app.app_context():
            app.extensions["tokenrotate"].maintenance.create_tables()
        Views(app)
        client = app.test_client()
        with client.session_transaction() as contents_:
            contents_["large"] = "x" * 1_000_000
        assert len(contents(client)["large"]) == 1_000_000


class TestIds:
    def test_the_row_holds_a_hash_of_the_id(self, app: Flask, visitor: FlaskClient) -> None:
        """Who reads the table can send nothing from it as a cookie."""
        sid = twin(visitor).get_cookie("session").value  # type: ignore[union-attr]
        [row] = execute(app, "SELECT * FROM tokenrotate_sessions")
        assert row.id_hash == hashlib.sha256(f"session:{sid}".encode()).hexdigest()
        assert sid not in repr(row)
        thief = app.test_client()
        thief.set_cookie("session", row.id_hash)
        assert contents(thief) == {}

    @pytest.mark.parametrize("chosen", ["", "chosen-by-the-attacker", "\x7f'\"; --", "x" * 3000])
    def test_an_id_that_the_browser_made_up_is_not_adopted(
        self, app: Flask, views: Views, chosen: str
    ) -> None:
        """A session that begins under it gets an id of its own."""
        client = app.test_client()
        client.set_cookie("session", chosen)
        client.post("/set/user/alice")
        assert client.get_cookie("session").value != chosen  # type: ignore[union-attr]
        thief = app.test_client()
        thief.set_cookie("session", chosen)
        assert contents(thief) == {}
        assert contents(client) == {"user": "alice"}

    def test_an_id_known_before_a_sign_in_is_worth_nothing_after(
        self, visitor: FlaskClient, sign_in: Callable[..., Any]
    ) -> None:
        """Fixation: who planted the session before does not share the signed-in one."""
        attacker = twin(visitor)
        sign_in(visitor)
        assert visitor.get("/me").status_code == 200
        assert attacker.get("/me").status_code == 401
        assert contents(attacker) == {}
        assert contents(visitor)["start"] == "1"

    def test_after_a_sign_out_the_id_is_dead_and_the_cookie_deleted(
        self, visitor: FlaskClient, sign_in: Callable[..., Any]
    ) -> None:
        """The browser forgets the cookie, and a copy of it opens nothing."""
        sign_in(visitor)
        copy = twin(visitor)
        visitor.post("/auth/fake/logout")
        assert visitor.get_cookie("session") is None
        assert contents(copy) == {}


class TestExpiry:
    def test_an_expired_session_does_not_exist(self, app: Flask, visitor: FlaskClient) -> None:
        """The row decides, whatever the browser still sends; a new session has a new id."""
        copy = twin(visitor)
        execute(app, "UPDATE tokenrotate_sessions SET expires_at = 1")
        assert contents(visitor) == {}
        visitor.post("/set/a/1")
        assert contents(copy) == {}
        assert contents(visitor) == {"a": "1"}

    def test_the_row_lives_as_long_as_flask_says(self, make_app: MakeApp) -> None:
        """PERMANENT_SESSION_LIFETIME counts from the last change."""
        app, _ = make_app(PERMANENT_SESSION_LIFETIME=timedelta(hours=1))
        Views(app)
        client = app.test_client()
        left = "SELECT expires_at - (julianday('now') - 2440587.5) * 86400.0 FROM tokenrotate_sessions"
        client.post("/set/a/1")
        assert execute(app, left)[0][0] == pytest.approx(3600, abs=30)
        execute(app, "UPDATE tokenrotate_sessions SET expires_at = expires_at - 1800")
        client.post("/set/a/2")
        assert execute(app, left)[0][0] == pytest.approx(3600, abs=30)

    def test_sweep(self, app: Flask, visitor: FlaskClient, sign_in: Callable[..., Any]) -> None:
        """`flask tokenrotate sweep` deletes expired sessions and attempts, and only these."""
        begun = visitor.get("/auth/fake/login")
        assert begun.status_code == 302
        twin_ = app.test_client()
        twin_.post("/set/b/2")
        execute(app, "UPDATE tokenrotate_attempts SET expires_at = 1")
        execute(
            app,
            "UPDATE tokenrotate_sessions SET expires_at = 1 WHERE data = :data",
            data=b'{"b":"2"}',
        )
        result = app.test_cli_runner().invoke(args=["tokenrotate", "sweep"])
        assert result.exit_code == 0, result.output
        assert execute(app, "SELECT * FROM tokenrotate_attempts") == []
        assert len(execute(app, "SELECT * FROM tokenrotate_sessions")) == 1
        assert contents(visitor) == {"start": "1"}


class TestCookie:
    @pytest.mark.parametrize(
        ("url", "config", "name"),
        [
            ("https://app.example.com", {}, "__Host-session"),
            ("http://localhost", {}, "session"),
            ("https://app.example.com", {"SESSION_COOKIE_NAME": "mine"}, "mine"),
            ("https://app.example.com", {"SESSION_COOKIE_DOMAIN": "example.com"}, "session"),
            ("https://app.example.com", {"SESSION_COOKIE_PATH": "/app"}, "session"),
        ],
    )
    def test_the_name(self, make_app: MakeApp, url: str, config: dict[str, Any], name: str) -> None:
        """``__Host-`` where browsers allow it and the application has chosen nothing else."""
        app, _ = make_app(**config)
        Views(app)
        client = app.test_client()
        cookie = client.post("/set/a/1", base_url=url).headers["Set-Cookie"]
        assert cookie.startswith(f"{name}=")
        if name.startswith("__Host-"):
            assert "; Secure" in cookie
            assert "; Path=/" in cookie
            assert client.get("/read", base_url=url).json == {"a": "1"}

    def test_partitioned(self, make_app: MakeApp) -> None:
        """SESSION_COOKIE_PARTITIONED is honoured, when the cookie is deleted as well."""
        app, _ = make_app(SESSION_COOKIE_PARTITIONED=True, SESSION_COOKIE_SAMESITE="None")
        Views(app)
        client = app.test_client()
        url = "https://app.example.com"
        for path in ("/set/a/1", "/clear"):
            cookie = client.post(path, base_url=url).headers["Set-Cookie"]
            assert {"Partitioned", "Secure", "SameSite=None", "HttpOnly"} <= set(cookie.split("; "))
        assert "Expires=Thu, 01 Jan 1970" in cookie

    @pytest.mark.parametrize("permanent", [True, False])
    def test_lifetime(self, app: Flask, permanent: bool) -> None:
        """As Flask's: until the browser is closed, unless the session is permanent."""

        @app.post("/begin")
        def begin() -> str:
            session.permanent = permanent
            session["a"] = 1
            return ""

        cookie = app.test_client().post("/begin").headers["Set-Cookie"]
        assert ("Expires=" in cookie) is permanent


class TestFlaskSessionsKeys:
    """Flask-Session's configuration keys mean here what they mean there; unset, Flask's defaults count."""

    def test_the_bases_are_flask_sessions(self, app: Flask) -> None:
        """Code that asks for its classes finds them."""
        with app.test_request_context():
            assert isinstance(app.session_interface, ServerSideSessionInterface)
            assert isinstance(session, ServerSideSession)

    @pytest.mark.parametrize(("value", "permanent"), [(None, False), (False, False), (True, True)])
    def test_permanent(self, make_app: MakeApp, value: bool | None, permanent: bool) -> None:
        """SESSION_PERMANENT is for new sessions; one that holds nothing else is not stored."""
        app, _ = make_app(**({} if value is None else {"SESSION_PERMANENT": value}))
        Views(app)
        client = app.test_client()
        assert client.get("/read").json == ({"_permanent": True} if permanent else {})
        assert execute_count(app) == 0
        assert ("Expires=" in client.post("/set/a/1").headers["Set-Cookie"]) is permanent
        assert ("_permanent" in client.get("/read").json) is permanent

    def test_permanent_alone_is_no_session(self, app: Flask, views: Views) -> None:
        """An application that sets it for every visitor makes no row for each, nor keeps an empty one."""
        app.before_request(lambda: setattr(session, "permanent", True))
        visitor, stranger = app.test_client(), app.test_client()
        visitor.post("/set/start/1")
        assert "Set-Cookie" not in stranger.get("/read").headers
        assert execute_count(app) == 1
        assert "Expires=Thu, 01 Jan 1970" in visitor.post("/delete/start").headers["Set-Cookie"]

    @pytest.mark.parametrize(("length", "characters"), [(None, 43), (16, 22), (64, 86)])
    def test_id_length(self, make_app: MakeApp, length: int | None, characters: int) -> None:
        """SESSION_ID_LENGTH is in random bytes."""
        app, _ = make_app(**({} if length is None else {"SESSION_ID_LENGTH": length}))
        Views(app)
        client = app.test_client()
        client.post("/set/a/1")
        assert len(client.get_cookie("session").value) == characters  # type: ignore[union-attr]

    def test_key_prefix(self, make_app: MakeApp) -> None:
        """SESSION_KEY_PREFIX keeps the sessions of two applications on one database apart."""
        clients = []
        for prefix in ("one:", "two:", "one:"):
            app, _ = make_app(SESSION_KEY_PREFIX=prefix)
            Views(app)
            clients.append(app.test_client())
        clients[0].post("/set/a/1")
        cookie = clients[0].get_cookie("session").value  # type: ignore[union-attr]
        for client in clients[1:]:
            client.set_cookie("session", cookie)
        assert [contents(client) for client in clients] == [{"a": "1"}, {}, {"a": "1"}]

    def test_cleanup(self, make_app: MakeApp) -> None:
        """SESSION_CLEANUP_N_REQUESTS, or else ``flask session_cleanup``, deletes what has expired."""
        for every in (None, 1):
            app, _ = make_app(SESSION_CLEANUP_N_REQUESTS=every)
            Views(app)
            app.test_client().post("/set/a/1")
            execute(app, "UPDATE tokenrotate_sessions SET expires_at = 1")
            if every is None:
                assert app.test_cli_runner().invoke(args=["session_cleanup"]).exit_code == 0
            else:
                # Each request does it with a probability of 1 in 2: not one of 64 has a chance of 2 ** -64.
                for _ in range(64):
                    app.test_client().get("/plain")
            assert execute_count(app) == 0

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("SESSION_USE_SIGNER", True),
            ("SESSION_SERIALIZATION_FORMAT", "msgpack"),
            ("SESSION_ID_LENGTH", 8),
            ("SESSION_ID_LENGTH", "32"),
        ],
    )
    def test_what_cannot_have_its_meaning_is_refused(self, make_app: MakeApp, key: str, value: Any) -> None:
        """With the key's name, at once."""
        with pytest.raises(ConfigurationError, match=key):
            make_app(**{key: value})

    @pytest.mark.parametrize(
        ("key", "value"), [("SESSION_USE_SIGNER", False), ("SESSION_SERIALIZATION_FORMAT", "json")]
    )
    def test_their_harmless_values_are_not(self, make_app: MakeApp, key: str, value: Any) -> None:
        """They ask for what is done anyway."""
        make_app(**{key: value})


class TestOutage:
    def test_a_write_that_the_database_does_not_take_is_a_503(self, make_app: MakeApp) -> None:
        """The visitor learns that nothing was saved, and when to try again; it is no 500."""
        with socket.socket() as refusing:
            refusing.bind(("127.0.0.1", 0))
            port = refusing.getsockname()[1]
            app, _ = make_app(TOKENROTATE_DATABASE_URI=f"postgresql://u@127.0.0.1:{port}/none")
            Views(app)
            answer = app.test_client().post("/set/a/1")
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert answer.json["code"] == "store_unavailable"
        assert "Set-Cookie" not in answer.headers

    def test_a_read_too(self, make_app: MakeApp) -> None:
        """A session that cannot be read is not taken for an empty one."""
        with socket.socket() as refusing:
            refusing.bind(("127.0.0.1", 0))
            port = refusing.getsockname()[1]
            app, _ = make_app(TOKENROTATE_DATABASE_URI=f"postgresql://u@127.0.0.1:{port}/none")
            Views(app)
            client = app.test_client()
            client.set_cookie("session", "some-id")
            answer = client.get("/read")
        assert (answer.status_code, answer.json["code"]) == (503, "store_unavailable")


def test_a_cookie_survives_an_error_after_the_save(app: Flask, views: Views) -> None:
    """Flask saves a second time for the error's answer: nothing is written twice, the cookie is sent."""
    failures = [True]
    plain = app.session_interface.save_session

    def save_and_fail(*args: Any) -> None:
        plain(*args)
        if failures and failures.pop():
            raise RuntimeError("after the save")

    app.session_interface.save_session = save_and_fail  # type: ignore[method-assign]
    client = app.test_client()
    seen = statements(app)
    assert client.post("/set/a/1").status_code == 500
    assert seen == ["INSERT"]
    assert contents(client) == {"a": "1"}


class TestSignOutEverywhere:
    def test_it_ends_grants_and_sessions(
        self, make_app: MakeApp, sign_in: Callable[..., Any], fake_provider: FakeProvider
    ) -> None:
        """All of the user's, in each browser, and nobody else's; the tokens are revoked."""
        app, rotate = make_app()
        Views(app)
        alice, elsewhere, bob = (app.test_client() for _ in range(3))
        sign_in(alice, "alice")
        sign_in(elsewhere, "alice")
        sign_in(bob, "bob")
        with app.app_context():
            assert rotate.sign_out_everywhere("alice") == 2
            assert rotate.sign_out_everywhere("alice") == 0
            assert rotate.sign_out_everywhere("a\x00nobody") == 0
        for client in (alice, elsewhere):
            assert contents(client) == {}
            assert client.get("/me").json["reason"] == "no_grant"
        assert bob.get("/me").json["user"] == "bob"
        assert fake_provider.live_tokens() == 2

    def test_in_a_request_of_the_user(self, make_app: MakeApp, sign_in: Callable[..., Any]) -> None:
        """The session that asked for it is ended too, and its late write is dropped."""
        app, rotate = make_app()
        Views(app)

        @app.post("/everywhere")
        def everywhere() -> Any:
            session["late"] = "1"
            return jsonify(ended=rotate.sign_out_everywhere("alice"))

        client = app.test_client()
        sign_in(client)
        assert client.post("/everywhere").json == {"ended": 1}
        assert contents(client) == {}

    def test_sessions_of_flask_session_live_on_without_a_grant(
        self, make_app: MakeApp, login_as: LoginAs
    ) -> None:
        """Sessions that are kept elsewhere cannot be ended from here; no token is given to them."""

        def use_flask_session(app: Flask) -> None:
            app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=SimpleCache())
            Session(app)

        app, rotate = make_app(before=use_flask_session)
        Views(app)
        client = app.test_client()
        login_as(client)
        with app.app_context():
            assert rotate.sign_out_everywhere("alice") == 1
        assert client.get("/me").json["reason"] == "signed_out"
        assert "_tokenrotate_grant:fake" in contents(client)

    def test_a_provider_that_is_down_changes_nothing(
        self, make_app: MakeApp, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """The rows are ended before anybody is asked."""
        app, rotate = make_app()
        client = app.test_client()
        login_as(client)
        fake_provider.stop()
        with app.app_context():
            assert rotate.sign_out_everywhere("alice") == 1
        assert client.get("/me").status_code == 401


def test_what_is_stored_is_json(app: Flask, visitor: FlaskClient) -> None:
    """What the table holds is JSON, which anybody can read without running it."""
    [row] = execute(app, "SELECT data FROM tokenrotate_sessions")
    assert msgspec.json.decode(row.data) == {"start": "1"}


class TestLogins:
    """The login id joins a session with the grants of its sign-ins."""

    def logins(self, app: Flask) -> tuple[set[str], set[str]]:
        """Return the login ids of the living sessions and of the grants."""
        of_sessions = "SELECT login_id FROM tokenrotate_sessions WHERE ended_at IS NULL"
        of_grants = "SELECT login_id FROM tokenrotate_grants"
        return {row[0] for row in execute(app, of_sessions)}, {row[0] for row in execute(app, of_grants)}

    def test_a_sign_in_reads_the_grant_with_the_session(
        self, app: Flask, visitor: FlaskClient, sign_in: Callable[..., Any]
    ) -> None:
        """The session has a new id after it, and the login that its row had before."""
        [before], _ = self.logins(app)
        sign_in(visitor)
        sign_in(visitor)
        assert self.logins(app) == ({before}, {before})
        with visitor:
            grant_id = visitor.get("/me").json["grant"]
            joined = session.joined_grants()  # type: ignore[attr-defined]
        assert list(joined) == [grant_id]

    def test_two_browsers_have_two_logins(self, app: Flask, sign_in: Callable[..., Any]) -> None:
        """Of the same user too."""
        for _ in range(2):
            sign_in(app.test_client())
        of_sessions, of_grants = self.logins(app)
        assert len(of_sessions) == 2
        assert of_sessions == of_grants

    def test_another_user_gets_a_new_login(self, app: Flask, views: Views) -> None:
        """`new_login` moves the session to a row with another login id."""

        @app.post("/change")
        def change() -> str:
            session.clear()
            session.new_login()  # type: ignore[attr-defined]
            session["user"] = "bob"
            return ""

        visitor = app.test_client()
        visitor.post("/set/user/alice")
        [before], _ = self.logins(app)
        copy = twin(visitor)
        visitor.post("/change")
        [after], _ = self.logins(app)
        assert before != after
        assert contents(visitor) == {"user": "bob"}
        assert contents(copy) == {}
