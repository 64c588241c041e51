"""Several touches of the token in one request, and two applications in one process."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, g, render_template_string, request
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from flask_tokenrotate import SignInRequired, TokenRotate, current_token, require_fresh_token
from flask_tokenrotate.rotation.tokens import Claim
from flask_tokenrotate.rotation.waiting import Waiting
from flask_tokenrotate.storage.grants import SqlGrantStore
from flask_tokenrotate.testing import FakeProvider


def version() -> int:
    """Return the version of the current token set."""
    return current_token.token_version


def touch_the_token() -> None:
    """Need the token in a hook, for visitors who have signed in."""
    with suppress(SignInRequired):
        g.version_in_hook = version()


def make_app(name: str, folder: Path, provider: FakeProvider) -> Flask:
    """Return an application that needs the token in a hook, in its view and in its template."""
    app = Flask(name, instance_path=str(folder))
    app.secret_key = "a-secret-key-for-the-tests"
    # Like another extension that was set up earlier: its hook runs before ours.
    app.before_request(touch_the_token)
    # Without a pool nothing is left open when the test ends.
    rotate = TokenRotate(app, engine=create_engine(f"sqlite:///{folder}/grants.sqlite3", poolclass=NullPool))
    rotate.register("fake", **provider.registration())
    app.add_template_global(version, "version")

    @app.post("/adopt")
    def adopt() -> str:
        return rotate.adopt("fake", request.get_json()).id

    @app.get("/page")
    @require_fresh_token
    def page() -> str:
        facts = {"in_view": version(), "in_hook": g.version_in_hook}
        return render_template_string("{{ in_hook }} {{ in_view }} {{ version() }}", **facts)

    return app


def signed_in(client: Client, provider: FakeProvider) -> Client:
    """Sign the client in with an access token that has run out."""
    assert client.post("/adopt", json=provider.mint(expires_in=-1)).status_code == 200
    return client


@pytest.fixture
def both(provider: FakeProvider, tmp_path: Path) -> Client:
    """A browser at two applications in one process, with one database and one session."""
    main, mounted = (make_app(name, tmp_path, provider) for name in ("main", "mounted"))
    return signed_in(Client(DispatcherMiddleware(main, {"/mounted": mounted})), provider)


def test_three_touches_in_one_request_cost_one_redemption(provider: FakeProvider, tmp_path: Path) -> None:
    """A hook of another extension, the view and the template get the same token set, redeemed once."""
    client = signed_in(Client(make_app("main", tmp_path, provider)), provider)
    assert client.get("/page").text == "1 1 1"
    assert provider.redemptions() == 1


def test_a_mounted_application_uses_what_the_other_has_redeemed(both: Client, provider: FakeProvider) -> None:
    """Two applications share a session and its grant: the second one finds the token fresh."""
    assert both.get("/page").text == "1 1 1"
    assert both.get("/mounted/page").text == "1 1 1"
    assert provider.redemptions() == 1


def test_a_mounted_application_waits_for_the_other(
    both: Client, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two applications at once share no memory: only the claim keeps the second from posting."""
    waits = threading.Event()
    sleep = Waiting.sleep

    def noted_sleep(*args: Any) -> None:
        waits.set()
        sleep(*args)

    monkeypatch.setattr(Waiting, "sleep", noted_sleep)
    with provider.hold("received") as gate, ThreadPoolExecutor() as threads:
        first = threads.submit(both.get, "/page")
        gate.wait_for(1)
        second = threads.submit(both.get, "/mounted/page")
        # The first one waits for the flight of its application; only the second waits for the row.
        assert waits.wait(10)
        gate.open()
        assert [first.result().text, second.result().text] == ["1 1 1", "1 1 1"]
    assert provider.redemptions() == 1


def test_without_the_claim_both_applications_would_post(
    both: Client, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: where everybody gets a claim without asking the row, the family is revoked."""

    def claim_anyway(store: SqlGrantStore, seen: Any, **facts: Any) -> Claim:
        return Claim(id="made up", grant_id=seen.id, version=seen.version + 1, redeems=seen.token_version)

    monkeypatch.setattr(SqlGrantStore, "try_claim", claim_anyway)
    with provider.hold("received") as gate, ThreadPoolExecutor() as threads:
        for address in ("/page", "/mounted/page"):
            threads.submit(both.get, address)
        gate.wait_for(2)
        gate.open()
    assert provider.families_revoked == 1
