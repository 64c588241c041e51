"""One redemption: claim, post, and write down what came of it.

`Redeemer.redeem` is called when `decide` said that the row may be redeemed. It returns the grant
with its new token set, or what a lost claim found, or None: the row says what happened, read it again.

Nothing is held while the provider thinks: the claim is committed before the first byte leaves, and
the save is a transaction of its own.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from ..errors import ConfigurationError, GrantUnreadable, ProviderUnavailable, StoreUnavailable
from .breaker import Breaker
from .id_token import is_another_user
from .ports import Clock, GrantStore, Observer, Overtaken, Release, Rescue, SaveOutcome, TokenEndpoint
from .protocol import Policy, may_post_again
from .rescue import Rescuer
from .sighting import Sighting
from .tokens import Claim, EndReason, Grant, TokenSet, Unsaved
from .verdict import Busy, Misconfigured, NotSent, Refused, Rotated, Unknown, Verdict
from .waiting import RotationTimes

logger = logging.getLogger("flask_tokenrotate")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How long things may take; all in seconds.

    ``redeem``: one call of the token endpoint, connect to last byte. ``claim``: how long a claim
    stands; longer than ``redeem``, so that its holder can post inside it. ``wait``: how long a
    request waits for another worker's rotation; shorter than the web server's own time-out.
    ``backoff`` and ``backoff_limit``: the pause after the first failure, doubled with each more, up
    to the limit. ``misconfigured_pause``: the pause after the provider refused this client.
    ``save_pauses``: the pauses between attempts to write down an outcome, of which none begins more than
    ``save`` after the first.
    """

    redeem: float = 7.0
    claim: float = 10.0
    wait: float = 15.0
    backoff: float = 1.0
    backoff_limit: float = 60.0
    misconfigured_pause: float = 30.0
    save_pauses: tuple[float, ...] = (0.05, 0.2, 0.5, 1.0)
    save: float = 3.0


class Redeemer:
    """Carries out redemptions through the ports."""

    def __init__(
        self,
        store: GrantStore,
        endpoint: TokenEndpoint,
        clock: Clock,
        observer: Observer,
        rescue: Rescue,
        timing: Timing,
        *,
        holder: Callable[[], str],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._endpoint = endpoint
        self._clock = clock
        self._observer = observer
        self._timing = timing
        self._holder = holder
        self._jitter = jitter
        self.rotation_times = RotationTimes()
        self.breaker = Breaker(
            clock,
            backoff=timing.backoff,
            backoff_limit=timing.backoff_limit,
            probe_seconds=timing.redeem,
            jitter=jitter,
        )
        self._unsaved: dict[str, Unsaved] = {}
        self.rescuer = Rescuer(store, rescue, self._revoke_if_signed_out)

    def redeem(
        self, seen: Sighting, doubts: int, policy: Policy, *, awaited: bool
    ) -> Sighting | Overtaken | None:
        """Claim the row as ``seen``, post its refresh token and settle what came of it.

        ``awaited``: requests may be waiting for it (see `GrantStore.try_claim`). Raises
        `ProviderUnavailable`, the row untouched, while the provider's circuit is open.
        """
        grant = seen.grant
        pause = self.breaker.admit(grant.provider, grant.id)
        if pause:
            raise ProviderUnavailable(grant.provider, retry_after=pause)
        unanswered: tuple[Claim, int | None] | None = None
        while True:
            # The holder's own deadline counts from before the claim was sent: a process that is
            # stopped between the claim's COMMIT and this line must not think that it has time.
            claimed_at = self._clock.monotonic()
            claim = self._store.try_claim(
                grant,
                doubts=doubts,
                holder=self._holder(),
                seconds=self._timing.claim,
                awaited=awaited,
                unanswered=unanswered,
            )
            if isinstance(claim, Overtaken):
                # After a replay's lost claim the ledger was told as well, and the row is a while old.
                return claim if unanswered is None else None
            self._observer.notify("claimed", grant, {"claim_version": claim.version, "doubts": doubts})
            posted_at = self._clock.monotonic()
            verdict = self._post(grant, claimed_at, posted_at)
            if not (isinstance(verdict, Unknown) and self._replays_at_once(verdict, doubts, policy)):
                return self._settle(seen, claim, posted_at, verdict, policy)
            unanswered = (claim, verdict.http_status)
            # The claim's version was ours, so only a sign-in or sign-out can take it from us now.
            grant, doubts = replace(grant, version=claim.version), doubts + 1

    def _post(self, grant: Grant, claimed_at: float, now: float) -> Verdict | None:
        """Redeem inside the claim; None when too little of the claim is left to post at all."""
        refresh_token = grant.tokens.refresh_token
        if refresh_token is None or now + self._timing.redeem > claimed_at + self._timing.claim:
            return None
        deadline = now + self._timing.redeem
        verdict = self._endpoint.redeem(
            grant.provider, refresh_token, send_by=deadline, keep_waiting=lambda: deadline
        )
        self.breaker.record(grant.provider, grant.id, verdict)
        return verdict

    def _replays_at_once(self, verdict: Unknown, doubts: int, policy: Policy) -> bool:
        """A holder that knows its own call ended without an response need not wait for a deadline.

        After a time-out it does wait: the provider hangs, and the one replay is too dear to be
        spent on a provider that does not response.
        """
        return not verdict.timed_out and may_post_again(doubts + 1, policy)

    def _settle(
        self, seen: Sighting, claim: Claim, posted_at: float, verdict: Verdict | None, policy: Policy
    ) -> Sighting | None:
        grant = seen.grant
        if isinstance(verdict, Rotated):
            if is_another_user(grant.tokens.id_token, verdict.response.id_token):
                self._end(
                    grant, claim, "other_subject", "the ID token names another user", verdict.http_status
                )
                return None
            return self._keep(seen, claim, posted_at, verdict)
        if isinstance(verdict, Refused):
            self._end(grant, claim, "refused", verdict.error, verdict.http_status)
            return None
        how = self._how_to_release(grant, verdict, policy)
        self._write_down(lambda: self._store.release(claim, how))
        if verdict is not None:
            level = logging.ERROR if isinstance(verdict, Misconfigured) else logging.WARNING
            logger.log(level, "rotation of grant %s at %s failed: %s", grant.id, grant.provider, verdict)
            self._observer.notify(
                "rotation_failed", grant, {"failure": how.failure, "retry_after": how.retry_after}
            )
        return None

    def _how_to_release(self, grant: Grant, verdict: Verdict | None, policy: Policy) -> Release:
        backoff = min(self._timing.backoff * 2 ** min(grant.failures, 20), self._timing.backoff_limit)
        # Jitter: the grants that one outage hit at once shall not come back at once.
        backoff *= 0.75 + 0.5 * self._jitter()
        match verdict:
            case Busy(retry_after=retry_after, http_status=status):
                pause = max(backoff, retry_after or 0.0)
                return Release(retry_after=pause, failure="busy", verdict="busy", http_status=status)
            case NotSent():
                return Release(retry_after=backoff, failure="not_sent", verdict="not_sent")
            case Unknown(http_status=status, timed_out=timed_out):
                return Release(
                    in_doubt=True,
                    retry_after=self._after_time_out(backoff, policy) if timed_out else backoff,
                    failure="unknown",
                    verdict="unknown",
                    http_status=status,
                )
            case Misconfigured(error=error, http_status=status):
                pause = max(backoff, self._timing.misconfigured_pause)
                failure = f"misconfigured:{error}"
                return Release(
                    retry_after=pause, failure=failure, verdict="misconfigured", http_status=status
                )
            case _:
                return Release()

    def _after_time_out(self, backoff: float, policy: Policy) -> float:
        """Return the pause before the one replay at a provider that has just hung.

        It shall not hang as well; but after the grace period it would be worth nothing.
        """
        over_by_then = policy.grace and policy.grace <= self._timing.redeem + self._timing.claim
        return backoff if over_by_then else max(backoff, self._timing.claim)

    def _end(self, grant: Grant, claim: Claim, reason: EndReason, error: str, status: int | None) -> None:
        """Believe a refusal only as the newest claim's holder, and only of the stored token set.

        A late winner may have saved a newer token set while this refusal of the old one was on its
        way; `GrantStore.end` looks at both in the statement itself. A false death is the most
        expensive error there is. Tokens of another user are treated alike and never saved: between a
        save and an end, another request would be given them.
        """
        if self._write_down(lambda: self._store.end(grant.id, reason, claim=claim, http_status=status)):
            logger.warning("grant %s at %s ended: %s (%s)", grant.id, grant.provider, reason, error)
            self._observer.notify("grant_ended", grant, {"reason": reason, "error": error})
        else:
            how = Release(verdict="refused", http_status=status)
            self._write_down(lambda: self._store.release(claim, how))

    def _keep(self, seen: Sighting, claim: Claim, posted_at: float, verdict: Rotated) -> Sighting | None:
        """Save first, complain later."""
        grant = seen.grant
        # Lifetimes count from before the request left: the token never seems younger than it is.
        tokens = grant.tokens.rotated(verdict.response, now=seen.now(posted_at))
        unsaved = Unsaved(grant=grant, claim=claim, tokens=tokens, http_status=verdict.http_status)
        try:
            with self._kept_if_interrupted(unsaved):
                outcome = self._write_down(lambda: self._save(unsaved))
        except StoreUnavailable:
            logger.exception("the new token set of grant %s could not be saved yet", grant.id)
            self._observer.notify("save_failed", grant, {"token_version": claim.version})
            return self._new_sighting(seen, claim, tokens)
        self.rotation_times.record(grant.provider, self._clock.monotonic() - posted_at)
        result = self._saved(seen, unsaved, outcome, verdict.complaints)
        if self._unsaved.pop(claim.id, None) is not None:
            self.rescuer.forget(unsaved)
        return result

    def _save(self, unsaved: Unsaved) -> SaveOutcome:
        """Save; what the database does not take is put aside before it is tried again.

        Trying may take longer than the claim stands. Without the copy another worker would then find
        the claim in doubt, and replay it or sign the user out; and a web server that kills the worker
        for being slow would kill the only copy.
        """
        try:
            return self._store.save(
                unsaved.grant, unsaved.claim, unsaved.tokens, http_status=unsaved.http_status
            )
        except StoreUnavailable:
            if unsaved.claim.id not in self._unsaved:
                self._remember(unsaved)
                self.rescuer.put_aside(unsaved)
            raise

    def _remember(self, unsaved: Unsaved) -> None:
        # By the claim: two redemptions of one grant may both wait here, and each brought tokens that
        # have to be saved or revoked.
        self._unsaved[unsaved.claim.id] = unsaved

    def _saved(
        self, seen: Sighting, unsaved: Unsaved, outcome: SaveOutcome, complaints: tuple[str, ...]
    ) -> Sighting | None:
        grant, claim, tokens = unsaved.grant, unsaved.claim, unsaved.tokens
        if outcome is SaveOutcome.SUPERSEDED:
            return None
        if outcome is SaveOutcome.ENDED:
            with self._kept_if_interrupted(unsaved):
                self._revoke_if_signed_out(grant.id, tokens)
            return None
        for complaint in complaints:
            logger.warning("token response of %s for grant %s: %s", grant.provider, grant.id, complaint)
        self._observer.notify("token_rotated", grant, {"token_version": claim.version})
        if grant.tokens.scopes is not None and tokens.scopes != grant.tokens.scopes:
            facts = {"before": sorted(grant.tokens.scopes), "now": sorted(tokens.scopes or ())}
            self._observer.notify("scopes_changed", grant, facts)
        return self._new_sighting(seen, claim, tokens)

    def _revoke_if_signed_out(self, grant_id: str, tokens: TokenSet) -> None:
        """Revoke tokens that found their grant ended, if its user ended it.

        After a refusal or a replacement they are left alone: at many providers revoking one token
        kills the whole family, the successor included.
        """
        try:
            row = self._write_down(lambda: self._store.load(grant_id))
        except GrantUnreadable:
            logger.exception("new tokens of grant %s, which has ended, are not revoked", grant_id)
            return
        if row is not None and row.end_reason == "signed_out":
            self.revoke(row, tokens)

    def revoke(self, grant: Grant, tokens: TokenSet) -> None:
        """Revoke tokens of a grant that its user has signed out of; what stays alive is in the log."""
        try:
            confirmed = self._endpoint.revoke(grant.provider, tokens)
        except ConfigurationError:
            # The provider is no longer registered: that must not keep anybody signed in.
            logger.exception("grant %s is signed out, but its tokens cannot be revoked", grant.id)
            return
        if not confirmed:
            logger.warning("grant %s is signed out; %s did not revoke its tokens", grant.id, grant.provider)

    def _new_sighting(self, seen: Sighting, claim: Claim, tokens: TokenSet) -> Sighting:
        monotonic = self._clock.monotonic()
        grant = replace(
            seen.grant,
            tokens=tokens,
            seen_at=seen.now(monotonic),
            version=claim.version + 1,
            token_version=claim.version,
            standing=None,
            doubts=0,
            retry_at=None,
            failure=None,
            failures=0,
        )
        return Sighting(grant, monotonic)

    def save_what_is_unsaved(self) -> bool:
        """Try once more to save the token sets that could not be saved when they came; return if any was.

        Called before each read of a row: the sooner the database has them, the less likely another
        worker takes the claim for in doubt. They are kept until the database is back.
        """
        any_saved = False
        for unsaved in list(self._unsaved.values()):
            try:
                self.rescuer.save(unsaved)
            except StoreUnavailable:
                continue  # one row that another transaction has locked must not cost the others
            self._unsaved.pop(unsaved.claim.id, None)
            any_saved = True
        return any_saved

    def has_unsaved(self, grant_id: str) -> bool:
        """Return whether a token set of the grant waits in memory to be saved."""
        return any(unsaved.grant.id == grant_id for unsaved in list(self._unsaved.values()))

    @contextmanager
    def _kept_if_interrupted(self, unsaved: Unsaved) -> Iterator[None]:
        """Keep the token set in memory when anything stops the block, a `gevent.Timeout` as well."""
        try:
            yield
        except BaseException:
            self._remember(unsaved)
            raise

    def _write_down(self, write: Callable[[], T]) -> T:
        """Call ``write`` until the database takes it, within ``Timing.save_pauses`` and ``Timing.save``.

        A database that is away says so at once; one whose row or file is locked says so after seconds, and
        five times that would be longer than anybody waits for the response.
        """
        last_try_by = self._clock.monotonic() + self._timing.save
        for pause in self._timing.save_pauses:
            try:
                return write()
            except StoreUnavailable:
                if self._clock.monotonic() >= last_try_by:
                    raise
                self._clock.sleep(pause)
        return write()
