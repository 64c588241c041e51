"""A claim in the hands of its holder, for tests of what it does while it waits."""

from __future__ import annotations

from typing import Any

from flask_tokenrotate.rotation.holding import RENEWALS_PER_CLAIM, Holding

from .processes import LaterThreads, World, a_timing

TIMING = a_timing()
THIRD = TIMING.claim / RENEWALS_PER_CLAIM


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
