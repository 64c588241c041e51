"""Lets Hypothesis look for a schedule that breaks an invariant, and shrink it when there is one."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from flask_tokenrotate.rotation import breaker, holding

from .posts import Violation
from .scenario import Scenario

CHOICES = 160
"""Bytes for each schedule: more than most schedules use up."""


def first_violation(
    schedules: int, *, seed: int = 0, shrink: bool = True, events: Counter[str] | None = None
) -> Violation | None:
    """Run up to ``schedules`` schedules; return the violation of the simplest that fails, or None.

    ``events`` counts what happened in them (see `referee.EVENTS`).
    """
    seen: Counter[str] = Counter() if events is None else events
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]

    @seeded(seed)
    @settings(
        max_examples=schedules,
        phases=phases,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(st.binary(min_size=CHOICES, max_size=CHOICES))
    def holds(choices: bytes) -> None:
        scenario = Scenario(choices)
        try:
            scenario.run()
        finally:
            seen.update(scenario.referee.events)

    # A schedule has one grant or two: with more than one needed, no provider would ever count as away.
    # And a read may wait until the next renewal: steps at which nothing can happen would use up the tape.
    few, long = patch.object(breaker, "FAILING_GRANTS", 1), patch.object(holding, "LONGEST_READ_SECONDS", 9.0)
    with _quiet(), few, long:
        try:
            holds()
        except Violation as violation:
            return violation
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the protocol's warnings about the faults that are played here out of the way."""
    logger = logging.getLogger("flask_tokenrotate")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
