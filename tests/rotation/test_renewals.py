"""How a live holder renews its claim while it waits for the response."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flask_tokenrotate.errors import RotationTimeout, StoreUnavailable
from flask_tokenrotate.rotation.holding import RESPONSE_SECONDS, RETRY_SECONDS, SHORTEST_READ_SECONDS
from flask_tokenrotate.rotation.verdict import Verdict

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
