"""Whose tests are run, and which of them cannot pass with our sessions: each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

KEYS = "it reads the signed cookie's keys: our sessions need no SECRET_KEY"
UNCHANGED = "a session that a request leaves as it was sends no cookie again"
EXPIRY = "an unchanged permanent session is not refreshed by each request yet"
VALUES = "a tuple is read again as a list, and Markup as plain text"


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The tests of one project: its ``requirement``, and what they need beside it.

    ``expected`` says for each test that fails with our sessions why it does.
    """

    requirement: str
    needs: tuple[str, ...] = ()
    expected: Mapping[str, str] = field(default_factory=dict)


SUITES = {
    "Flask": Suite(
        requirement=f"flask=={version('flask')}",
        expected={
            "tests/test_basic.py::test_missing_session": KEYS,
            "tests/test_basic.py::test_session_secret_key_fallbacks": KEYS,
            "tests/test_testing.py::test_session_transactions_no_null_sessions": KEYS,
            "tests/test_basic.py::test_session_cookie_setting": EXPIRY,
            "tests/test_basic.py::test_session_using_samesite_attribute": UNCHANGED,
            "tests/test_basic.py::test_session_refresh_vary": EXPIRY,
            "tests/test_basic.py::test_extended_flashing": VALUES,
        },
    ),
    "Flask-Login": Suite(requirement="flask-login>=0.6.3", needs=("semantic-version",)),
}
