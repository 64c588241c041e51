"""The provider of applications in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_tokenrotate.testing import FakeProvider


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A strict provider that takes a moment to answer, so that requests overlap."""
    with FakeProvider(response_seconds=0.1) as provider:
        yield provider
