"""How a live holder keeps its claim while it waits for the response, and when it gives up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flask_tokenrotate.errors import ProviderUnavailable, RotationTimeout, StoreUnavailable
from flask_tokenrotate.rotation.breaker import FAILING_GRANTS
from flask_tokenrotate.rotation.holding import (
    LONGEST_READ_SECONDS,
    RENEWALS_PER_CLAIM,
    RESPONSE_SECONDS,
    RETRY_SECONDS,
    SHORTEST_READ_SECONDS,
    Holding,
)
from flask_tokenrotate.rotation.verdict import Unknown, Verdict

from .processes import LaterThreads, World, a_timing, access

TIMING = a_timing()
THIRD = TIMING.claim / RENEWALS_PER_CLAIM


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def grant_id(world: World) -> str:
    return world.sign_in(remaining=-1.0)


class Held:
    """A claim that was just taken, and its holder."""

    def __init__(self, world: World, grant_id: str) -> None:
        self.world = world
        self.grant_id = grant_id
        self.threads = LaterThreads()
        self.overdue: list[float] = []
        self.renewed: list[tuple[float, float]] = []
        self.began = world.clock.monotonic()
        self.claim = world.claim_elsewhere(grant_id)
        renew = world.store.renew

        def note(claim: Any, *, seconds: float) -> bool:
            self.renewed.append((self.elapsed, seconds))
            return renew(claim, seconds=seconds)

        world.store.renew = note  # type: ignore[method-assign]
        self.holding = Holding(
            self.claim,
            self.began,
            world.store,
            world.clock,
            self.threads,
            TIMING,
            overdue=lambda: self.overdue.append(self.elapsed),
        )

    @property
    def elapsed(self) -> float:
        return self.world.clock.monotonic() - self.began

    @property
    def deadline(self) -> float:
        """The row's deadline, in seconds after the claim."""
        standing = self.world.row(self.grant_id).standing
        assert standing is not None
        return standing.deadline - standing.taken_at

    def wait(self, seconds: float) -> None:
        """Wait for the response as the transport does: read, ask whether to go on, read again."""
        end = self.world.clock.monotonic() + seconds
        while (now := self.world.clock.monotonic()) < end:
            until = self.holding.keep_waiting()
            if until <= now:
                return
            self.world.clock.advance(min(until, end) - now)


@pytest.fixture
def held(world: World, grant_id: str) -> Held:
    return Held(world, grant_id)


class TestRenewals:
    """They come at a third of the claim, and the claim stands as long as its holder waits."""

    def test_the_claim_is_renewed_at_each_third(self, held: Held) -> None:
        """Each renewal is for a claim's length from its own moment."""
        held.wait(10.5)
        near = {"abs": SHORTEST_READ_SECONDS + 1e-6}
        assert [at for at, _ in held.renewed] == pytest.approx([THIRD, 2 * THIRD, 3 * THIRD], **near)
        assert {seconds for _, seconds in held.renewed} == {TIMING.claim}
        assert held.deadline == pytest.approx(3 * THIRD + TIMING.claim, **near)
        assert held.holding.renewals == 3

    def test_it_stands_the_whole_time_and_not_beyond_the_end(self, held: Held) -> None:
        """The last renewal is cut to the moment at which the holder gives up."""
        while held.elapsed < RESPONSE_SECONDS - 0.5:
            held.wait(0.5)
            assert held.elapsed < held.deadline <= RESPONSE_SECONDS + 1e-6
        held.wait(10.0)
        assert held.elapsed == pytest.approx(RESPONSE_SECONDS)
        assert held.deadline == pytest.approx(RESPONSE_SECONDS)

    def test_without_renewals_others_would_replay(self, world: World, grant_id: str) -> None:
        """The control: the provider is still at work on the first post when another process posts again."""

        def wait_without_renewals() -> Verdict:
            world.clock.advance(TIMING.claim + world.policy.settle)
            world.process().get(grant_id)
            return world.endpoint.rotated()

        world.endpoint.script = [wait_without_renewals]
        world.process().get(grant_id)
        assert world.endpoint.posts == ["refresh-0"] * 2

    def test_with_renewals_they_do_not(self, world: World, grant_id: str) -> None:
        """The same, by a holder that asks whether to go on."""

        def wait() -> Verdict:
            end = world.clock.monotonic() + TIMING.claim + world.policy.settle
            while (now := world.clock.monotonic()) < end:
                world.clock.advance(world.endpoint.during() - now)
            with pytest.raises(RotationTimeout):
                world.process().get(grant_id)
            return world.endpoint.rotated()

        world.wait_seconds = 5.0
        world.endpoint.script = [wait]
        assert access(world.process(cache_seconds=0.0).get(grant_id)) == "access-1"
        assert world.endpoint.posts == ["refresh-0"]

    def test_a_renewal_costs_who_saw_the_old_deadline_its_claim(self, world: World, held: Held) -> None:
        """Its row has moved, although the renewal was committed after it was read."""
        seen = replace(world.row(held.grant_id), seen_at=world.clock.time())
        held.wait(THIRD + 0.1)
        lost = world.store.try_claim(seen, doubts=1, holder="other", seconds=TIMING.claim)
        assert lost.row is not None  # type: ignore[union-attr]

    def test_the_version_that_is_cached_counts_the_renewals(self, world: World, grant_id: str) -> None:
        """What this process has cached is not older than the row that it wrote itself."""

        def wait() -> Verdict:
            for _ in range(5):
                world.clock.advance(world.endpoint.during() - world.clock.monotonic() + 1.0)
            return world.endpoint.rotated()

        world.endpoint.script = [wait]
        fresh = world.process().get(grant_id)
        assert fresh.grant.version == world.row(grant_id).version > 3


class TestFailingRenewals:
    """They are tried again, and never end the call."""

    def test_they_are_tried_each_second(self, world: World, held: Held) -> None:
        """Until the database is back; then in thirds again."""
        world.store.away = {"renew"}
        world.store.calls.clear()
        held.wait(THIRD + 3.5)
        assert world.store.calls == ["renew"] * (1 + 3)
        world.store.away = set()
        held.wait(1.0)
        assert [at for at, _ in held.renewed] == pytest.approx([THIRD + 4 * RETRY_SECONDS])
        held.wait(THIRD)
        assert len(held.renewed) == 2

    @pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("a defect")])
    def test_the_call_goes_on_to_its_end(
        self, world: World, grant_id: str, caplog: pytest.LogCaptureFixture, error: Exception
    ) -> None:
        """The response may be the only copy of a token set; whatever the renewal raises."""

        def fail(*_: Any, **__: Any) -> bool:
            raise error

        def wait() -> Verdict:
            end = world.clock.monotonic() + 30.0
            while (now := world.clock.monotonic()) < end:
                until = world.endpoint.during()
                assert until > now
                world.clock.advance(until - now)
            return world.endpoint.rotated()

        world.store.renew = fail  # type: ignore[method-assign]
        world.endpoint.script = [wait]
        assert access(world.process().get(grant_id)) == "access-1"
        assert "could not be renewed" in caplog.text

    def test_one_that_takes_long_does_not_end_it(self, world: World, held: Held) -> None:
        """The process was stopped inside it: the next renewal is due already when it returns."""
        renew = world.store.renew

        def slowly(claim: Any, *, seconds: float) -> bool:
            world.clock.advance(12.0)
            return renew(claim, seconds=seconds)

        world.store.renew = slowly  # type: ignore[method-assign]
        world.clock.advance(THIRD)
        assert held.holding.keep_waiting() > world.clock.monotonic()

    def test_a_claim_that_is_lost_does_not_end_it_either(self, world: World, held: Held) -> None:
        """What comes is saved, as by any late winner."""
        world.store.end(held.grant_id, "signed_out")
        held.wait(20.0)
        assert held.elapsed == pytest.approx(20.0)
        assert held.holding.renewals == 0


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
