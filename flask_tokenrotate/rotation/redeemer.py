"""One redemption: claim, post, and write what came of it.

`Redeemer.redeem` runs on a rotation thread, when `decide` said that the row may be redeemed. It returns the
grant with its new token set, or what a lost claim found, or None: the row says what happened, read it again.

Nothing is held while the provider is called: the claim is committed before the first byte leaves, and each
renewal and the save are transactions of their own.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

from ..errors import ProviderUnavailable, StoreUnavailable
from .backoff import backoff
from .breaker import Breaker
from .flight import Flight
from .holding import Holding, Timing
from .id_token import is_another_user
from .outcomes import Overtaken, SaveOutcome
from .ports import Clock, GrantStore, Threads, TokenEndpoint
from .protocol import Policy
from .revocation import Revocation
from .rotation_times import RotationTimes
from .sighting import Sighting
from .tokens import Claim, EndReason, Grant, TokenSet, Unsaved
from .unsaved import UnsavedTokenSets
from .verdict import Effect, NotPosted, Refused, Rotated, Verdict
from .writing import until_written

logger = logging.getLogger("flask_tokenrotate")


def this_worker() -> str:
    """Return the holder that a claim of this thread names: host, process and thread."""
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"


class Redeemer:
    """Carries out redemptions through the ports."""

    def __init__(
        self,
        store: GrantStore,
        endpoint: TokenEndpoint,
        clock: Clock,
        threads: Threads,
        breaker: Breaker,
        unsaved: UnsavedTokenSets,
        revocation: Revocation,
        times: RotationTimes,
        timing: Timing,
        *,
        holder: Callable[[], str] = this_worker,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._endpoint = endpoint
        self._clock = clock
        self._threads = threads
        self._breaker = breaker
        self._unsaved = unsaved
        self._revocation = revocation
        self._times = times
        self._timing = timing
        self._holder = holder
        self._jitter = jitter

    def redeem(
        self, seen: Sighting, doubts: int, policy: Policy, flight: Flight, *, awaited: bool
    ) -> Sighting | Overtaken | None:
        """Claim the row as ``seen``, post its refresh token and settle what came of it.

        ``awaited``: requests may be waiting for it (see `GrantStore.try_claim`). Raises
        `ProviderUnavailable`, the row untouched, while the breaker admits nobody, or the process exits.
        """
        grant = seen.grant
        if self._threads.are_closing:
            # The response could not be waited for: the post would end in doubt. Another process redeems.
            raise ProviderUnavailable(grant.provider, retry_after=1.0)
        admitted = self._breaker.admit(grant.provider, grant.id)
        if admitted.pause:
            raise ProviderUnavailable(grant.provider, retry_after=admitted.pause)
        flight.is_probe = admitted.is_probe
        claimed_at = self._clock.monotonic()
        claim = self._store.try_claim(
            grant, doubts=doubts, holder=self._holder(), seconds=self._timing.claim, awaited=awaited
        )
        if isinstance(claim, Overtaken):
            return claim
        flight.claimed_at = claimed_at
        flight.note("claimed", grant, {"claim_version": claim.version, "doubts": doubts})
        holding = self._holding(grant, claim, claimed_at)
        posted_at = self._clock.monotonic()
        verdict = self._post(grant, holding)
        return self._settle(
            _Redemption(seen, claim, holding, posted_at, policy, flight, is_replay=doubts > 0), verdict
        )

    def _holding(self, grant: Grant, claim: Claim, claimed_at: float) -> Holding:
        return Holding(
            claim,
            claimed_at,
            self._store,
            self._clock,
            self._threads,
            self._timing,
            overdue=lambda: self._breaker.overdue(grant.provider, grant.id),
        )

    def _post(self, grant: Grant, holding: Holding) -> Verdict:
        """Redeem inside the claim."""
        refresh_token = grant.tokens.refresh_token
        if refresh_token is None or self._threads.are_closing or holding.is_too_late_to_post():
            return NotPosted()
        verdict = self._endpoint.redeem(
            grant.provider, refresh_token, send_by=holding.send_by, keep_waiting=holding.keep_waiting
        )
        self._stop_in_forked_child()
        self._breaker.record(grant.provider, grant.id, verdict)
        return verdict

    def _stop_in_forked_child(self) -> None:
        """End a greenlet that goes on in a forked child: the call goes on in its parent.

        The child has lost the connection, which looks as if the provider had not responded. What it wrote
        would put the parent's claim in doubt, or release it while the refresh token is under way.
        """
        _ = self._threads.are_closing

    def _settle(self, redemption: _Redemption, verdict: Verdict) -> Sighting | None:
        effect = verdict.consequences.on(is_replay=redemption.is_replay)
        match effect:
            case Effect.SAVE:
                assert isinstance(verdict, Rotated)
                return self._keep(redemption, verdict)
            case Effect.END:
                self._end(redemption, "refused", verdict)
            case Effect.PAUSE | Effect.DOUBT:
                self._release(redemption, verdict, in_doubt=effect is Effect.DOUBT)
            case _:
                assert_never(effect)
        return None

    def _release(self, redemption: _Redemption, verdict: Verdict, *, in_doubt: bool) -> None:
        grant = redemption.grant
        pause = verdict.pause(backoff(self._timing, grant.failures, self._jitter), redemption.policy)
        until_written(
            self._clock,
            lambda: self._store.release(redemption.claim, verdict, in_doubt=in_doubt, retry_after=pause),
        )
        level = logging.ERROR if verdict.consequences.asks_operator else logging.WARNING
        logger.log(level, "rotation of grant %s at %s failed: %s", grant.id, grant.provider, verdict)
        facts = {"failure": verdict.consequences.ledger_name, "code": verdict.code, "retry_after": pause}
        redemption.flight.note("rotation_failed", grant, facts)

    def _end(self, redemption: _Redemption, reason: EndReason, verdict: Verdict) -> None:
        """Believe a refusal only as the newest claim's holder, and only of the stored token set.

        A late winner may have saved a newer token set while this refusal of the old one was on its
        way; `GrantStore.end` looks at both in the statement itself. To end a grant wrongly is the most
        expensive error there is. Tokens of another user are treated alike and never saved: between a
        save and an end, another request would be given them.
        """
        grant, claim = redemption.grant, redemption.claim
        end = lambda: self._store.end(grant.id, reason, claim=claim, verdict=verdict)  # noqa: E731
        if until_written(self._clock, end):
            logger.warning("grant %s at %s ended: %s (%s)", grant.id, grant.provider, reason, verdict.code)
            redemption.flight.note("grant_ended", grant, {"reason": reason, "error": verdict.code})
        else:
            until_written(self._clock, lambda: self._store.release(claim, verdict))

    def _keep(self, redemption: _Redemption, verdict: Rotated) -> Sighting | None:
        """Save first, report problems afterwards."""
        grant, claim = redemption.grant, redemption.claim
        if is_another_user(grant.tokens.id_token, verdict.response.id_token):
            other = Refused(error="the ID token names another user", http_status=verdict.http_status)
            self._end(redemption, "other_subject", other)
            return None
        # Lifetimes count from before the request left: the token never seems younger than it is.
        tokens = grant.tokens.rotated(verdict.response, now=redemption.seen.now(redemption.posted_at))
        unsaved = Unsaved(grant=grant, claim=claim, tokens=tokens, http_status=verdict.http_status)
        try:
            with self._unsaved.kept_if_interrupted(unsaved):
                outcome = until_written(self._clock, lambda: self._unsaved.first_save(unsaved))
        except StoreUnavailable:
            logger.exception("the new token set of grant %s could not be saved yet", grant.id)
            redemption.flight.note("save_failed", grant, {"token_version": claim.version})
            return self._rotated(redemption, tokens)
        self._times.record(grant.provider, self._clock.monotonic() - redemption.posted_at)
        self._unsaved.forget(unsaved)
        return self._saved(redemption, unsaved, outcome, verdict.complaints)

    def _saved(
        self, redemption: _Redemption, unsaved: Unsaved, outcome: SaveOutcome, complaints: tuple[str, ...]
    ) -> Sighting | None:
        grant, tokens = unsaved.grant, unsaved.tokens
        match outcome:
            case SaveOutcome.SUPERSEDED:
                return None
            case SaveOutcome.ENDED:
                with self._unsaved.kept_if_interrupted(unsaved):
                    self._revocation.revoke_if_signed_out(grant.id, tokens)
                return None
            case SaveOutcome.SAVED:
                pass
            case _:
                assert_never(outcome)
        for complaint in complaints:
            logger.warning("token response of %s for grant %s: %s", grant.provider, grant.id, complaint)
        redemption.flight.note("token_rotated", grant, {"token_version": unsaved.claim.version})
        if grant.tokens.scopes is not None and tokens.scopes != grant.tokens.scopes:
            facts = {"before": sorted(grant.tokens.scopes), "now": sorted(tokens.scopes or ())}
            redemption.flight.note("scopes_changed", grant, facts)
        return self._rotated(redemption, tokens)

    def _rotated(self, redemption: _Redemption, tokens: TokenSet) -> Sighting:
        monotonic = self._clock.monotonic()
        claim = redemption.claim
        grant = replace(
            redemption.grant,
            tokens=tokens,
            seen_at=redemption.seen.now(monotonic),
            version=claim.version + redemption.holding.renewals + 1,
            token_version=claim.version,
            standing=None,
            doubts=0,
            retry_at=None,
            failure=None,
            failure_code=None,
            failures=0,
        )
        return Sighting(grant, monotonic)


class _Redemption:
    """What one redemption knows after its post."""

    __slots__ = ("claim", "flight", "grant", "holding", "is_replay", "policy", "posted_at", "seen")

    def __init__(
        self,
        seen: Sighting,
        claim: Claim,
        holding: Holding,
        posted_at: float,
        policy: Policy,
        flight: Flight,
        *,
        is_replay: bool,
    ) -> None:
        self.seen = seen
        self.grant = seen.grant
        self.claim = claim
        self.holding = holding
        self.posted_at = posted_at
        self.policy = policy
        self.flight = flight
        self.is_replay = is_replay
