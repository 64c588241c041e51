"""`TokenRotate` as an application uses it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import create_engine, text

from flask_tokenrotate import ConfigurationError, SignInRequired, TokenRotate
from flask_tokenrotate.errors import InvalidTokenResponse, StoreUnavailable, UnknownProvider
from flask_tokenrotate.testing import FakeProvider, LoginAs
from flask_tokenrotate.testing.memory import MemoryGrantStore

from .conftest import MakeApp, database_of


class TestInitApp:
    def test_no_network_and_no_database(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """init_app connects to nothing and creates no database, whatever the database is."""

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise AssertionError("a connection was opened")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        for uri in (None, "postgresql://nobody@127.0.0.1:1/none", "mysql://nobody@127.0.0.1:1/none"):
            app = Flask("app", instance_path=str(tmp_path))
            app.config.update(SECRET_KEY="a-secret-key-for-the-tests", TOKENROTATE_DATABASE_URI=uri)
            TokenRotate(app).register("spotify", client_id="x", client_secret="y")
        assert not list(tmp_path.glob("*.sqlite3"))

    def test_twice_is_an_error(self, app: Flask, rotate: TokenRotate) -> None:
        """A second init_app of one application is refused by name."""
        with pytest.raises(ConfigurationError, match=f"already set up for the application '{app.name}'"):
            rotate.init_app(app)

    def test_one_object_serves_several_applications(
        self, make_app: MakeApp, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """Three applications in one process keep their state apart, whichever object set them up."""
        apps = [make_app(TOKENROTATE_DATABASE_URI=f"sqlite:///{name}.db")[0] for name in ("a", "b", "c")]
        for app in apps:
            client = app.test_client()
            login_as(client, app.name)
            assert client.get("/me").json["user"] == app.name

    def test_without_init_app_the_error_says_what_to_do(self, rotate: TokenRotate) -> None:
        """An application that was forgotten is named, with the call that is missing."""
        with (
            Flask("forgotten").app_context(),
            pytest.raises(ConfigurationError, match=r"forgotten.*init_app"),
        ):
            rotate.token("x")

    def test_without_a_secret_key(self, tmp_path: Path) -> None:
        """Without a key to seal with there is no start, and the message says how to set one."""
        with pytest.raises(ConfigurationError, match="SECRET_KEY"):
            TokenRotate(Flask("bare", instance_path=str(tmp_path)))


class TestRegister:
    def test_after_init_app(self, make_app: MakeApp, fake_provider: FakeProvider) -> None:
        """A provider may be registered when the application is set up already."""
        app, rotate = make_app()
        rotate.register("late", **fake_provider.registration())
        assert app.test_client().get("/auth/late/login").status_code == 302

    def test_from_the_configuration(self, make_app: MakeApp, fake_provider: FakeProvider) -> None:
        """TOKENROTATE_PROVIDERS registers too."""
        app, _ = make_app(TOKENROTATE_PROVIDERS={"conf": fake_provider.registration()})
        assert app.test_client().get("/auth/conf/login").status_code == 302

    def test_from_the_environment(
        self, make_app: MakeApp, fake_provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A secret may stay out of the code; what register says counts more."""
        monkeypatch.setenv("FLASK_TOKENROTATE_PROVIDERS__envy__CLIENT_SECRET", "from-the-environment")
        monkeypatch.setenv("FLASK_TOKENROTATE_PROVIDERS__envy__CLIENT_ID", "4711")
        monkeypatch.setenv("FLASK_TOKENROTATE_MIN_TTL_SECONDS", "7")
        app, rotate = make_app()
        registration = fake_provider.registration(client_id="in-code")
        del registration["client_secret"]
        rotate.register("envy", **registration)
        with app.app_context():
            state = app.extensions["tokenrotate"]
            profile = state.provider("envy")
        assert profile.client_secret.reveal() == "from-the-environment"
        assert profile.client_id == "in-code"
        assert state.settings.min_ttl_seconds == 7

    def test_an_unknown_provider_names_the_known(self, app: Flask) -> None:
        """The error lists what is registered."""
        with pytest.raises(UnknownProvider, match="registered: fake"):
            app.extensions["tokenrotate"].provider("nobody")


class TestEngines:
    def test_a_store_of_the_application(
        self, make_app: MakeApp, sign_in: Callable[..., Any], database: str
    ) -> None:
        """Grants live in the store that is passed, and nowhere else: sign-in, rotation, every sign-out."""
        store = MemoryGrantStore()
        app, rotate = make_app(store=store, TOKENROTATE_DATABASE_URI=database)
        app.test_cli_runner().invoke(args=["tokenrotate", "create-tables"])
        clients = [app.test_client(), app.test_client()]
        for client in clients:
            sign_in(client)
        with app.app_context():
            rotate.expire(clients[0].get("/me").json["grant"])  # type: ignore[index]
        assert [client.get("/me").json["version"] for client in clients] == [1, 0]  # type: ignore[index]
        with database_of(app).connect() as connection:
            assert connection.execute(text("SELECT id FROM tokenrotate_grants")).all() == []
        with app.app_context():
            assert rotate.sign_out_everywhere("alice") == 2
        assert {row.end_reason for row in store.rows.values()} == {"signed_out"}
        assert [client.get("/me").status_code for client in clients] == [401, 401]

    def test_a_store_given_to_init_app(self, tmp_path: Path) -> None:
        """It takes precedence over the one of the constructor, as an engine does."""
        first, second = MemoryGrantStore(), MemoryGrantStore()
        rotate = TokenRotate(store=first)
        for store, how in ((first, {}), (second, {"store": second})):
            app = Flask("app", instance_path=str(tmp_path))
            app.config["SECRET_KEY"] = "a-secret-key-for-the-tests"
            rotate.init_app(app, **how)
            assert app.extensions["tokenrotate"].grants is store

    @pytest.mark.parametrize("store", [{}, object()])
    def test_a_store_without_the_methods_is_refused_at_once(self, tmp_path: Path, store: object) -> None:
        """The error names what is missing, before the first user signs in."""
        app = Flask("app", instance_path=str(tmp_path))
        with pytest.raises(ConfigurationError, match=r"does not have .*try_claim, renew"):
            TokenRotate().init_app(app, store=store)  # type: ignore[arg-type]

    @pytest.mark.parametrize("command", ["history x", "verify", "prune-ledger", "rotate-keys"])
    def test_commands_on_the_database_say_that_they_do_not_see_the_store(
        self, make_app: MakeApp, command: str
    ) -> None:
        """They would find an empty database in order."""
        app, _ = make_app(store=MemoryGrantStore())
        result = app.test_cli_runner().invoke(args=["tokenrotate", *command.split()])
        assert result.exit_code == 1
        assert "TokenRotate(store=…)" in result.output
        assert "which is not checked" in app.test_cli_runner().invoke(args=["tokenrotate", "doctor"]).output

    def test_a_store_that_finds_ended_grants_for_a_while(
        self, make_app: MakeApp, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """It may read from a replica: signing out neither goes on forever nor reports success."""

        class Replica(MemoryGrantStore):
            def find(self, user_id: str, provider: str) -> str | None:
                return next(iter(self.rows), None)

        app, rotate = make_app(store=Replica())
        grant = login_as(app.test_client(), "alice")
        with app.app_context(), pytest.raises(StoreUnavailable, match=grant.id):
            rotate.sign_out_everywhere("alice")
        assert fake_provider.live_tokens() == 0  # what was ended is revoked all the same

    def test_an_engine_of_the_application(self, make_app: MakeApp, tmp_path: Path, login_as: LoginAs) -> None:
        """The grants live on the engine that the application passes."""
        engine = create_engine(f"sqlite:///{tmp_path / 'own.db'}")
        app, _ = make_app(engine=engine)
        client = app.test_client()
        login_as(client, expires_in=-1)
        assert client.get("/me").json["version"] == 1
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM tokenrotate_grants")) == 1
        engine.dispose()

    def test_an_engine_for_one_of_several_applications(self, tmp_path: Path) -> None:
        """`init_app` takes the engine of its application; it counts more than the object's own."""
        rotate = TokenRotate(engine=create_engine("sqlite://"))
        engine = create_engine(f"sqlite:///{tmp_path / 'own.db'}")
        app = Flask(__name__, instance_path=str(tmp_path))
        app.config["SECRET_KEY"] = "a-secret-key-for-the-tests"
        rotate.init_app(app, engine=engine)
        with app.app_context():
            assert rotate.grant("none") is None
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM tokenrotate_grants")) == 0
        engine.dispose()

    def test_a_flask_sqlalchemy_object(self, make_app: MakeApp, login_as: LoginAs) -> None:
        """A Flask-SQLAlchemy object lends its engine, and its session is left alone."""
        db = SQLAlchemy()

        def before(app: Flask) -> None:
            app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///theirs.db"
            db.init_app(app)

        app, _ = make_app(engine=db, before=before)

        @app.get("/pending")
        def pending() -> str:
            db.session.execute(text("CREATE TABLE IF NOT EXISTS mine (x int)"))
            db.session.commit()
            db.session.execute(text("INSERT INTO mine VALUES (1)"))
            db.session.rollback()
            app.view_functions["me"]()
            return str(db.session.scalar(text("SELECT count(*) FROM mine")))

        client = app.test_client()
        login_as(client, expires_in=-1)
        assert client.get("/pending").text == "0"
        assert client.get("/me").json["version"] == 1
        with app.app_context():
            db.engine.dispose()

    def test_two_sources_are_refused(self, make_app: MakeApp, tmp_path: Path) -> None:
        """An engine and a URI together are ambiguous."""
        engine = create_engine(f"sqlite:///{tmp_path / 'own.db'}")
        with pytest.raises(ConfigurationError, match="one of the two"):
            make_app(engine=engine, TOKENROTATE_DATABASE_URI="sqlite:///x.db")


class TestOutsideARequest:
    def test_token_and_token_for(
        self, make_app: MakeApp, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """A background job gets a fresh token by grant or by user, with an app context only."""
        app, rotate = make_app()
        grant = login_as(app.test_client(), "alice", expires_in=-1)
        with app.app_context():
            token = rotate.token(grant.id)
            assert token.get(fake_provider.url + "/api/me").json()["user"] == "alice"
            assert rotate.token_for("alice").access_token == token.access_token
            assert token.session.get(fake_provider.url + "/api/me").json()["user"] == "alice"
            assert token.session is token.session is not rotate.token(grant.id).session
            assert token.expires_at is not None
            assert token.expires_at.timestamp() > time.time()
        assert fake_provider.redemptions() == 1

    def test_a_user_without_a_grant(self, make_app: MakeApp) -> None:
        """A user who never signed in, and a grant that does not exist, need a sign-in."""
        app, rotate = make_app()
        with app.app_context():
            with pytest.raises(SignInRequired, match="no_grant"):
                rotate.token_for("nobody")
            with pytest.raises(SignInRequired, match="no_grant"):
                rotate.token("nothing")

    def test_a_due_rotation_is_done_ahead(
        self, make_app: MakeApp, login_as: LoginAs, fake_provider: FakeProvider
    ) -> None:
        """Where there is no response to wait for, the rotation ahead is done at once."""
        app, rotate = make_app()
        grant = login_as(app.test_client(), expires_in=1000)
        with app.app_context():
            engine = app.extensions["tokenrotate"].grants._transactions._database.engine()
            with engine.begin() as connection:
                connection.execute(text("UPDATE tokenrotate_grants SET expires_at = expires_at - 900"))
            assert rotate.token(grant.id).token_version == 1

    def test_sign_out_grant(self, make_app: MakeApp, login_as: LoginAs, fake_provider: FakeProvider) -> None:
        """An administrator can end a grant in whichever session it is."""
        app, rotate = make_app(TOKENROTATE_CACHE_SECONDS=0)
        client = app.test_client()
        grant = login_as(client)
        assert client.get("/me").status_code == 200
        with app.app_context():
            assert rotate.sign_out_grant(grant.id) is True
            assert rotate.sign_out_grant(grant.id) is False
        assert client.get("/me").json["reason"] == "signed_out"
        assert fake_provider.live_tokens() == 0

    def test_expire(self, make_app: MakeApp, login_as: LoginAs, fake_provider: FakeProvider) -> None:
        """A token that somebody knows to be dead is rotated at next use, once."""
        app, rotate = make_app()
        client = app.test_client()
        grant = login_as(client)
        assert client.get("/me").json["version"] == 0
        with app.app_context():
            rotate.expire(grant.id)
        assert [client.get("/me").json["version"] for _ in range(2)] == [1, 1]
        assert fake_provider.redemptions() == 1

    def test_a_user_id_is_a_string(self, make_app: MakeApp, fake_provider: FakeProvider) -> None:
        """The error shows the number and how to fix it, before anything is stored."""
        app, rotate = make_app()
        with app.app_context():
            for call in (
                lambda: rotate.token_for(5),  # type: ignore[arg-type]
                lambda: rotate.adopt("fake", fake_provider.mint(), user_id=5),  # type: ignore[arg-type]
            ):
                with pytest.raises(ConfigurationError, match=r"str\(user.id\)"):
                    call()

    def test_a_provider_that_is_gone_keeps_nobody_signed_in(
        self, make_app: MakeApp, login_as: LoginAs
    ) -> None:
        """Signing out of a provider that is no longer registered works; only the revocation does not."""
        app, rotate = make_app()
        grant = login_as(app.test_client())
        rotate._registered.clear()
        rotate.register("another", client_id="x")
        with app.app_context():
            assert rotate.sign_out_grant(grant.id) is True


class TestAdopt:
    def test_outside_a_request(self, make_app: MakeApp, fake_provider: FakeProvider) -> None:
        """Tokens from elsewhere become a grant of the given user."""
        app, rotate = make_app()
        with app.app_context():
            grant = rotate.adopt("fake", fake_provider.mint("carol"), user_id="carol")
            assert rotate.token_for("carol").grant_id == grant.id

    def test_inside_a_request_it_signs_in(self, make_app: MakeApp, fake_provider: FakeProvider) -> None:
        """In a request the session is signed in, and the same request has the token."""
        app, rotate = make_app()

        @app.post("/adopt")
        def adopt() -> Any:
            rotate.adopt("fake", fake_provider.mint("carol"), user_id="carol")
            return app.view_functions["me"]()

        client = app.test_client()
        assert client.post("/adopt").json["user"] == "carol"
        assert client.get("/me").json["user"] == "carol"

    @pytest.mark.parametrize(
        "stale", [{"expires_at": time.time() - 100}, {"expires_in": -5}, {"expires_in": 0}]
    )
    def test_what_has_expired_is_rotated(
        self, make_app: MakeApp, fake_provider: FakeProvider, stale: dict[str, float]
    ) -> None:
        """A stored token says when it expired, unlike a response that has just arrived."""
        app, rotate = make_app()
        response = {**fake_provider.mint("carol"), **stale}
        with app.app_context():
            grant = rotate.adopt("fake", response)
            assert rotate.token(grant.id).token_version == 1

    @pytest.mark.parametrize(
        "response", [{}, None, "token", {"access_token": ""}, {"error": "x"}, {"access_token": object()}]
    )
    def test_what_is_no_token_response(self, make_app: MakeApp, response: Any) -> None:
        """Anything without an access token is a clear error, and no row is made."""
        app, rotate = make_app()
        with app.app_context(), pytest.raises(InvalidTokenResponse):
            rotate.adopt("fake", response)


def test_a_grant_can_be_looked_at(make_app: MakeApp, login_as: LoginAs, fake_provider: FakeProvider) -> None:
    """A status page reads the row: nothing is rotated for it, and nothing secret printed."""
    app, rotate = make_app()
    grant = login_as(app.test_client(), "alice", expires_in=-1)
    with app.app_context():
        row = rotate.grant(grant.id)
        assert rotate.grant("nothing") is None
    assert row is not None
    assert (row.user_id, row.token_version) == ("alice", 0)
    assert "fake-" not in repr(row)
    assert fake_provider.log == []
