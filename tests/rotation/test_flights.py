"""Single flight, with real threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from flask_tokenrotate.clock import SystemClock
from flask_tokenrotate.rotation.flights import Flight, Flights

THREADS = 8
PATIENCE = 10.0
"""Seconds until a test that hangs fails."""


class Failure(Exception):
    """An error that followers share."""


Plane = Flight[str, Failure]


@pytest.fixture
def flights() -> Flights[str, Failure]:
    return Flights(SystemClock(), Failure)


def fly_together(flights: Flights[str, Failure], work: Callable[[], str]) -> tuple[int, list[Plane]]:
    """Let `THREADS` threads join one flight before its leader works; return leaders and flights."""
    joined = threading.Barrier(THREADS)

    def run() -> tuple[bool, Plane]:
        flight, mine = flights.join("g")
        joined.wait(PATIENCE)
        if mine:
            with suppress(Failure):
                flights.lead("g", flight, work)
        assert flight.landed.wait(PATIENCE)
        return mine, flight

    with ThreadPoolExecutor(THREADS) as pool:
        outcomes = [future.result(PATIENCE) for future in [pool.submit(run) for _ in range(THREADS)]]
    return sum(mine for mine, _ in outcomes), [flight for _, flight in outcomes]


def test_of_many_threads_one_works_and_all_have_its_result(flights: Flights[str, Failure]) -> None:
    """One thread leads, the work is done once, and each follower sees what it brought."""
    done: list[str] = []

    def work() -> str:
        done.append("once")
        return "result"

    leaders, joined = fly_together(flights, work)
    assert leaders == 1
    assert done == ["once"]
    assert [flight.result for flight in joined] == ["result"] * THREADS


def test_followers_share_a_failure(flights: Flights[str, Failure]) -> None:
    """What failed for the leader failed for all who waited: none tries the same in turn."""
    failure = Failure()

    def work() -> str:
        raise failure

    leaders, joined = fly_together(flights, work)
    assert leaders == 1
    assert all(flight.error is failure for flight in joined)


def test_while_a_leader_works_nobody_leads_beside_it(flights: Flights[str, Failure]) -> None:
    """A thread that comes in the middle of the work joins it; only after the landing a new one leads."""
    flight, _ = flights.join("g")

    def work() -> str:
        assert flights.join("g") == (flight, False)
        return "result"

    flights.lead("g", flight, work)
    later, mine = flights.join("g")
    assert mine
    assert later is not flight


def test_flights_of_other_keys_are_independent(flights: Flights[str, Failure]) -> None:
    """Two grants never wait for each other."""
    assert flights.join("a")[1]
    assert flights.join("b")[1]


@pytest.mark.parametrize("stop", [SystemExit, KeyboardInterrupt])
def test_a_leader_that_is_stopped_leaves_no_outcome_and_no_flight(
    flights: Flights[str, Failure], stop: type[BaseException]
) -> None:
    """Followers of a thread that is being stopped wake up, see nothing, and one of them leads."""
    flight, _ = flights.join("g")

    def work() -> str:
        raise stop

    with pytest.raises(stop):
        flights.lead("g", flight, work)
    assert flight.landed.wait(0)
    assert (flight.result, flight.error) == (None, None)
    assert flights.join("g")[1]


def test_a_forgotten_flight_is_not_joined_and_does_not_end_its_successor(
    flights: Flights[str, Failure],
) -> None:
    """After a sign-out callers start anew, and the old flight's landing leaves the new one alone."""
    old, _ = flights.join("g")
    flights.forget("g")
    new, mine = flights.join("g")
    assert mine
    flights.lead("g", old, lambda: "old")
    assert flights.join("g") == (new, False)
