"""The whole storm, 50 sessions of 16 requests at once over 4 processes, on each database."""

from __future__ import annotations

from pathlib import Path

import pytest

from .run import run_storm, wrong

LOST_NOTHING = {
    "requests_ok": 8,
    "requests_failed": 0,
    "redemptions_per_expiry": 1.0,
    "families_revoked": 0,
    "sessions_lost": 0,
}
LOST_SOME = {
    "requests_ok": 6,
    "requests_failed": 2,
    "redemptions_per_expiry": 2.5,
    "families_revoked": 1,
    "sessions_lost": 1,
}


@pytest.mark.long
def test_the_whole_storm(database: str, tmp_path: Path) -> None:
    """One redemption for each expiry and nothing lost, where the control loses sessions."""
    done, figures = run_storm(tmp_path, "--database", database)
    assert done.returncode == 0, done.stderr
    assert wrong(figures, requests=800) == []


def test_what_is_wrong_with_a_storm() -> None:
    """A loss of the extension is wrong, and a control that loses nothing too."""
    assert wrong({"protected": LOST_NOTHING, "unprotected": LOST_SOME}, requests=8) == []
    both = wrong({"protected": LOST_SOME, "unprotected": LOST_NOTHING}, requests=8)
    assert [line.split()[0] for line in both] == ["protected:"] * 5 + ["unprotected:"] * 4
