"""Processes over one store in memory, a clock moved by hand, and an endpoint that follows a script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask_tokenrotate.config import Settings
from flask_tokenrotate.errors import StoreUnavailable, TokenRotateError
from flask_tokenrotate.rotation.assembly import Rotation
from flask_tokenrotate.rotation.flight import Flight
from flask_tokenrotate.rotation.flights import Flights
from flask_tokenrotate.rotation.holding import Timing
from flask_tokenrotate.rotation.ports import Threads
from flask_tokenrotate.rotation.protocol import Policy
from flask_tokenrotate.rotation.sighting import Fresh
from flask_tokenrotate.rotation.tokens import Grant, NewGrant, Secret, TokenResponse, TokenSet
from flask_tokenrotate.rotation.verdict import Rotated, Verdict
from flask_tokenrotate.testing import ManualClock, MemoryGrantStore
from flask_tokenrotate.testing.memory import MemoryRescue, MemoryWakeups
from flask_tokenrotate.threads import CallersThread, RotationThreads

LIFETIME = 3600.0

SETTINGS = Settings()
"""The only place that the tests of the protocol take durations from."""

Step = Verdict | Callable[..., Verdict]


def a_policy(**changes: Any) -> Policy:
    """The policy of a provider without a profile, at default settings."""
    durations = {
        "min_ttl": SETTINGS.min_ttl_seconds,
        "ahead": SETTINGS.ahead_seconds,
        "settle": SETTINGS.settle_seconds,
    }
    return Policy(**{**durations, **changes})


def a_timing(**changes: Any) -> Timing:
    """The timing at default settings."""
    durations = {
        "redeem": SETTINGS.redeem_seconds,
        "claim": SETTINGS.claim_seconds,
        "backoff": SETTINGS.backoff_seconds,
        "backoff_limit": SETTINGS.backoff_limit_seconds,
    }
    return Timing(**{**durations, **changes})


class ScriptedEndpoint:
    """Responds with the steps of ``script`` in turn, then with new tokens; keeps what it was sent.

    A step is a verdict, or what returns one; ``during`` is `keep_waiting` of the call that it responds to.
    """

    def __init__(self) -> None:
        self.script: list[Step] = []
        self.posts: list[str] = []
        self.send_by: list[float] = []
        self.revoked: list[str] = []
        self.revokes = True
        self.during: Callable[[], float] = lambda: 0.0

    def redeem(
        self, provider: str, refresh_token: Secret, *, send_by: float, keep_waiting: Callable[[], float]
    ) -> Verdict:
        self.posts.append(refresh_token.reveal())
        self.send_by.append(send_by)
        self.during = keep_waiting
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
        if name in {"load", "save", "release", "renew", "end", "try_claim", "expire"}:
            self.calls.append(name)
            if name in self.away:
                raise StoreUnavailable(f"{name} cannot reach the database")
        return found

    def once(self, name: str, call: Callable[..., Any]) -> None:
        """Let the next call of the method ``name`` be ``call(method, *arguments)``."""
        method = super().__getattribute__(name)

        def instead(*args: Any, **options: Any) -> Any:
            delattr(self, name)
            return call(method, *args, **options)

        setattr(self, name, instead)


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


class Notified:
    """An observer that keeps what it is notified of, and may do something then."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.then: Callable[[Grant], object] = lambda grant: None

    def notify(self, name: str, grant: Grant, facts: Mapping[str, Any]) -> None:
        self.events.append((name, facts))
        self.then(grant)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]


class LaterThreads:
    """Rotation threads that get no processor time until `work` is called; the requests go on meanwhile."""

    in_background = True

    def __init__(self) -> None:
        self.are_closing = False
        self.queued: list[Callable[[], None]] = []

    def run(self, provider: str, work: Callable[[], None], *, ahead: bool) -> bool:
        self.queued.append(work)
        return True

    def work(self) -> None:
        """Do what was left to the threads."""
        while self.queued:
            self.queued.pop(0)()


class Process:
    """One process: the verbs of `Rotation` that the tests use."""

    def __init__(self, rotation: Rotation) -> None:
        self.rotation = rotation
        self.tokens = rotation.tokens
        self.flights: Flights = rotation.flights

    def get(self, grant_id: str, **wish: Any) -> Fresh:
        """Return a token set; see `FreshTokens.get`."""
        return self.tokens.get(grant_id, **wish)

    def refused(self, fresh: Fresh, **wish: Any) -> Fresh:
        """Return what to use after a resource server refused ``fresh``."""
        return self.rotation.refused.replace(fresh, **wish)

    def rotate_ahead(self, grant_id: str) -> None:
        """Rotate a token that is still fresh."""
        self.rotation.ahead.rotate(grant_id)

    def expire(self, grant_id: str) -> None:
        """Mark the access token as expired."""
        self.rotation.ending.expire(grant_id)

    def sign_out(self, grant_id: str) -> bool:
        """End the grant and revoke its tokens."""
        return self.rotation.ending.sign_out(grant_id)

    def rescue(self) -> tuple[int, list[TokenRotateError]]:
        """Save what any process of the host has put aside."""
        return self.rotation.unsaved.save_rescued()

    def start(self, grant_id: str) -> Flight:
        """Start a redemption of the row as it is, as a request does."""
        ahead, epoch = self.rotation.ahead, self.rotation.cache.epoch
        seen = ahead._rows.load(grant_id)
        return self.flights.start(seen, ahead._windows.policy(seen.grant, None), epoch)


def a_process(store: Any, endpoint: Any, clock: Any, **changes: Any) -> Process:
    """A process at default settings, but for ``changes`` of what `Rotation` takes."""
    parts = {
        "observer": Notified(),
        "rescue": MemoryRescue(),
        "wakeups": MemoryWakeups(clock),
        "threads": CallersThread(),
        "policy_for": lambda provider: a_policy(),
        "timing": a_timing(),
        "wait_seconds": SETTINGS.wait_seconds,
        "cache_entries": 100,
        "cache_seconds": 5.0,
    }
    return Process(Rotation(store=store, endpoint=endpoint, clock=clock, **{**parts, **changes}))


class World:
    """One store and one provider, and as many processes as a test starts."""

    def __init__(self, clock: Any = None, endpoint: Any = None) -> None:
        self.clock = clock or WaitingClock()
        self.store = FailingStore(self.clock)
        self.endpoint = endpoint or ScriptedEndpoint()
        self.notified = Notified()
        self.rescue = MemoryRescue()
        self.policy = a_policy()
        self.timing = a_timing()
        self.wait_seconds = SETTINGS.wait_seconds

    def process(
        self,
        *,
        cache_seconds: float = 5.0,
        jitter: float = 0.5,
        clock: Any = None,
        threads: Threads | None = None,
    ) -> Process:
        """Start a process; its redemptions run in their callers, or on ``threads``."""
        return a_process(
            self.store,
            self.endpoint,
            clock or self.clock,
            observer=self.notified,
            rescue=self.rescue,
            threads=threads or CallersThread(),
            policy_for=lambda provider: self.policy,
            timing=self.timing,
            wait_seconds=self.wait_seconds,
            cache_seconds=cache_seconds,
            holder=lambda: "test",
            jitter=lambda: jitter,
        )

    def sign_in(self, *, remaining: float, **changes: Any) -> str:
        """Add a grant whose access token lives for ``remaining`` seconds more."""
        fields = {"access_token": Secret("access-0"), "refresh_token": Secret("refresh-0")}
        response = TokenResponse(**{**fields, "expires_in": LIFETIME, **changes})
        # A token set as old as that was issued a while ago.
        grant_id = self.store.add(NewGrant(provider="p", response=response)).id
        self.clock.advance((response.expires_in or 0.0) - remaining)
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

    def save_elsewhere(self, claim: Any, **changes: Any) -> None:
        """Save the winner's token set for the claim."""
        response = self.endpoint.rotated(access_token=Secret("access-elsewhere"), **changes).response
        tokens = self.row(claim.grant_id).tokens.rotated(response, now=self.clock.time())
        self.store.save(self.row(claim.grant_id), claim, tokens)


def real_threads(clock: Any, *, limit: int = SETTINGS.rotation_threads) -> RotationThreads:
    """Rotation threads as an application has them, for tests of concurrency."""
    return RotationThreads(clock, limit=limit, drain_seconds=1.0)


def access(fresh: Any) -> str:
    """The access token that a request got."""
    return str(fresh.tokens.access_token.reveal())
