"""Runs one target over so many examples."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from .parsers import Target


def feed(target: Target, examples: int, *, seed_: int | None = None) -> int:
    """Call the target's check ``examples`` times, raise what it raises shrunk, return how often it ran."""
    ran = 0

    def check(given_value: Any) -> None:
        nonlocal ran
        ran += 1
        target.check(given_value)

    search = given(target.inputs)(check)
    if seed_ is not None:
        search = seed(seed_)(search)
    settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )(search)()
    return ran
