"""The slow providers, each in its scenario, and what the figures make of a loss."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.servers.visitors import Answer

from .figures import LONGEST_WAIT, Figures
from .scenarios import SCENARIOS
from .traffic import Sample, Samples


@pytest.mark.long
@pytest.mark.parametrize("scenario", ["eight-seconds", "server-ends-8", "aborted-when-overdue"])
def test_a_slow_provider_costs_no_session(scenario: str, tmp_path: Path) -> None:
    """Those that end soon; ``python -m tests.proofs slow`` plays all of them, several at once."""
    figures = SCENARIOS[scenario](tmp_path)
    assert figures.problems == [], figures


class Log:
    """What a provider's log says at the end of a scenario."""

    def __init__(self, *, redemptions: int, twice: int = 0, revoked: int = 0) -> None:
        self.redemptions = lambda: redemptions
        self.double_presentations = lambda: dict.fromkeys(range(twice), 2)
        self.families_revoked = revoked


def counted(log: Log, *samples: Sample) -> list[str]:
    """Return the problems that are found in a log and in the requests."""
    figures = Figures("example", sessions=2)
    figures.count(Samples(list(samples)), log)  # type: ignore[arg-type]
    figures.expect_nothing_lost()
    return figures.problems


def sample(status: int = 200, seconds: float = 0.1, **headers: str) -> Sample:
    """Return a request that got such a response."""
    return Sample(time.monotonic(), seconds, Answer(status, {"Retry-After": "1"} | headers))


def test_nothing_is_wrong_where_nothing_is_lost() -> None:
    """One redemption for each session, and each request got a token or a time to come again."""
    assert counted(Log(redemptions=2), sample(), sample(503, LONGEST_WAIT)) == []


@pytest.mark.parametrize(
    ("log", "request_", "problem"),
    [
        (Log(redemptions=3, twice=1), sample(), "presented twice"),
        (Log(redemptions=2, revoked=1), sample(), "lost"),
        (Log(redemptions=1), sample(), "not one redemption"),
        (Log(redemptions=2), sample(401), "neither 200 nor 503"),
        (Log(redemptions=2), sample(503, **{"Retry-After": "0"}), "without Retry-After"),
        (Log(redemptions=2), sample(200, LONGEST_WAIT + 0.1), "waited longer"),
    ],
    ids=["twice", "lost", "none", "refused", "no-time", "long"],
)
def test_what_is_wrong_with_a_scenario(log: Log, request_: Sample, problem: str) -> None:
    """Each loss is named."""
    assert any(problem in each for each in counted(log, request_))
