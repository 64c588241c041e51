"""The protocol holds in every schedule tried, and the simulator would notice if it did not."""

from __future__ import annotations

import re
from unittest.mock import patch

import pytest

from flask_tokenrotate.testing.memory import MemoryGrantStore

from .mutants import MUTANTS, WITHOUT_SLOTS, Mutant
from .search import first_violation

SCHEDULES_FOR_A_MUTANT = 12_000


def test_the_protocol_keeps_its_invariants_in_a_few_hundred_schedules() -> None:
    """No schedule drawn breaks an invariant."""
    assert first_violation(500, seed=1) is None


@pytest.mark.long
def test_the_protocol_keeps_its_invariants_in_as_many_schedules_as_a_mutant_gets() -> None:
    """The code as it is passes every schedule in which a mutant may be caught."""
    assert first_violation(SCHEDULES_FOR_A_MUTANT, shrink=False) is None


RARELY_NOTICED = (
    "cache_put_without_epoch",
    "look_joined_after_sign_out",
    "refused_loser_ends_the_grant",
    "rescue_ignored",
    "waits_anew_after_a_look",
)
"""Mutants that take thousands of schedules to notice: for the long runs."""


@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(mutant, id=mutant.name, marks=[pytest.mark.long] * (mutant.name in RARELY_NOTICED))
        for mutant in MUTANTS
    ],
)
def test_a_broken_rule_is_noticed(mutant: Mutant) -> None:
    """The simulator notices each mutant, by an invariant that the broken rule protects."""
    with mutant.apply():
        violation = first_violation(SCHEDULES_FOR_A_MUTANT, shrink=False)
    assert violation is not None, f"nobody noticed that this rule is broken: {mutant.rule}"
    assert violation.invariant in mutant.seen_as, str(violation)


@pytest.mark.parametrize("name", WITHOUT_SLOTS)
def test_the_ledger_refuses_what_a_broken_protocol_would_redeem_again(name: str) -> None:
    """With the slots in place the same mutants end in `LedgerConflict` and nobody posts twice."""
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    refuses = MemoryGrantStore._slot_is_refused
    with mutant.apply(), patch.object(MemoryGrantStore, "_slot_is_refused", refuses):
        violation = first_violation(SCHEDULES_FOR_A_MUTANT, shrink=False)
    assert violation is not None
    assert violation.invariant == "I3"
    assert "LedgerConflict" in str(violation)


def test_a_failing_schedule_reads_as_a_numbered_list() -> None:
    """The report names the invariant, then tells step by step who did what at which time."""
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "losers_post")
    with mutant.apply():
        violation = first_violation(SCHEDULES_FOR_A_MUTANT)
    first, *steps = str(violation).splitlines()
    assert re.fullmatch(r"I1: family\d-refresh-\d is posted .*", first)
    assert [int(step.split(".")[0]) for step in steps] == list(range(1, len(steps) + 1))
    assert all(re.match(r" *\d+\. +\d+\.\d{3} s  \S", step) for step in steps)
