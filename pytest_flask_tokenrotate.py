"""Pytest fixtures for applications that use Flask-TokenRotate: a provider to sign in at, and a quick way in.

A module of its own, because every pytest run on a machine with the extension installed imports it.
The extension itself is imported when a fixture is first used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flask_tokenrotate.testing import FakeProvider, LoginAs


@pytest.fixture
def fake_provider() -> Iterator[FakeProvider]:
    """Run a `FakeProvider` for one test: ``rotate.register("fake", **fake_provider.registration())``."""
    from flask_tokenrotate.testing import FakeProvider

    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def login_as(fake_provider: FakeProvider) -> LoginAs:
    """Return a function that signs a test client in with tokens of `fake_provider`: see `LoginAs`."""
    from flask_tokenrotate.testing import LoginAs

    return LoginAs(fake_provider)
