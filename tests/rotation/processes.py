"""Rotators over one store in memory, a clock moved by hand, and an endpoint that follows a script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask_tokenrotate.rotation.rotator import Rotator

from flask_tokenrotate.errors import StoreUnavailable
from flask_tokenrotate.rotation.protocol import Policy
from flask_tokenrotate.rotation.redeemer import Timing
from flask_tokenrotate.rotation.tokens import Grant, NewGrant, Secret, TokenResponse, TokenSet
from flask_tokenrotate.rotation.verdict import Rotated, Verdict
from flask_tokenrotate.testing import ManualClock, MemoryGrantStore
from flask_tokenrotate.testing.memory import MemoryRescue, MemoryWakeups

LIFETIME = 3600.0

Step = Verdict | Callable[[], Verdict]


class ScriptedEndpoint:
    """Answers with the steps of ``script`` in turn, then with new tokens; remembers what it was sent."""

    def __init__(self) -> None:
        self.script: list[Step] = []
        self.posts: list[str] = []
        self.revoked: list[str] = []
        self.revokes = True

    def redeem(
        self, provider: str, refresh_token: Secret, *, send_by: float, keep_waiting: Callable[[], float]
    ) -> Verdict:
        self.posts.append(refresh_token.reveal())
        step = self.script.pop(0) if self.script else self.rotated()
        return step() if callable(step) else step

    def rotated(self, **changes: Any) -> Rotated:
        """New tokens, numbered by the posts so far."""
        number = len(self.posts)
        fields = {
            "access_token": Secret(f"access-{number}"),
            "refresh_token": Secret(f"refresh-{number}"),
            "expires_in": LIFETIME,
        }
        return Rotated(response=TokenResponse(**{**fields, **changes}))

    def revoke(self, provider: str, tokens: TokenSet) -> bool:
        self.revoked.append(tokens.access_token.reveal())
        return self.revokes


class FailingStore(MemoryGrantStore):
    """A store in memory whose methods named in ``away`` cannot reach their database."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.away: set[str] = set()
        self.calls: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name in {"load", "save", "release", "end", "try_claim", "expire"}:
            self.calls.append(name)
            if name in self.away:
                raise StoreUnavailable(f"{name} cannot reach the database")
        return found


class WaitingClock(ManualClock):
    """A manual clock that lets something happen while somebody sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.sleeps: list[float] = []
        self.meanwhile: list[Callable[[], object]] = []

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        super().sleep(seconds)
        if self.meanwhile:
            self.meanwhile.pop(0)()


class Heard:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, Any]]] = []

    def notify(self, name: str, grant: Grant, facts: Mapping[str, Any]) -> None:
        self.events.append((name, facts))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]


class World:
    """One store and one provider, and as many processes as a test starts."""

    def __init__(self) -> None:
        self.clock = WaitingClock()
        self.store = FailingStore(self.clock)
        self.endpoint = ScriptedEndpoint()
        self.heard = Heard()
        self.rescue = MemoryRescue()
        self.policy = Policy(min_ttl=30.0, ahead=300.0, settle=2.0, on_unknown="replay")
        self.timing = Timing()

    def process(self, *, cache_seconds: float = 5.0, jitter: float = 0.5, clock: Any = None) -> Rotator:
        """Start a process."""
        return Rotator(
            self.store,
            self.endpoint,
            clock or self.clock,
            self.heard,
            self.rescue,
            MemoryWakeups(clock or self.clock),
            policy_for=lambda provider: self.policy,
            timing=self.timing,
            cache_entries=100,
            cache_seconds=cache_seconds,
            holder=lambda: "test",
            jitter=lambda: jitter,
        )

    def sign_in(self, *, remaining: float, **changes: Any) -> str:
        """Add a grant whose access token lives for ``remaining`` seconds more."""
        fields = {"access_token": Secret("access-0"), "refresh_token": Secret("refresh-0")}
        answer = TokenResponse(**{**fields, "expires_in": LIFETIME, **changes})
        # A token set as old as that was issued a while ago.
        grant_id = self.store.add(NewGrant(provider="p", response=answer)).id
        self.clock.advance((answer.expires_in or 0.0) - remaining)
        return grant_id

    def row(self, grant_id: str) -> Grant:
        """The row as it is."""
        return self.store.rows[grant_id]

    def claim_elsewhere(self, grant_id: str, *, seconds: float | None = None) -> Any:
        """Take the claim as a process that is not there any more."""
        row = self.row(grant_id)
        return self.store.try_claim(
            row,
            doubts=row.doubts
            + (row.standing is not None and row.standing.claim.redeems == row.token_version),
            holder="elsewhere",
            seconds=self.timing.claim if seconds is None else seconds,
        )

    def save_elsewhere(self, claim: Any) -> None:
        """Save the winner's token set for the claim."""
        answer = self.endpoint.rotated(access_token=Secret("access-elsewhere")).response
        tokens = self.row(claim.grant_id).tokens.rotated(answer, now=self.clock.time())
        self.store.save(self.row(claim.grant_id), claim, tokens)


def access(fresh: Any) -> str:
    """The access token that a request got."""
    return str(fresh.tokens.access_token.reveal())
