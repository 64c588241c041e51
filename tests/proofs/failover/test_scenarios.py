"""The fail-overs in short, and their control: without a claim the provider sees refresh tokens twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import available

from .scenarios import SCENARIOS, play

pytestmark = [pytest.mark.long, pytest.mark.engine]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_fail_over_costs_no_session(scenario: str, tmp_path: Path) -> None:
    """Nobody is signed out, nothing is redeemed twice, and no request fails but with a 503."""
    figures = available(lambda: play(scenario, tmp_path, sessions=16, seconds=9.0))
    assert not figures.is_bad, figures
    assert figures.redemptions > figures.sessions


def test_without_a_claim_sessions_are_lost(tmp_path: Path) -> None:
    """The control: the traffic is such that workers meet, and the provider revokes families."""
    figures = available(
        lambda: play("postgresql-failover", tmp_path, sessions=16, seconds=6.0, protected=False)
    )
    assert figures.double_presentations > 0
    assert figures.families_revoked > 0
