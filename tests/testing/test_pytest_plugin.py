"""The fixtures that the extension gives to the tests of its users."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient

from flask_tokenrotate import TokenRotate, current_token, require_fresh_token
from flask_tokenrotate.errors import UnknownProvider
from flask_tokenrotate.testing import FakeProvider
from flask_tokenrotate.testing.pytest_plugin import LoginAs

from .conftest import ClientApp


def test_fake_provider_is_running_and_strict(fake_provider: FakeProvider) -> None:
    """The fixture's provider answers, and treats reuse as every FakeProvider does."""
    app = ClientApp(fake_provider)
    token = fake_provider.mint()["refresh_token"]
    assert [app.redeem(token).status_code for _ in range(2)] == [200, 400]


def test_each_test_has_a_provider_of_its_own(fake_provider: FakeProvider) -> None:
    """Nothing of another test is known here: not the log, not the knobs."""
    assert fake_provider.log == []
    assert requests.get(f"{fake_provider.url}/log", timeout=20).json()["redemptions"] == 0


def test_the_plugin_loads_no_server() -> None:
    """Every test run imports the plugin; the server's modules wait until a fixture is used."""
    script = (
        "import sys, flask_tokenrotate.testing.pytest_plugin as plugin; "
        "print([name for name in sys.modules if name.startswith('flask_tokenrotate.testing.provider')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def client(fake_provider: FakeProvider, tmp_path: Path) -> FlaskClient:
    """A client of an application whose one provider is the fake one."""
    rotate = TokenRotate()
    rotate.register("fake", **fake_provider.registration())
    flask = Flask(__name__, instance_path=str(tmp_path))
    flask.config.update(SECRET_KEY="only-for-this-test", TESTING=True)
    rotate.init_app(flask)

    @flask.get("/me")
    @require_fresh_token("fake")
    def me() -> Any:
        return current_token.get(f"{fake_provider.url}/api/me").json()

    return flask.test_client()


def test_login_as_signs_a_client_in_with_living_tokens(client: FlaskClient, login_as: LoginAs) -> None:
    """Without it the view asks for a sign-in; with it the provider knows the user, and nothing rotated."""
    assert client.get("/me").status_code == 401
    grant = login_as(client, "bob")
    assert (grant.provider, grant.user_id, grant.subject) == ("fake", "bob", "bob")
    assert client.get("/me").get_json()["user"] == "bob"


def test_login_as_with_an_expired_token_makes_the_next_request_rotate(
    client: FlaskClient, login_as: LoginAs, fake_provider: FakeProvider
) -> None:
    """expires_in=-1: one redemption, and the view has a living token."""
    login_as(client, expires_in=-1)
    assert client.get("/me").get_json()["user"] == "alice"
    assert client.get("/me").status_code == 200
    assert fake_provider.outcomes() == {"rotated": 1}


def test_login_as_names_the_registered_providers_when_told_another(
    client: FlaskClient, login_as: LoginAs
) -> None:
    """A typing mistake in a test is answered with what there is."""
    with pytest.raises(UnknownProvider, match="registered: fake"):
        login_as(client, provider="fak")
