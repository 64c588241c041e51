"""A provider and databases for applications in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_tokenrotate.testing import FakeProvider


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what lives as long as the tests of one module."""
    return tmp_path_factory.mktemp("real")


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A strict provider that takes a moment to answer, so that requests overlap."""
    with FakeProvider(answer_seconds=0.1) as provider:
        yield provider
