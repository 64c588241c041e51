"""A forked child does not wait for the parent's threads."""

from __future__ import annotations

import pytest

from flask_tokenrotate.errors import RotationTimeout
from flask_tokenrotate.rotation.breaker import FAILING_GRANTS
from flask_tokenrotate.rotation.flight import Flight
from flask_tokenrotate.rotation.verdict import Busy

from ..forked import in_forked_child
from .processes import LaterThreads, Process, World, access


@pytest.fixture
def world() -> World:
    return World()


def with_a_flight(world: World, grant_id: str) -> tuple[Process, Flight]:
    """A process whose redemption never lands: its thread is the parent's."""
    process = world.process(threads=LaterThreads())
    return process, process.start(grant_id)


def test_a_child_has_none_of_the_parents_looks_flights_and_failures(world: World) -> None:
    """What was in progress in the parent never ends in the child."""
    grant_id = world.sign_in(remaining=-1.0)
    process, flight = with_a_flight(world, grant_id)
    process.tokens._looks.join(grant_id)
    for number in range(FAILING_GRANTS):
        process.rotation.breaker.record("p", f"grant-{number}", Busy(cause="503"))
    with pytest.raises(RotationTimeout):
        process.get(grant_id)
    process.rotation._reset()
    assert process.tokens._looks.join(grant_id)[1]
    assert process.flights.of(grant_id) is None
    assert process.rotation.breaker.admit("p", grant_id).pause == 0.0
    assert process.start(grant_id) is not flight


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forking_is_noticed(world: World) -> None:
    """The child of a real fork finds its token although the parent's look and flight never end."""
    grant_id = world.sign_in(remaining=1000.0)
    process, _ = with_a_flight(world, grant_id)
    process.tokens._looks.join(grant_id)
    assert in_forked_child(lambda: access(process.get(grant_id)) == "access-0")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_lock_that_a_thread_of_the_parent_holds_is_free_in_the_child(world: World) -> None:
    """No thread of the child's would ever release it."""
    process = world.process()
    tokens, refused = process.tokens, process.rotation.refused
    locked = [process.rotation.cache, process.rotation.breaker, process.flights, tokens._looks]
    locked.append(refused._replacements)

    def all_are_free() -> bool:
        return all(each._lock.acquire(timeout=0) for each in locked)

    for each in locked:
        each._lock.acquire()
    assert not all_are_free()
    assert in_forked_child(all_are_free)
