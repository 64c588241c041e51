"""The demo's whole storm, 50 sessions of 16 requests at once over 4 processes, on each database."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..example_app.test_storm import assert_protected, assert_unprotected, run_storm

pytestmark = pytest.mark.long


def test_the_whole_storm(database: str, tmp_path: Path) -> None:
    """One redemption for each expiry and nothing lost, where the control loses sessions."""
    done, figures = run_storm(tmp_path, "--database", database)
    assert done.returncode == 0, done.stderr
    assert_protected(figures["protected"], requests=800)
    assert_unprotected(figures["unprotected"], requests=800)
