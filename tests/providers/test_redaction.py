"""No secret reaches a log, however chatty the libraries are set."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from oauthlib.oauth2 import OAuth2Error
from requests_oauthlib import OAuth2Session

from flask_tokenrotate.providers.redaction import HIDDEN, install_redaction
from flask_tokenrotate.rotation.tokens import Secret, TokenSet

from .conftest import Client, Server, an_attempt, http, says

CANARY = "canary-5d1e"
TOKENS = {"access_token": f"at-{CANARY}", "refresh_token": f"rt-{CANARY}", "token_type": "Bearer"}
Serve = Callable[..., Server]


@pytest.fixture(autouse=True)
def unfiltered(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Start each test without filters, log everything, and take the filters off again."""
    caplog.set_level(logging.DEBUG)
    names = ["requests_oauthlib", "oauthlib", "urllib3"]
    loggers = [
        logging.getLogger(name)
        for name in {*names, *logging.Logger.manager.loggerDict}
        if name.partition(".")[0] in names
    ]
    before = [list(logger.filters) for logger in loggers]
    for logger in loggers:
        logger.filters.clear()
    yield
    for logger, filters in zip(loggers, before, strict=True):
        logger.filters[:] = filters


def refresh_by_requests_oauthlib(url: str) -> None:
    """Let requests-oauthlib do all of it: refresh, exchange, and a call with an API's answer."""
    session = OAuth2Session("me", token={**TOKENS, "expires_in": 10})
    session.refresh_token(f"{url}/token", client_secret=f"cs-{CANARY}")
    session.fetch_token(f"{url}/token", code=f"code-{CANARY}", client_secret=f"cs-{CANARY}")
    session.get(f"{url}/me?access_token=at-{CANARY}")
    with contextlib.suppress(OAuth2Error, requests.RequestException):
        session.refresh_token(f"{url}/gone")


@pytest.mark.parametrize("installed", [True, False], ids=["filtered", "control"])
def test_requests_oauthlib_at_debug(
    serve: Serve,
    certificate: tuple[Path, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    installed: bool,
) -> None:
    """What requests-oauthlib logs is full of secrets, and with the filters it has none."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    server = serve(says(http(200, TOKENS)), tls=certificate[1])
    if installed:
        install_redaction()
    refresh_by_requests_oauthlib(server.url)
    assert (CANARY in caplog.text) is not installed
    assert (HIDDEN in caplog.text) is installed
    assert "Request to refresh token completed with status 200." in caplog.text


def test_our_own_calls_at_debug(serve: Serve, client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """An exchange, a redemption, a revocation and userinfo log no secret, filters or not."""
    server = serve(says(http(200, TOKENS)))
    client.at(server.url, client_auth="post", client_secret=Secret(f"cs-{CANARY}"))
    deadline = client.clock.monotonic() + 5
    refresh_token = Secret(f"rt-{CANARY}")
    client.endpoint.redeem("acme", refresh_token, send_by=deadline, keep_waiting=lambda: deadline)
    attempt = an_attempt(verifier=Secret(f"{CANARY}-verifier"))
    client.endpoint.exchange(attempt, Secret(f"code-{CANARY}"), deadline)
    client.endpoint.revoke("acme", TokenSet(access_token=Secret(f"at-{CANARY}"), refresh_token=refresh_token))
    client.endpoint.userinfo("acme", Secret(f"at-{CANARY}"), deadline)
    assert len(server.requests) == 5
    assert "POST /token" in caplog.text
    assert CANARY not in caplog.text


def test_installing_twice_changes_nothing() -> None:
    """Every application of a process installs the filters; each logger has one."""
    install_redaction()
    install_redaction()
    assert len(logging.getLogger("requests_oauthlib.oauth2_session").filters) == 1
    assert len(logging.getLogger("urllib3.connectionpool").filters) == 1


def test_exceptions_and_named_arguments(caplog: pytest.LogCaptureFixture) -> None:
    """A traceback can quote a token in its last line, so it goes; named arguments are hidden like others."""
    install_redaction()
    logger = logging.getLogger("oauthlib")
    try:
        raise ValueError(CANARY)
    except ValueError:
        logger.exception("failed for %(token)s after %(tries)d", {"token": CANARY, "tries": 2})
    assert CANARY not in caplog.text
    assert f"failed for {HIDDEN} after 2" in caplog.text
