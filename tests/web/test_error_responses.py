"""The responses to errors."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_tokenrotate import SignInRequired, TokenRotateError
from flask_tokenrotate.errors import (
    GrantUnreadable,
    ProviderMisconfigured,
    ProviderUnavailable,
    RotationTimeout,
    ScopesNotGranted,
    SignInFailed,
    StoreUnavailable,
    TablesMissing,
)
from flask_tokenrotate.testing import FakeProvider, LoginAs
from tests.providers.conftest import Server, http, says

from .conftest import MakeApp, end_every_family

HTML = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}


class TestSignInRequired:
    def test_a_page_is_redirected(self, client: FlaskClient) -> None:
        """A person's browser goes to sign in, and the way is not cached."""
        response = client.get("/me", headers=HTML)
        assert (response.status_code, response.location) == (302, "/auth/fake/login?next=/me")
        assert response.headers["Cache-Control"] == "no-store"

    @pytest.mark.parametrize(
        ("method", "headers"),
        [
            ("GET", {}),
            ("GET", {"Accept": "*/*"}),
            ("GET", {"Accept": "application/json"}),
            ("GET", {**HTML, "Sec-Fetch-Mode": "cors"}),
            ("POST", HTML),
        ],
    )
    def test_anything_else_gets_a_problem_document(
        self, app: Flask, client: FlaskClient, method: str, headers: dict[str, str]
    ) -> None:
        """A script cannot follow a redirect to another origin: it gets 401 and the address."""
        app.add_url_rule("/post", view_func=app.view_functions["me"], methods=["GET", "POST"])
        response = client.open("/post", method=method, headers=headers)
        assert response.status_code == 401
        assert response.content_type == "application/problem+json"
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.json["login_url"] == "/auth/fake/login?next=/post"

    def test_the_application_may_take_over(self, app: Flask, client: FlaskClient) -> None:
        """app.errorhandler for a class of the tree wins over the extension's."""

        @app.errorhandler(SignInRequired)
        def own(error: SignInRequired) -> tuple[str, int]:
            return f"own {error.reason} {error.login_url}", 418

        assert client.get("/me").text == "own no_grant /auth/fake/login?next=/me"

    def test_a_handler_that_came_first_stays(self, make_app: MakeApp) -> None:
        """A handler for the whole tree that was there before init_app is not replaced."""

        def before(app: Flask) -> None:
            app.register_error_handler(TokenRotateError, lambda error: ("mine", 418))

        app, _ = make_app(before=before)
        assert app.test_client().get("/me").text == "mine"


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (ProviderUnavailable("fake", retry_after=2.2), 503, "3"),
        (RotationTimeout("g", waited=15, retry_after=0.1), 503, "1"),
        (StoreUnavailable("away"), 503, "1"),
        (ProviderMisconfigured("fake", "invalid_client", 30), 502, "30"),
        (TablesMissing(), 500, None),
        (GrantUnreadable("g", "aaaa", ("bbbb",)), 500, None),
        (ScopesNotGranted("fake", frozenset({"x"})), 403, None),
        (SignInFailed("fake", "denied", "You did not allow access."), 400, None),
    ],
)
@pytest.mark.parametrize("headers", [HTML, {}])
def test_each_branch_has_its_status(
    app: Flask,
    client: FlaskClient,
    error: TokenRotateError,
    status: int,
    retry_after: str | None,
    headers: dict[str, str],
) -> None:
    """Each branch of the tree has its status and, where waiting helps, Retry-After in whole seconds."""

    @app.get("/fails")
    def fails() -> Any:
        raise error

    response = client.get("/fails", headers=headers)
    assert response.status_code == status
    assert response.headers.get("Retry-After") == retry_after
    assert response.headers["Cache-Control"] == "no-store"
    assert ("<html" in response.text) is bool(headers)


def test_what_is_for_operators_is_not_shown_to_strangers(app: Flask, client: FlaskClient) -> None:
    """A configuration error's text goes to the log; in debug mode it is shown."""

    @app.get("/fails")
    def fails() -> Any:
        raise TablesMissing

    assert "create-tables" not in client.get("/fails").text
    app.debug = True
    assert "create-tables" in client.get("/fails").text


def test_a_database_outage_is_logged_and_not_described(
    app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the database lives is for the log; the visitor learns when to try again."""

    @app.get("/fails")
    def fails() -> Any:
        raise StoreUnavailable("The grant database (postgresql at 10.1.2.3) does not response.")

    response = client.get("/fails")
    assert response.status_code == 503
    assert "10.1.2.3" not in response.text
    assert "10.1.2.3" in caplog.text


def test_an_outage_is_not_a_sign_out(
    client: FlaskClient, login_as: LoginAs, fake_provider: FakeProvider
) -> None:
    """While the provider is down a dead token is 503, and afterwards the same grant goes on."""
    login_as(client, expires_in=-1)
    fake_provider.outage = True
    responses = [client.get("/me") for _ in range(5)]
    assert {response.status_code for response in responses} == {503}
    assert all(response.json["code"] == "provider_unavailable" for response in responses)
    assert len(fake_provider.log) == 1


@pytest.mark.parametrize(
    ("date", "least", "most"),
    [("Date: Tue, 01 Sep 2020 10:00:00 GMT", 70, 90), ("X-No-Date: 1", 1, 69)],
    ids=["counts from the response's date", "says nothing without one"],
)
def test_a_retry_after_that_is_a_date_reaches_the_browser(
    make_app: MakeApp, login_as: LoginAs, date: str, least: int, most: int
) -> None:
    """Seconds by a provider's clock that is years off are as many here, and nobody asks it before."""
    server = Server(says(http(503, b"", date, "Retry-After: Tue, 01 Sep 2020 10:01:30 GMT")))
    with closing(server):
        client = make_app(register={"token_endpoint": server.url})[0].test_client()
        login_as(client, expires_in=-1)
        responses = [client.get("/me") for _ in range(3)]
    assert {response.status_code for response in responses} == {503}
    assert all(least <= int(response.headers["Retry-After"]) <= most for response in responses)
    assert server.connections == 1


def test_a_refusal_is_one_clean_sign_in(
    client: FlaskClient, login_as: LoginAs, fake_provider: FakeProvider
) -> None:
    """A refused refresh token ends the grant: no second call, and a redirect rather than an error."""
    login_as(client, expires_in=-1)
    end_every_family(fake_provider)
    for _ in range(3):
        assert client.get("/me").json["reason"] == "refused"
    assert len(fake_provider.log) == 1


def test_a_wrong_secret_ends_no_grant(
    make_app: MakeApp, login_as: LoginAs, fake_provider: FakeProvider
) -> None:
    """invalid_client is the operator's affair: 502, one call, and the grant lives on."""
    app, _ = make_app(register={"client_secret": "wrong"})
    client = app.test_client()
    login_as(client, expires_in=-1)
    assert [client.get("/me").status_code for _ in range(2)] == [502, 502]
    assert len(fake_provider.log) == 1
