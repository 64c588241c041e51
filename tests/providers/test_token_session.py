"""Calls to an API by an `OAuth2Session`: which token they carry, where it goes, and where it does not."""

from __future__ import annotations

import io
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from requests_oauthlib import OAuth2Session

from flask_tokenrotate.errors import ConfigurationError, InvalidTokenResponse, SignInRequired
from flask_tokenrotate.providers.connections import SharedConnections
from flask_tokenrotate.providers.redaction import install_redaction
from flask_tokenrotate.providers.repeating import how_to_repeat
from flask_tokenrotate.providers.token_session import TIMEOUT, TokenSession
from flask_tokenrotate.rotation.sighting import Fresh, Sighting
from flask_tokenrotate.rotation.tokens import Grant, Secret, TokenSet

from .conftest import Server, http, says

Serve = Callable[..., Server]
INVALID = http(401, b"", 'WWW-Authenticate: Bearer error="invalid_token"')


class Tokens:
    """A grant whose token set is replaced when a resource server refuses it."""

    def __init__(self, access_token: str = "at-1", *, rotates: bool = True) -> None:
        self.access_token = access_token
        self.version = 0
        self.rotates = rotates
        self.refused: list[str] = []
        self.error: Exception | None = None

    def read(self) -> Fresh:
        if self.error is not None:
            raise self.error
        tokens = TokenSet(
            access_token=Secret(self.access_token),
            refresh_token=Secret("rt-canary"),
            scopes=frozenset({"b", "a"}),
            expires_at=1_900_000_000.0,
        )
        grant = Grant(
            id="g1",
            provider="acme",
            user_id=None,
            subject=None,
            tokens=tokens,
            version=self.version,
            token_version=self.version,
            seen_at=0.0,
        )
        return Fresh(seen=Sighting(grant, 0.0), origin="cache", until=1e9)

    def replace(self, fresh: Fresh) -> Fresh:
        self.refused.append(fresh.tokens.access_token.reveal())
        if self.rotates:
            self.version += 1
            self.access_token = f"at-{self.version + 1}"
        return self.read()


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def session(tokens: Tokens) -> Iterator[TokenSession]:
    with made(tokens) as session:
        yield session


def made(tokens: Tokens, connections: SharedConnections | None = None) -> TokenSession:
    return TokenSession(connections or SharedConnections(), tokens.read, tokens.replace)


def sent(server: Server) -> list[str | None]:
    """The Authorization headers that the server saw."""
    return [request.headers.get("authorization") for request in server.requests]


def once(server_of: Callable[[], Server], *answers: bytes) -> Callable[[socket.socket], None]:
    """Return a script with one answer for each request, the last one for all that follow."""

    def script(connection: socket.socket) -> None:
        number = len(server_of().requests)
        connection.sendall(answers[min(number, len(answers)) - 1])

    return script


@pytest.fixture
def refusing(serve: Serve) -> Server:
    """An API that refuses the first token and takes the next."""
    server: Server = serve(once(lambda: server, INVALID, http(200, {"ok": True})))
    return server


class TestItIsAnOAuth2Session:
    def test_code_that_takes_an_oauth2session_takes_it(self, serve: Serve, session: TokenSession) -> None:
        """It is one, and every method for a request sends the token."""
        server = serve(says(http(200, {"ok": True})))
        assert isinstance(session, OAuth2Session)
        for method in ("get", "post", "put", "patch", "delete", "options", "head"):
            getattr(session, method)(server.url)
        session.request("GET", server.url, None, {"X-Mine": "1"})
        assert sent(server) == ["Bearer at-1"] * 8
        assert server.requests[-1].headers["x-mine"] == "1"

    def test_each_request_has_the_token_of_its_moment(
        self, serve: Serve, session: TokenSession, tokens: Tokens
    ) -> None:
        """A session that lives long goes on with the next token."""
        server = serve(says(http(200)))
        session.get(server.url)
        tokens.access_token = "at-new"
        session.get(server.url)
        assert sent(server) == ["Bearer at-1", "Bearer at-new"]

    def test_its_token_can_be_read(self, session: TokenSession) -> None:
        """As requests-oauthlib's users read it; without the refresh token, which is not theirs to use."""
        assert session.token == {
            "access_token": "at-1",
            "token_type": "Bearer",
            "scope": ["a", "b"],
            "expires_at": 1_900_000_000.0,
        }
        assert session.access_token == "at-1"
        assert session.authorized
        assert "at-1" not in f"{session!r} {session.token!r}"

    def test_authorized_without_a_grant(self, session: TokenSession, tokens: Tokens) -> None:
        """Without a grant it is not authorized, and a request raises what asks for the sign-in."""
        tokens.error = SignInRequired("acme", "no_grant")
        assert not session.authorized
        with pytest.raises(SignInRequired):
            session.get("https://api.example.com/")

    def test_authorized_during_an_outage(self, session: TokenSession, tokens: Tokens) -> None:
        """An outage is not a sign-out: the answer is not no."""
        tokens.error = RuntimeError("the provider is down")
        with pytest.raises(RuntimeError):
            _ = session.authorized

    @pytest.mark.parametrize(
        "use",
        [
            lambda session: setattr(session, "token", {"access_token": "other"}),
            lambda session: setattr(session, "token", {}),
            lambda session: setattr(session, "access_token", "other"),
            lambda session: delattr(session, "access_token"),
            lambda session: session.fetch_token("https://as.example/token", code="c"),
            lambda session: session.refresh_token("https://as.example/token"),
            lambda session: session.token_from_fragment("https://app.example/#access_token=x"),
        ],
    )
    def test_its_token_cannot_be_changed(
        self, session: TokenSession, use: Callable[[TokenSession], object]
    ) -> None:
        """What would refresh or replace the token behind the extension's back is refused, and says why."""
        with pytest.raises(ConfigurationError, match="adopt"):
            use(session)
        assert session.access_token == "at-1"

    def test_it_never_refreshes_by_itself(self, serve: Serve, session: TokenSession, tokens: Tokens) -> None:
        """Even with an address to refresh at: the token has no expiry that requests-oauthlib could see."""
        server = serve(says(http(200)))
        session.auto_refresh_url = f"{server.url}/token"
        session.get(f"{server.url}/me")
        assert [request.path for request in server.requests] == ["/me"]

    def test_hooks_of_requests_oauthlib_run(self, serve: Serve, session: TokenSession) -> None:
        """`protected_request` hooks are called: OAuth2Session's own `request` does the work."""
        server = serve(says(http(200)))

        def hook(url: str, headers: dict[str, str], data: object) -> tuple[str, dict[str, str], object]:
            return url + "?hooked=1", headers, data

        session.register_compliance_hook("protected_request", hook)
        session.get(f"{server.url}/me")
        assert server.requests[0].path == "/me?hooked=1"
        assert sent(server) == ["Bearer at-1"]

    def test_a_hook_cannot_send_the_token_in_clear(self, session: TokenSession, serve: Serve) -> None:
        """An address that a hook has changed is checked again."""
        session.register_compliance_hook(
            "protected_request", lambda url, headers, data: ("https://api.example.com/", headers, data)
        )
        with pytest.raises(ConfigurationError, match="plain http"):
            session.get(serve(says(http(200))).url)

    def test_without_the_token(self, serve: Serve, session: TokenSession) -> None:
        """``withhold_token`` works as there."""
        server = serve(says(INVALID))
        assert session.get(server.url, withhold_token=True).status_code == 401
        assert sent(server) == [None]

    def test_the_callers_headers_are_left_alone(self, serve: Serve, session: TokenSession) -> None:
        """oauthlib would write the token into the caller's mapping, which may go to another host next."""
        headers = {"X-Mine": "1"}
        session.get(serve(says(http(200))).url, headers=headers)
        assert headers == {"X-Mine": "1"}

    def test_threads_may_share_it(self, session: TokenSession, tokens: Tokens) -> None:
        """Each request carries the token that it has read, whatever another thread sends meanwhile."""
        both = threading.Barrier(2)
        seen: dict[str, str] = {}

        class Meeting(SharedConnections):
            def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
                seen[str(request.url)] = request.headers["Authorization"]
                answer = requests.Response()
                answer.status_code, answer.request = 200, request
                return answer

        session.mount("https://", Meeting())

        def hook(url: str, headers: object, data: object) -> tuple[str, object, object]:
            both.wait(5)  # both have read their token and neither has added it
            return url, headers, data

        session.register_compliance_hook("protected_request", hook)
        names = iter(["one", "two"])
        read, lock = tokens.read, threading.Lock()

        def another_each_time() -> Fresh:
            with lock:
                own.token = getattr(own, "token", None) or next(names)
                tokens.access_token = own.token
                return read()

        own = threading.local()
        session._read = another_each_time
        calls = [threading.Thread(target=session.get, args=(f"https://api.example/{n}",)) for n in "ab"]
        for call in calls:
            call.start()
        for call in calls:
            call.join(5)
        assert sorted(seen.values()) == ["Bearer one", "Bearer two"]


class TestRefusedToken:
    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    def test_an_idempotent_request_is_sent_again(
        self, refusing: Server, session: TokenSession, tokens: Tokens, method: str
    ) -> None:
        """With the next token, and once."""
        assert session.request(method, refusing.url).status_code == 200
        assert sent(refusing) == ["Bearer at-1", "Bearer at-2"]
        assert tokens.refused == ["at-1"]

    @pytest.mark.parametrize("method", ["POST", "PATCH"])
    def test_others_are_not(
        self, refusing: Server, session: TokenSession, tokens: Tokens, method: str
    ) -> None:
        """The token is replaced for the next request all the same."""
        assert session.request(method, refusing.url, json={}).status_code == 401
        assert (len(refusing.requests), tokens.refused) == (1, ["at-1"])

    def test_at_most_once(self, serve: Serve, session: TokenSession, tokens: Tokens) -> None:
        """An API that refuses every token is asked twice, and the token replaced once."""
        server = serve(says(INVALID))
        assert session.get(server.url).status_code == 401
        assert (len(server.requests), tokens.refused) == (2, ["at-1"])

    def test_the_same_token_is_not_sent_twice(self, serve: Serve) -> None:
        """Where there is no other token, the response stands."""
        server = serve(says(INVALID))
        assert made(Tokens(rotates=False)).get(server.url).status_code == 401
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("answer", "times"),
        [
            (http(401), 2),
            (INVALID, 2),
            (http(401, b"", 'WWW-Authenticate: Bearer error="insufficient_scope"'), 1),
            (http(403), 1),
        ],
    )
    def test_what_blames_the_token(
        self, serve: Serve, session: TokenSession, answer: bytes, times: int
    ) -> None:
        """Only a 401 that does not name another reason."""
        server = serve(says(answer))
        session.get(server.url)
        assert len(server.requests) == times

    def test_a_host_that_did_not_get_the_token_cannot_refuse_it(
        self, serve: Serve, session: TokenSession, tokens: Tokens
    ) -> None:
        """A redirect elsewhere goes without the token, so a 401 there says nothing of it."""
        other = serve(says(http(401)))
        server = serve(says(http(302, b"", f"Location: {other.url}/")))
        assert session.get(server.url).status_code == 401
        assert tokens.refused == []

    @pytest.mark.parametrize(
        ("body", "form"),
        [
            ({"data": b"x=1"}, {"x": "1"}),
            ({"data": {"x": ["1"]}}, {"x": "1"}),
            ({"data": [("x", "1")]}, {"x": "1"}),
            ({"data": io.BytesIO(b"__x=1")}, {"x": "1"}),
            ({"json": {"x": 1}}, None),
            ({"params": {"x": 1}}, {}),
        ],
    )
    def test_the_body_is_sent_again_as_it_was(
        self, refusing: Server, session: TokenSession, body: dict[str, Any], form: dict[str, str] | None
    ) -> None:
        """What can be sent twice is the same the second time; a file begins where it was."""
        if isinstance(body.get("data"), io.BytesIO):
            body["data"].seek(2)
        assert session.put(refusing.url, **body).status_code == 200
        first, second = (request.raw.split(b"\r\n\r\n", 1)[1] for request in refusing.requests)
        assert first == second
        assert form is None or refusing.requests[1].form == form

    @pytest.mark.parametrize("body", ["generator", "values", "pipe", "files", "params"])
    def test_a_body_that_is_spent_is_not_sent_again(self, body: str) -> None:
        """An iterator, a pipe and an upload are empty the second time."""
        reading, writing = os.pipe()
        os.write(writing, b"x")
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            kinds: dict[str, dict[str, Any]] = {
                "generator": {"data": (piece for piece in [b"x"])},
                "values": {"data": {"x": (piece for piece in ["1"])}},
                "pipe": {"data": pipe},
                "files": {"files": {"upload": io.BytesIO(b"x")}},
                "params": {"params": {"x": (piece for piece in ["1"])}},
            }
            assert how_to_repeat("PUT", kinds[body].get("data"), kinds[body]) is None


class TestWhereTheTokenGoes:
    def test_plain_http_to_another_host_is_refused(
        self, session: TokenSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The token never leaves in clear, and the error names the host and not the token."""
        monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
        with pytest.raises(ConfigurationError, match=r"api\.example\.com") as caught:
            session.get("http://api.example.com/me?access_token=at-1")
        assert "at-1" not in str(caught.value)

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["another host", "another port"])
    def test_redirect_elsewhere_goes_without_the_token(
        self, serve: Serve, session: TokenSession, host: str
    ) -> None:
        """Another host, or another port of this one, is somebody else."""
        other = serve(says(http(200, {"ok": True})))
        server = serve(says(http(302, b"", f"Location: http://{host}:{other.port}/")))
        assert session.get(server.url).status_code == 200
        assert sent(other) == [None]

    def test_redirect_within_the_host_keeps_the_token(self, serve: Serve, session: TokenSession) -> None:
        """A redirect of the API to itself is followed with the token."""
        server: Server = serve(once(lambda: server, http(302, b"", "Location: /next"), http(200)))
        assert session.get(server.url).status_code == 200
        assert sent(server) == ["Bearer at-1"] * 2

    def test_downgrade_loses_the_token(self, session: TokenSession) -> None:
        """A redirect from https to http of the same host goes without the token."""
        assert session.should_strip_auth("https://api.example.com/a", "http://api.example.com/a")
        assert not session.should_strip_auth("https://api.example.com/a", "https://api.example.com/b")

    def test_netrc_and_proxies_are_ignored(
        self, serve: Serve, session: TokenSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """.netrc would replace the bearer token, a proxy would read it."""
        server, proxy = serve(says(http(200))), serve(says(http(200)))
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login intruder password x\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("http_proxy", proxy.url)
        session.get(server.url)
        assert sent(server) == ["Bearer at-1"]
        assert proxy.connections == 0

    def test_there_is_a_timeout_by_default(
        self, session: TokenSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """requests waits for ever unless told; these calls are told."""
        seen: dict[str, object] = {}

        def send(
            self: requests.Session, request: requests.PreparedRequest, **options: object
        ) -> requests.Response:
            seen.update(options)
            return requests.Response()

        monkeypatch.setattr(requests.Session, "send", send)
        session.get("https://api.example.com/")
        assert seen["timeout"] == TIMEOUT

    @pytest.mark.parametrize("token", ["canary\nX-Evil: 1", "canary\u20ac", "canary ", ""])
    def test_a_token_that_no_header_carries_is_not_quoted(self, token: str) -> None:
        """The libraries' own errors for it would show the token; ours says what is wrong, and no more."""
        with pytest.raises(InvalidTokenResponse) as caught:
            made(Tokens(token)).get("http://127.0.0.1:1/")
        assert "canary" not in f"{caught.value!r}{vars(caught.value)}"
        assert caught.value.__cause__ is None

    def test_nothing_is_logged(
        self, serve: Serve, session: TokenSession, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With the extension's filters, requests-oauthlib logs neither token nor headers nor body."""
        install_redaction()
        caplog.set_level(logging.DEBUG)
        session.post(serve(says(http(200))).url, data={"x": "body-canary"}, headers={"X": "header-canary"})
        assert "Supplying headers" in caplog.text
        assert "at-1" not in caplog.text
        assert "canary" not in caplog.text


class TestSharing:
    def test_connections_are_shared_and_nothing_else(self, serve: Serve) -> None:
        """Two users' sessions use one connection; a cookie of one does not come with the other's."""
        answer = http(200, b"", "Set-Cookie: user=1; Path=/").replace(b"Connection: close\r\n", b"")

        def script(connection: socket.socket) -> None:
            for _ in range(3):
                raw.append(connection.recv(65536))
                connection.sendall(answer)

        raw: list[bytes] = []
        server = serve(script, reads=False)
        connections = SharedConnections()
        with made(Tokens("at-a"), connections) as one:
            one.get(server.url)
        with made(Tokens("at-b"), connections) as other:
            other.get(server.url)
            other.get(server.url)
        assert server.connections == 1
        assert [b"at-b" in request for request in raw] == [False, True, True]
        assert [b"Cookie: user=1" in request for request in raw] == [False, False, True]
        connections._adapter.close()

    def test_a_forked_child_makes_its_own_connections(self) -> None:
        """A connection that two processes share would mix up the responses of two users."""
        connections = SharedConnections()
        before = connections._adapter
        child = os.fork()
        if child == 0:
            os._exit(0 if connections._adapter is not before else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert connections._adapter is before
        assert isinstance(before, HTTPAdapter)
