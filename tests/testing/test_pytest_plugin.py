"""The fixtures that the extension gives to the tests of its users."""

from __future__ import annotations

import subprocess
import sys

import requests

from flask_tokenrotate.testing import FakeProvider

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
