"""Signals."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from flask_tokenrotate import grant_ended, rotation_failed, scopes_changed, token_rotated
from flask_tokenrotate.testing import FakeProvider, LoginAs

from .conftest import end_every_family


class Listener:
    """Keeps what a signal carried; receivers are held weakly, so the listener must be kept too."""

    def __init__(self, signal: Any, app: Flask) -> None:
        self.heard: list[dict[str, Any]] = []
        signal.connect(self.receive, sender=app)

    def receive(self, sender: Flask, **facts: Any) -> None:
        self.heard.append(facts)


def test_a_rotation_is_told(app: Flask, client: FlaskClient, login_as: LoginAs) -> None:
    """token_rotated names grant, user and version."""
    listener = Listener(token_rotated, app)
    grant = login_as(client, "alice", expires_in=-1)
    client.get("/me")
    assert listener.heard == [
        {"grant_id": grant.id, "provider": "fake", "user_id": "alice", "token_version": 1}
    ]


def test_a_failure_is_told(
    app: Flask, client: FlaskClient, login_as: LoginAs, fake_provider: FakeProvider
) -> None:
    """rotation_failed says what failed and until when nobody asks again."""
    listener = Listener(rotation_failed, app)
    login_as(client, expires_in=-1)
    fake_provider.fail_next = 1
    client.get("/me")
    assert listener.heard[0]["failure"] == "busy"
    assert listener.heard[0]["retry_after"] >= 0.75


def test_an_end_is_told_with_its_reason(
    app: Flask, client: FlaskClient, login_as: LoginAs, fake_provider: FakeProvider
) -> None:
    """grant_ended tells a refusal from a sign-out."""
    listener = Listener(grant_ended, app)
    login_as(client)
    client.post("/auth/fake/logout")
    login_as(client, expires_in=-1)
    end_every_family(fake_provider)
    client.get("/me")
    assert [facts["reason"] for facts in listener.heard] == ["signed_out", "refused"]


def test_changed_scopes_are_told(
    app: Flask, client: FlaskClient, login_as: LoginAs, fake_provider: FakeProvider
) -> None:
    """A provider that grants less is not an error: the token is saved, then the signal sent."""
    listener = Listener(scopes_changed, app)
    login_as(client, expires_in=-1)
    fake_provider.scope = "profile"
    assert client.get("/me").json["version"] == 1
    assert listener.heard[0]["before"] == ["email", "profile"]
    assert listener.heard[0]["now"] == ["profile"]


def test_a_receiver_that_raises_harms_nothing(app: Flask, client: FlaskClient, login_as: LoginAs) -> None:
    """The token set is saved before a receiver is notified, and the request continues."""

    def broken(sender: Flask, **facts: Any) -> None:
        raise RuntimeError("a defect of the application")

    with token_rotated.connected_to(broken, sender=app):
        login_as(client, expires_in=-1)
        assert client.get("/me").json["version"] == 1
