"""Until when a holder posts and waits, and when its response is overdue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flask_tokenrotate.errors import ProviderUnavailable
from flask_tokenrotate.rotation.breaker import FAILING_GRANTS
from flask_tokenrotate.rotation.holding import LONGEST_READ_SECONDS, RESPONSE_SECONDS
from flask_tokenrotate.rotation.verdict import Unknown, Verdict

from .held import THIRD, TIMING, Held
from .processes import World, access


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def grant_id(world: World) -> str:
    return world.sign_in(remaining=-1.0)


@pytest.fixture
def held(world: World, grant_id: str) -> Held:
    return Held(world, grant_id)


class TestItsEnd:
    """When the holder posts no more, and when it waits no more."""

    def test_the_request_is_sent_before_the_first_deadline(self, world: World, grant_id: str) -> None:
        """Counted from before the claim was sent."""

        def claim_slowly(try_claim: Callable[..., Any], *args: Any, **options: Any) -> Any:
            world.clock.advance(1.0)
            claim = try_claim(*args, **options)
            world.clock.advance(1.0)
            return claim

        began = world.clock.monotonic()
        world.store.once("try_claim", claim_slowly)
        world.process().get(grant_id)
        assert world.endpoint.send_by == [pytest.approx(began + TIMING.redeem)]

    def test_little_time_is_too_little(self, world: World, held: Held) -> None:
        """Connecting and sending have to end inside the claim."""
        world.clock.advance(TIMING.claim - TIMING.redeem)
        assert not held.holding.is_too_late_to_post()
        world.clock.advance(0.001)
        assert held.holding.is_too_late_to_post()

    def test_no_read_waits_longer_than_a_second(self, world: World, held: Held) -> None:
        """So that the end of the process is seen soon."""
        for _ in range(20):
            left = held.holding.keep_waiting() - world.clock.monotonic()
            assert 0 < left <= LONGEST_READ_SECONDS
            world.clock.advance(left)

    def test_it_gives_up_after_a_minute(self, world: World, held: Held) -> None:
        """Not a tick earlier."""
        world.clock.advance(RESPONSE_SECONDS - 0.001)
        assert held.holding.keep_waiting() > world.clock.monotonic()
        world.clock.advance(0.001)
        assert held.holding.keep_waiting() <= world.clock.monotonic()

    def test_the_end_of_the_process_ends_the_call(self, world: World, held: Held) -> None:
        """At once, and without a renewal."""
        held.wait(5.0)
        renewed = len(held.renewed)
        world.clock.advance(THIRD)
        held.threads.are_closing = True
        assert held.holding.keep_waiting() <= world.clock.monotonic()
        assert len(held.renewed) == renewed


class TestOverdue:
    """A call that has no response yet counts as a failure of the provider."""

    def test_it_is_reported_once(self, held: Held) -> None:
        """At the moment at which the response is overdue, not at the next read's end."""
        held.wait(30.0)
        assert held.overdue == pytest.approx([TIMING.redeem])

    def test_the_provider_counts_as_failing_until_the_response_comes(self, world: World) -> None:
        """With five such calls others are not let in; the first response lets them in again."""
        ids = [world.sign_in(remaining=-1.0) for _ in range(FAILING_GRANTS + 1)]
        process = world.process()
        refused: list[float] = []

        def hang_while_the_next_one_asks() -> Verdict:
            end = world.clock.monotonic() + TIMING.redeem + 0.1
            while (now := world.clock.monotonic()) < end:
                world.clock.advance(min(world.endpoint.during(), end) - now)
            try:
                process.get(ids[len(world.endpoint.posts)])
            except ProviderUnavailable as error:
                refused.append(error.retry_after)
            return world.endpoint.rotated()

        world.endpoint.script = [hang_while_the_next_one_asks] * FAILING_GRANTS
        process.get(ids[0])
        assert (len(world.endpoint.posts), len(refused)) == (FAILING_GRANTS, 1)
        assert access(process.get(ids[-1])) == f"access-{FAILING_GRANTS + 1}"

    def test_a_call_that_ends_without_a_response_is_in_doubt(self, world: World, grant_id: str) -> None:
        """The row says so at once, and the pause gives the provider time."""

        def give_up() -> Verdict:
            while (until := world.endpoint.during()) > world.clock.monotonic():
                world.clock.advance(until - world.clock.monotonic())
            return Unknown(cause="read time-out", timed_out=True)

        world.endpoint.script = [give_up]
        began = world.clock.monotonic()
        with pytest.raises(ProviderUnavailable):
            world.process().get(grant_id)
        row = world.row(grant_id)
        assert world.clock.monotonic() - began == pytest.approx(RESPONSE_SECONDS)
        assert (row.doubts, row.standing) == (1, None)
