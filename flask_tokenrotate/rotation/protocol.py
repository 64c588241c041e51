"""What a worker that needs a token may do, decided from the row alone: pure, no clock, no I/O.

`decide` is total; the first matching line of this table is the decision. A grant is *active*
until it ends. An access token is *expired*, *stale* if it is valid for less than ``min_ttl``, *ahead* if it
is in the ahead window, and *fresh* otherwise.

====  =======  =========  ==========================================  =============================
Line  Grant    Token      Row                                         Decision
====  =======  =========  ==========================================  =============================
 1    ended    any        any                                         SignIn(end reason)
 2    active   fresh      any                                         Use
 3    active   ahead      may be redeemed                             UseAndRotateAhead
 4    active   ahead      otherwise                                   Use
 5    active   stale      may be redeemed                             ClaimAndRedeem
 6    active   stale      a claim stands                              Wait
 7    active   stale      otherwise                                   Use
 8    active   expired    may be redeemed                             ClaimAndRedeem
 9    active   expired    a claim stands                              Wait
10    active   expired    no refresh token, or it has expired         SignIn("no_refresh_token")
11    active   expired    in doubt, no replay left                    SignIn("outcome_unknown")
12    active   expired    in doubt, settling                          InDoubt
13    active   expired    ``retry_at`` is in the future               Unavailable
====  =======  =========  ==========================================  =============================

*May be redeemed*: there is a refresh token, no claim stands, ``retry_at`` has passed, and the
refresh token was either never posted with an unknown outcome, or once, the provider's profile
says ``replay``, and the settling time is over. A claim *stands* until its deadline. After it, it
counts as one doubt if it redeems the current token set; if a newer token set was saved meanwhile
it is obsolete and counts as nothing.

Lines 7 and 13 are the rule "an outage is not a sign-out": a token that is still valid is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from .tokens import Grant, StandingClaim, TokenSet

OnUnknown = Literal["replay", "reauthorize"]

MIN_TTL_SHARE = 0.5
"""``min_ttl`` never exceeds this share of a token's lifetime, or a short-lived token would be
stale from its first second and rotate on each request."""

AHEAD_SHARE = 0.25
"""The ahead window never exceeds this share of the lifetime, for the same reason."""

MAX_POSTS = 2
"""A refresh token is posted once, and once more after a doubt where the profile says ``replay``."""

SETTLE_AFTER_TIME_OUT = 10.0
"""Seconds before the replay at a provider that has just not responded in time, and has no grace period: the
one replay must not meet the same silence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What the provider's profile and the settings say about rotating; all durations in seconds.

    ``min_ttl``: how long an access token must live to be fresh. ``ahead``: how long before that it is rotated
    ahead. ``settle``: how long after a doubt the refresh token may be replayed. ``grace``: how long the
    provider accepts a spent refresh token once more; 0 for not at all, or unknown.
    """

    min_ttl: float
    ahead: float
    settle: float
    on_unknown: OnUnknown = "replay"
    grace: float = 0.0

    @property
    def settle_after_time_out(self) -> float:
        """``settle``, but longer where no grace period would be over by then."""
        return self.settle if self.grace else max(self.settle, SETTLE_AFTER_TIME_OUT)


class Freshness(Enum):
    """How far an access token is from its expiry."""

    FRESH = "fresh"
    AHEAD = "ahead"
    STALE = "stale"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Use:
    """Use the stored access token."""


@dataclass(frozen=True, slots=True)
class UseAndRotateAhead:
    """Use the stored access token, and rotate it without making anyone wait."""

    doubts: int = 0


@dataclass(frozen=True, slots=True)
class ClaimAndRedeem:
    """Take the claim; ``doubts`` is what the row has to say about earlier posts of this refresh token."""

    doubts: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """Another worker redeems: wait for the row to move."""

    standing: StandingClaim


@dataclass(frozen=True, slots=True)
class InDoubt:
    """Nobody knows whether the refresh token was spent; a replay is allowed from ``settled_at`` on."""

    settled_at: float


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A redemption failed a moment ago: the provider is not asked again for ``retry_after`` seconds.

    ``failure`` is the verdict's name in the ledger (`verdict.CONSEQUENCES`), ``code`` the provider's code.
    """

    retry_after: float
    failure: str
    code: str | None = None


@dataclass(frozen=True, slots=True)
class SignIn:
    """Only a new sign-in helps."""

    reason: str


Decision = Use | UseAndRotateAhead | ClaimAndRedeem | Wait | InDoubt | Unavailable | SignIn


def freshness(tokens: TokenSet, now: float, policy: Policy) -> Freshness:
    """Return how fresh the access token is at ``now``, with both margins capped by its lifetime."""
    remaining = tokens.remaining(now)
    if remaining <= 0:
        return Freshness.EXPIRED
    min_ttl, ahead = margins(tokens, policy)
    if remaining < min_ttl:
        return Freshness.STALE
    return Freshness.AHEAD if remaining < min_ttl + ahead else Freshness.FRESH


def margins(tokens: TokenSet, policy: Policy) -> tuple[float, float]:
    """Return how long the access token must live to be fresh, and the ahead window before; in seconds."""
    lifetime = float("inf") if tokens.lifetime is None else max(tokens.lifetime, 0.0)
    return min(policy.min_ttl, lifetime * MIN_TTL_SHARE), min(policy.ahead, lifetime * AHEAD_SHARE)


def may_post_again(doubts: int, policy: Policy) -> bool:
    """Return whether a refresh token may be posted after ``doubts`` posts without a known outcome."""
    return doubts < (MAX_POSTS if policy.on_unknown == "replay" else 1)


def decide(grant: Grant, now: float, policy: Policy) -> Decision:
    """Return what a worker that needs a token of ``grant`` does; see the module's table."""
    if grant.end_reason is not None:
        return SignIn(grant.end_reason)
    fresh = freshness(grant.tokens, now, policy)
    if fresh is Freshness.FRESH:
        return Use()
    step = _next_step(grant, now, policy)
    if fresh is Freshness.AHEAD:
        return UseAndRotateAhead(step.doubts) if isinstance(step, ClaimAndRedeem) else Use()
    if fresh is Freshness.STALE and not isinstance(step, ClaimAndRedeem | Wait):
        return Use()
    return step


def _next_step(
    grant: Grant, now: float, policy: Policy
) -> ClaimAndRedeem | Wait | InDoubt | Unavailable | SignIn:
    """Return what a worker that needs a new token set does: redeem, or what keeps it from that."""
    standing = grant.standing
    if standing is not None and now < standing.deadline:
        return Wait(standing)
    refresh_expires_at = grant.tokens.refresh_expires_at
    if grant.tokens.refresh_token is None or (refresh_expires_at is not None and refresh_expires_at <= now):
        return SignIn("no_refresh_token")
    doubts = grant.doubts
    settled_at = now
    if standing is not None and standing.claim.redeems == grant.token_version:
        doubts += 1
        settled_at = standing.deadline + policy.settle
    if not may_post_again(doubts, policy):
        return SignIn("outcome_unknown")
    if now < settled_at:
        return InDoubt(settled_at)
    if grant.retry_at is not None and now < grant.retry_at:
        return Unavailable(grant.retry_at - now, grant.failure or "busy", grant.failure_code)
    return ClaimAndRedeem(doubts)
