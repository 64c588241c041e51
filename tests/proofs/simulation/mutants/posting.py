"""Mutants of the rules about posting: claims, doubts, replays and pauses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from flask_tokenrotate.rotation import asking, flights, protocol
from flask_tokenrotate.rotation.holding import Holding
from flask_tokenrotate.rotation.tokens import Claim
from flask_tokenrotate.rotation.verdict import Busy, Unknown
from flask_tokenrotate.testing.memory import MemoryGrantStore

from .registry import breaks, pretended, replaced, without_slots


@breaks("1: claim before redeem", "I1")
def claim_skipped() -> Iterator[None]:
    """Whoever wants to redeem does, without a word to the others."""

    def try_claim(self: Any, seen: Any, **_: Any) -> Claim:
        return pretended(self.rows[seen.id], seen.token_version)

    with patch.object(MemoryGrantStore, "try_claim", try_claim):
        yield


@breaks("1: losers never post", "I1")
def losers_post() -> Iterator[None]:
    """Who loses the claim redeems all the same."""

    def make(original: Any) -> Any:
        def try_claim(self: Any, seen: Any, **rest: Any) -> Claim:
            won = original(self, seen, **rest)
            return won if isinstance(won, Claim) else pretended(self.rows[seen.id], seen.token_version)

        return try_claim

    with replaced(MemoryGrantStore, "try_claim", make):
        yield


@breaks("4: an expired claim is in doubt, not free", "I1")
def expired_claim_is_free() -> Iterator[None]:
    """After its deadline a claim counts as never taken."""

    def make(original: Any) -> Any:
        def next_step(grant: Any, now: float, policy: Any) -> Any:
            standing = grant.standing
            if standing is not None and now >= standing.deadline:
                grant = replace(grant, standing=None)
            return original(grant, now, policy)

        return next_step

    with without_slots(), replaced(protocol, "_next_step", make):
        yield


@breaks("4: a replay comes after the deadline and a settling time", "I1")
def replays_without_settling() -> Iterator[None]:
    """The replay comes at the deadline itself."""

    def make(original: Any) -> Any:
        return lambda grant, now, policy: original(grant, now, replace(policy, settle=0.0))

    with replaced(protocol, "_next_step", make):
        yield


@breaks("4: at most one replay", "I1")
def replay_unlimited() -> Iterator[None]:
    """A provider that allows a replay is sent any number."""

    def may_post_again(doubts: int, policy: protocol.Policy) -> bool:
        return doubts < 1 or policy.on_unknown == "replay"

    with without_slots(), patch.object(protocol, "may_post_again", may_post_again):
        yield


@breaks("4: the attempts are counted on the row", "I1")
def doubts_forgotten_by_claims() -> Iterator[None]:
    """A claim does not write down how many attempts came before it."""

    def make(original: Any) -> Any:
        return lambda self, seen, *, doubts, **rest: original(self, seen, doubts=0, **rest)

    with without_slots(), replaced(MemoryGrantStore, "try_claim", make):
        yield


@breaks("4: an outcome that is unknown is written as in doubt", "I1")
def doubts_forgotten_by_releases() -> Iterator[None]:
    """A holder that got no answer releases its claim as if nothing had been sent."""

    def make(original: Any) -> Any:
        return lambda self, claim, verdict, *, in_doubt, **rest: original(self, claim, verdict, **rest)

    with replaced(MemoryGrantStore, "release", make):
        yield


@breaks("4: a doubt is one about the refresh token that was posted", "I1")
def doubt_lands_on_a_newer_token_set() -> Iterator[None]:
    """A replay without an outcome counts as a doubt though a late winner has saved meanwhile."""

    def make(original: Any) -> Any:
        def release(self: Any, claim: Claim, verdict: Any, **how: Any) -> bool:
            row = self.rows[claim.grant_id]
            done: bool = original(self, claim, verdict, **how)
            if done and row.token_version != claim.redeems:
                row = self.rows[claim.grant_id]
                self.rows[row.id] = replace(row, doubts=row.doubts + how.get("in_doubt", False))
            return done

        return release

    with replaced(MemoryGrantStore, "release", make):
        yield


@breaks("4: a holder posts only inside its claim", "I1", "I2")
def posts_outside_its_claim() -> Iterator[None]:
    """The holder does not look at its deadline before it posts."""

    ages = patch.object(Holding, "is_too_late_to_post", lambda self: False)
    with ages, patch.object(Holding, "send_by", property(lambda self: self._claimed_at + 1000.0)):
        yield


@breaks("4: a deadline is one of the database's clock", "I1", "I3")
def deadlines_by_the_process_clock() -> Iterator[None]:
    """A worker compares the row's times with its own wall clock, which is half a minute ahead."""

    def make(original: Any) -> Any:
        return lambda grant, now, policy: original(grant, now + 30.0, policy)

    with replaced(asking, "decide", make), replaced(flights, "decide", make):
        yield


@breaks("18: a verdict that leaves the refresh token in place pauses", "I6b")
def verdict_without_a_pause() -> Iterator[None]:
    """A verdict is added (here: in place of Busy) whose author forgot the pause."""
    with patch.object(Busy, "pause", lambda *_: None):
        yield


@breaks("4: never replay within the settling time of a doubt", "I1", "I6b")
def doubt_without_a_pause() -> Iterator[None]:
    """The replay comes as soon as the holder has written that it is in doubt."""
    with patch.object(Unknown, "pause", lambda *_: None):
        yield


@breaks("10: failures are remembered on the row", "I6")
def retry_at_ignored() -> Iterator[None]:
    """Each request asks a provider that wants to be left alone."""

    def make(original: Any) -> Any:
        return lambda grant, now, policy: original(replace(grant, retry_at=None), now, policy)

    with replaced(protocol, "_next_step", make):
        yield
