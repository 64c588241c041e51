"""How long a rotation is expected to take."""

from __future__ import annotations

import pytest

from flask_tokenrotate.rotation.rotation_times import FIRST_GUESS, RotationTimes


def test_rotation_times_start_with_a_guess_and_follow_what_is_seen() -> None:
    """The first rotation counts in full, later ones move the average; providers are kept apart."""
    times = RotationTimes()
    assert times.expected("p") == FIRST_GUESS
    times.record("p", 0.8)
    assert times.expected("p") == pytest.approx(0.8 + 2 * 0.1)
    for _ in range(50):
        times.record("p", 0.3)
    assert times.expected("p") == pytest.approx(0.3, abs=0.01)
    assert times.expected("q") == FIRST_GUESS


def test_rotations_that_vary_are_expected_later() -> None:
    """Half of them take longer than the average: looking then would be too early each other time."""
    times = RotationTimes()
    for _ in range(50):
        times.record("p", 0.2)
        times.record("p", 0.4)
    assert 0.4 < times.expected("p") < 0.6


def test_what_was_found_late_does_not_make_the_next_look_later() -> None:
    """A look shows only that the rotation was done by then; taken as exact, each look would come later."""
    times = RotationTimes()
    times.record("p", 0.1)
    expected = times.expected("p")
    times.found_done("p", 0.5, exact=False)
    assert times.expected("p") == expected
    times.found_done("p", 0.09, exact=False)
    assert times.expected("p") < expected
    times.found_done("p", 0.5, exact=True)
    assert times.expected("p") > expected
    times.found_done("q", 0.5, exact=False)
    assert times.expected("q") > 0.5
