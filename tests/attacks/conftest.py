"""The application and its visitors, as in `tests.web`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient

from flask_tokenrotate.testing import FakeProvider
from tests.web.conftest import app as app
from tests.web.conftest import client as client
from tests.web.conftest import make_app as make_app
from tests.web.conftest import sign_in as sign_in

Query = dict[str, str]


@pytest.fixture
def callback_query(fake_provider: FakeProvider) -> Callable[..., Query]:
    """Return a function that begins a sign-in and returns the callback's parameters, not yet sent."""

    def callback_query(client: FlaskClient, user: str = "alice", **kwargs: Any) -> Query:
        begun = client.get("/auth/fake/login", **kwargs)
        address = fake_provider.sign_in(begun.location, user=user)
        return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}

    return callback_query
