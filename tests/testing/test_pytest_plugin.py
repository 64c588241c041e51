"""The fixtures that the extension gives to the tests of its users."""

from __future__ import annotations

import configparser
import os
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
from flask_tokenrotate.testing import FakeProvider, LoginAs

from .conftest import ClientApp

ROOT = Path(__file__).parent.parent.parent


def test_fake_provider_is_running_and_strict(fake_provider: FakeProvider) -> None:
    """The fixture's provider responses, and treats reuse as every FakeProvider does."""
    app = ClientApp(fake_provider)
    token = fake_provider.mint()["refresh_token"]
    assert [app.redeem(token).status_code for _ in range(2)] == [200, 400]


def test_each_test_has_a_provider_of_its_own(fake_provider: FakeProvider) -> None:
    """Nothing of another test is known here: not the log, not the knobs."""
    assert fake_provider.log == []
    assert requests.get(f"{fake_provider.url}/log", timeout=20).json()["redemptions"] == 0


HEAVY = ("flask_tokenrotate", "flask", "sqlalchemy")


def test_a_run_that_uses_no_fixture_imports_neither_the_extension_nor_flask(tmp_path: Path) -> None:
    """Every pytest run on the machine imports the plugin; what it stands on waits for a fixture."""
    assert imported_by_a_run("def test_of_another_project():\n    pass\n", tmp_path) == []


def test_a_run_that_uses_a_fixture_imports_them(tmp_path: Path) -> None:
    """The control of the test above: the imports are seen once a fixture needs them."""
    imported = imported_by_a_run(
        "def test_of_a_user(fake_provider):\n    assert fake_provider.url\n", tmp_path
    )
    assert imported[:2] == ["flask_tokenrotate", "flask"]


def imported_by_a_run(test: str, folder: Path) -> list[str]:
    """Run ``test`` with the plugin that setup.cfg declares; return which of `HEAVY` were imported."""
    (folder / "test_one.py").write_text(test)
    (folder / "conftest.py").write_text(
        "import sys\n\n"
        "def pytest_unconfigure():\n"
        f"    print('imported', *(name for name in {HEAVY} if name in sys.modules))\n"
    )
    (folder / "setup.cfg").write_text("[tool:pytest]\n")
    # Only this plugin, and by its name: others that are installed here may import Flask themselves.
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", entry_point(), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("imported"))
    return line.split()[1:]


def entry_point() -> str:
    """Return the module that setup.cfg declares as the pytest plugin."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    (declared,) = setup["options.entry_points"]["pytest11"].split("\n")[1:]
    return declared.partition(" = ")[2]


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
    """A typing mistake in a test is callback_query with what there is."""
    with pytest.raises(UnknownProvider, match="registered: fake"):
        login_as(client, provider="fak")
