"""One look at a time, with real threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from flask_tokenrotate.clock import SystemClock
from flask_tokenrotate.rotation.looks import Look, Looks

THREADS = 8
LONGEST = 10.0
"""Seconds until a test that hangs fails."""


class Failure(Exception):
    """An error that all who wait share."""


@pytest.fixture
def looks() -> Looks[str, Failure]:
    return Looks(SystemClock(), Failure)


def look_together(
    looks: Looks[str, Failure], work: Callable[[], str]
) -> tuple[int, list[Look[str, Failure]]]:
    """Let `THREADS` threads join one look before its owner works; return owners and looks."""
    joined = threading.Barrier(THREADS)

    def run() -> tuple[bool, Look[str, Failure]]:
        look, mine = looks.join("g")
        joined.wait(LONGEST)
        if mine:
            with suppress(Failure):
                looks.take("g", look, work)
        assert look.done.wait(LONGEST)
        return mine, look

    with ThreadPoolExecutor(THREADS) as pool:
        outcomes = [future.result(LONGEST) for future in [pool.submit(run) for _ in range(THREADS)]]
    return sum(mine for mine, _ in outcomes), [look for _, look in outcomes]


def test_of_many_threads_one_works_and_all_have_its_result(looks: Looks[str, Failure]) -> None:
    """One thread works, the work is done once, and all who wait see what it brought."""
    done: list[str] = []

    def work() -> str:
        done.append("once")
        return "result"

    owners, joined = look_together(looks, work)
    assert owners == 1
    assert done == ["once"]
    assert [look.result for look in joined] == ["result"] * THREADS


def test_all_who_wait_share_a_failure(looks: Looks[str, Failure]) -> None:
    """What failed for one failed for all who waited: none tries the same in turn."""
    failure = Failure()

    def work() -> str:
        raise failure

    owners, joined = look_together(looks, work)
    assert owners == 1
    assert all(look.error is failure for look in joined)


def test_while_one_works_nobody_works_beside_it(looks: Looks[str, Failure]) -> None:
    """A thread that comes in the middle of the work joins it; only after its end a new one begins."""
    look, _ = looks.join("g")

    def work() -> str:
        assert looks.join("g") == (look, False)
        return "result"

    looks.take("g", look, work)
    later, mine = looks.join("g")
    assert mine
    assert later is not look


def test_looks_under_other_keys_are_independent(looks: Looks[str, Failure]) -> None:
    """Two grants never wait for each other."""
    assert looks.join("a")[1]
    assert looks.join("b")[1]


@pytest.mark.parametrize("stop", [SystemExit, KeyboardInterrupt])
def test_a_thread_that_is_stopped_leaves_no_outcome_and_no_look(
    looks: Looks[str, Failure], stop: type[BaseException]
) -> None:
    """Those who wait for a thread that is being stopped wake up, see nothing, and one of them takes over."""
    look, _ = looks.join("g")

    def work() -> str:
        raise stop

    with pytest.raises(stop):
        looks.take("g", look, work)
    assert look.done.wait(0)
    assert (look.result, look.error) == (None, None)
    assert looks.join("g")[1]


def test_a_forgotten_look_is_not_joined_and_does_not_end_its_successor(
    looks: Looks[str, Failure],
) -> None:
    """After a sign-out callers start anew, and the old look's end leaves the new one alone."""
    old, _ = looks.join("g")
    looks.forget("g")
    new, mine = looks.join("g")
    assert mine
    looks.take("g", old, lambda: "old")
    assert looks.join("g") == (new, False)
