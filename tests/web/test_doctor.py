"""`flask tokenrotate doctor`, and what a process says by itself."""

from __future__ import annotations

import base64
import logging
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from cachelib import SimpleCache
from click.testing import Result
from flask import Flask
from flask_session import Session
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_tokenrotate.web import doctor as web_doctor
from flask_tokenrotate.web.doctor import examine

from .conftest import MakeApp


def random_key() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


GOOD = random_key()


def doctor(app: Flask) -> Result:
    """Run the command."""
    return app.test_cli_runner().invoke(args=["tokenrotate", "doctor"])


def levels(app: Flask) -> dict[str, str]:
    """The worst level of each check."""
    found: dict[str, str] = {}
    with app.app_context():
        for finding in examine(app, app.extensions["tokenrotate"]):
            assert finding.level == "ok" or finding.cure or finding.message
            found[finding.check] = max(
                found.get(finding.check, "ok"), finding.level, key=("ok", "warn", "fail").index
            )
    return found


def adopt(app: Flask, rotate: Any) -> None:
    """Store a grant."""
    with app.app_context():
        rotate.adopt("fake", {"access_token": "canary-access"}, user_id="ada")


class TestHealthy:
    def test_a_good_deployment_is_all_ok(self, make_app: MakeApp, database: str) -> None:
        """Each check says so on each engine, and the exit code is 0."""
        app, rotate = make_app(
            TOKENROTATE_DATABASE_URI=database,
            TOKENROTATE_ENCRYPTION_KEYS=GOOD,
            TOKENROTATE_BASE_URL="https://app.example.com",
        )
        app.test_cli_runner().invoke(args=["tokenrotate", "create-tables"])
        adopt(app, rotate)
        assert set(levels(app).values()) == {"ok"}
        assert set(levels(app)) == {"keys", "database", "clock", "providers", "sessions", "urls"}
        result = doctor(app)
        assert result.exit_code == 0, result.output
        assert "https://app.example.com/auth/fake/callback" in result.output
        assert "decrypt 1 sampled grants" in result.output
        assert GOOD not in result.output


class TestKeys:
    @pytest.mark.parametrize("secret", ["dev", "change me to something longer", "short", "x" * 15])
    def test_a_weak_secret_key_that_encrypts_fails(self, make_app: MakeApp, secret: str) -> None:
        """A default, or a short one; the value is not shown."""
        app, _ = make_app(before=lambda app: app.config.update(SECRET_KEY=secret))
        assert levels(app)["keys"] == "fail"
        assert doctor(app).exit_code == 1

    def test_a_derived_key_is_a_warning(self, make_app: MakeApp) -> None:
        """It works, and the exit code is 0."""
        app, _ = make_app()
        assert levels(app)["keys"] == "warn"
        assert doctor(app).exit_code == 0

    def test_an_all_zero_key_fails(self, make_app: MakeApp) -> None:
        """Thirty-two zero bytes are a key by their form only."""
        app, _ = make_app(TOKENROTATE_ENCRYPTION_KEYS=base64.b64encode(bytes(32)).decode())
        assert levels(app)["keys"] == "fail"

    def test_random_keys_are_never_called_weak(self, make_app: MakeApp) -> None:
        """The control of the test above."""
        app, _ = make_app(TOKENROTATE_ENCRYPTION_KEYS=[random_key() for _ in range(200)])
        assert levels(app)["keys"] == "ok"

    def test_another_workers_key_fails(self, make_app: MakeApp) -> None:
        """Rows that another worker sealed show that its keys are others."""
        adopt(*make_app(TOKENROTATE_ENCRYPTION_KEYS=random_key()))
        app, _ = make_app(TOKENROTATE_ENCRYPTION_KEYS=GOOD)
        assert levels(app)["database"] == "fail"
        assert "canary-access" not in doctor(app).output

    def test_a_single_grant_of_another_key_is_named_among_many(
        self, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The sample may miss it; the fingerprints in the database do not."""
        adopt(*make_app(TOKENROTATE_ENCRYPTION_KEYS=random_key()))
        monkeypatch.setattr(web_doctor, "SAMPLE", 0)
        app, _ = make_app(TOKENROTATE_ENCRYPTION_KEYS=GOOD)
        assert "1 grants are encrypted with key" in doctor(app).output
        assert levels(app)["database"] == "fail"


class TestTheRest:
    def test_a_database_that_is_away_fails_and_the_other_checks_go_on(self, make_app: MakeApp) -> None:
        """No traceback, and no password."""
        app, _ = make_app(TOKENROTATE_DATABASE_URI="postgresql://u:canary-password@127.0.0.1:1/none")
        result = doctor(app)
        assert result.exit_code == 1
        assert "fail  database: The grant database" in result.output
        assert "'fake' is complete" in result.output
        assert "canary-password" not in result.output

    @pytest.mark.parametrize("database", ["postgresql"], indirect=True)
    def test_missing_tables_fail(self, make_app: MakeApp, database: str) -> None:
        """The cure is in the text."""
        app, _ = make_app(TOKENROTATE_DATABASE_URI=database)
        assert "flask tokenrotate create-tables" in doctor(app).output

    def test_a_clock_that_is_off_is_a_warning(
        self, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rotation goes on all the same."""
        app, _ = make_app()
        assert levels(app)["clock"] == "ok"
        wall_clock = time.time
        monkeypatch.setattr(time, "time", lambda: wall_clock() - 60.0)
        assert levels(app)["clock"] == "warn"
        assert "60 s behind" in doctor(app).output

    def test_an_incomplete_provider_fails_by_its_name(self, make_app: MakeApp) -> None:
        """The message says what is missing; complete ones are still listed."""
        app, rotate = make_app()
        rotate.register("acme", client_id="x")
        result = doctor(app)
        assert result.exit_code == 1
        assert "Provider 'acme': authorization_endpoint is missing" in result.output
        assert "'fake' is complete" in result.output

    def test_no_provider_is_a_warning(self, make_app: MakeApp) -> None:
        """An application without any cannot sign anybody in."""
        app, rotate = make_app()
        rotate._registered.clear()
        assert levels(app)["providers"] == "warn"

    def test_cookie_sessions_are_a_warning(self, make_app: MakeApp) -> None:
        """Where they were accepted by hand."""
        app, _ = make_app(TOKENROTATE_ALLOW_COOKIE_SESSIONS=True)
        assert levels(app)["sessions"] == "warn"

    def test_rewriting_the_session_each_time_is_a_warning(self, make_app: MakeApp) -> None:
        """Flask-Session does so by default; the extension's own sessions never do."""
        assert levels(make_app()[0])["sessions"] == "ok"
        app, _ = make_app(before=Session, SESSION_TYPE="cachelib", SESSION_CACHELIB=SimpleCache())
        assert levels(app)["sessions"] == "warn"
        app.config["SESSION_REFRESH_EACH_REQUEST"] = False
        assert levels(app)["sessions"] == "ok"

    def test_proxy_fix_or_a_base_url_is_wanted(self, make_app: MakeApp) -> None:
        """One of the two is enough."""
        app, _ = make_app()
        assert levels(app)["urls"] == "warn"
        app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
        assert levels(app)["urls"] == "ok"


class TestByItself:
    def lines(self, caplog: pytest.LogCaptureFixture) -> list[str]:
        return [
            each.getMessage() for each in caplog.records if each.getMessage().startswith(("keys", "data"))
        ]

    def test_it_warns_once_after_the_first_token(
        self, make_app: MakeApp, sign_in: Callable[..., Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nothing is logged while the application starts, and nothing a second time."""
        app, _ = make_app()
        client = app.test_client()
        sign_in(client)
        assert self.lines(caplog) == []
        for _ in range(2):
            response = client.get("/me")
            assert response.status_code == 200
            response.close()
        (line,) = self.lines(caplog)
        assert "derived from SECRET_KEY" in line

    def test_another_workers_key_is_noticed(
        self, make_app: MakeApp, sign_in: Callable[..., Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        """A worker with keys of its own says which keys it does not have."""
        adopt(*make_app(TOKENROTATE_ENCRYPTION_KEYS=random_key()))
        app, _ = make_app(TOKENROTATE_ENCRYPTION_KEYS=GOOD)
        client = app.test_client()
        sign_in(client)
        client.get("/me").close()
        (line,) = self.lines(caplog)
        assert "decrypts 1 of 2 sampled grants" in line

    def test_good_keys_are_passed_over_in_silence(
        self, make_app: MakeApp, sign_in: Callable[..., Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        """The control: no line where there is nothing to do."""
        app, _ = make_app(TOKENROTATE_ENCRYPTION_KEYS=GOOD)
        client = app.test_client()
        with caplog.at_level(logging.INFO):
            sign_in(client)
            client.get("/me").close()
        assert self.lines(caplog) == []
