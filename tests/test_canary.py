"""No token, code, verifier, secret or key appears where somebody may read it.

One run of everything (sign-in, use, rotation, failures, sign-out) with loggers at DEBUG; then every
secret that was in play is searched for in the logs, in the texts and reprs of the errors, in the
database file, in the session rows, in the rescue files, in the pages and in what the commands print. The
control searches where a secret must be found, so that a search that finds nothing means something.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from flask_tokenrotate import TokenRotate, current_token, require_fresh_token, signed_in, token_rotated
from flask_tokenrotate.errors import StoreUnavailable
from flask_tokenrotate.rotation.tokens import Secret
from flask_tokenrotate.storage.grants import SqlGrantStore
from flask_tokenrotate.storage.sealed.sealing import new_key
from flask_tokenrotate.testing import FakeProvider

SECRET_KEY = "canary-secret-key-of-the-application"
CLIENT_SECRET = "canary-client-secret"


@pytest.fixture
def secrets_in_play(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every value that was ever wrapped in a `Secret`, kept as a plain string."""
    seen: set[str] = {SECRET_KEY, CLIENT_SECRET}
    init = Secret.__init__

    def watched(self: Secret, value: str) -> None:
        if len(value) >= 12:
            seen.add(value)
        init(self, value)

    monkeypatch.setattr(Secret, "__init__", watched)
    return seen


@pytest.fixture
def everything(secrets_in_play: set[str], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    """Run the whole life of two grants and return everything that could be read, by place."""
    caplog.set_level(logging.DEBUG)
    for name in list(logging.Logger.manager.loggerDict):
        caplog.set_level(logging.DEBUG, logger=name)
    key = new_key()
    secrets_in_play.add(key)
    signals: list[str] = []
    with FakeProvider(client_secret=CLIENT_SECRET) as provider:
        app = Flask("canary", instance_path=str(tmp_path))
        app.config.update(SECRET_KEY=SECRET_KEY, TOKENROTATE_ENCRYPTION_KEYS=key)
        rotate = TokenRotate(app)
        rotate.register("fake", **provider.registration())

        @app.get("/me")
        @require_fresh_token
        def me() -> dict[str, Any]:
            reply = current_token.get(provider.url + "/api/me")
            return {
                "status": reply.status_code,
                "token": repr(current_token),
                "grant": current_token.grant_id,
            }

        def receive(sender: Flask, **facts: Any) -> None:
            signals.append(repr(facts))

        with signed_in.connected_to(receive), token_rotated.connected_to(receive):
            pages = list(_live(app, rotate, provider))
        state = app.extensions["tokenrotate"]
        engine = state.grants._transactions._database.engine()
        with engine.begin() as connection:
            connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
            rows = repr(connection.execute(text("SELECT * FROM tokenrotate_grants")).all())
            sessions = repr(connection.execute(text("SELECT * FROM tokenrotate_sessions")).all())
            ids = connection.execute(text("SELECT id FROM tokenrotate_grants")).scalars().all()
        rescue = _bytes_of(tmp_path.glob("tokenrotate-rescue/*"))
        commands = "\n".join(_printed_by_commands(app, ids))
        engine.dispose()
        reprs = repr([state, state.settings, state.provider("fake"), vars(state.rotation), rotate])
    return {
        "logs": "\n".join(_printed(record) for record in caplog.records),
        "pages": "\n".join(pages),
        "signals": "\n".join(signals),
        "reprs": reprs,
        "rows": rows,
        "database": _bytes_of(tmp_path.glob("tokenrotate.sqlite3*")),
        "sessions": sessions,
        "rescue": rescue,
        "commands": commands,
    }


def _printed_by_commands(app: Flask, grant_ids: Sequence[str]) -> Iterator[str]:
    """Run every command that looks at what is stored; yield what it prints and what it fails with."""
    runner = app.test_cli_runner()
    lines = ["urls --base-url https://app.example", "doctor", "verify", "rescue", "rotate-keys", "sweep"]
    for line in [*lines, "prune-ledger --days 1", *(f"history {grant_id}" for grant_id in grant_ids)]:
        result = runner.invoke(args=["tokenrotate", *line.split()])
        yield f"{line}: {result.output} {result.exception!r}"


def _live(app: Flask, rotate: TokenRotate, provider: FakeProvider) -> Iterator[str]:
    """Sign in, rotate, fail in every way, sign out; yield what was answered."""
    client = app.test_client()
    for path in ("/me", "/auth/fake/login", "/auth/fake/callback?state=made-up-state&code=made-up-code"):
        yield client.get(path).text
    begun = client.get("/auth/fake/login")
    back = provider.sign_in(begun.location)
    yield client.get(back).text
    yield client.get(back).text
    yield client.get(f"/auth/fake/callback?{urlsplit(back).query}", base_url="http://127.0.0.1").text
    yield client.get("/me").text
    for knob in ({}, {"fail_next": 1}, {"drop_next": 1, "grace_seconds": 60.0}, {"cut_next": 1}):
        provider.turn(**knob)
        _expire(app, client)
        yield client.get("/me").text
    assert {entry.outcome for entry in provider.log} >= {"issued", "rotated", "failed"}
    assert [entry for entry in provider.log if not entry.delivered], "an answer was to be lost"
    provider.turn(fail_next=0, drop_next=0, cut_next=0)
    yield client.post("/auth/fake/logout").text
    yield client.get("/me").text
    stays = app.test_client()
    yield stays.get(provider.sign_in(stays.get("/auth/fake/login").location, user="dave")).text
    with app.app_context():
        grant = rotate.adopt("fake", {**provider.mint("bob"), "expires_in": -1})
        yield repr(grant)
        with provider.ledger.lock:
            for token in provider.ledger.refresh_tokens.values():
                token.family.alive = False
        try:
            rotate.token(grant.id)
        except Exception as error:
            yield f"{error} {error!r} {vars(error)}"
        with app.extensions["tokenrotate"].grants._transactions._database.engine().begin() as connection:
            connection.execute(text("UPDATE tokenrotate_grants SET sealed = zeroblob(60)"))
        try:
            rotate.token(rotate.adopt("fake", provider.mint("carol")).id)
            rotate.token(grant.id)
        except Exception as error:
            yield f"{error} {error!r} {vars(error)}"
    rescued = app.test_client()
    yield rescued.get(provider.sign_in(rescued.get("/auth/fake/login").location, user="erin")).text
    _expire(app, rescued)
    with patch.object(SqlGrantStore, "save", side_effect=StoreUnavailable("the database is away")):
        yield rescued.get("/me").text


def _expire(app: Flask, client: FlaskClient) -> None:
    with client.session_transaction() as session:
        grant_id = session["_tokenrotate_grant:fake"]
    state = app.extensions["tokenrotate"]
    with app.app_context(), state.grants._transactions._database.engine().begin() as connection:
        connection.execute(text("UPDATE tokenrotate_grants SET retry_at = NULL"))
        connection.commit()
        state.rotation.ending.expire(grant_id)


def _printed(record: logging.LogRecord) -> str:
    return logging.Formatter("%(name)s %(message)s %(args)r").format(record)


def _bytes_of(paths: Any) -> str:
    return "".join(path.read_bytes().decode("latin-1") for path in paths)


def _found(secret: str, place: str) -> bool:
    """Whether the secret stands there as it is, percent-encoded, or in base64."""
    forms = {secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode().rstrip("=")[:-2]}
    return any(form in place for form in forms)


def test_no_secret_is_readable_anywhere(everything: dict[str, str], secrets_in_play: set[str]) -> None:
    """Not in logs at DEBUG, errors, reprs, signals, rows, files, session rows, pages or commands."""
    assert len(secrets_in_play) > 20
    for place, contents in everything.items():
        assert contents, place
        for secret in secrets_in_play:
            if place == "pages" and _is_in_the_providers_address(secret, contents):
                continue
            found = _found(secret, contents)
            assert not found, f"a secret that begins with {secret[:8]!r} is readable in {place}"


def _is_in_the_providers_address(secret: str, pages: str) -> bool:
    """The state and nonce that we send the browser to the provider with are in that address by nature."""
    addresses = re.findall(r"http://127\.0\.0\.1:\d+/authorize\?[^\"<>\s]+", pages)
    sent = [parse_qs(urlsplit(address.replace("&amp;", "&")).query) for address in addresses]
    return any(secret in query.get("state", []) + query.get("nonce", []) for query in sent)


def test_the_search_finds_what_is_there(everything: dict[str, str], tmp_path: Path) -> None:
    """The control: what must be readable is found, in each place."""
    assert "127.0.0.1" in everything["pages"]
    assert "token_rotated" in everything["logs"]
    assert "alice" in everything["database"]
    assert "alice" in everything["rows"]
    assert "_tokenrotate_grant:fake" in everything["sessions"]
    assert _found("fake-access-xyz", base64.b64encode(b"fake-access-xyz").decode())


def test_a_leak_would_be_found(secrets_in_play: set[str]) -> None:
    """The control of the watch: a secret that is revealed into a text is found there."""
    secret = Secret("canary-of-this-very-test")
    assert _found("canary-of-this-very-test", f"oops {secret.reveal()}")
    assert "canary-of-this-very-test" in secrets_in_play
    assert not _found("canary-of-this-very-test", f"fine {secret} {secret!r}")
