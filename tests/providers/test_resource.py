"""Calls to an API with a bearer token: where the token goes, and where it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from flask_tokenrotate.errors import ConfigurationError, InvalidTokenResponse
from flask_tokenrotate.providers.resource import TIMEOUT, ProtectedSession
from flask_tokenrotate.rotation.tokens import Secret

from .conftest import Server, http, says

Serve = Callable[..., Server]


def call(url: str, token: str = "at-1", session: ProtectedSession | None = None, **options: object):
    with session or ProtectedSession() as used:
        return used.call(Secret(token), "GET", url, timeout=5, **options)


def test_the_token_is_in_the_header_of_its_own_call(serve: Serve) -> None:
    """A shared session sends each user's token with that user's call and keeps nothing of it."""
    server = serve(says(http(200, {"ok": True}, "Set-Cookie: user=1; Path=/")))
    session = ProtectedSession()
    for token in ("at-1", "at-2"):
        assert call(server.url, token, session, params={"q": "1"}).json() == {"ok": True}
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer at-1", "Bearer at-2"]
    assert all("cookie" not in request.headers for request in server.requests)
    assert session.token == {}


def test_plain_http_to_another_host_is_refused() -> None:
    """The token never leaves in clear, and the error names the host and not the token."""
    with pytest.raises(ConfigurationError, match=r"api\.example\.com") as caught:
        call("http://api.example.com/me?access_token=at-1")
    assert "at-1" not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["another host", "another port"])
def test_redirect_elsewhere_goes_without_the_token(serve: Serve, host: str) -> None:
    """Another host, or another port of this one, is somebody else."""
    other = serve(says(http(200, {"ok": True})))
    server = serve(says(http(302, b"", f"Location: http://{host}:{other.port}/")))
    assert call(server.url).status_code == 200
    assert "authorization" not in other.requests[0].headers


def test_redirect_within_the_host_keeps_the_token(serve: Serve) -> None:
    """A redirect of the API to itself is followed with the token."""

    def script(connection: object) -> None:
        answer = http(200) if len(server.requests) > 1 else http(302, b"", "Location: /next")
        connection.sendall(answer)  # type: ignore[attr-defined]

    server = serve(script)
    assert call(server.url).status_code == 200
    assert [request.headers.get("authorization") for request in server.requests] == ["Bearer at-1"] * 2


def test_downgrade_loses_the_token() -> None:
    """A redirect from https to http of the same host goes without the token."""
    session = ProtectedSession()
    assert session.should_strip_auth("https://api.example.com/a", "http://api.example.com/a")
    assert not session.should_strip_auth("https://api.example.com/a", "https://api.example.com/b")


def test_netrc_and_proxies_are_ignored(serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """.netrc would replace the bearer token, a proxy would read it."""
    server, proxy = serve(says(http(200))), serve(says(http(200)))
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login intruder password x\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", proxy.url)
    call(server.url)
    assert server.requests[0].headers["authorization"] == "Bearer at-1"
    assert proxy.connections == 0


def test_there_is_a_timeout_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """requests waits for ever unless told; these calls are told."""
    seen: dict[str, object] = {}

    def send(
        self: requests.Session, request: requests.PreparedRequest, **options: object
    ) -> requests.Response:
        seen.update(options)
        return requests.Response()

    monkeypatch.setattr(requests.Session, "send", send)
    ProtectedSession().call(Secret("at-1"), "GET", "https://api.example.com/")
    assert seen["timeout"] == TIMEOUT


@pytest.mark.parametrize("token", ["canary\nX-Evil: 1", "canary\u20ac", "canary ", ""])
def test_a_token_that_no_header_carries_is_not_quoted(token: str) -> None:
    """The libraries' own errors for it would show the token; ours says what is wrong, and no more."""
    with pytest.raises(InvalidTokenResponse) as caught:
        call("http://127.0.0.1:1/", token)
    assert "canary" not in f"{caught.value!r}{vars(caught.value)}"
    assert caught.value.__cause__ is None
