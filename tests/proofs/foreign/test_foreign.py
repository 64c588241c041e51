"""Flask's own tests and Flask-Login's pass with our sessions, but for those that are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from .run import Comparison, NotFetched, compare
from .suites import SUITES, Suite


@pytest.mark.long
@pytest.mark.parametrize("name", SUITES)
def test_another_projects_tests_pass(name: str, tmp_path: Path) -> None:
    """With Flask's sessions, the control, the same tests were run; only the named ones differ."""
    try:
        comparison = compare(SUITES[name], tmp_path)
    except NotFetched as reason:
        pytest.skip(str(reason))
    assert comparison.passed > 100
    assert comparison.unexpected == set()


@pytest.mark.parametrize(
    ("outcomes", "unexpected"),
    [
        ({"new": "passed", "known": "failed"}, set()),
        ({"new": "failed", "known": "failed"}, {"new"}),
        ({"known": "failed"}, {"new"}),
        ({"new": "passed", "known": "passed"}, {"known"}),
    ],
)
def test_what_is_not_expected_is_found(outcomes: dict[str, str], unexpected: set[str]) -> None:
    """The control: a test that fails or is missing without a reason, and a reason without a failure."""
    suite = Suite(requirement="any", expected={"known": "why"})
    flasks = {"new": "passed", "known": "passed", "broken": "failed"}
    assert Comparison(suite, outcomes, flasks).unexpected == unexpected
