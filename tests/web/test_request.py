"""`require_fresh_token`, `current_token` and the memo on ``g``."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, g, render_template_string, send_file, stream_with_context
from flask.testing import FlaskClient
from requests_oauthlib import OAuth2Session
from sqlalchemy import event, text
from werkzeug.serving import make_server

from flask_tokenrotate import SignInRequired, TokenRotate, current_token, require_fresh_token
from flask_tokenrotate.testing import FakeProvider, LoginAs, wait_for_rotations
from flask_tokenrotate.threads import RotationThreads
from flask_tokenrotate.web.request_grants import request_grants

from .conftest import MakeApp


class TestDecorator:
    def test_the_view_runs_with_a_fresh_token(
        self, client: FlaskClient, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """A view behind the decorator never sees an expired token."""
        login_as(client, "alice", expires_in=-1)
        response = client.get("/me").json
        assert (response["status"], response["user"], response["origin"]) == (200, "alice", "rotated")
        assert fake_provider.redemptions() == 1

    def test_a_living_token_costs_no_redemption(
        self, client: FlaskClient, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """The control of the test above: a fresh token is used as it is."""
        login_as(client, "alice")
        assert [client.get("/me").json["origin"] for _ in range(2)] == ["row", "row"]
        assert fake_provider.redemptions() == 0

    def test_the_name_may_be_given(self, app: Flask, login_as: LoginAs) -> None:
        """With a name, the token of that provider is meant."""

        @app.get("/named")
        @require_fresh_token("fake", min_ttl=5)
        def named() -> dict[str, str]:
            return {"provider": current_token.provider}

        client = app.test_client()
        login_as(client)
        assert client.get("/named").json == {"provider": "fake"}

    def test_two_providers_need_a_name(
        self, make_app: MakeApp, fake_provider: FakeProvider, login_as: LoginAs
    ) -> None:
        """Bare, it is an error that names both where two providers are registered."""
        app, rotate = make_app()
        rotate.register("other", **fake_provider.registration())
        client = app.test_client()
        login_as(client, "alice", "fake")
        app.debug = True
        detail = client.get("/me").json["detail"]
        assert "fake" in detail
        assert "other" in detail

    def test_min_ttl_is_honoured(self, app: Flask, login_as: LoginAs, fake_provider: FakeProvider) -> None:
        """A token that lives, but not for min_ttl seconds, is rotated for the view that asks for it."""

        @app.get("/long")
        @require_fresh_token(min_ttl=1500)
        def long() -> dict[str, int]:
            return {"version": current_token.token_version}

        client = app.test_client()
        login_as(client, "alice", expires_in=1000)
        assert client.get("/me").json["version"] == 0
        # min_ttl is capped to half of the token's life, so that it may not be fulfilled in vain.
        assert client.get("/long").json["version"] == 0
        fake_provider.lifetime = 4000
        with app.app_context():
            app.extensions["tokenrotate"].rotation.ending.expire(client.get("/me").json["grant"])
        assert client.get("/long").json["version"] == 1

    def test_async_views(self, app: Flask, login_as: LoginAs, fake_provider: FakeProvider) -> None:
        """An async view, and coroutines that it gathers, share one redemption."""

        @require_fresh_token
        async def part() -> str:
            await asyncio.sleep(0)
            return current_token.access_token

        @app.get("/async")
        @require_fresh_token
        async def view() -> dict[str, int]:
            return {"tokens": len(set(await asyncio.gather(part(), part(), part())))}

        client = app.test_client()
        login_as(client, expires_in=-1)
        assert client.get("/async").json == {"tokens": 1}
        assert fake_provider.redemptions() == 1

    def test_functions_that_are_not_views(self, app: Flask, login_as: LoginAs) -> None:
        """The decorator guards any function that is called in a request."""

        @require_fresh_token
        def helper(name: str, *, mark: str) -> str:
            return f"{name}{mark}{current_token.user_id}"

        @app.get("/helped")
        def helped() -> str:
            return helper("x", mark="-")

        client = app.test_client()
        assert client.get("/helped").status_code == 401
        login_as(client, "bob")
        assert client.get("/helped").text == "x-bob"

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_the_result_of_on_missing_replaces_the_views(
        self, app: Flask, client: FlaskClient, kind: str
    ) -> None:
        """on_missing gets the error and its result is the view's."""

        def on_missing(error: SignInRequired) -> tuple[str, int]:
            return f"{error.provider} {error.reason}", 418

        if kind == "sync":

            @app.get("/own")
            @require_fresh_token(on_missing=on_missing)
            def own() -> str:
                return "never"
        else:

            @app.get("/own")
            @require_fresh_token(on_missing=on_missing)
            async def own_async() -> str:
                return "never"

        response = client.get("/own")
        assert (response.status_code, response.text) == (418, "fake no_grant")

    def test_an_async_on_missing_is_awaited(self, app: Flask, client: FlaskClient) -> None:
        """An async view may have an async on_missing."""

        async def on_missing(error: SignInRequired) -> str:
            return f"async {error.reason}"

        @app.get("/own")
        @require_fresh_token(on_missing=on_missing)
        async def own() -> str:
            return "never"

        assert client.get("/own").text == "async no_grant"

    def test_scopes_of_several_views_end_in_no_circle(self, make_app: MakeApp, sign_in: Any) -> None:
        """Each step-up keeps what the one before it got."""
        app, _ = make_app(register={"scopes": []})

        @require_fresh_token(scopes=["profile"])
        def helper() -> str:
            return "ok"

        @app.get("/both")
        @require_fresh_token(scopes=["email"])
        def both() -> str:
            return helper()

        client = app.test_client()
        sign_in(client)
        for _ in range(2):
            page = client.get("/both", headers={"Accept": "text/html"})
            if page.status_code == 302:
                sign_in(client, path=page.location)
        assert client.get("/both").text == "ok"

    def test_a_link_cannot_widen_the_scopes(self, client: FlaskClient) -> None:
        """A foreign link can ask for nothing that no view of the application asks for."""
        address = client.get("/auth/fake/login?scope=admin%3Aeverything").location
        assert "admin" not in address

    def test_missing_scopes_are_asked_for_once(
        self, app: Flask, sign_in: Any, fake_provider: FakeProvider
    ) -> None:
        """A user without a scope is asked for it; when the provider does not grant it, not again."""

        @app.get("/mail")
        @require_fresh_token(scopes=["email"])
        def mail() -> str:
            return "ok"

        client = app.test_client()
        fake_provider.scope = "profile"
        sign_in(client, path="/auth/fake/login?next=/mail")
        response = client.get("/mail")
        # The profile asks for email and profile at each sign-in, and was given profile only.
        assert response.status_code == 403
        assert response.json["code"] == "scopes_not_granted"

    def test_scopes_never_asked_for_lead_to_a_step_up(
        self, make_app: MakeApp, sign_in: Any, fake_provider: FakeProvider
    ) -> None:
        """The way to more scopes is one sign-in with them."""
        app, _ = make_app(register={"scopes": ["profile"]})

        @app.get("/mail")
        @require_fresh_token(scopes=["email"])
        def mail() -> str:
            return "ok"

        client = app.test_client()
        sign_in(client)
        step_up = client.get("/mail", headers={"Accept": "text/html"})
        assert step_up.status_code == 302
        assert "scope=email" in step_up.location
        sign_in(client, path=step_up.location)
        assert client.get("/mail").text == "ok"


class TestMemo:
    def test_three_touches_in_one_request_are_one_redemption(
        self, make_app: MakeApp, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """Another extension's hook, registered before ours, the view and a template share one token."""
        seen: list[str] = []

        def other_extension(app: Flask) -> None:
            @app.before_request
            def hook() -> None:
                seen.append(current_token.access_token)

        app, _ = make_app(before=other_extension, TOKENROTATE_CACHE_SECONDS=0)

        @app.get("/page")
        @require_fresh_token
        def page() -> str:
            seen.append(current_token.access_token)
            return render_template_string(
                "{{ token() }}", token=lambda: seen.append(current_token.access_token)
            )

        client = app.test_client()
        login_as(client, expires_in=-1)
        assert client.get("/page").status_code == 200
        assert len(seen) == 3
        assert len(set(seen)) == 1
        assert fake_provider.redemptions() == 1

    def test_an_outer_app_context_leaks_no_token(self, app: Flask, login_as: LoginAs) -> None:
        """Requests of two users that share an application context, and so ``g``, share no token."""
        alice, bob = app.test_client(), app.test_client()
        login_as(alice, "alice")
        login_as(bob, "bob")
        with app.app_context():
            users = [each.get("/me").json["user"] for each in (alice, bob, alice)]
        assert users == ["alice", "bob", "alice"]

    def test_nothing_is_read_before_a_token_is_needed(self, app: Flask, client: FlaskClient) -> None:
        """A request that needs no token costs no statement: the database file is not even made."""

        @app.get("/plain")
        def plain() -> dict[str, Any]:
            return {"used": len(g._tokenrotate.memo.rotations_ahead())}

        assert client.get("/plain").json == {"used": 0}
        assert client.get("/me").status_code == 401
        assert not list(Path(app.instance_path).glob("*.sqlite3"))

    def test_a_remembered_token_costs_no_statement(self, make_app: MakeApp, login_as: LoginAs) -> None:
        """With sessions that are kept elsewhere, a hit asks no database; a miss reads one row."""
        app, _ = make_app(TOKENROTATE_ALLOW_COOKIE_SESSIONS=True)
        client = app.test_client()
        login_as(client)
        client.get("/me").close()
        statements: list[str] = []
        engine = app.extensions["tokenrotate"].grants._transactions._database.engine()
        event.listen(engine, "before_cursor_execute", lambda *facts: statements.append(facts[2]))
        assert client.get("/me").json["origin"] == "cache"
        assert statements == []
        app.extensions["tokenrotate"].rotation.tokens.forget(client.get("/me").json["grant"])
        assert client.get("/me").json["origin"] == "row"
        assert [statement.split()[0] for statement in statements] == ["SELECT"]

    def test_a_stream_goes_on_with_the_next_token(
        self, app: Flask, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """Each read looks again: a stream whose token was expired meanwhile gets the next one."""

        @app.get("/stream")
        @require_fresh_token
        def stream() -> Response:
            def chunks() -> Iterator[str]:
                yield f"{current_token.token_version},"
                fake_provider.expire_access_tokens()
                assert current_token.get(fake_provider.url + "/api/me").status_code == 200
                yield f"{current_token.token_version}"

            return Response(stream_with_context(chunks()))

        client = app.test_client()
        login_as(client, expires_in=100)
        _age(app)
        assert client.get("/stream").text == "0,1"


def _age(app: Flask, seconds: float = 60) -> None:
    """Let every token look issued ``seconds`` ago, so that a refusal of it is believed."""
    with app.app_context():
        engine = app.extensions["tokenrotate"].grants._transactions._database.engine()
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE tokenrotate_grants SET expires_at = expires_at - :s"), {"s": seconds}
            )


def test_a_stream_keeps_the_views_provider(
    make_app: MakeApp, login_as: LoginAs, fake_provider: FakeProvider
) -> None:
    """Neither a hook before the view nor a decorator around it decides whose token its stream uses."""
    app, rotate = make_app()
    rotate.register("other", **fake_provider.registration())

    @require_fresh_token("other")
    def helper() -> str:
        return current_token.provider

    @app.before_request
    def hook() -> None:
        helper()

    @app.get("/stream")
    @require_fresh_token("other")
    @require_fresh_token("fake")
    def stream() -> Response:
        inside = f"{current_token.provider} {helper()}"

        def chunks() -> Iterator[str]:
            yield inside
            yield f" {current_token.provider}"

        return Response(stream_with_context(chunks()))

    client = app.test_client()
    login_as(client, "alice", "fake")
    login_as(client, "alice", "other")
    assert client.get("/stream").text == "fake other fake"


class TestHealing:
    def test_one_401_does_not_end_what_cannot_be_rotated(
        self, make_app: MakeApp, fake_provider: FakeProvider
    ) -> None:
        """Without a refresh token a refusal is the API's response, and the grant goes on."""
        app, rotate = make_app()

        @app.post("/adopt")
        def adopt() -> str:
            minted = fake_provider.mint("carol")
            rotate.adopt("fake", {"access_token": minted["access_token"]})
            fake_provider.expire_access_tokens()
            return ""

        client = app.test_client()
        client.post("/adopt")
        assert [client.get("/me").json["status"] for _ in range(2)] == [401, 401]

    def test_a_401_heals_itself(self, app: Flask, login_as: LoginAs, fake_provider: FakeProvider) -> None:
        """A token that the provider ended early is rotated once, and the call repeated."""
        client = app.test_client()
        login_as(client, expires_in=1000)
        _age(app)
        fake_provider.expire_access_tokens()
        assert client.get("/me").json["status"] == 200
        assert fake_provider.redemptions() == 1

    def test_a_job_rotates_a_refused_token_itself(
        self, app: Flask, login_as: LoginAs, fake_provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A job's process may end when the call returns: a thread would take the new token set with it."""
        monkeypatch.setattr(RotationThreads, "run", lambda *_, **__: pytest.fail("left to a thread"))
        grant = login_as(app.test_client(), expires_in=1000)
        _age(app)
        with refusing_once() as api, app.app_context():
            assert TokenRotate().token(grant.id).get(api.url).status_code == 200
        assert fake_provider.redemptions() == 1

    def test_a_newer_row_is_used_without_a_redemption(
        self, make_app: MakeApp, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """When another process has rotated already, its token is used and nothing is redeemed."""
        app, _ = make_app()
        other, _ = make_app()
        client = app.test_client()
        grant = login_as(client, expires_in=1000)
        assert client.get("/me").json["version"] == 0
        with other.app_context():
            other.extensions["tokenrotate"].rotation.ending.expire(grant.id)
            TokenRotate().token(grant.id)
        fake_provider.expire_access_tokens()
        with other.app_context():
            other.extensions["tokenrotate"].rotation.ending.expire(grant.id)
            TokenRotate().token(grant.id)
        before = fake_provider.redemptions()
        assert client.get("/me").json["status"] == 200
        assert fake_provider.redemptions() == before == 2

    def test_an_api_that_refuses_everything_costs_no_storm(
        self, app: Flask, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """A 401 right after a rotation is the API's own affair: it does not rotate again."""

        @app.get("/always")
        @require_fresh_token
        def always() -> dict[str, int]:
            statuses = [current_token.get(fake_provider.url + "/api/me").status_code for _ in range(5)]
            return {"last": statuses[-1]}

        client = app.test_client()
        login_as(client, expires_in=-1)
        client.get("/me")
        for _ in range(3):
            fake_provider.expire_access_tokens()
            assert client.get("/always").json == {"last": 401}
        assert fake_provider.redemptions() == 1

    def test_the_session_does_what_the_token_does(
        self, app: Flask, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """`current_token.session` is an `OAuth2Session` that handles a 401 as `current_token.get` does."""
        with refusing_once() as api:

            @app.get("/session")
            @require_fresh_token
            def with_a_session() -> dict[str, Any]:
                session = current_token.session
                assert isinstance(session, OAuth2Session)
                assert session is current_token.session, "one for the request"
                before = session.token["access_token"]
                status = session.get(api.url).status_code
                assert session.access_token != before
                return {"status": status}

            client = app.test_client()
            login_as(client, expires_in=1000)
            _age(app)
            first = client.get("/session").json
        assert (api.methods, first["status"]) == (["GET", "GET"], 200)
        assert fake_provider.redemptions() == 1

    def test_each_request_has_its_own_session(self, app: Flask, login_as: LoginAs) -> None:
        """Nothing that one request sets on it is seen by the next, of the same user or another."""
        held: list[Any] = []

        @app.get("/mark")
        @require_fresh_token
        def mark() -> dict[str, Any]:
            session = current_token.session
            held.append(session)
            marks = [*session.headers.get("X-Marks", "").split(), *session.cookies.keys()]
            session.headers["X-Marks"] = "set"
            session.cookies.set("mark", "set")
            return {"marks": marks}

        alice, bob = app.test_client(), app.test_client()
        login_as(alice)
        login_as(bob, "bob")
        with app.app_context():  # one context for several requests, as in a test's ``with client``
            for client in (alice, bob, alice):
                assert client.get("/mark").json == {"marks": []}
        assert len(set(map(id, held))) == 3

    def test_a_session_belongs_to_its_provider(
        self, make_app: MakeApp, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """A session that is kept while another provider's token is current goes on with its own."""
        app, rotate = make_app()
        rotate.register("other", **fake_provider.registration())

        @require_fresh_token("other")
        def inner(session: OAuth2Session) -> list[Any]:
            return [session.access_token, current_token.session.access_token, current_token.access_token]

        @app.get("/two")
        @require_fresh_token("fake")
        def two() -> list[Any]:
            return [current_token.access_token, *inner(current_token.session)]

        client = app.test_client()
        login_as(client, provider="fake")
        login_as(client, provider="other")
        outer, kept, of_other, other = client.get("/two").json
        assert outer == kept
        assert of_other == other != outer

    @pytest.mark.parametrize(
        ("method", "body", "sent"),
        [
            ("GET", {}, ["GET", "GET"]),
            ("PUT", {"data": b"x"}, ["PUT", "PUT"]),
            ("PUT", {"data": io.BytesIO(b"x")}, ["PUT", "PUT"]),
            ("PUT", {"files": {"upload": io.BytesIO(b"x")}}, ["PUT"]),
            ("POST", {"json": {}}, ["POST"]),
            ("PATCH", {"json": {}}, ["PATCH"]),
        ],
    )
    def test_only_what_is_idempotent_is_repeated(
        self,
        app: Flask,
        login_as: LoginAs,
        fake_provider: FakeProvider,
        method: str,
        body: dict[str, Any],
        sent: list[str],
    ) -> None:
        """After a 401 the token is rotated in any case; only a repeatable call is sent again."""
        with refusing_once() as api:

            @app.get("/call")
            @require_fresh_token
            def call() -> dict[str, int]:
                return {"status": current_token.request(method, api.url, **body).status_code}

            client = app.test_client()
            login_as(client, expires_in=1000)
            _age(app)
            response = client.get("/call").json
        assert api.methods == sent
        assert response == {"status": 200 if len(sent) == 2 else 401}
        assert fake_provider.redemptions() == 1


class RefusingOnce:
    """An API that refuses the first call's token and takes any other."""

    def __init__(self) -> None:
        self.methods: list[str] = []
        self.url = ""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        self.methods.append(environ["REQUEST_METHOD"])
        if len(self.methods) == 1:
            start_response("401 Unauthorized", [("WWW-Authenticate", 'Bearer error="invalid_token"')])
        else:
            start_response("200 OK", [])
        return [b""]


@contextmanager
def refusing_once() -> Iterator[RefusingOnce]:
    """Serve `RefusingOnce` on loopback."""
    api = RefusingOnce()
    server = make_server("127.0.0.1", 0, api, threaded=True)
    api.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class TestAheadOnThreads:
    """A rotation thread rotates, and nobody waits: not the view, not the response, not the connection."""

    def test_the_response_does_not_wait_for_the_provider(
        self, app: Flask, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """The request is over, close included, while the provider still holds its response."""
        client = app.test_client()
        grant = login_as(client, expires_in=1000)
        _age(app, 900)
        with fake_provider.hold("received") as gate:
            with client.get("/me") as response:
                assert response.json["version"] == 0
            gate.wait_for(1)
            assert client.get("/me").json["version"] == 0
        wait_for_rotations(app)
        assert fake_provider.redemptions() == 1
        assert client.get("/me").json == {
            "status": 200, "user": "alice", "origin": "row", "version": 1, "grant": grant.id
        }  # fmt: skip


@pytest.fixture
def threadless(make_app: MakeApp) -> Flask:
    """An application whose process runs no threads beside its requests."""
    return make_app(TOKENROTATE_ROTATION_THREADS=0)[0]


class TestAhead:
    """Where threads cannot run, a request rotates after its response."""

    def test_the_response_comes_before_the_rotation(
        self, threadless: Flask, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """In the ahead window the request uses the current token and rotates when it is closed."""
        app = threadless
        client = app.test_client()
        grant = login_as(client, expires_in=1000)
        _age(app, 900)
        with client.get("/me") as response:
            assert response.json["version"] == 0
            assert fake_provider.redemptions() == 0
        assert fake_provider.redemptions() == 1
        assert client.get("/me").json == {
            "status": 200, "user": "alice", "origin": "row", "version": 1, "grant": grant.id
        }  # fmt: skip

    def test_a_token_that_an_earlier_hook_got_is_rotated_ahead(
        self, make_app: MakeApp, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """The hook's share of the request is not forgotten: else nobody would rotate until it is too late."""

        def other_extension(app: Flask) -> None:
            @app.before_request
            def hook() -> None:
                current_token.access_token  # noqa: B018

        app, _ = make_app(before=other_extension, TOKENROTATE_ROTATION_THREADS=0)
        app.add_url_rule("/plain", view_func=lambda: "plain")
        client = app.test_client()
        login_as(client, expires_in=1000)
        _age(app, 900)
        client.get("/plain").close()
        assert fake_provider.redemptions() == 1
        assert app.extensions["tokenrotate"].warned.of_keys

    def test_another_response_in_place_of_the_views_changes_nothing(
        self, make_app: MakeApp, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """A hook of the application may return another response object."""
        app, _ = make_app(TOKENROTATE_ROTATION_THREADS=0)
        app.after_request(lambda response: Response(response.get_data(), mimetype="application/json"))
        client = app.test_client()
        login_as(client, expires_in=1000)
        _age(app, 900)
        with client.get("/me") as response:
            assert response.json["version"] == 0
            assert fake_provider.redemptions() == 0
        assert fake_provider.redemptions() == 1

    def test_another_request_that_ends_first_is_not_taken_for_it(
        self, threadless: Flask, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """The signal tells of every request of the application; each rotates for itself."""
        app = threadless
        client = app.test_client()
        login_as(client, expires_in=1000)
        _age(app, 900)

        @app.get("/nested")
        @require_fresh_token
        def nested() -> str:
            inner = request_grants()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(lambda: app.test_client().get("/nowhere").close()).result()
            assert request_grants() is inner
            return "done"

        with client.get("/nested") as response:
            assert response.text == "done"
            assert fake_provider.redemptions() == 0
        assert fake_provider.redemptions() == 1

    @pytest.mark.parametrize("kind", ["text", "file"])
    def test_a_longer_min_ttl_rotates_ahead_too(
        self, threadless: Flask, login_as: LoginAs, fake_provider: FakeProvider, tmp_path: Path, kind: str
    ) -> None:
        """What is near to expiry is near for the view that asks; a file sent as it is rotates as well."""
        app = threadless
        (tmp_path / "file").write_text("contents")

        @app.get("/long")
        @require_fresh_token(min_ttl=300)
        def long() -> Any:
            return send_file(tmp_path / "file") if kind == "file" else "contents"

        client = app.test_client()
        login_as(client, expires_in=1000)
        _age(app, 500)
        with client.get("/long") as response:
            assert response.text == "contents"
            assert fake_provider.redemptions() == 0
        assert fake_provider.redemptions() == 1

    def test_a_short_lived_token_does_not_rotate_on_each_request(
        self, threadless: Flask, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """A lifetime below the leeway of 30 s is used for half of it."""
        app = threadless
        client = app.test_client()
        fake_provider.lifetime = 20
        login_as(client, expires_in=-1)
        for _ in range(5):
            with client.get("/me") as response:
                assert response.json["status"] == 200
        assert fake_provider.redemptions() == 1


def test_repr_shows_no_token(app: Flask, login_as: LoginAs) -> None:
    """The proxy prints as what it is, not as what it holds."""

    @app.get("/repr")
    @require_fresh_token
    def show() -> str:
        return f"{current_token!r} {current_token}"

    client = app.test_client()
    login_as(client)
    assert client.get("/repr").text == "<CurrentToken …> <CurrentToken …>"
