"""A client application reduced to its calls, and the provider that it talks to."""

from __future__ import annotations

import base64
import hashlib
import secrets
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import requests

from flask_tokenrotate.testing import FakeProvider, ManualClock

# By import, not by the entry point: the suite has to run from a source tree that is not installed.
from pytest_flask_tokenrotate import fake_provider, login_as  # noqa: F401

REDIRECT_URI = "http://localhost/auth/fake/callback"


class ClientApp:
    """What an application sends to the provider; each argument replaces or (None) removes a parameter."""

    def __init__(self, provider: FakeProvider) -> None:
        self.provider = provider
        self.auth: tuple[str, str] | None = (
            provider.client.client_id,
            provider.client.client_secret.reveal(),
        )
        self.verifier = secrets.token_urlsafe(48)
        self.http = requests.Session()
        self.http.trust_env = False

    def authorization_url(self, **over: str | None) -> str:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        parameters = {
            "response_type": "code",
            "client_id": self.provider.client.client_id,
            "redirect_uri": REDIRECT_URI,
            "scope": "profile",
            "state": "canary-state",
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        return f"{self.provider.url}/authorize?{urlencode(self._with(parameters, over))}"

    def callback(self, user: str = "alice", **over: str | None) -> dict[str, str]:
        return parameters_of(self.provider.sign_in(self.authorization_url(**over), user=user))

    def exchange(self, code: str, **over: str | None) -> requests.Response:
        parameters = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT_URI,
            "code_verifier": self.verifier,
        }
        return self.post("/token", self._with(parameters, over))

    def redeem(self, refresh_token: str, **over: str | None) -> requests.Response:
        parameters = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return self.post("/token", self._with(parameters, over))

    def revoke(self, token: str) -> requests.Response:
        return self.post("/revoke", {"token": token})

    def post(self, path: str, form: Any, **options: Any) -> requests.Response:
        return self.http.post(
            self.provider.url + path, data=form, **{"auth": self.auth, "timeout": 20} | options
        )

    def get(self, path: str, access_token: str | None = None) -> requests.Response:
        headers = {"Authorization": f"Bearer {access_token}"} if access_token else {}
        return self.http.get(self.provider.url + path, headers=headers, timeout=20)

    @staticmethod
    def _with(parameters: dict[str, str], over: dict[str, str | None]) -> dict[str, str]:
        return {name: value for name, value in {**parameters, **over}.items() if value is not None}


def parameters_of(address: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(address).query))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def clock() -> ManualClock:
    """The clock that the provider's tokens live by."""
    return ManualClock()


@pytest.fixture
def provider(clock: ManualClock) -> Iterator[FakeProvider]:
    """A running provider on a clock moved by hand."""
    with FakeProvider(now=clock.time) as provider:
        yield provider


@pytest.fixture
def app(provider: FakeProvider) -> Iterator[ClientApp]:
    """An application registered at the provider."""
    app = ClientApp(provider)
    with app.http:
        yield app
