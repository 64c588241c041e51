"""The demo's page, without a browser: what it shows, to whom, and what it keeps to itself."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from example_app.app import create_app
from flask_tokenrotate.testing import FakeProvider
from tests.web.conftest import database_of

PORTS = [5000, 5001]


@pytest.fixture
def app(fake_provider: FakeProvider, tmp_path: Path) -> Iterator[Flask]:
    """The demo application."""
    app = create_app(
        str(tmp_path), SECRET_KEY="key-of-the-demo", DEMO_PROVIDER_URL=fake_provider.url, DEMO_PORTS=PORTS
    )
    yield app
    database_of(app).dispose()


@pytest.fixture
def sign_in(app: Flask, fake_provider: FakeProvider) -> Callable[..., FlaskClient]:
    """Return a function that returns a new browser in which a user has signed in."""

    def sign_in(user: str) -> FlaskClient:
        client = app.test_client()
        begun = client.get("/auth/demo/login?next=/")
        assert client.get(fake_provider.sign_in(begun.location, user=user)).location == "/"
        return client

    return sign_in


@pytest.fixture
def alice(sign_in: Callable[..., FlaskClient]) -> FlaskClient:
    """A browser in which alice has signed in."""
    return sign_in("alice")


def test_asks_a_stranger_to_sign_in(app: Flask) -> None:
    """Who has not signed in sees where to, and nothing else answers with anything."""
    client = app.test_client()
    assert "/auth/demo/login?next=/" in client.get("/").text
    for address in ("/grant", "/work", "/redemptions"):
        assert client.get(address).status_code == 401
    assert client.post("/expire").status_code == 401


def test_shows_who_signed_in_and_what_the_resource_said(alice: FlaskClient) -> None:
    """The page names the user and shows the protected resource's answer."""
    page = alice.get("/")
    assert page.status_code == 200
    assert '<span id="who">alice</span>' in page.text
    assert "answered 200" in page.text
    assert "seconds_left" in page.text


def test_shows_no_secret(app: Flask, alice: FlaskClient, fake_provider: FakeProvider) -> None:
    """Neither the page nor what its script reads contains a token."""
    alice.post("/expire")
    alice.get("/work")
    ledger = fake_provider.ledger
    secrets = [token.reveal() for token in (*ledger.access_tokens, *ledger.refresh_tokens)]
    assert len(secrets) == 4
    read = "".join(alice.get(address).text for address in ("/", "/grant", "/work", "/redemptions"))
    assert [secret for secret in secrets if secret in read] == []


def test_expires_the_token_here_and_at_the_provider(alice: FlaskClient, fake_provider: FakeProvider) -> None:
    """After "expire" no access token lives, and the next request redeems the refresh token once."""
    assert alice.post("/expire").status_code == 204
    assert fake_provider.live_tokens("alice") == 1
    assert alice.get("/work").json["origin"] == "rotated"
    assert fake_provider.redemptions() == 1
    assert alice.get("/redemptions").json == [{"at": fake_provider.log[-1].at, "outcome": "rotated"}]


def test_counts_the_redemptions_of_this_visitor_only(
    sign_in: Callable[..., FlaskClient], alice: FlaskClient
) -> None:
    """What others redeem is not shown."""
    bob = sign_in("bob")
    bob.post("/expire")
    bob.get("/work")
    assert len(bob.get("/redemptions").json) == 1
    assert alice.get("/redemptions").json == []


def test_shows_who_holds_the_claim(alice: FlaskClient, fake_provider: FakeProvider) -> None:
    """While a rotation thread redeems, the grant names it as the holder; afterwards nobody does."""
    assert alice.get("/grant").json["claimed_by"] is None
    alice.post("/expire")
    watcher = alice.application.test_client()
    watcher.set_cookie("session", alice.get_cookie("session").value)
    with fake_provider.hold("received") as gate, ThreadPoolExecutor(1) as threads:
        redeeming = threads.submit(alice.get, "/work")
        gate.wait_for(1)
        held = watcher.get("/grant").json
        rotation_threads = {each.ident for each in threading.enumerate() if each.name == "tokenrotate-demo"}
        gate.open()
        assert redeeming.result().status_code == 200
    host, process, thread = held["claimed_by"].split(":")
    assert (host, int(process)) == (socket.gethostname(), os.getpid())
    assert int(thread) in rotation_threads
    assert alice.get("/grant").json["claimed_by"] is None


@pytest.mark.parametrize(
    ("origin", "let_in"),
    [
        ("http://localhost:5001", True),
        ("http://localhost:5002", False),
        ("http://evil.example:5001", False),
        ("null", False),
    ],
)
def test_lets_only_its_own_ports_read_it(alice: FlaskClient, origin: str, let_in: bool) -> None:
    """A page of the application's own ports may read the answers with cookies; no other may."""
    answer = alice.get("/work", headers={"Origin": origin})
    assert answer.headers.get("Access-Control-Allow-Origin") == (origin if let_in else None)
    assert answer.headers.get("Access-Control-Allow-Credentials") == ("true" if let_in else None)
    assert "Origin" in answer.vary


def test_answers_no_other_host(app: Flask) -> None:
    """A name of somebody else that resolves to this machine gets nothing."""
    assert app.test_client().get("/", base_url="http://evil.example").status_code == 400


def test_restricts_the_page_to_its_own_files(alice: FlaskClient) -> None:
    """The page may load its own files and call its own ports, and holds nothing inline."""
    page = alice.get("/")
    policy = page.headers["Content-Security-Policy"]
    assert "connect-src 'self' http://127.0.0.1:5000 http://127.0.0.1:5001 http://localhost:5000" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "style=" not in page.text
    assert "<script>" not in page.text


def test_signs_out(alice: FlaskClient, fake_provider: FakeProvider) -> None:
    """After the button the page asks to sign in, and no token lives at the provider."""
    answer = alice.post("/auth/demo/logout?next=/", headers={"Accept": "text/html"})
    assert answer.location == "/"
    assert "/auth/demo/login" in alice.get("/").text
    assert fake_provider.live_tokens() == 0
